"""Accuracy and queries on the digits: every oracle, and first-order training on the same schedule.

1,347 images to train on and 450 to test with (scikit-learn's stratified split of seed 0), three
seeds. A query is one loss of one batch; a backprop counts as three. First-order training is the
plain NumPy of tests/reference_network.py, which leaves out the last rows of an epoch that are no
whole batch, and begins with a last layer sqrt 2 times as large. All have 3 warm-up epochs, a cosine
schedule, momentum 0.9 (cyclic: none) and weight decay 5e-4.

    python benchmarks/deepzero_digits.py [--quick] [--out FILE.json]
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from report import arguments, report

from zoo.deepzero.data.dataset import load
from zoo.deepzero.train import train

sys.path.append(str(Path(__file__).parents[1] / "tests"))

import reference_network as reference

MLP = "dense 32, relu, dense 10"
CNN = "conv 8, relu, maxpool, conv 16, relu, maxpool, dense 10"
SPARSE: dict[str, Any] = {"oracle": "cge", "sparsity": 0.9, "lr": 0.3, "batch": 64, "epochs": 42}
RUNS: list[tuple[str, str, dict[str, Any]]] = [
    ("cge", MLP, {"oracle": "cge", "lr": 0.3, "batch": 64, "epochs": 50}),
    ("cge, mu 0.1", MLP, {"oracle": "cge", "lr": 0.3, "batch": 64, "epochs": 50, "mu": 0.1}),
    ("node", MLP, {"oracle": "node", "lr": 0.3, "batch": 64, "epochs": 40}),
    ("rge, 24 directions", MLP, {"oracle": "rge", "batch": 256, "epochs": 426}),
    ("es, 12 pairs", MLP, {"oracle": "es", "batch": 256, "epochs": 444}),
    ("cge 90 %, mask a step, uniform", MLP, SPARSE | {"pruning": "uniform"}),
    ("cge 90 %, mask a step, GraSP", MLP, SPARSE),
    ("cge 90 %, mask a step, GraSP signed", MLP, SPARSE | {"grasp": "signed"}),
    ("cge 90 %, mask 5 epochs, uniform", MLP, SPARSE | {"pruning": "uniform", "mask_every": 5}),
    ("cge 90 %, mask 5 epochs, GraSP", MLP, SPARSE | {"mask_every": 5}),
    (
        "cyclic, 1 % a step, central",
        MLP,
        {"oracle": "cyclic", "sparsity": 0.99, "central": True, "lr": 0.03, "batch": 64,
         "epochs": 245},
    ),
    ("cge", CNN, {"oracle": "cge", "lr": 0.1, "batch": 64, "epochs": 50}),
]  # fmt: skip


def mean_and_spread(values: list[float]) -> dict[str, float]:
    return {"mean %": 100 * float(np.mean(values)), "spread": 100 * float(np.std(values, ddof=1))}


def main() -> None:
    given = arguments(__doc__)
    data = load("digits")
    x, y = data.batch("train", np.arange(data.count("train")))
    x_test, y_test = data.batch("test", np.arange(data.count("test")))
    table = []
    seeds = range(2 if given.quick else 3)
    for name, text, lr in (("MLP", MLP, 0.3), ("CNN", CNN, 0.1)):
        epochs = 5 if given.quick else 50
        found, started = [], time.perf_counter()
        for seed in seeds:
            params, running = reference.train_first_order(
                text, x.astype(float), y, lr, epochs=epochs, warmup=3, seed=seed
            )
            net = reference.parse(text, data.shape)
            found.append(reference.accuracy(net, params, x_test.astype(float), y_test, running))
        took = (time.perf_counter() - started) / len(seeds)
        steps = len(x) // 64 * epochs
        row = {"network": name, "oracle": "first-order"} | mean_and_spread(found)
        table.append(row | {"queries": 3 * steps, "seconds": took})
    for name, text, options in RUNS:
        if given.quick:
            options = options | {"epochs": 5}
        results = [train(text, data, seed=seed, threads=1, **options) for seed in seeds]
        row = {"network": "MLP" if text == MLP else "CNN", "oracle": name}
        row |= mean_and_spread([result.test_accuracy for result in results])
        row |= {"queries": results[0].queries}
        row |= {"seconds": float(np.mean([result.seconds for result in results]))}
        table.append(row)
    report("digits, test accuracy", table, given.out)


if __name__ == "__main__":
    main()
