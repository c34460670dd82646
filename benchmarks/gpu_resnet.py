"""ResNet-20 on a GPU: seconds per step of DeepZero's published run, and its cost to the end.

Sparse CGE at 90 % sparsity, batch 256, CIFAR-10, masks as GraSP shares them. Derivatives of a
sample of coordinates of every layer are compared with PyTorch's gradient in double precision:
central differences with mu = 1e-5, which reaches a few kinks, by stacked changes with TF32. A step
is timed by wall clock with one wait at its end. Published: about 18 s a step on four GPUs (60
minutes an epoch, as users found).

    python benchmarks/gpu_resnet.py --data FOLDER [--quick] [--out FILE.json]
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np
from report import arguments, report

from zoo.deepzero.config import DeepZeroConfig, NetworkConfig
from zoo.deepzero.data.dataset import load
from zoo.deepzero.masks import kept_weights
from zoo.deepzero.method import DeepZero
from zoo.deepzero.net.cost import change_costs, stage_of
from zoo.deepzero.study import job_of

sys.path.insert(0, str(Path(__file__).parent))


def gradient(text: str, theta: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """PyTorch's gradient, in float64."""
    import deepzero_torch as rival

    net = rival.build(text, x.shape[1:], theta, double=True)
    return np.asarray(rival.gradient(net, *rival.batch_of(net, x, y)))


def product_rate() -> float:
    """Operations a second of a large TF32 matrix product, and so nearly the most there is."""
    import torch

    torch.backends.cuda.matmul.allow_tf32 = True
    a, b = (torch.randn(8192, 8192, device="cuda") for _ in range(2))
    taken = []
    for _ in range(8):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        a @ b
        end.record()
        torch.cuda.synchronize()
        taken.append(begin.elapsed_time(end) / 1e3)
    torch.backends.cuda.matmul.allow_tf32 = False
    del a, b
    torch.cuda.empty_cache()
    return 2.0 * 8192**3 / float(np.median(taken[2:]))


def main() -> None:
    given = arguments(__doc__, data="folder with CIFAR-10")
    if given.data is None:
        sys.exit("--data FOLDER is needed")
    from zoo.cuda import require

    require()
    data = load("cifar10", str(given.data))
    batch = 32 if given.quick else 256
    config = DeepZeroConfig(
        oracle="cge", sparsity=0.9, batch=batch, epochs=50, mask_every=5, device="cuda",
        grasp_directions=4 if given.quick else 192,
    )  # fmt: skip
    job = job_of(NetworkConfig(model="resnet20", data="cifar10"), config, data, 0)
    net = job.network
    assert net is not None
    x, y = data.batch("train", np.arange(batch))
    theta = net.initial(1)
    true = gradient(f"{net.text} {net.classes}", theta, x, y)
    rate = product_rate()
    method = DeepZero(job, theta)
    shard = method.shard(0)
    rng, table, sums = np.random.default_rng(0), [], np.zeros(2)
    with shard.models.lent(None) as lent:
        engine = lent.model
        engine.load(x, y)
        engine.base(theta)
        for stage in net.stages:
            chosen = np.sort(stage.weight + rng.permutation(stage.end - stage.weight)[:16])
            found = engine.derivatives(chosen, 1e-5, True)
            squares = np.array([((found - true[chosen]) ** 2).sum(), (true[chosen] ** 2).sum()])
            sums += squares
            table.append({"layer": stage.name, "error": float(np.sqrt(squares[0] / squares[1]))})
        lent.task = None
    report("ResNet-20 by stacked changes, beside autograd", table, given.out)
    print(f"relative error of all: {np.sqrt(sums[0] / sums[1]):.3g}")

    # A step as training makes it: GraSP has shared the sparsity between the layers.
    while method._due == "score":
        method.merge([shard.step(method.message(1))])
    job = method.job
    assert job.sparsities
    taken = []
    for _ in range(2 if given.quick else 4):
        started = time.perf_counter()
        method.merge([shard.step(method.message(1))])
        taken.append(time.perf_counter() - started)
        print(f"a step: {taken[-1]:.3g} s", flush=True)
    step = float(np.median(taken[1:]))
    coordinates = job.coordinates(0)
    costs = change_costs(net, batch, False)
    operations = costs[stage_of(net, coordinates)].sum() * batch
    kept = kept_weights(net, job.sparsities)
    steps = job.config.epochs * job.steps_per_epoch
    report("ResNet-20, a step of the published run",
           [{"coordinates": len(coordinates), "weights kept": sum(kept.values()),
             "s a step": step, "TFLOP a step": operations / 1e12,
             "TFLOP/s": operations / step / 1e12, "product TFLOP/s": rate / 1e12,
             "share": operations / step / rate, "steps": steps, "hours": steps * step / 3600,
             "published s": 18.0}], given.out)  # fmt: skip


if __name__ == "__main__":
    main()
