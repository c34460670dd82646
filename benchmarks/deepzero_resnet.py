"""ResNet-20 on CIFAR-10: coordinates of every layer, against PyTorch; what the paper's run costs.

Central differences of a sample of coordinates of every layer (weights, gamma, beta, biases) are
compared with PyTorch's gradient of the same batch of 256 (--torch PYTHON), with batch normalization
in training mode. The seconds of a coordinate of each layer make the cost of the published run:
50 epochs of sparse CGE at 90 % sparsity, 28,220 queries a step.

    python benchmarks/deepzero_resnet.py --data FOLDER [--torch PYTHON] [--quick] [--out FILE.json]
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from report import arguments, report

from zoo.deepzero.config import DeepZeroConfig, NetworkConfig
from zoo.deepzero.data.dataset import load
from zoo.deepzero.estimate import estimated
from zoo.deepzero.net.cost import forward_flops
from zoo.deepzero.net.engine import Engine
from zoo.deepzero.net.models import layers_of
from zoo.deepzero.net.network import network
from zoo.deepzero.study import job_of, told

GRADIENT = """
import sys
import numpy as np, torch
sys.path.insert(0, sys.argv[1])
import deepzero_torch as rival
torch.set_num_threads(1)
given = np.load(sys.argv[2], allow_pickle=False)
net = rival.build(str(given["text"]), given["x"].shape[1:], given["theta"], double=True)
np.save(sys.argv[3], rival.gradient(net, *rival.batch_of(net, given["x"], given["y"])))
"""


def gradient(python: str, **arrays: Any) -> np.ndarray:
    """PyTorch's gradient, in float64."""
    with tempfile.TemporaryDirectory() as folder:
        work, made = Path(folder) / "work.npz", Path(folder) / "gradient.npy"
        np.savez(work, **arrays)
        command = [python, "-c", GRADIENT, str(Path(__file__).parent), str(work), str(made)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(f"{python} failed:\n{done.stderr}")
        return np.asarray(np.load(made))


def main() -> None:
    given = arguments(__doc__, data="folder with CIFAR-10", torch="interpreter that has PyTorch")
    if given.data is None:
        sys.exit("--data FOLDER is needed")
    data = load("cifar10", str(given.data))
    batch, each, mu = (64, 2, 1e-5) if given.quick else (256, 12, 1e-5)
    text = layers_of(NetworkConfig(model="resnet20")) + " 10"
    net = network(text, data.shape, 10)
    x, y = data.batch("train", np.arange(batch))
    theta = net.initial(1)
    engine, exact = Engine(net, batch), Engine(net, batch, np.float64)
    for made in (engine, exact):
        made.load(x, y)
        made.base(theta)
    started = time.perf_counter()
    engine.base(theta)
    base = time.perf_counter() - started
    true = None
    if given.torch is not None:
        true = gradient(str(given.torch), text=np.array(text), theta=theta, x=x, y=y)
    rng, table, totals = np.random.default_rng(0), [], np.zeros(3)
    for stage in net.stages:
        weights = stage.weight + rng.permutation(stage.weights)[:each]
        others = np.arange(stage.weight + stage.weights, stage.end)
        chosen = np.sort(np.concatenate([weights, rng.permutation(others)[: each // 2]]))
        started = time.perf_counter()
        found = engine.derivatives(chosen, mu, central=True)
        took = (time.perf_counter() - started) / len(chosen) / 2
        row = {"layer": stage.name, "parameters": stage.end - stage.weight, "ms each": took * 1e3}
        if true is not None:
            double = exact.derivatives(chosen, 1e-9, central=True)  # kinks are in reach of 1e-5
            squares = [((g - true[chosen]) ** 2).sum() for g in (double, found)]
            squares.append((true[chosen] ** 2).sum())
            totals += squares
            row["error, double"] = float(np.sqrt(squares[0] / squares[2]))
            row["error, single"] = float(np.sqrt(squares[1] / squares[2]))
        table.append(row)
    rate = forward_flops(net) * batch / base / 1e9
    print(f"a pass of {batch} takes {base * 1e3:.3g} ms: {rate:.3g} GFLOP/s on one core")
    if true is not None:
        double, single = np.sqrt(totals[:2] / totals[2])
        print(f"relative error of all: {double:.2g} in double precision, {single:.2g} in single")
    report("ResNet-20, coordinates of every layer", table, given.out)
    config = DeepZeroConfig(oracle="cge", sparsity=0.9, batch=batch, epochs=50, mask_every=5)
    job = job_of(NetworkConfig(model="resnet20", data="cifar10"), config, data, 0)
    print(f"the published run: {told(job, estimated(job))}")


if __name__ == "__main__":
    main()
