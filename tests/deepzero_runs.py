"""Runs of DeepZero that tests share: what they are given, and what they come to."""

import json
import os
import shutil
import signal
import sys

import numpy as np
from commands import called, ran

from zoo.deepzero import study
from zoo.deepzero.method import DeepZero
from zoo.runtime.folder import RunFolder

LOSSES = """
import numpy as np

def loss(params, batch):
    x, y = batch
    z = x.reshape(len(x), -1) @ params["w"] + params["b"]
    z -= z.max(axis=1, keepdims=True)
    return np.mean(np.log(np.exp(z).sum(axis=1)) - z[np.arange(len(y)), y])

def raises(params, batch):
    return 1 / 0

def late(params, batch):
    return 1 / 0 if np.abs(params["w"]).sum() > 1e-3 else 1.0

def far(params, batch):
    w = params["w"]
    return np.inf if np.abs(w).sum() > 50.0 else np.sum(w**2) + w[0, 0]

def text(params, batch):
    return "0.5"

def word(params, batch):
    return "low"

def nothing(params, batch):
    pass

def nan(params, batch):
    return float("nan")

def array(params, batch):
    return np.zeros(3)

number = 3
"""


NORMED = "conv 3, bn, relu, maxpool, conv 2 bias=no, bn, relu, avgpool, dense"


BOX = "--model mine.py:loss --init start.npz"


#: Five steps an epoch, the last of 147 samples, and an evaluation.
FEW = "--epochs 3 --batch 300"


KINDS = {
    "cge": f"{FEW} --hidden 8",
    "cge central": f"{FEW} --hidden 8 --central --precision double --shards 3",
    "grasp": f"{FEW} --hidden 8 --sparsity 0.8 --grasp-directions 7 --shards 2",
    "signed grasp": f"{FEW} --model normed.txt --sparsity 0.5 --grasp signed --grasp-directions 4 "
    "--mask-every 2",
    "uniform": f"{FEW} --sparsity 0.9 --pruning uniform --mask-every 1 --rule adam",
    "file": f"{FEW} --sparsity 0.5 --pruning shares.json --shards 3 --rule lion",
    "cyclic": f"{FEW} --oracle cyclic --sparsity 0.3 --shards 2 --momentum 0.5",
    "node": f"{FEW} --model tanh.txt --oracle node",
    "node of convolutions": f"{FEW} --model conv.txt --oracle node --shards 3 --augment",
    "rge": f"{FEW} --oracle rge --directions 5 --shards 3",
    "rge sphere": f"{FEW} --oracle rge --distribution sphere --rule adam",
    "rge rademacher": f"{FEW} --oracle rge --distribution rademacher --rule lion",
    "es": f"{FEW} --oracle es --directions 6 --shards 2",
    "batch norm": f"{FEW} --model normed.txt --shards 4 --augment",
    "es of batch norm": f"{FEW} --model normed.txt --oracle es --shards 5",
    "black box": f"{FEW} {BOX} --directions 5 --shards 2",
    "black box es": f"{FEW} {BOX} --oracle es --directions 4 --shards 3",
    "black box cyclic": f"{FEW} {BOX} --oracle cyclic --sparsity 0.97 --central",
}


KINDS = {name: text.split() for name, text in KINDS.items()}


GRASP = [name for name, given in KINDS.items() if "--grasp-directions" in given]


def furnish(folder):
    (folder / "mine.py").write_text(LOSSES)
    for name, layers in {
        "normed": NORMED,
        "tanh": "dense 8, tanh, dense",
        "conv": "conv 2, relu, maxpool, dense",
    }.items():
        (folder / f"{name}.txt").write_text(layers)
    (folder / "shares.json").write_text(json.dumps({"dense1": 0.6, "dense2": 0.1}))
    np.savez(folder / "start.npz", w=np.zeros((64, 10)), b=np.zeros(10))


def deepzero(capsys, *arguments):
    return ran(capsys, "run", "deepzero", *arguments)


def held(path):
    """Arrays of an .npz."""
    with np.load(path, allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


def told(result):
    """A result without what may differ."""
    return {k: v for k, v in result.items() if k not in ("seconds", "weights", "workers")}


def outcome(folder):
    """All that a run has come to."""
    arrays = held(folder / "weights.npz")
    bits = {name: (str(a.dtype), a.shape, a.tobytes()) for name, a in arrays.items()}
    return bits, told(RunFolder(folder).result()), RunFolder(folder).history()


def again(folder, to):
    """Folder of the same run, of which nothing has been done yet."""
    to.mkdir()
    shutil.copy(folder / "config.json", to)
    (to / "history.jsonl").write_text("")
    return to


def reopened(folder):
    stored = RunFolder(folder)
    return study.reopen(stored.config(), stored, None)


def interrupted(capsys, monkeypatch, step, *arguments):
    """Run that hears a Ctrl-C at a step."""
    merge = DeepZero.merge

    def merged(self, reports):
        merge(self, reports)
        if self._step == step:
            os.kill(os.getpid(), signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(DeepZero, "merge", merged)
        code, out, err = called(capsys, "run", "deepzero", *arguments, "--quiet")
    assert code == 130
    assert err == f"zoo: interrupted at step {step}; 'zoo resume cut' continues it\n"
    return out


def flat(arrays):
    """Parameters, and running moments, in the order of the reference."""
    stages = list(dict.fromkeys(name.split(".")[0] for name in arrays if "." in name))
    groups = []
    for parts in (("weight", "bias", "gamma", "beta"), ("mean", "variance")):
        names = [f"{stage}.{part}" for stage in stages for part in parts]
        found = [np.ravel(arrays[name]) for name in names if name in arrays]
        groups.append(np.concatenate(found) if found else None)
    return groups


def few(folder):
    """More samples to test with than to train on."""
    rng = np.random.default_rng(3)
    x = rng.standard_normal((100, 4)).astype(np.float32)
    y = (x.sum(axis=1) > 0).astype(np.int64)
    np.savez(folder / "few.npz", x_train=x[:40], y_train=y[:40], x_test=x[40:], y_test=y[40:])


X = np.random.default_rng(5).standard_normal((90, 3))


Y = X @ np.array([1.0, -2.0, 0.5]) + 0.3


def squares(params, batch):
    x, y = batch
    return float(np.mean((x @ params["slope"] + params["offset"] - y) ** 2))


FIRST = {"slope": np.zeros(3), "offset": 0.0}


def told_of(result):
    """A result in Python without what may differ, and with the bits of its parameters."""
    params = result["params"]
    parts = params if isinstance(params, dict) else {"params": params}
    fields = told({k: v for k, v in result.items() if k != "params"})
    return fields, {name: np.asarray(array).tobytes() for name, array in parts.items()}


def stop_after(step):
    """Callback that ends a run in the hard way."""

    def callback(progress):
        if progress.step == step:
            raise KeyboardInterrupt

    return callback


def entered(folder, monkeypatch):
    """Work in a furnished folder."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", list(sys.path))
    furnish(folder)
    return folder
