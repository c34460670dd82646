"""Full dense gradients by coordinates: delta evaluation against feature reuse, on one core.

Rivals evaluate one coordinate at a time, with what comes before its layer cached: in NumPy (dense
networks; one BLAS thread), and, with --torch PYTHON, an interpreter that has it, in PyTorch on one
thread (deepzero_torch.py), where also a backprop is timed. They are measured on a sample of the
coordinates of each layer, which their number makes the whole. Work is the same: forward differences
of the same coordinates of the same network on the same batch; the largest difference between the
answers is printed beside them.

A third one is feature reuse by our own kernels, one coordinate at a time: what the libraries' own
overhead takes away is not in it. Rivals' times are the best of three.

Operations are those of zoo.deepzero.net.cost: two a multiplication of the convolutions that a
change goes through, and some a pixel of what follows them. The peak is what the tile of a
convolution reaches on data in the cache.

    python benchmarks/deepzero_speed.py [--torch PYTHON] [--quick] [--out FILE.json]
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from deepzero_reuse import reuse_cge
from report import arguments, report
from threadpoolctl import threadpool_limits

import zoo
from zoo.deepzero.config import NetworkConfig
from zoo.deepzero.data.dataset import Dataset
from zoo.deepzero.net.cost import change_costs
from zoo.deepzero.net.engine import Engine
from zoo.deepzero.net.forward import forward
from zoo.deepzero.net.models import layers_of
from zoo.deepzero.net.network import Network, network
from zoo.deepzero.net.tile import rows, sums
from zoo.deepzero.train import train

MU = 5e-3


def family(depth: int) -> str:
    return layers_of(NetworkConfig(model="cnn", depth=depth)) + " 10"


NETWORKS = {  # layers, shape of a sample, batch, goal: times the reuse in PyTorch
    "MLP 64-32-10": ("dense 32, relu, dense 10", (64, 1, 1), 128, 50),
    "MLP 64-32-32-10": ("dense 32, relu, dense 32, relu, dense 10", (64, 1, 1), 128, None),
    "MLP 784-128-10": ("dense 128, relu, dense 10", (784, 1, 1), 128, 300),
    "CNN 1-8-16-fc": (
        "conv 8, relu, maxpool, conv 16, relu, maxpool, dense 10",
        (1, 8, 8),
        128,
        100,
    ),
    "CNN depth 1": (family(1), (3, 32, 32), 256, None),
    "CNN depth 2": (family(2), (3, 32, 32), 256, None),
    "CNN depth 5": (family(5), (3, 32, 32), 256, 15),
}


def best_of(work: Callable[[], Any], seconds: float) -> float:
    """Shortest seconds of some calls."""
    best, end = float("inf"), time.perf_counter() + seconds
    for count in range(1000):
        started = time.perf_counter()
        work()
        now = time.perf_counter()
        best = min(best, now - started)
        if now > end and count:
            break
    return best


def peak(seconds: float) -> float:
    """Operations a second of a tile whose data are in the cache."""
    x, out = rows(64, 32, np.float32), rows(6, 32, np.float32)
    source, weights, start = np.arange(64), np.ones(6 * 64, np.float32), np.zeros(6, np.float32)
    repeated = np.tile(source, 1000)
    taps = np.tile(source, 1000)

    def work() -> None:
        sums(out, 0, 1, 6, x, repeated, taps, 64_000, weights, 0, 64, start, 0, 32)

    work()
    return 2.0 * 6 * 32 * 64_000 / best_of(work, seconds)


def sample(net: Network, each: int) -> list[np.ndarray]:
    """Some coordinates of every stage."""
    chosen = []
    for stage in net.stages:
        size = stage.end - stage.weight
        spread = np.linspace(0, size - 1, min(each, size))
        chosen.append(np.unique(stage.weight + spread.astype(np.int64)))
    return chosen


def whole(net: Network, seconds: list[float]) -> float:
    """Seconds of all coordinates, from those of one of each stage."""
    sizes = [stage.end - stage.weight for stage in net.stages]
    return sum(each * size for each, size in zip(seconds, sizes, strict=True))


def numpy_rival(
    text: str, theta: np.ndarray, x: np.ndarray, y: np.ndarray, chosen: list[np.ndarray]
) -> tuple[list[float], np.ndarray]:
    """Seconds of a coordinate of each sample, without what all share; and the answers."""
    each, answers = [], []
    with threadpool_limits(1):
        for coordinates in chosen:
            best = [float("inf"), float("inf")]
            for _ in range(3):
                for k, part in enumerate((coordinates[:1], coordinates)):
                    started = time.perf_counter()
                    found = reuse_cge(text, theta, x, y, MU, part)
                    best[k] = min(best[k], time.perf_counter() - started)
            each.append((best[1] - best[0]) / (len(coordinates) - 1))
            answers.append(found)
    return each, np.concatenate(answers)


def own_reuse(engine: Engine, theta: np.ndarray, chosen: list[np.ndarray]) -> list[float]:
    """Seconds of a coordinate of each sample: passes from its stage on, by our own kernels."""
    plan, each = engine.plan, []
    cache, scratch = plan.cache(), plan.scratch()
    cache.theta[:], cache.y[:] = theta, engine.cache.y
    for k, coordinates in enumerate(chosen):
        cache.a[:] = engine.cache.a
        few = coordinates[: max(1, len(coordinates) // 4)]

        def work(few: np.ndarray = few, k: int = k) -> None:
            for i in few:
                kept = cache.theta[i]
                cache.theta[i] += MU
                forward(plan.table[k:], cache, scratch, engine.samples, True)
                cache.theta[i] = kept

        work()
        each.append(min(timed(work) for _ in range(3)) / len(few))
    return each


def timed(work: Callable[[], Any]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def torch_rival(python: str, folder: Path, **arrays: Any) -> dict[str, Any]:
    """What deepzero_torch.py measured."""
    np.savez(folder / "work.npz", **arrays)
    script = str(Path(__file__).with_name("deepzero_torch.py"))
    made = subprocess.run(
        [python, script, str(folder / "work.npz")], capture_output=True, text=True, check=False
    )
    if made.returncode:
        sys.exit(f"{python} {script} failed:\n{made.stderr}")
    return dict(json.loads(made.stdout))


def on_workers(steps: int) -> list[dict[str, Any]]:
    """Training steps of the deepest network, on one worker and on two."""
    rng, table = np.random.default_rng(0), []
    x, y = rng.random((256 * steps, 3, 32, 32), np.float32), np.arange(256 * steps) % 10
    ones, none = np.ones(3, np.float32), np.zeros(3, np.float32)
    data = Dataset("noise", x, y, x[:10], y[:10], tuple("0123456789"), ones, none)
    options = {"oracle": "cge", "batch": 256, "epochs": 1, "shards": 8, "lr": 0.01}
    for count in (1, 2):
        with zoo.workers(count) as crew:
            train(family(5), data, workers=crew, seconds=1e-3, **options)  # compiled code is loaded
            result = train(family(5), data, workers=crew, **options)
        table.append({"workers": count, "seconds a step": result.seconds / steps})
    table[1]["times"] = table[0]["seconds a step"] / table[1]["seconds a step"]
    return table


def main() -> None:
    given = arguments(__doc__, torch="interpreter that has PyTorch")
    seconds, each = (0.2, 13) if given.quick else (2.0, 33)
    names = list(NETWORKS)[:4] if given.quick else list(NETWORKS)
    top = peak(seconds)
    print(f"peak of a tile: {top / 1e9:.0f} GFLOP/s")
    table = []
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            text, shape, batch, goal = NETWORKS[name]
            net = network(text, shape, 10)
            rng = np.random.default_rng(0)
            x = np.maximum(rng.standard_normal((batch, *shape)), 0).astype(np.float32)
            y = rng.integers(0, 10, batch)
            theta = net.initial(1)
            engine = Engine(net, batch)
            engine.load(x, y)
            engine.base(theta)
            everything = np.arange(net.parameters)
            ours = engine.derivatives(everything, MU)
            took = best_of(lambda: engine.derivatives(everything, MU), seconds)  # noqa: B023
            pair = Engine(net, batch, threads=2)
            pair.load(x, y)
            pair.base(theta)
            two = best_of(lambda: pair.derivatives(everything, MU), seconds)  # noqa: B023
            per_stage = change_costs(net, weighted=False)
            sizes = np.array([stage.end - stage.weight for stage in net.stages])
            flops = float(per_stage @ sizes) * batch
            chosen = sample(net, each)
            flat = np.concatenate(chosen)
            row: dict[str, Any] = {
                "network": name,
                "coordinates": net.parameters,
                "ms": took * 1e3,
                "us each": took / net.parameters * 1e6,
                "share of peak": flops / took / top,
                "two threads": took / two,
            }
            row["kernel reuse ms"] = whole(net, own_reuse(engine, theta, chosen)) * 1e3
            row["times kernel"] = row["kernel reuse ms"] / row["ms"]
            if "conv" not in text:
                spent, answers = numpy_rival(text, theta, x, y, chosen)
                row["NumPy reuse ms"] = whole(net, spent) * 1e3
                row["times NumPy"] = row["NumPy reuse ms"] / row["ms"]
                row["differs"] = float(np.abs(answers - ours[flat]).max() / np.abs(ours).max())
            if given.torch is not None:
                found = torch_rival(
                    str(given.torch), Path(folder), text=np.array(text), theta=theta, x=x, y=y,
                    mu=np.array(MU), **{f"sample{k}": c for k, c in enumerate(chosen)},
                )  # fmt: skip
                row["torch reuse ms"] = whole(net, found["reuse"]) * 1e3
                row["times torch"] = row["torch reuse ms"] / row["ms"]
                row["goal"] = goal
                row["torch naive ms"] = whole(net, found["naive"]) * 1e3
                row["backprop ms"] = found["backprop"] * 1e3
                answers = np.array(found["answers"])
                row["differs"] = float(np.abs(answers - ours[flat]).max() / np.abs(ours).max())
            table.append(row)
    report("full dense gradient, forward differences", table, given.out)
    if not given.quick:
        report("CNN depth 5 on workers, 8 shards", on_workers(6), given.out)


if __name__ == "__main__":
    main()
