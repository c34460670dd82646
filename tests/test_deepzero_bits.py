"""Runs of DeepZero come to the same bits: on all hosts, through interrupts, kills and resumes."""

import json
import math
import re
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from commands import ENVIRONMENT, called, ran, refused, start, until
from deepzero_runs import (
    GRASP,
    KINDS,
    again,
    deepzero,
    entered,
    furnish,
    held,
    interrupted,
    outcome,
    reopened,
    told,
)

from zoo.deepzero import study
from zoo.deepzero.estimate import queries_of
from zoo.deepzero.method import DeepZero
from zoo.deepzero.net import engine
from zoo.deepzero.net.network import network
from zoo.deepzero.train import train
from zoo.errors import Interrupted
from zoo.runtime.folder import RunFolder
from zoo.runtime.hosts import InlineHost, ThreadsHost
from zoo.runtime.launch import launch, taken_up
from zoo.runtime.loop import run as run_loop


@pytest.fixture
def here(tmp_path, monkeypatch):
    return entered(tmp_path, monkeypatch)


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
    given = ["--oracle", "node", "--epochs", "300", "--shards", "2"]
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
