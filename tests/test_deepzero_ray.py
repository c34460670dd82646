"""DeepZero on workers: the same bits on any number of them, and through their deaths."""

import signal

import numpy as np
import pytest
from commands import ran, some_of, start, until
from deepzero_runs import (
    FIRST,
    KINDS,
    again,
    deepzero,
    entered,
    interrupted,
    outcome,
    reopened,
    squares,
    told_of,
)
from test_ray import at_step, kill

from zoo.deepzero.train import resume, train
from zoo.errors import RunError
from zoo.runtime import choice, loop
from zoo.runtime.events import NOTE
from zoo.runtime.folder import RunFolder
from zoo.runtime.launch import launch, taken_up

#: Those with several shards.
SHARED = [name for name, given in KINDS.items() if "--shards" in given]


@pytest.fixture
def here(tmp_path, monkeypatch):
    return entered(tmp_path, monkeypatch)


def on(crew, folder, **options):
    """Result of going on with a run, on workers."""
    kept = RunFolder(folder)
    snapshot = taken_up(kept)
    prepared = reopened(folder)
    place = {"crew": crew, "placement": crew.placement}
    return launch(prepared, folder=kept, snapshot=snapshot, **place, **options)


@pytest.mark.parametrize("kind", some_of(SHARED, len(SHARED)))
def test_the_same_bits_on_any_number_of_workers(kind, here, capsys, crews):
    deepzero(capsys, *KINDS[kind], "--seed", "5", "--out", "whole")
    for count, crew in crews.items():
        on(crew, again(here / "whole", here / f"on{count}"))
        assert outcome(here / f"on{count}") == outcome(here / "whole")


@pytest.mark.parametrize("kind", some_of(["grasp", "batch norm", "black box"]))
def test_a_worker_killed_in_the_middle(kind, here, monkeypatch, capsys, crews):
    monkeypatch.setattr(loop, "_TELLING", 0.0)
    deepzero(capsys, *KINDS[kind], "--out", "whole")
    callback = at_step(7, lambda: kill(crews[2], 1))
    result = on(crews[2], again(here / "whole", here / "killed"), callback=callback)
    assert callback.done == [7]
    assert result.workers["lost"] == 1
    assert "replayed" not in result.workers  # shards know nothing but the last message
    assert outcome(here / "killed") == outcome(here / "whole")


@pytest.mark.parametrize("kind", ["grasp", "black box es"])
def test_interrupted_here_and_resumed_on_workers(kind, here, monkeypatch, capsys, crews):
    deepzero(capsys, *KINDS[kind], "--out", "whole")
    interrupted(capsys, monkeypatch, 6, *KINDS[kind], "--out", "cut")
    on(crews[3], "cut")
    assert outcome(here / "cut") == outcome(here / "whole")


@pytest.mark.parametrize(
    "end", [pytest.param(signal.SIGINT, marks=pytest.mark.slow), signal.SIGKILL]
)
def test_the_driver_ended_in_the_middle(end, here, capsys, cluster, crews):
    given = ["--oracle", "node", "--epochs", "300", "--shards", "2"]
    there = ["--ray-address", cluster.address, "--cpus-per-worker", "0.2", "--workers", "2"]
    every = ["--snapshot-every", "1e-6"]
    process = start("run", "deepzero", *given, *there, *every, "--out", "cut")
    until(lambda: (here / "cut" / "snapshot.npz").exists() and RunFolder("cut").history())
    process.send_signal(end)
    process.communicate(timeout=60)
    assert process.returncode == (130 if end == signal.SIGINT else -signal.SIGKILL)
    assert RunFolder("cut").result() is None
    deepzero(capsys, *given, "--out", "whole")
    if end == signal.SIGINT:
        ran(capsys, "resume", "cut", "--threads", "2")
    else:
        on(crews[1], "cut")
    assert outcome(here / "cut") == outcome(here / "whole")


def test_losses_of_all_kinds_travel(here, monkeypatch, crews):
    monkeypatch.setattr(loop, "_TELLING", 0.0)
    x = np.linspace(-1.0, 1.0, 90)[:, None] ** np.arange(3)
    data = (x, x @ np.array([1.0, 2.0, 3.0]))
    options = {"epochs": 2, "batch": 30, "shards": 3, "directions": 6}
    shift = 0.5
    for loss in (squares, lambda params, batch: squares(params, batch) + shift):
        one = train(loss, data, params=FIRST, **options)
        there = train(loss, data, params=FIRST, workers=crews[2], **options)
        assert told_of(there) == told_of(one)

        def end(progress):
            if progress.step == 4:
                raise KeyboardInterrupt

        folder = here / f"cut{loss.__name__}"
        with pytest.raises(KeyboardInterrupt):
            train(
                loss, data, params=FIRST, workers=crews[3], folder=folder, callback=end, **options
            )
        assert told_of(resume(folder, loss, data, params=FIRST, workers=crews[2])) == told_of(one)


def test_seconds_on_workers(crews):
    result = train("mlp", epochs=1_000_000, shards=2, seconds=0.3, workers=crews[2])
    assert result.status == "seconds"
    assert result.steps > 0
    assert 0 <= result.test_accuracy <= 1
    assert result.seconds < 5


def test_a_loss_that_fails_on_a_worker(here, crews):
    def loss(params, batch):
        if np.abs(params["slope"]).sum() > 0.2:
            raise OSError("no more")
        return squares(params, batch)

    data = (np.ones((9, 3)), np.ones(9))
    with pytest.raises(RunError, match="the loss raised OSError: no more"):
        train(loss, data, params=FIRST, workers=crews[2], shards=2, lr=0.1, folder=here / "run")
    assert (here / "run" / "config.json").exists()


def test_workers_of_its_own(here, cluster, monkeypatch):
    data, told = (np.ones((9, 3)), np.ones(9)), []

    def listen(event):
        told.extend([event.data["text"]] if event.kind == NOTE else [])

    options = {"epochs": 3, "directions": 6, "shards": 2}
    one = train(lambda p, b: squares(p, b), data, params=FIRST, **options)
    there = {"workers": 2, "ray_address": cluster.address, "cpus_per_worker": 0.2}
    there |= {"listeners": [listen]}
    other = train(lambda p, b: squares(p, b), data, params=FIRST, **options, **there)
    assert told_of(other) == told_of(one)
    assert other.workers["workers"] == 2
    assert told == []
    monkeypatch.setattr(choice, "_on_a_cluster", lambda placement: False)
    stays = {"workers": "auto", "listeners": [listen]}
    other = train(lambda p, b: squares(p, b), data, params=FIRST, **options, **stays)
    assert told_of(other) == told_of(one)
    assert "in its own process, for what its evaluations take is not known" in told.pop()
    train("mlp", epochs=1, **stays)
    assert "threads of this process do it" in told.pop()
