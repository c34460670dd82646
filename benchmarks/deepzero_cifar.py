"""CIFAR-10 from losses alone: the smaller networks of DeepZero's Figure 2, dense CGE.

The networks of 730 and 3,700 parameters are trained from scratch by forward differences of all
coordinates, batch 256, on the threads of this machine; with --torch PYTHON also by backprop in
PyTorch on the same schedule (another order of the data and other first weights); one seed each, 50
epochs, with a learning rate that was chosen on the smaller one. Published: 41.65
and 59.66 % for CGE, 42.09 and 60.47 % for first-order training after 50 epochs, in 0.99 and 5.11
hours with feature reuse (1.66 and 12.08 without) on an A6000.

    python benchmarks/deepzero_cifar.py --data FOLDER [--torch PYTHON] [--quick] [--out FILE.json]

FOLDER has CIFAR-10 in its binary version, or as images (see zoo run deepzero --help).
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from report import arguments, report

from zoo.deepzero.config import NetworkConfig
from zoo.deepzero.data.dataset import load
from zoo.deepzero.net.models import layers_of
from zoo.deepzero.train import train

#: Depth, epochs, published accuracies of CGE and of first-order training, hours with reuse.
RUNS = [(1, 50, 41.65, 42.09, 0.99), (2, 50, 59.66, 60.47, 5.11)]
LR, BATCH = 0.3, 256

FIRST_ORDER = """
import json, sys
import numpy as np, torch
sys.path.insert(0, sys.argv[1])
import deepzero_torch as rival
given = np.load(sys.argv[2], allow_pickle=False)
text, x, y = str(given["text"]), given["x"], given["y"]
params, running = rival.train_first_order(
    text, x, y, float(given["lr"]), epochs=int(given["epochs"]), batch=int(given["batch"]), warmup=3
)
net = rival.build(text, x.shape[1:], params, running=torch.tensor(running), training=False)
right = [rival.accuracy(net, *rival.batch_of(net, given["x_test"][i : i + 1000],
         given["y_test"][i : i + 1000])) for i in range(0, len(given["y_test"]), 1000)]
print(json.dumps(float(np.mean(right))))
"""


def first_order(python: str, text: str, data: Any, epochs: int) -> float:
    """Test accuracy by backprop."""
    x, y = data.batch("train", np.arange(data.count("train")))
    x_test, y_test = data.batch("test", np.arange(data.count("test")))
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder) / "work.npz"
        np.savez(work, text=np.array(text), x=x, y=y, x_test=x_test, y_test=y_test, lr=LR,
                 epochs=epochs, batch=BATCH)  # fmt: skip
        command = [python, "-c", FIRST_ORDER, str(Path(__file__).parent), str(work)]
        made = subprocess.run(command, capture_output=True, text=True, check=False)
    if made.returncode:
        sys.exit(f"{python} failed:\n{made.stderr}")
    return float(json.loads(made.stdout))


def main() -> None:
    given = arguments(__doc__, data="folder with CIFAR-10", torch="interpreter that has PyTorch")
    if given.data is None:
        sys.exit("--data FOLDER is needed")
    data = load("cifar10", str(given.data))
    table = []
    for depth, epochs, cge, backprop, hours in RUNS:
        if given.quick:
            epochs = 1
        text = layers_of(NetworkConfig(model="cnn", depth=depth)) + " 10"
        result = train(text, data, oracle="cge", lr=LR, batch=BATCH, epochs=epochs)
        row = {
            "parameters": result.parameters,
            "epochs": epochs,
            "CGE %": 100 * result.test_accuracy,
            "minutes": result.seconds / 60,
            "queries": result.queries,
            "published CGE %": cge,
            "published hours": hours,
        }
        if given.torch is not None:
            found = first_order(str(given.torch), text, data, epochs)
            row |= {"first-order %": 100 * found, "published first-order %": backprop}
        table.append(row)
        report(f"CIFAR-10, {result.parameters} parameters", [row], given.out)
    report("CIFAR-10", table, given.out)


if __name__ == "__main__":
    main()
