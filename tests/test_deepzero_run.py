"""Runs of DeepZero, as users meet them: bits, queries, learning, the command, bad input, Python."""

import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import warnings

import numpy as np
import pytest
import reference_network as reference
from commands import ENVIRONMENT, called, left_behind, ran, refused, start, until

from zoo.config import options_of
from zoo.deepzero import study
from zoo.deepzero.config import DeepZeroConfig, NetworkConfig
from zoo.deepzero.data.batches import batch_rows
from zoo.deepzero.data.dataset import load
from zoo.deepzero.estimate import queries_of
from zoo.deepzero.method import DeepZero
from zoo.deepzero.net import engine
from zoo.deepzero.net.network import network
from zoo.deepzero.shard import DeepZeroShard
from zoo.deepzero.train import Arrays, resume, train
from zoo.errors import InputError, Interrupted, RunError
from zoo.runtime import loop
from zoo.runtime.folder import RunFolder
from zoo.runtime.hosts import InlineHost, ThreadsHost
from zoo.runtime.launch import launch, taken_up
from zoo.runtime.loop import run as run_loop

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
    return np.inf if np.abs(params["w"]).sum() > 1e-3 else 1.0

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


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    furnish(tmp_path)
    return tmp_path


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


# Bits


def on(host, folder):
    """What a run comes to on a host."""
    method = reopened(folder).method
    run_loop(method, host)
    arrays = {name: array.tobytes() for name, array in study.trained(method).items()}
    return arrays, method.result(), method.history


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_bits_on_all_hosts(kind, here, monkeypatch, capsys):
    first = deepzero(capsys, *KINDS[kind], "--seed", "5", "--threads", "1", "--out", "whole")
    whole = {name: array.tobytes() for name, array in held("whole/weights.npz").items()}
    assert first["status"] == "epochs"
    assert math.isfinite(first["train_loss"])
    assert first["queries"] == queries_of(reopened(here / "whole").method.job)  # as was told
    for host in (InlineHost(), *map(ThreadsHost, (1, 2, 3))):
        arrays, result, _ = on(host, here / "whole")
        assert arrays == whole
        assert {name: first[name] for name in result} == json.loads(json.dumps(result))
    monkeypatch.setattr(engine, "_PIECE", 1e4)  # many pieces, for many threads
    for threads in ("2", "3"):
        ran(capsys, "resume", str(again(here / "whole", here / threads)), "--threads", threads)
        assert outcome(here / threads) == outcome(here / "whole")


@pytest.fixture
def merged(monkeypatch):
    """Grows by what each superstep was."""
    done = []
    merge = DeepZero.merge

    def counting(self, reports):
        due = self._due
        merge(self, reports)
        done.append(due)

    monkeypatch.setattr(DeepZero, "merge", counting)
    return done


#: Numbers of supersteps after which a run is interrupted, each time in another process's place.
POINTS = {
    False: (0, 1, 3, 5, 6, 9, 17),  # before all, in an epoch, before and after its evaluation
    True: (0, 1, 2, 3, 7, 8),  # GraSP scores twice first
}


@pytest.mark.parametrize("kind", KINDS)
def test_interrupted_and_resumed(kind, here, capsys, merged):
    deepzero(capsys, *KINDS[kind], "--out", "whole")
    supersteps = merged[:]
    assert supersteps[:2] == ["score" if kind in GRASP else "gradient"] * 2
    assert supersteps[-2:] == ["gradient", "evaluate"]
    merged.clear()
    folder = again(here / "whole", here / "cut")
    due = [point for point in POINTS[kind in GRASP] if point < len(supersteps)]
    times = len(due)

    def cancelled():
        return bool(due and len(merged) == due[0] and due.pop(0) == len(merged))

    for number in range(times + 1):
        kept = RunFolder(folder)
        options = {"threads": 1 + number % 2, "folder": kept, "snapshot": taken_up(kept)}
        if number == times:
            launch(reopened(folder), cancelled=cancelled, **options)
            break
        with pytest.raises(Interrupted):
            launch(reopened(folder), cancelled=cancelled, **options)
    assert merged == supersteps
    assert outcome(folder) == outcome(here / "whole")


@pytest.mark.parametrize(
    "kind", ["cge central", "signed grasp", "rge", "es of batch norm", "black box"]
)
def test_interrupted_within_a_step(kind, here, monkeypatch, capsys):
    deepzero(capsys, *KINDS[kind], "--out", "whole")
    monkeypatch.setattr(engine, "_PIECE", 1e4)
    folder = again(here / "whole", here / "cut")
    asked, times = [0], 0

    def cancelled():
        asked[0] += 1
        return asked[0] in (5, 30, 60)

    while True:
        kept = RunFolder(folder)
        options = {"threads": 1, "folder": kept, "snapshot": taken_up(kept)}
        try:
            launch(reopened(folder), cancelled=cancelled, **options)
            break
        except Interrupted:
            times += 1
    assert times == 3
    assert outcome(folder) == outcome(here / "whole")


def test_nothing_is_at_work_after_an_interrupt(monkeypatch):
    """What was given up would otherwise go on in memory that is needed again."""
    net, asked, at_work = network("dense 4, relu, dense", (5, 1, 1), 3), [], set()

    def cancelled():
        asked.append(0)
        if len(asked) > 1:
            return False
        until(lambda: at_work)
        return True  # the first of two pieces

    def slow(*arguments):
        at_work.add(1)
        time.sleep(0.3)
        at_work.discard(1)

    monkeypatch.setattr(engine, "cge", slow)
    monkeypatch.setattr(engine, "_PIECE", 1.0)
    made = engine.Engine(net, 10, threads=2, cancelled=cancelled)
    made.load(np.zeros((10, 5, 1, 1)), np.zeros(10, np.int64))
    with pytest.raises(Interrupted):
        made.derivatives(np.arange(2), 1e-3)
    assert not at_work


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


def test_a_command_interrupted_and_resumed(here, monkeypatch, capsys):
    for kind in ("grasp", "batch norm", "black box"):
        for step in (2, 7):
            deepzero(capsys, *KINDS[kind], "--out", "whole")
            out = interrupted(capsys, monkeypatch, step, *KINDS[kind], "--out", "cut", "--json")
            partial = json.loads(out)
            assert (partial["message"], partial["steps"]) == ("interrupted", step)
            assert (partial["train_loss"] is None) == (step == 2)
            code, out, err = called(capsys, "show", "cut")  # what there is so far
            assert (code, err) == (0, "")
            assert "interrupted" in out
            assert not (here / "cut" / "weights.npz").exists()
            result = ran(capsys, "resume", "cut", "--threads", "2")
            assert told(result) == told(RunFolder("whole").result())
            assert outcome(here / "cut") == outcome(here / "whole")
            shutil.rmtree("cut")
            shutil.rmtree("whole")


#: Ends itself after a superstep, in forks of one process: what a power cut would leave.
DRIVER = """
import json, os, signal, sys
from cli.main import main
from zoo.deepzero.method import DeepZero

merge, calls = DeepZero.merge, [0]

def merged(self, reports):
    merge(self, reports)
    calls[0] += 1
    if calls[0] == number:
        os.kill(os.getpid(), signal.SIGKILL)

runs = json.loads(sys.argv[1])
for arguments in {tuple(run[1]) for run in runs}:  # loads what is compiled, once
    assert main(["run", "deepzero", *arguments, "--quiet"]) == 0
DeepZero.merge = merged
for number, arguments, out in runs:
    sys.stdout.flush()
    child = os.fork()
    if not child:
        main(["run", "deepzero", *arguments, "--out", out, "--quiet"])
        os._exit(0)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL, (number, arguments)
"""
EVERY = ["--snapshot-every", "1e-6", "--threads", "1"]
DEATHS = {
    f"{kind} {number}": (number, [*KINDS[kind], *EVERY])
    for kind, numbers in {
        "cge central": (3, 6),
        "grasp": (1, 2, 4),
        "uniform": (8,),
        "cyclic": (4, 14),
        "node of convolutions": (5,),
        "rge sphere": (9,),
        "es": (6,),
        "batch norm": (7,),
        "black box": (10,),
    }.items()
    for number in numbers
} | {"without a snapshot": (7, KINDS["cge"])}


@pytest.fixture(scope="module")
def deaths(tmp_path_factory):
    """Folder of runs that were killed."""
    folder = tmp_path_factory.mktemp("deaths")
    furnish(folder)
    runs = [(number, given, name) for name, (number, given) in DEATHS.items()]
    done = subprocess.run(
        [sys.executable, "-c", DRIVER, json.dumps(runs)],
        cwd=folder,
        env=ENVIRONMENT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.parametrize("name", DEATHS)
def test_killed_and_resumed(name, deaths, monkeypatch, capsys):
    monkeypatch.chdir(deaths)
    number, given = DEATHS[name]
    assert RunFolder(name).result() is None
    snapshot = RunFolder(name).snapshot()
    assert (snapshot is None) == ("--snapshot-every" not in given)
    if snapshot is not None:
        book = json.loads(snapshot.method["book"].item())
        assert (book["queries"] > 0) == (number > 1)
        assert (book["due"] == "score") == (name in ("grasp 1", "grasp 2"))
    shutil.rmtree("whole", ignore_errors=True)
    deepzero(capsys, *given, "--out", "whole")
    ran(capsys, "resume", name)
    assert outcome(deaths / name) == outcome(deaths / "whole")


def test_signals_from_outside(here, capsys):
    given = ["--oracle", "node", "--epochs", "800", "--shards", "2"]
    process = start("run", "deepzero", *given, "--snapshot-every", "1e-6", "--out", "cut")
    until(lambda: (here / "cut" / "snapshot.npz").exists() and RunFolder("cut").history())
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert re.search(r"\nzoo: interrupted at step \d+; 'zoo resume cut' continues it\n$", err)
    assert "interrupted" in out
    before = len(RunFolder("cut").history())
    process = start("resume", "cut", "--threads", "2")
    until(lambda: len(RunFolder("cut").history()) > before)
    process.kill()
    process.communicate(timeout=30)
    assert process.returncode == -signal.SIGKILL
    assert RunFolder("cut").result() is None
    ran(capsys, "resume", "cut")
    deepzero(capsys, *given, "--out", "whole")
    assert outcome(here / "cut") == outcome(here / "whole")


def test_seeds(here, capsys):
    results = {}
    for seed in (0, 1, 2**32, 2**62):
        for kind in ("signed grasp", "rge", "cyclic", "node of convolutions"):
            given = [*KINDS[kind], "--seed", str(seed), "--epochs", "1"]
            result = deepzero(capsys, *given)
            assert result["seed"] == seed
            results[kind, seed] = result["train_loss"]
    assert len(set(results.values())) == len(results)
    assert "seed must be" in refused(capsys, "run", "deepzero", "--seed", str(2**64))
    for sparsity in (0.0, 0.5):  # in Python they are larger
        losses = {train("mlp", epochs=1, sparsity=sparsity, seed=2**64 - k).fun for k in (1, 2)}
        assert len(losses) == 2


# Queries

#: Options, and the queries of each step.
QUERIES = {
    "": [2411] * 4,  # 64 * 32 + 32 + 32 * 10 + 10, and the base
    "--central": [4821] * 4,
    "--shards 3": [2411] * 4,  # one base for all of them
    "--oracle node": [43] * 4,
    "--oracle node --shards 4": [43] * 4,
    "--oracle rge": [25] * 4,
    "--oracle rge --directions 7 --shards 2": [8] * 4,
    "--oracle es": [24] * 4,
    "--oracle es --directions 6 --shards 4": [6] * 4,
    "--oracle cyclic --sparsity 0.3": [1688, 724] * 2,  # round(0.7 * 2410), and the rest
    "--oracle cyclic --sparsity 0.3 --central": [3375, 1447] * 2,
    "--sparsity 0.8": [2 * 193, *[43 + round(0.2 * 2368)] * 4],
    "--sparsity 0.8 --grasp-directions 5 --shards 3": [2 * 6, *[43 + 474] * 4],
    "--sparsity 0.87 --pruning uniform": [43 + round(0.13 * 2048) + round(0.13 * 320)] * 4,
    "--sparsity 0.2 --pruning shares.json": [43 + round(0.4 * 2048) + round(0.9 * 320)] * 4,
    "conv": [1 + 2 * 9 + 2 + 2 * 16 * 10 + 10] * 4,
    "conv --oracle node": [1 + 2 * 64 + 10] * 4,
    "norm --oracle es --shards 3": [25] * 4,
    "box --directions 5": [6] * 4,
    "box --directions 5 --shards 2": [7] * 4,  # of black boxes each has its own
    "box --oracle cge --central": [1301] * 4,
}


@pytest.mark.parametrize("given", QUERIES)
def test_queries_are_counted(given, here, monkeypatch, capsys):
    words = {"conv": "--model conv.txt", "norm": "--model normed.txt", "box": BOX}
    arguments = " ".join(words.get(word, word) for word in given.split()).split()
    said = []
    step = DeepZeroShard.step

    def listening(self, message):
        report = step(self, message)
        said.append((message.kind, self.index, report.queries))
        return report

    monkeypatch.setattr(DeepZeroShard, "step", listening)
    arguments += ["--epochs", "2", "--batch", "700", "--threads", "1", "--json"]
    code, out, err = called(capsys, "run", "deepzero", *arguments)
    assert code == 0
    wanted = QUERIES[given]
    assert json.loads(out)["queries"] == sum(wanted)
    assert f" steps, {sum(wanted):,} queries" in err
    shards = 1 + max(index for _, index, _ in said)
    each = [sum(q for *_, q in said[i : i + shards]) for i in range(0, len(said), shards)]
    steps = [q for q, (kind, *_) in zip(each, said[::shards], strict=True) if kind != "evaluate"]
    if "193" in str(wanted[0]) or len(wanted) > 4:
        steps[:2] = [sum(steps[:2])]
    assert steps == wanted


def test_the_queries_of_a_black_box_are_its_calls(here):
    x, y = np.random.default_rng(0).standard_normal((2, 50))
    calls = []

    def loss(params, batch):
        calls.append(len(batch[0]))
        return float(np.mean((params[0] + params[1] * batch[0] - batch[1]) ** 2))

    for options, queries in (
        ({"directions": 7}, 8),
        ({"oracle": "es", "directions": 6, "shards": 2}, 6),
        ({"oracle": "cge"}, 3),
        ({"oracle": "cge", "central": True, "shards": 4}, 8),
    ):
        calls.clear()
        result = train(loss, (x, y), params=np.zeros(2), epochs=3, batch=20, **options)
        assert calls.pop(0) == 20  # it is tried once before the start
        assert len(calls) == result.queries == 9 * queries
        assert calls.count(10) == 3 * queries  # the last batch of an epoch
        calls.clear()
        test = (x[:30], y[:30])
        train(loss, (x, y), params=np.zeros(2), epochs=3, batch=20, test=test, **options)
        assert sum(calls[1:]) == 3 * queries * 50 + 3 * 30


# Learning


def flat(arrays):
    """Parameters, and running moments, in the order of the reference."""
    stages = list(dict.fromkeys(name.split(".")[0] for name in arrays if "." in name))
    groups = []
    for parts in (("weight", "bias", "gamma", "beta"), ("mean", "variance")):
        names = [f"{stage}.{part}" for stage in stages for part in parts]
        found = [np.ravel(arrays[name]) for name in names if name in arrays]
        groups.append(np.concatenate(found) if found else None)
    return groups


def of_reference(text, data):
    return reference.parse(re.sub("dense *$", f"dense {len(data.classes)}", text), data.shape)


@pytest.mark.parametrize(
    ("given", "text", "least"),
    [
        ("--epochs 5 --batch 32", "dense 32, relu, dense", 0.95),
        ("--epochs 5 --batch 32 --sparsity 0.5", "dense 32, relu, dense", 0.95),
        ("--epochs 10 --batch 32 --oracle cyclic --sparsity 0.5", "dense 32, relu, dense", 0.9),
        ("--epochs 10 --batch 64 --oracle node", "dense 32, relu, dense", 0.96),
        ("--epochs 20 --oracle rge --directions 100", "dense 32, relu, dense", 0.9),
        ("--epochs 20 --oracle es --directions 100", "dense 32, relu, dense", 0.87),
        ("--epochs 5 --batch 32 --rule adam --lr 0.01", "dense 32, relu, dense", 0.93),
        ("--epochs 5 --batch 32 --rule lion --lr 0.002", "dense 32, relu, dense", 0.85),
        ("--epochs 5 --batch 64 --model norm", "conv 6, bn, relu, maxpool, dense", 0.9),
        ("--epochs 5 --batch 32 --oracle node --mu 0.3 --model step", "dense 16, step, dense", 0.8),
    ],
)
def test_networks_learn(given, text, least, here, capsys):
    given = [text if word in ("norm", "step") else word for word in given.split()]
    result = deepzero(capsys, *given, "--weights", "made.npz")
    assert result["test_accuracy"] >= least
    data = load("digits")
    params, running = flat(held("made.npz"))
    net = of_reference(text, data)
    x, y = data.batch("test", np.arange(data.count("test")))
    close = 0.5 / len(y)
    accuracy = reference.accuracy(net, params, x, y, running)
    assert result["test_accuracy"] == pytest.approx(accuracy, abs=close)
    loss = reference.loss(net, params, x, y, running)
    assert result["test_loss"] == pytest.approx(loss, rel=1e-4)
    assert result["parameters"] == net.count == len(params)
    assert result["test"] == len(y)


def test_a_black_box_learns(here, capsys):
    given = ["--epochs", "30", "--directions", "60", "--lr", "0.1"]
    result = deepzero(capsys, *BOX.split(), *given, "--weights", "made.npz")
    made, data = held("made.npz"), load("digits")
    x, y = data.batch("test", np.arange(data.count("test")))
    z = x.reshape(len(x), -1) @ made["w"] + made["b"]
    assert np.mean(z.argmax(axis=1) == y) > 0.85
    assert result["test_accuracy"] is None
    assert result["test_loss"] == pytest.approx(reference.cross_entropy(z, y), rel=1e-9)


def a_step(rule, theta, g, memory, eta, momentum, decay, t):
    """Update of parameters by a rule, from its paper."""
    if rule == "sgd":
        memory["v"] = momentum * memory["v"] + g + decay * theta
        return theta - eta * memory["v"]
    if rule == "lion":
        c = momentum * memory["v"] + (1 - momentum) * g
        memory["v"] = 0.99 * memory["v"] + 0.01 * g
        return theta - eta * (np.sign(c) + decay * theta)
    memory["v"] = momentum * memory["v"] + (1 - momentum) * g
    memory["s"] = 0.999 * memory["s"] + 0.001 * g**2
    first, second = memory["v"] / (1 - momentum**t), memory["s"] / (1 - 0.999**t)
    return theta - eta * (first / (np.sqrt(second) + 1e-8) + decay * theta)


@pytest.mark.parametrize(
    ("text", "given"),
    [
        ("dense 6, relu, dense", "--oracle node --mu 1e-7"),
        ("dense 6, relu, dense", "--central --mu 1e-6 --momentum 0.5 --weight-decay 0.1"),
        ("dense 6, tanh, dense", "--oracle node --mu 1e-7 --rule adam --lr 0.01"),
        ("dense 6, tanh, dense", "--central --mu 1e-6 --rule lion --lr 0.003 --weight-decay 0.2"),
        ("dense 6, relu, dense", "--oracle node --mu 1e-7 --schedule constant --warmup 0"),
        ("dense 6, relu, dense", "--oracle node --mu 1e-7 --warmup 0.5"),
        ("dense 6, relu, dense", "--oracle node --mu 1e-7 --warmup 100"),
        (NORMED.replace("relu", "tanh"), "--central --mu 1e-6 --shards 2 --batch 450"),
    ],
)
def test_training_is_that_of_a_plain_loop(text, given, here, capsys):
    data = load("digits")
    net = of_reference(text, data)
    said = dict(re.findall(r"--(\S+) ([^-]\S*)", given))
    batch, epochs, seed = int(said.get("batch", 300)), 3, 4
    mine = ["--model", text, "--precision", "double", "--seed", str(seed)]
    mine += ["--epochs", str(epochs), *given.split()]
    mine += [] if "batch" in said else ["--batch", str(batch)]
    deepzero(capsys, *mine, "--epochs", "1", "--lr", "1e-300", "--weights", "begin.npz")
    theta, running = flat(held("begin.npz"))
    if running is not None:
        running = reference.initial_running(net)
    each = -(-data.count("train") // batch)
    total, warmup = epochs * each, round(float(said.get("warmup", 3)) * each)
    warmup = min(warmup, total // 2)
    memory = {"v": np.zeros_like(theta), "s": np.zeros_like(theta)}
    for t in range(total):
        rows = batch_rows(data.count("train"), batch, seed, t)
        g, statistics = reference.gradient(net, theta, *data.batch("train", rows))
        eta = float(said.get("lr", 0.1))
        if "schedule" not in said:
            eta = reference.learning_rate(t, total, warmup, eta)
        momentum, decay = float(said.get("momentum", 0.9)), float(said.get("weight-decay", 5e-4))
        rule = said.get("rule", "sgd")
        theta = a_step(rule, theta, g, memory, eta, momentum, decay, t + 1)
        if running is not None:
            running = reference.averaged(running, statistics)
    deepzero(capsys, *mine, "--weights", "made.npz")
    made, moments = flat(held("made.npz"))
    np.testing.assert_allclose(made, theta, rtol=0, atol=1e-6)
    assert np.abs(made - flat(held("begin.npz"))[0]).max() > 0.01
    if running is not None:
        np.testing.assert_allclose(moments, running, rtol=1e-5, atol=1e-6)


def test_the_history_is_of_the_epochs(here, capsys):
    result = deepzero(capsys, *KINDS["node"], "--out", "run")
    rows = RunFolder("run").history()
    assert [row["step"] for row in rows] == [5, 10, 15]
    assert [row["queries"] for row in rows] == [5 * 19, 10 * 19, 15 * 19]
    last = {"best": "train_loss", "test_loss": "test_loss", "test_accuracy": "test_accuracy"}
    assert {name: rows[-1][name] for name in last} == {k: result[v] for k, v in last.items()}
    assert rows[0]["best"] > rows[-1]["best"] == result["fun"]


@pytest.mark.parametrize("shards", ["1", "3", "4"])
def test_the_training_loss_of_es_is_the_mean_of_its_pairs(shards, here, capsys):
    given = ["--oracle", "es", "--directions", "4", "--shards", shards, "--mu", "1e-6"]
    given += ["--epochs", "1", "--batch", "1347", "--precision", "double", "--lr", "1e-12"]
    result = deepzero(capsys, *given)
    base = deepzero(capsys, *given[:-2], "--oracle", "node", "--directions", "24", "--lr", "1e-12")
    assert result["train_loss"] == pytest.approx(base["train_loss"], rel=1e-4)


# The command


def test_out_of_the_box(here):
    before = sorted(path.name for path in here.iterdir())
    process = start("run", "deepzero", "--epochs", "3", "--json")
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0
    pattern = r"zoo: 2,410 parameters; 33 steps, 79,563 queries, about [\d.]+ seconds of one core\n"
    assert re.fullmatch(pattern, err)
    assert out.count("\n") == 1
    result = json.loads(out)
    wanted = {"method": "deepzero", "oracle": "cge", "sparsity": 0.0, "seed": 0, "steps": 33}
    wanted |= {"queries": 79563, "parameters": 2410, "data": "digits", "model": "mlp"}
    assert {name: result[name] for name in wanted} == wanted
    assert result.keys() >= {"test_accuracy", "train_loss", "seconds", "test_loss", "epochs"}
    assert sorted(path.name for path in here.iterdir()) == before


def test_for_people(here, capsys, monkeypatch):
    told = []
    step = DeepZeroShard.step
    monkeypatch.setattr(
        DeepZeroShard,
        "step",
        lambda *a: told.append(capsys.readouterr().err) or step(*a),
    )
    given = [*KINDS["grasp"], "--weights", "made.npz"]
    code, out, err = called(capsys, "run", "deepzero", *given)
    assert (code, err) == (0, "")
    assert re.fullmatch(  # said before the start
        r"zoo: 610 parameters; 15 steps, \d,\d{3} queries, about \S+ seconds of one core\n",
        "".join(told),
    )
    assert "".join(told) == told[0]
    title, *rows = out.splitlines()
    assert title == "mlp (610 parameters) on digits: deepzero, seed 0"
    said = dict(re.fullmatch(r"  (\w+) {2,}(.*)", row).groups() for row in rows)
    assert said.keys() == {"accuracy", "loss", "oracle", "work", "weights", "ended"}
    assert re.fullmatch(r"\d+\.\d\d% of 450 test samples", said["accuracy"])
    assert said["oracle"] == "cge, lr 0.1, mu 0.005, sparsity 0.8"
    assert re.match(r"\d,\d{3} queries, 15 steps, 3 epochs, ", said["work"])
    assert said["weights"] == str(here / "made.npz")
    assert said["ended"] == "all epochs are done"
    told.clear()
    assert called(capsys, "run", "deepzero", *KINDS["grasp"], "--quiet")[2] == ""
    assert "".join(told) == ""
    code, out, err = called(capsys, "run", "deepzero", *KINDS["black box"])
    assert out.startswith("mine.py:loss (650 parameters) on digits: deepzero, seed 0\n")
    assert "".join(told) == "zoo: 650 parameters; 15 steps, 105 queries\n"


#: What each option of the network and of the oracle may be given, and with what.
OPTIONS = {
    "model": ("cnn", "--width 3 --depth 1"),
    "hidden": ("9,4", ""),
    "depth": (1, "--model cnn --width 2"),
    "width": (2, "--model cnn --depth 1"),
    "data": ("few.npz", ""),
    "data_folder": (".", "--data digits"),
    "augment": (True, "--model cnn --width 2 --depth 1"),
    "init": ("first.npz", "--hidden 5"),
    "weights": ("made.npz", ""),
    "oracle": ("node", ""),
    "mu": (1e-3, ""),
    "central": (True, ""),
    "sparsity": (0.25, "--pruning uniform"),
    "pruning": ("uniform", "--sparsity 0.5"),
    "mask_every": (5, "--sparsity 0.5 --grasp-directions 2"),
    "grasp": ("signed", "--sparsity 0.5 --grasp-directions 2"),
    "grasp_directions": (3, "--sparsity 0.5"),
    "grasp_samples": (2, "--sparsity 0.5"),
    "decay": (0.5, "--oracle cyclic"),
    "directions": (4, "--oracle rge"),
    "distribution": ("sphere", "--oracle es"),
    "rule": ("adam", ""),
    "lr": (0.2, ""),
    "momentum": (0.0, ""),
    "weight_decay": (0.0, ""),
    "schedule": ("constant", ""),
    "warmup": (0.0, ""),
    "epochs": (2, ""),
    "batch": (65536, ""),
    "precision": ("double", ""),
    "shards": (5, ""),
    "seconds": (60.0, ""),
}


def few(folder):
    """More samples to test with than to train on."""
    rng = np.random.default_rng(3)
    x = rng.standard_normal((100, 4)).astype(np.float32)
    y = (x.sum(axis=1) > 0).astype(np.int64)
    np.savez(folder / "few.npz", x_train=x[:40], y_train=y[:40], x_test=x[40:], y_test=y[40:])


def test_every_option(here, capsys):
    few(here)
    deepzero(capsys, "--hidden", "5", "--epochs", "1", "--weights", "first.npz")
    sections = {**options_of(NetworkConfig), **options_of(DeepZeroConfig)}
    assert OPTIONS.keys() == sections.keys()
    code, out, err = called(capsys, "run", "deepzero", "--help")
    assert (code, err) == (0, "")
    assert "For example: zoo run deepzero --model mlp --data digits" in " ".join(out.split())
    usual = called(capsys, "run", "deepzero", "--epochs", "1", "--out", "usual", "--quiet")
    assert usual[0] == 0
    for name, (value, others) in OPTIONS.items():
        option = f"--{name.replace('_', '-')}"
        assert re.search(rf"^ +{option}\b", out, re.MULTILINE), name
        given = [option] if value is True else [option, str(value)]
        epochs = [] if name == "epochs" else ["--epochs", "1"]
        deepzero(capsys, *given, *others.split(), *epochs, "--out", name)
        stored = RunFolder(name).config()
        found = (stored["problem"] | stored["config"])[name]
        if name in ("data", "init", "weights", "data_folder") and value != ".":
            value = str(here / value)
        assert found == value, name
        plain = RunFolder("usual").config()
        assert found != (plain["problem"] | plain["config"])[name], name


def test_options_change_what_is_done(here, capsys):
    sparse, rge = ["--sparsity", "0.5", "--grasp-directions", "4"], ["--oracle", "rge"]
    base = KINDS["cge"]
    pairs = [
        (base, ["--mu", "0.5"]),
        (base, ["--central"]),
        (base, ["--momentum", "0"]),
        (base, ["--weight-decay", "0.1"]),
        (base, ["--schedule", "constant"]),
        (base, ["--warmup", "0"]),
        (base, ["--precision", "double"]),
        ([*base, *sparse], ["--mask-every", "1"]),
        ([*base, *sparse], ["--grasp", "signed"]),
        ([*base, *sparse], ["--grasp-samples", "1"]),
        ([*base, *sparse], ["--grasp-directions", "5"]),
        ([*base, "--oracle", "cyclic", "--sparsity", "0.9"], ["--decay", "0"]),
        ([*base, *rge], ["--distribution", "rademacher"]),
        ([*FEW.split(), "--model", "conv.txt", "--oracle", "node"], ["--augment"]),
    ]
    for given, more in pairs:
        losses = {deepzero(capsys, *given, *extra)["train_loss"] for extra in ([], more)}
        assert len(losses) == 2, more
    many = ["--oracle", "rge", "--hidden", "4", "--data", "few.npz", "--epochs", "1"]
    few(here)
    results = [deepzero(capsys, *many, "--batch", b) for b in ("40", "64", "1000")]
    assert len({result["train_loss"] for result in results}) == 1  # all that there are


def test_a_config_file(here, capsys):
    (here / "run.toml").write_text(
        'seed = 3\nmodel = """\nconv 2, relu, maxpool  # small\ndense\n"""\n'
        '[deepzero]\noracle = "node"\nepochs = 9\nbatch = 300\n[output]\nout = "there"\n'
    )
    result = deepzero(capsys, "--config", "run.toml", "--epochs", "2")
    assert (result["seed"], result["epochs"], result["oracle"]) == (3, 2.0, "node")
    given = ["--model", "conv 2, relu, maxpool, dense", "--oracle", "node", "--batch", "300"]
    other = deepzero(capsys, *given, "--epochs", "2", "--seed", "3")
    assert other["train_loss"] == result["train_loss"]
    assert RunFolder("there").result()["train_loss"] == result["train_loss"]
    assert ran(capsys, "resume", "there") == result
    (here / "bad.toml").write_text("[deepzero]\nepoch = 3\n")
    assert "'epochs'" in refused(capsys, "run", "deepzero", "--config", "bad.toml")


def test_layers_from_a_file(here, monkeypatch, capsys):
    folder = here / "a folder"
    folder.mkdir()
    (folder / "net.txt").write_text("# small\nconv 2, relu\nmaxpool\ndense\n")
    monkeypatch.chdir(folder)
    given = ["--oracle", "node", *FEW.split()]
    file = deepzero(capsys, "--model", "net.txt", *given, "--out", "run")
    words = deepzero(capsys, "--model", "conv 2, relu,maxpool,  dense", *given)
    assert file["train_loss"] == words["train_loss"]
    assert str(held("run/weights.npz")["layers"]) == (folder / "net.txt").read_text()
    monkeypatch.chdir(here)
    assert told(ran(capsys, "resume", str(again(folder / "run", here / "run")))) == told(file)


def test_names_go_before_files(here, capsys):
    for name in ("mlp", "digits"):
        (here / name).mkdir()
        (here / name / "file").write_text("")
        assert deepzero(capsys, *FEW.split(), "--oracle", "node")["data"] == "digits"
        shutil.rmtree(here / name)
        (here / name).write_text("here")
        assert deepzero(capsys, *FEW.split(), "--oracle", "node")["model"] == "mlp"


def test_show_and_resume_of_a_finished_run(here, capsys, monkeypatch):
    from matplotlib.figure import Figure

    drawn = []
    saved = Figure.savefig
    monkeypatch.setattr(
        Figure, "savefig", lambda self, *a, **k: drawn.append(self) or saved(self, *a, **k)
    )
    for kind in ("grasp", "black box"):
        result = deepzero(capsys, *KINDS[kind], "--out", kind)
        before = {path: path.read_bytes() for path in (here / kind).iterdir()}
        assert ran(capsys, "resume", kind) == result
        assert {path: path.read_bytes() for path in (here / kind).iterdir()} == before
        code, out, err = called(capsys, "show", kind, "--plot", f"{kind}.png")
        assert (code, err) == (0, "")
        assert out.startswith(f"{kind}: finished\n")
        assert re.search(r"step +queries +best +test_loss +test_accuracy\n", out)
        assert "all epochs are done" in out
        shown = json.loads(called(capsys, "show", kind, "--json")[1])
        assert shown["result"] == result
        assert [row["step"] for row in shown["history"]] == [5, 10, 15]
        assert (here / f"{kind}.png").read_bytes().startswith(b"\x89PNG")
        figure = drawn.pop()
        (axes,) = figure.axes
        (line,) = axes.lines
        rows = RunFolder(kind).history()
        np.testing.assert_array_equal(line.get_xdata(), [row["queries"] for row in rows])
        np.testing.assert_array_equal(line.get_ydata(), [row["best"] for row in rows])
        assert (axes.get_xlabel(), axes.get_ylabel()) == ("queries", "loss")
        assert figure.get_suptitle() == f"{result['model']}, deepzero"


def test_weights_and_init(here, capsys):
    for kind in ("node", "batch norm", "black box"):
        given = [word for word in KINDS[kind] if word not in ("--init", "start.npz")]
        first = ["--init", "start.npz"] if kind == "black box" else []
        name = f"{kind}.npz"
        one = deepzero(capsys, *given, *first, "--weights", name, "--out", kind)
        assert one["weights"] == str(here / name)
        assert {k: v.tobytes() for k, v in held(name).items()} == {
            k: v.tobytes() for k, v in held(f"{kind}/weights.npz").items()
        }
        still = ["--lr", "1e-300", "--weight-decay", "0", "--epochs", "1"]
        other = deepzero(capsys, *given, "--init", name, *still, "--weights", f"still {name}")
        made, kept = held(name), held(f"still {name}")
        for part, array in made.items():
            if not part.endswith((".mean", ".variance")):  # which go on
                np.testing.assert_array_equal(array, kept[part])
        if kind != "batch norm":
            assert other["test_loss"] == one["test_loss"]
        more = deepzero(capsys, *given, "--init", name, "--seed", "9")
        assert more["train_loss"] < one["train_loss"]
        more = ["--init", name, "--weights", name]
        assert "is there already" in refused(capsys, "run", "deepzero", *given, *more)


def test_weights_of_others(here, capsys):
    """Arrays by the documented names and shapes are enough."""
    rng = np.random.default_rng(1)
    arrays = {"dense1.weight": rng.standard_normal((3, 64)), "dense1.bias": np.arange(3)}
    arrays |= {"dense2.weight": np.ones((10, 3), np.float32), "dense2.bias": np.zeros(10)}
    np.savez("mine.npz", **arrays)
    still = ["--lr", "1e-300", "--epochs", "1", "--hidden", "3", "--weights", "made.npz"]
    deepzero(capsys, "--init", "mine.npz", *still)
    made = held("made.npz")
    assert str(made.pop("layers")) == "dense 3, relu, dense"
    assert made.keys() == arrays.keys()
    for name, array in arrays.items():
        np.testing.assert_allclose(made[name], array, rtol=1e-15, atol=1e-300)


def test_seconds(here, capsys, monkeypatch):
    for given in ("--oracle node", "--model normed.txt --shards 2", BOX):
        given = f"{given} --epochs 1000000 --seconds 0.2 --out run"
        result = deepzero(capsys, *given.split())
        assert result["status"] == "seconds"
        assert result["success"] is False
        assert 0.2 <= result["seconds"] < 2
        assert result["steps"] > 0
        assert math.isfinite(result["train_loss"])
        assert math.isfinite(result["test_loss"])
        assert RunFolder("run").history()[-1]["step"] == result["steps"]
        assert held("run/weights.npz")
        assert ran(capsys, "resume", "run") == result
        shutil.rmtree("run")
    monkeypatch.setattr(engine, "_PIECE", 1e3)  # a step that takes longer than there is
    slow = ["--epochs", "1", "--batch", "1347", "--hidden", "128", "--seconds", "1e-9"]
    result = deepzero(capsys, *slow)
    assert result["steps"] <= 1
    result = deepzero(capsys, "--sparsity", "0.5", "--seconds", "1e-9", "--epochs", "1")
    assert (result["steps"], result["train_loss"]) == (0, None)  # GraSP took it all
    assert 0 <= result["test_accuracy"] <= 1


def test_seconds_are_those_of_all_parts(here, monkeypatch, capsys):
    given = ["--oracle", "node", "--epochs", "1000000", "--seconds", "0.3"]
    interrupted(capsys, monkeypatch, 20, *given, "--out", "cut", "--snapshot-every", "1e-6")
    spent = RunFolder("cut").snapshot().seconds
    assert 0 < spent < 0.3
    result = ran(capsys, "resume", "cut")
    assert result["status"] == "seconds"
    assert result["seconds"] < 2


def test_a_run_told_to_stop_and_then_interrupted(here):
    """It stops when it is resumed: told is told."""
    data = load("digits")
    given, config = NetworkConfig(), DeepZeroConfig(oracle="node", epochs=4)
    job = study.job_of(given, config, data, 0)
    method = DeepZero(job, job.network.initial(0))
    host = InlineHost()
    host.start(method, lambda: False, None)
    for _ in range(3):
        method.merge(host.step(method.message(1)))
    method.stop("seconds")
    other = DeepZero(job, job.network.initial(0))
    other.restore(method.state())
    for one in (method, other):
        one.merge(host.step(one.message(1)))
        assert one.finished
    assert method.result() == other.result()
    assert method.result()["status"] == "seconds"


# Bad input


@pytest.fixture(scope="module")
def bad(tmp_path_factory):
    """A folder with much that is wrong."""
    folder = tmp_path_factory.mktemp("bad")
    furnish(folder)
    few(folder)
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((30, 4)), np.arange(30) % 3
    arrays = {
        "nothing": {"x": x[:0], "y": y[:0]},
        "lengths": {"x": x, "y": y[:20]},
        "words": {"x": x, "y": np.array(["a", "b", "c"] * 10)},
        "negative": {"x": x, "y": y - 1},
        "halves": {"x": x, "y": y / 2},
        "gap": {"x": x, "y": 2 * y},
        "one class": {"x": x, "y": 0 * y},
        "infinite": {"x": x * np.inf, "y": y},
        "shapes": {"x_train": x, "y_train": y, "x_test": x[:, :3], "y_test": y},
        "names": {"images": x, "labels": y},
        "mlp": {"dense1.weight": np.zeros((5, 64)), "dense1.bias": np.zeros(5)}
        | {"dense2.weight": np.zeros((10, 5)), "dense2.bias": np.zeros(10)},
        "empty box": {},
        "nan box": {"w": np.full((64, 10), np.nan), "b": np.zeros(10)},
        "word box": {"w": np.array(["a"]), "b": np.zeros(10)},
        "small box": {"w": np.zeros((3, 10)), "b": np.zeros(10)},
    }
    mlp = arrays["mlp"]
    arrays["more"] = mlp | {"dense3.weight": np.zeros((10, 10)), "dense3.bias": np.zeros(10)}
    arrays["nan"] = mlp | {"dense1.bias": np.full(5, np.nan)}
    arrays["text"] = mlp | {"dense1.bias": np.array(list("abcde"))}
    arrays["norm"] = {"conv1.weight": np.zeros((1, 1, 3, 3)), "conv1.bias": np.zeros(1)}
    arrays["norm"] |= {"conv1.gamma": np.ones(1), "conv1.beta": np.zeros(1)}
    arrays["norm"] |= {"conv1.mean": np.zeros(1), "conv1.variance": -np.ones(1)}
    arrays["norm"] |= {"dense2.weight": np.zeros((10, 1)), "dense2.bias": np.zeros(10)}
    for name, content in arrays.items():
        np.savez(folder / f"{name.replace(' ', '_')}.npz", **content)
    with (folder / "array.npz").open("wb") as file:  # no archive
        np.save(file, np.zeros(3))
    whole = (folder / "mlp.npz").read_bytes()
    (folder / "cut.npz").write_bytes(whole[: len(whole) // 2])
    (folder / "flipped.npz").write_bytes(whole.replace(b"\0" * 99, b"\1" * 99))
    for name, text in {
        "wrong.txt": "dense 5, rely, dense",
        "wide.txt": "dense 4, relu, dense 3",
        "norm.txt": "conv 1, bn, relu, avgpool, dense",
        "old/config.json": "{}",
        "folder/file": "",
        "list.json": "[]",
        "some.json": '{"dense1": 0.5}',
        "large.json": '{"dense1": 0.5, "dense2": 1.5}',
        "flag.json": '{"dense1": 0.5, "dense2": true}',
        "broken.json": "{",
        "syntax.py": "def loss(:\n",
        "fails.py": "1 / 0\n",
    }.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    return folder


MINE = "--init start.npz --model mine.py"
BAD = [
    ("--sparsity 1", "sparsity must be >= 0 and < 1, got 1"),
    ("--sparsity 1.5", "sparsity must be >= 0 and < 1, got 1.5"),
    ("--sparsity nan", "sparsity must be a number"),
    ("--sparsity -0.1", "sparsity must be >= 0"),
    ("--mu 0", "mu must be > 0, got 0"),
    ("--mu inf", "mu must be finite"),
    ("--lr 0", "lr must be > 0"),
    ("--momentum 1", "momentum must be >= 0 and <= 0.9999"),
    ("--weight-decay -1", "weight_decay must be >= 0"),
    ("--epochs 0", "epochs must be >= 1"),
    ("--epochs x", "--epochs"),
    ("--batch 0", "batch must be >= 1"),
    ("--batch 65537", "batch must be >= 1 and <= 65536"),
    ("--shards 0", "shards must be >= 1"),
    ("--seconds 0", "seconds must be > 0"),
    ("--seed -1", "seed must be"),
    ("--threads 0", "threads must be >= 1"),
    ("--oracle nod", "did you mean 'node'?"),
    ("--rule sdg", "did you mean 'sgd'?"),
    ("--orcale node", "did you mean --oracle?"),
    ("--oracle node --model cnn", "batch normalization couples them"),
    ("--oracle node --sparsity 0.5", "sparsity is for cge and cyclic, not node"),
    ("--oracle rge --central", "central is for cge and cyclic, not rge"),
    ("--directions 5", "directions is for rge and es, not cge"),
    ("--oracle cyclic --pruning uniform --sparsity 0.5", "pruning is for cge, not cyclic"),
    ("--decay 0.5", "decay is for cyclic, not cge"),
    ("--oracle es --directions 7", "directions must be even for es, got 7"),
    ("--pruning uniform", "pruning goes with sparsity"),
    ("--mask-every 5", "mask_every goes with sparsity"),
    ("--grasp signed", "grasp goes with sparsity"),
    ("--hidden 5 --model cnn", "hidden is for the mlp, not for cnn"),
    ("--depth 3", "depth is for the cnn, not for mlp"),
    ("--hidden 0", "hidden must be whole numbers >= 1"),
    ("--hidden 3,x", "hidden must be whole numbers >= 1"),
    ("--model cnn --depth 4", "maxpool 2 does not fit into 18 channels of 1 x 1"),
    ("--model mpl", "unknown model 'mpl': did you mean 'mlp'?"),
    ("--model none.txt", "as a file: No such file or directory"),
    ("--model folder", "as a file: Is a directory"),
    ("--model few.npz", "it is not text"),
    ("--model wrong.txt", "unknown layer 'rely': did you mean 'relu'?"),
    ("--model dense,(relu", "is not closed"),
    ("--model relu,dense", "a network begins with conv or dense"),
    ("--model dense,relu", "the last layer of a network must be 'dense'"),
    ("--model conv-4,dense", "unknown layer"),
    ("--model dense_7,dense_3", "unknown layer"),
    ("--model wide.txt", "the last layer has 3 outputs, but there are 10 classes"),
    ("--data none.npz", "no data set or file 'none.npz'"),
    ("--data digit", "did you mean 'digits'?"),
    ("--data folder", "has no images in folders of classes"),
    ("--data mine.py", "cannot tell what"),
    ("--data mnist --data-folder nowhere", "there is no folder"),
    ("--data nothing.npz", "there are no samples"),
    ("--data lengths.npz", "there are 30 samples, but 20 labels"),
    ("--data words.npz", "labels must be whole numbers from 0 on, got <U1"),
    ("--data negative.npz", "labels must be whole numbers from 0 on, got -1"),
    ("--data halves.npz", "labels must be whole numbers from 0 on, got 0.5"),
    ("--data gap.npz", "numbers from 0 on without gaps"),
    ("--data one_class.npz", "two classes or more"),
    ("--data infinite.npz", "x must be finite"),
    ("--data shapes.npz", "samples must be of one shape"),
    ("--data names.npz", "accepted are x_train"),
    ("--data array.npz", "is no .npz file"),
    ("--data few.npz --model cnn", "does not fit"),
    ("--data few.npz --augment", "augment is for images"),
    ("--data-folder x --data few.npz --init none.npz", "cannot read"),
    ("--init none.npz", "none.npz: No such file or directory"),
    ("--init folder", "Is a directory"),
    ("--init mine.py", "is not an .npz file of arrays"),
    ("--init array.npz", "is not an .npz file of arrays"),
    ("--init cut.npz", "is not an .npz file of arrays"),
    ("--init flipped.npz --hidden 5", "is not an .npz file of arrays"),
    ("--init mlp.npz", "dense1.bias is of shape (5,), and must be (32,)"),
    ("--init mlp.npz --model cnn", "conv1.bias is missing"),
    ("--init more.npz --hidden 5", "this one has no dense3.weight"),
    ("--init nan.npz --hidden 5", "dense1.bias must be finite numbers"),
    ("--init text.npz --hidden 5", "dense1.bias must be finite numbers"),
    ("--init norm.npz --model norm.txt", "conv1.variance must be >= 0"),
    ("--init start.npz", "dense1.bias is missing"),
    ("--weights start.npz", "start.npz is there already"),
    ("--weights folder", "folder is there already"),
    ("--weights nowhere/made.npz", "there is no folder"),
    ("--sparsity 0.5 --pruning none.json", "cannot read none.json: No such file"),
    ("--sparsity 0.5 --pruning folder", "cannot read folder: Is a directory"),
    ("--sparsity 0.5 --pruning unifrm", "pruning must be grasp, uniform, or a JSON file"),
    ("--sparsity 0.5 --pruning broken.json", "broken.json is not JSON"),
    ("--sparsity 0.5 --pruning few.npz", "few.npz is not JSON"),
    ("--sparsity 0.5 --pruning list.json", "must hold a share for each of dense1, dense2"),
    ("--sparsity 0.5 --pruning some.json", "must hold a share for each of dense1, dense2"),
    ("--sparsity 0.5 --pruning large.json", "dense2 must be a number from 0 to 1, got 1.5"),
    ("--sparsity 0.5 --pruning flag.json", "dense2 must be a number from 0 to 1, got True"),
    ("--model mine.py:loss", "a black box needs its first parameters: --init FILE.npz"),
    (f"{MINE}:none", "has no function 'none'"),
    (f"{MINE}:number", "is not a function loss(params, batch)"),
    ("--init start.npz --model none.py:loss", "model file"),
    ("--init start.npz --model syntax.py:loss", "syntax.py:1: "),
    ("--init start.npz --model fails.py:loss", "ZeroDivisionError"),
    (f"{MINE}:raises", "the loss raised ZeroDivisionError: division by zero"),
    (f"{MINE}:text", "the loss must be a number, got '0.5'"),
    (f"{MINE}:word", "the loss must be a number, got 'low'"),
    (f"{MINE}:nothing", "the loss must be a number, got None"),
    (f"{MINE}:array", "the loss must be a number, got array([0., 0., 0.])"),
    (f"{MINE}:nan", "the loss must be finite at the first parameters, got nan"),
    ("--init small_box.npz --model mine.py:loss", "the loss raised ValueError"),
    ("--init nan_box.npz --model mine.py:loss", "parameters must be finite numbers"),
    ("--init word_box.npz --model mine.py:loss", "parameters must be"),
    ("--init empty_box.npz --model mine.py:loss", "parameters must be"),
    ("--init none.npz --model mine.py:loss", "cannot read"),
    (f"{MINE}:loss --oracle node", "for black boxes there are rge, es, cge, cyclic"),
    (f"{MINE}:loss --sparsity 0.5", "sparsity goes with cyclic"),
    (f"{MINE}:loss --oracle cge --sparsity 0.5 --pruning uniform", "is for networks"),
    (f"{MINE}:loss --hidden 5", "hidden is for networks"),
    (f"{MINE}:loss --augment", "augment is for networks"),
    ("--out old", "old already holds a run"),
    ("--out start.npz", "cannot write start.npz"),
]


@pytest.mark.parametrize(("given", "words"), BAD, ids=[given for given, _ in BAD])
def test_bad_input(given, words, bad, monkeypatch, capsys):
    monkeypatch.chdir(bad)
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = {path: path.stat().st_mtime_ns for path in bad.rglob("*")}
    arguments = given.split()
    arguments += [] if "--out" in arguments else ["--out", "made"]
    assert words in refused(capsys, "run", "deepzero", *arguments)
    assert left_behind(bad, before) == []
    changed = [path for path in before if path.stat().st_mtime_ns != before[path]]
    assert [path for path in changed if path.is_file()] == []


FAR = "--model mine.py:far --init start.npz"


@pytest.mark.parametrize(
    "given", ["", "--oracle node", "--oracle es", "--oracle cyclic --precision double", FAR]
)
def test_a_loss_that_is_not_finite_any_more(given, here, capsys):
    for rate in ("1e+09", "1e+200"):
        arguments = [*given.split(), "--lr", rate, "--out", rate, "--quiet", "--json"]
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            code, out, err = called(capsys, "run", "deepzero", *arguments)
        assert (code, out) == (1, "")
        pattern = rf"zoo: the loss is not finite any more at step \d+ \(lr {re.escape(rate)}, .*\n"
        assert re.fullmatch(pattern, err)
        assert "a smaller lr may help" in err
        assert (here / rate / "config.json").exists()
        assert RunFolder(rate).result() is None


def test_a_black_box_that_fails_later(here, capsys):
    given = ["--model", "mine.py:late", "--init", "start.npz", "--out", "run", "--quiet"]
    code, out, err = called(capsys, "run", "deepzero", *given)
    assert (code, out) == (1, "")
    assert err == (
        "zoo: the loss raised ZeroDivisionError: division by zero; 'zoo resume run' continues it\n"
    )
    assert (here / "run" / "config.json").exists()


def test_resumed_with_other_data(here, monkeypatch, capsys):
    few(here)
    given = ["--data", "few.npz", "--oracle", "node", "--hidden", "4", "--batch", "9"]
    interrupted(capsys, monkeypatch, 3, *given, "--out", "cut")
    whole = held("few.npz")
    for change in (
        {"x_train": whole["x_train"] + 1},
        {"y_test": whole["y_test"][::-1]},
        {"x_train": whole["x_train"][:30], "y_train": whole["y_train"][:30]},
    ):
        np.savez("few.npz", **whole | change)
        assert "the data are not those that cut" in refused(capsys, "resume", "cut")
    (here / "few.npz").unlink()
    assert "no data set or file" in refused(capsys, "resume", "cut")
    np.savez("few.npz", **whole)
    (here / "elsewhere").mkdir()
    monkeypatch.chdir(here / "elsewhere")
    assert ran(capsys, "resume", "../cut")["status"] == "epochs"


def test_resumed_from_another_folder(here, monkeypatch, capsys):
    first = ["--init", "first.npz", "--weights", "made.npz"]
    kinds = {kind: KINDS[kind] for kind in ("file", "node", "black box")}
    deepzero(capsys, *KINDS["file"], "--weights", "first.npz")
    for kind, given in (kinds | {"init": [*KINDS["file"], *first]}).items():
        deepzero(capsys, *given, "--out", kind)
        again(here / kind, here / f"again {kind}")
    (here / "elsewhere").mkdir()
    monkeypatch.chdir(here / "elsewhere")
    for kind in (*kinds, "init"):
        ran(capsys, "resume", f"../again {kind}")
        assert outcome(here / f"again {kind}") == outcome(here / kind)
    assert list((here / "elsewhere").iterdir()) == []


def test_resumed_with_another_black_box(here, monkeypatch, capsys):
    interrupted(capsys, monkeypatch, 3, *KINDS["black box"], "--out", "cut")
    deepzero(capsys, *KINDS["black box"], "--out", "whole")
    (here / "mine.py").write_text(LOSSES + "# a word more")
    code, _, err = called(capsys, "resume", "cut")
    assert (code, err) == (
        0,
        "zoo: warning: the black box's file has changed since the run was started\n",
    )
    assert outcome(here / "cut") == outcome(here / "whole")
    (here / "mine.py").unlink()
    shutil.rmtree("cut")
    assert "does not exist" in refused(capsys, "resume", str(again(here / "whole", here / "cut")))


def test_damaged_runs(here, monkeypatch, capsys):
    interrupted(capsys, monkeypatch, 3, *KINDS["node"], "--out", "cut")
    assert "--objective is for runs" in refused(capsys, "resume", "cut", "--objective", "ackley")
    whole = json.loads((here / "cut" / "config.json").read_text())
    for change, words in (
        ({"seed": -5}, "seed must be"),
        ({"problem": {}}, "the data are not those"),
        ({"problem": {"nothing": 4}}, "unknown parameter 'nothing'"),
        ({"config": {"mu": "q"}}, "mu must be a number"),
        ({"config": {"nothing": 4}}, "unknown parameter 'nothing'"),
        ({"data": None}, "the data are not those"),
    ):
        config = whole | change
        if "problem" in change and not change["problem"]:
            config["problem"] = whole["problem"] | {"data": "few.npz"}
            few(here)
        (here / "cut" / "config.json").write_text(json.dumps(config))
        assert words in refused(capsys, "resume", "cut")
    (here / "cut" / "config.json").write_text(json.dumps(whole))
    ran(capsys, "resume", "cut")


# Python

X = np.random.default_rng(5).standard_normal((90, 3))
Y = X @ np.array([1.0, -2.0, 0.5]) + 0.3


def squares(params, batch):
    x, y = batch
    return float(np.mean((x @ params["slope"] + params["offset"] - y) ** 2))


FIRST = {"slope": np.zeros(3), "offset": 0.0}


def test_networks_in_python(here):
    data = load("digits")
    one = train("mlp", oracle="node", epochs=10, seed=3, batch=64)
    assert one.test_accuracy > 0.95
    assert (one.method, one.model, one.data, one.seed) == ("deepzero", "mlp", "digits", 3)
    shapes = {"dense1.weight": (32, 64), "dense1.bias": (32,), "dense2.weight": (10, 32)}
    assert {name: one.params[name].shape for name in shapes} == shapes
    other = train("dense 32, relu, dense", data, oracle="node", epochs=10, seed=3, batch=64)
    np.testing.assert_array_equal(one.params["dense1.weight"], other.params["dense1.weight"])
    wide = train("mlp", data, hidden=5, epochs=1, sparsity=0.5, weights=str(here / "made.npz"))
    assert wide.parameters == 64 * 5 + 5 + 5 * 10 + 10
    begun = train("mlp", data, hidden=5, epochs=1, init=str(here / "made.npz"), lr=1e-300)
    np.testing.assert_array_equal(begun.params["dense2.weight"], wide.params["dense2.weight"])


@pytest.mark.parametrize("oracle", ["rge", "es", "cge", "cyclic"])
def test_black_boxes_in_python(oracle, here):
    options = {"oracle": oracle, "epochs": 60, "batch": 30, "lr": 0.05, "weight_decay": 0.0}
    result = train(squares, (X, Y), params=FIRST, test=(X[:20], Y[:20]), **options)
    assert result.params["slope"] == pytest.approx([1, -2, 0.5], abs=0.02)
    assert result.params["offset"].shape == ()
    assert result.params["offset"] == pytest.approx(0.3, abs=0.02)
    rest = squares(result.params, (X[:20], Y[:20]))
    assert result.test_loss == pytest.approx(rest, rel=1e-9)
    assert result.test_accuracy is None
    assert (result.oracle, result.parameters, result.model) == (oracle, 4, "squares")
    alone = train(
        lambda params, batch: squares({"slope": params[:3], "offset": params[3]}, batch),
        Arrays((X, Y), name="mine"),
        params=np.zeros(4),
        **options,
    )
    assert alone.params.shape == (4,)
    assert alone.data == "mine"
    assert alone.test_loss is None
    np.testing.assert_array_equal(alone.params[:3], result.params["slope"])
    assert np.all(FIRST["slope"] == 0)


def test_a_black_box_on_a_data_set(here):
    def loss(params, batch):
        assert batch[0].shape[1:] == (1, 8, 8)
        return reference.cross_entropy(batch[0].reshape(-1, 64) @ params, batch[1])

    result = train(loss, params=np.zeros((64, 10)), epochs=2, directions=8)
    assert result.params.shape == (64, 10)
    assert result.train_loss < math.log(10)


class Parts(dict):
    """A mapping with an order of its own."""


def test_forms_of_parameters(here):
    from types import MappingProxyType

    options = {"epochs": 2, "batch": 45, "seed": 1}
    one = train(squares, (X, Y), params=FIRST, **options)
    for form in (MappingProxyType(FIRST), Parts(FIRST)):
        other = train(squares, (X, Y), params=form, **options)
        np.testing.assert_array_equal(one.params["slope"], other.params["slope"])
        assert other.parameters == 4
    names = {"file": np.zeros(3), "self/args": np.zeros(())}

    def renamed(params, batch):
        return squares(dict(zip(FIRST, params.values(), strict=True)), batch)

    kept = train(renamed, (X, Y), params=names, folder=here / "run", **options)
    np.testing.assert_array_equal(held(here / "run" / "weights.npz")["file"], one.params["slope"])
    assert kept.params.keys() == names.keys()


def stop_at(step, seen=None):
    def callback(progress):
        if seen is not None:
            seen.append(progress)
        return progress.step >= step

    return callback


@pytest.mark.parametrize("raising", [False, True])
def test_callbacks(raising, here, monkeypatch):
    monkeypatch.setattr(loop, "_TELLING", 0.0)
    seen = []

    def callback(progress):
        seen.append(progress)
        if progress.step == 4 and raising:
            raise StopIteration
        return progress.step == 4

    options = {"epochs": 3, "batch": 30, "schedule": "constant", "warmup": 0.0}
    result = train(squares, (X, Y), params=FIRST, callback=callback, **options)
    assert (result.status, result.steps, result.queries) == ("stopped", 4, 100)
    assert [progress.step for progress in seen] == [1, 2, 3, 3, 4, 4]
    assert [progress.evaluations for progress in seen][-1] == 100
    assert (seen[0].unit, seen[0].value, seen[0].of) == ("queries", "loss", 9)
    assert result.train_loss == seen[-1].best  # of the one step of its epoch


def test_stopped_between_two_epochs(here, monkeypatch):
    monkeypatch.setattr(loop, "_TELLING", 0.0)
    options = {"schedule": "constant", "warmup": 0.0, "batch": 30, "test": (X[:9], Y[:9])}
    one = train(squares, (X, Y), params=FIRST, epochs=1, **options)
    told = []

    def callback(progress):
        told.append(progress.step)
        return told.count(3) == 2  # the epoch has been evaluated

    out = here / "run"
    many = train(squares, (X, Y), params=FIRST, epochs=9, callback=callback, folder=out, **options)
    assert (many.status, many.steps) == ("stopped", 3)
    for name in ("train_loss", "fun", "test_loss", "queries"):
        assert many[name] == one[name], name
    assert [row["step"] for row in RunFolder(out).history()] == [3]
    again = resume(out, squares, (X, Y), params=FIRST, test=(X[:9], Y[:9]))
    assert told_of(again) == told_of(many)


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


@pytest.mark.parametrize("model", ["dict", "array", "mlp", "cnn"])
def test_resumed_in_python(model, here, monkeypatch):
    monkeypatch.setattr(loop, "_TELLING", 0.0)
    boxes = {
        "dict": {"model": squares, "params": FIRST},
        "array": {"model": lambda p, b: squares({"slope": p[:3], "offset": p[3]}, b)}
        | {"params": np.zeros(4)},
    }
    network = {"model": model, "data": load("digits")}
    given = {"data": (X, Y), "test": (X[:9], Y[:9]), **boxes[model]} if model in boxes else network
    options = {"epochs": 2, "batch": 30 if model in boxes else 500, "seed": 2**64 - 1}
    options |= {"hidden": 6} if model == "mlp" else {}
    options |= {"width": 3, "depth": 1, "augment": True} if model == "cnn" else {}
    whole = train(**given, **options)
    for step in (1, 3, 5):
        out = here / f"cut{step}"
        with pytest.raises(KeyboardInterrupt):
            train(**given, **options, folder=out, callback=stop_after(step))
        with pytest.raises(RunError, match="already holds a run"):
            train(**given, **options, folder=out)
        assert told_of(resume(out, **given)) == told_of(whole)
        assert told_of(resume(out, **given)) == told_of(whole)  # only told again


def test_what_a_resume_in_python_is_to_be_given(here, capsys, monkeypatch):
    monkeypatch.setattr(loop, "_TELLING", 0.0)
    out = here / "run"
    with pytest.raises(KeyboardInterrupt):
        train(squares, (X, Y), params=FIRST, epochs=9, folder=out, callback=stop_after(2))
    for data, test in (((X + 1, Y), None), ((X, Y), (X, Y)), ((X[:50], Y[:50]), None)):
        with pytest.raises(InputError, match="the data are not those"):
            resume(out, squares, data, params=FIRST, test=test)
    with pytest.raises(InputError, match="unknown parameter 'epochs': a run keeps its own"):
        resume(out, squares, (X, Y), params=FIRST, epochs=3)
    with pytest.raises(RunError, match="holds no run"):
        resume(here / "none", squares, (X, Y), params=FIRST)
    assert "zoo.deepzero.train.resume continues it" in refused(capsys, "resume", str(out))
    code, text, _ = called(capsys, "show", str(out))
    assert code == 0
    assert "model squares" in text
    resume(out, squares, (X, Y), params=FIRST)


ERRORS = [
    (("mlp", (X, Y)), {}, "a network needs a data set"),
    (("mlp", "digits"), {"params": FIRST}, "params are for black boxes"),
    (("mlp", "digits"), {"epoch": 3}, "did you mean 'epochs'?"),
    (("mlp", "digits"), {"epochs": 0}, "epochs must be >= 1"),
    (("mlp", "digits"), {"epochs": "3"}, "epochs must be a whole number"),
    (("mlp", "digits"), {"seed": -1}, "seed must be"),
    (("mlp", "digits"), {"threads": 0}, "threads must be"),
    (("mlp", "digit"), {}, "did you mean 'digits'?"),
    (("mlp", "digits"), {"weights": __file__}, "is there already"),
    (("mlp", "digits"), {"weights": f"{__file__}/made.npz"}, "there is no folder"),
    (("mpl", "digits"), {}, "did you mean 'mlp'?"),
    ((squares, (X, Y)), {}, "a black box needs its first parameters"),
    ((squares, (X, Y)), {"params": FIRST, "hidden": 3}, "hidden is for networks"),
    ((squares, (X, Y)), {"params": FIRST, "sparsity": 0.5}, "sparsity goes with cyclic"),
    ((squares, (X, Y)), {"params": FIRST, "oracle": "node"}, "for black boxes there are"),
    ((squares, (X, Y)), {"params": {"slope": "x", "offset": 0.0}}, "parameters must be"),
    ((squares, (X, Y)), {"params": {0: np.zeros(3)}}, "names of parameters must be words, got 0"),
    ((squares, (X, Y)), {"params": {}}, "parameters must be"),
    ((squares, (X, Y)), {"params": {"slope": np.zeros(3)}}, "the loss raised KeyError: 'offset'"),
    ((squares, (X, Y)), {"params": np.inf}, "parameters must be finite"),
    ((squares, (X, Y)), {"params": FIRST, "test": (X,)}, "as many arrays as data"),
    ((squares, (X, Y[:5])), {"params": FIRST}, "of equal length"),
    ((squares, Arrays((X, Y[:7]))), {"params": FIRST}, "data must be arrays of numbers, of equal"),
    ((squares, Arrays((X, Y), (X,))), {"params": FIRST}, "test must have as many arrays"),
    ((squares, Arrays((X, Y))), {"params": FIRST, "test": (X, Y)}, "test goes with arrays"),
    (("mlp", "digits"), {"test": (X, Y)}, "test goes with arrays as data"),
    ((squares, (X[:0], Y[:0])), {"params": FIRST}, "of equal length >= 1"),
    ((squares, {"x": X}), {"params": FIRST}, "data must be a tuple of arrays, got dict"),
    ((squares, 3.0), {"params": FIRST}, "data must be a tuple of arrays, got float"),
    ((squares, ()), {"params": FIRST}, "data must be a tuple of arrays"),
    ((squares, ([[1], [2, 3]], [1, 2])), {"params": FIRST}, "data must be arrays of numbers"),
    ((lambda p, b: sys.exit(0), (X, Y)), {"params": FIRST}, "the loss raised SystemExit: 0"),
    ((lambda p, b: None, (X, Y)), {"params": FIRST}, "the loss must be a number, got None"),
    ((lambda p, b: np.nan, (X, Y)), {"params": FIRST}, "must be finite at the first parameters"),
    ((lambda p, b: "1", (X, Y)), {"params": FIRST}, "the loss must be a number, got '1'"),
]


@pytest.mark.parametrize(("given", "options", "words"), ERRORS, ids=[e[2] for e in ERRORS])
def test_errors_in_python(given, options, words, here):
    with pytest.raises(InputError, match=re.escape(words)):
        train(*given, **options, folder=here / "run")
    assert not (here / "run").exists()


def test_a_loss_may_fail_on_the_way(here):
    calls = []

    def loss(params, batch):
        calls.append(params)
        if len(calls) == 90:
            raise OSError("no more")
        return squares(params, batch)

    with pytest.raises(RunError, match="the loss raised OSError: no more") as caught:
        train(loss, (X, Y), params=FIRST, folder=here / "run")
    assert isinstance(caught.value.__cause__, OSError)
    result = resume(here / "run", loss, (X, Y), params=FIRST)
    assert told_of(result)[1] == told_of(train(squares, (X, Y), params=FIRST))[1]


def test_parameters_and_batches_are_the_functions_own(here):
    def careless(params, batch):
        found = squares(params, batch)
        for array in params.values():
            array += 1.0
        return found

    options = {"epochs": 2, "seed": 1}
    one, other = (train(loss, (X, Y), params=FIRST, **options) for loss in (squares, careless))
    assert told_of(one)[1] == told_of(other)[1]


# Shapes of data


def test_batches_larger_than_the_data_and_last_ones_of_one(here, capsys):
    few(here)
    for model in ("dense 3, relu, dense", "dense 3, bn, relu, dense"):
        for batch in (1, 13, 39, 40, 64, 60_000):  # 40 samples: the last batch of 39 is one
            for oracle in ("cge", "rge", "es"):
                result = train(model, "few.npz", batch=batch, epochs=2, oracle=oracle)
                assert result.steps == 2 * -(-40 // batch)
                assert math.isfinite(result.train_loss)
                assert math.isfinite(result.test_loss)
                moments = [a for name, a in result.params.items() if name.endswith("variance")]
                assert all(np.isfinite(a).all() and (a >= 0).all() for a in moments)
                assert (here / "few.npz").exists()


def test_the_test_part_is_evaluated_in_any_pieces(here):
    few(here)
    data = load("few.npz")
    results = [
        train("mlp", data, hidden=4, epochs=1, oracle="node", batch=40, shards=shards, lr=1e-300)
        for shards in (1, 7, 61)
    ]
    x, y = data.batch("test", np.arange(60))
    net = reference.parse("dense 4, relu, dense 2", data.shape)
    for result in results:
        params, _ = flat(result.params)
        assert result.test_accuracy == reference.accuracy(net, params, x, y)
        assert result.test_loss == pytest.approx(reference.loss(net, params, x, y), rel=1e-5)


def test_more_shards_than_work(here, capsys):
    few(here)
    small = ["--data", "few.npz", "--hidden", "2", "--epochs", "2", "--precision", "double"]
    for given in ("", "--oracle node", "--oracle rge", "--oracle es", "--oracle cyclic"):
        one, many = (
            deepzero(capsys, *small, *given.split(), "--shards", shards) for shards in ("1", "30")
        )
        assert many["train_loss"] == pytest.approx(one["train_loss"], rel=1e-9)
