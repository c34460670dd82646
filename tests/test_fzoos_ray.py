"""Federated runs on every host: the same bits, through the deaths of workers and of the driver."""

import os
import signal
import time

import numpy as np
import pytest
from commands import some_of
from fzoos_runs import KINDS, bowls, job, problem, ran
from test_ray import at_step, kill

import zoo
from zoo.config import build
from zoo.errors import Interrupted, RunError
from zoo.fzoos import study
from zoo.fzoos.federate import resume
from zoo.fzoos.method import Federation
from zoo.fzoos.problems import federation
from zoo.runtime import loop
from zoo.runtime.distributed import shards
from zoo.runtime.distributed.crew import Crew
from zoo.runtime.distributed.placement import Placement
from zoo.runtime.folder import RunFolder
from zoo.runtime.launch import launch, taken_up
from zoo.runtime.parcel import pack

HARD = {"participation": 0.7, "rounds": 6}


def made(algorithm, **options):
    return job(algorithm, problem(clients=4, noise=1e-3), **HARD | options)


def bits(outcome):
    result, rows = outcome
    times = {"seconds", "workers"}
    kept = {name: value for name, value in result.items() if name not in times}
    return kept.pop("x").tobytes(), kept, rows


@pytest.mark.parametrize("algorithm", sorted(KINDS))
def test_the_same_bits_on_threads(algorithm):
    first = bits(ran(made(algorithm), threads=1))
    for threads in (2, 3):
        assert bits(ran(made(algorithm), threads=threads)) == first


@pytest.mark.parametrize(
    "algorithm", ["shared", "fzoos", "scaffold2", "decomfl", "fedkseed", "fedcma"]
)
def test_the_same_bits_on_workers(algorithm, crews):
    first = bits(ran(made(algorithm), threads=1))
    for crew in crews.values():
        assert bits(ran(made(algorithm), crew=crew, placement=crew.placement)) == first


@pytest.mark.parametrize(
    "algorithm", some_of(["shared", "fzoos", "decomfl", "scaffold2", "fedkseed", "fedcma"])
)
def test_a_worker_killed_in_the_middle(algorithm, monkeypatch, crews):
    """Its clients are built anew, with what they remembered; each query is in the ledger once."""
    monkeypatch.setattr(loop, "_TELLING", 0.0)
    first = bits(ran(made(algorithm), threads=1))
    callback = at_step(3, lambda: kill(crews[2], 1))
    outcome = ran(made(algorithm), crew=crews[2], placement=crews[2].placement, callback=callback)
    assert callback.done == [3]
    assert outcome[0].workers["lost"] == 1
    assert bits(outcome) == first


def test_a_worker_that_falls_silent_is_replaced(monkeypatch, crews):
    """Stopped, and not dead: Ray alone would wait for it for ever."""
    monkeypatch.setattr(loop, "_TELLING", 0.0)
    monkeypatch.setattr(shards, "_SILENCE", 2.0)
    task = made("scaffold2", round_timeout=3.0)
    first = bits(ran(task, threads=1))
    callback = at_step(3, lambda: os.kill(crews[2].members[1].info["pid"], signal.SIGSTOP))
    outcome = ran(task, crew=crews[2], placement=crews[2].placement, callback=callback)
    assert callback.done == [3]
    assert outcome[0].workers["lost"] == 1
    assert bits(outcome) == first


def sometimes(number):
    """A bowl without values now and then; and where it is less than a step, a constant."""

    def value(x):
        total = float(((x - number) ** 2).sum())
        return np.nan if int(1e6 * total) % 23 == 0 else 0.5 * np.floor(2.0 * total)

    return value


@pytest.mark.parametrize("algorithm", sorted(KINDS))
@pytest.mark.parametrize("at", [2, 5])
def test_interrupted_and_resumed(algorithm, at, tmp_path, monkeypatch):
    """With clients who are absent now and then, and more points than are remembered."""
    monkeypatch.setattr(loop, "_TELLING", 0.0)
    monkeypatch.setattr(loop, "_KEEPING", 1e9)
    clients = [zoo.Client(sometimes(k), bounds=[(-4, 4)] * 3) for k in range(4)]
    more = {"memory": 20} if algorithm in ("shared", "fzoos") else {}
    task = job(algorithm, federation(clients), **HARD | more)
    whole, rows = ran(task, threads=1)
    described = study.describe("fzoos", {}, task, from_python=True)
    folder = RunFolder(tmp_path / "cut")
    folder.create(described)
    count = 0

    def cancelled():
        nonlocal count
        count += 1
        return count > 10 * at

    with pytest.raises(Interrupted):
        launch(study.assembled(task, described), threads=1, folder=folder, cancelled=cancelled)
    again = RunFolder(tmp_path / "cut")
    snapshot = taken_up(again)
    assert snapshot is not None
    result = launch(study.assembled(task, described), threads=1, folder=again, snapshot=snapshot)
    assert bits((result, rows)) == bits((whole, rows))


def test_memory_stays_with_the_clients(monkeypatch, crews):
    """A run without a folder never asks for states, however long it takes."""

    def never(self):
        raise AssertionError("states were asked for")

    monkeypatch.setattr(shards, "_LOG_SECONDS", 0.0)
    monkeypatch.setattr(shards, "_LOG_LENGTH", 1)
    monkeypatch.setattr(shards.RayHost, "_checkpoint", never)
    first = bits(ran(made("fzoos"), threads=1))
    assert bits(ran(made("fzoos"), crew=crews[2], placement=crews[2].placement)) == first


def test_resumed_from_python(tmp_path):
    clients, _ = bowls(3)
    options = {"survey": 4, "rounds": 8, "seed": 1}
    whole = zoo.federate(clients, **options)
    seen = []

    def stop(now):
        seen.append(now)
        if now.step >= 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        zoo.federate(clients, folder=tmp_path / "run", callback=stop, **options)
    result = resume(tmp_path / "run", clients)
    assert result.x.tobytes() == whole.x.tobytes()
    np.testing.assert_array_equal(resume(tmp_path / "run", clients).x, whole.x)
    with pytest.raises(zoo.InputError, match="clients 3, not 2"):
        resume(tmp_path / "run", clients[:2])
    with pytest.raises(zoo.InputError, match="other bounds, weights or x0"):
        resume(tmp_path / "run", clients, x0=[0.0] * 4)


def at_place(place, centre):
    """Data that is on the nodes of a place alone, and a bowl of it."""

    def load():
        import ray

        here = ray.get_runtime_context().get_node_id()
        (node,) = [node for node in ray.nodes() if node["NodeID"] == here]
        assert place in node["Resources"], f"{place} is not here"
        return lambda x: float(((x - centre) ** 2).sum())

    return load


def test_clients_are_where_their_data_is(cluster):
    nodes = [cluster.add_node(num_cpus=1, resources={place: 1.0}) for place in ("boston", "lyon")]
    try:
        clients = [
            zoo.Client(load=at_place(place, centre), place=place, bounds=[(-5, 5)] * 3)
            for place, centre in (("lyon", -1.0), ("boston", 1.0), ("lyon", 3.0))
        ]
        result = zoo.federate(clients, rounds=8, survey=4, seed=1, workers="auto")
        np.testing.assert_allclose(result.x, 1.0, atol=1e-6)
        assert result.workers["workers"] == 2
        free = zoo.Client(lambda x: float(((x - 1.0) ** 2).sum()), bounds=[(-5, 5)] * 3)
        result = zoo.federate([*clients, free], rounds=8, survey=4, seed=1, workers="auto")
        assert result.workers["workers"] == 3  # one of them anywhere
        with pytest.raises(zoo.InputError, match="clients have 2 places"):
            zoo.federate(clients, rounds=2, seed=1, workers=1)
        wrong = [zoo.Client(load=at_place("lyon", 0.0), place="boston", bounds=[(-5, 5)] * 3)]
        with pytest.raises(zoo.InputError, match="lyon is not here"):
            zoo.federate(wrong, rounds=2, seed=1, workers=1)
    finally:
        for node in nodes:
            cluster.remove_node(node, allow_graceful=False)


def test_a_worker_of_no_place_does_not_take_the_room_of_a_place(cluster):
    node = cluster.add_node(num_cpus=5, resources={"boston": 1.0})  # more than the head has
    try:
        placement = build(Placement, {"workers": "2", "cpus_per_worker": 5.0})
        with Crew(placement, places=["boston"], anywhere=1) as workers:
            for _ in range(2):  # the second time it has been waiting for room before
                ends = time.monotonic() + 60.0
                while not workers.live():
                    workers.joined(0.1)
                    assert time.monotonic() < ends, "the place's only room is taken"
                assert workers.live() == [0]
                workers.joined(0.1)
                kill(workers)
                workers.lose(0, "killed")
    finally:
        cluster.remove_node(node, allow_graceful=False)


def test_a_place_where_nobody_comes_is_told_of(cluster, monkeypatch):
    monkeypatch.setattr("zoo.runtime.distributed.crew._PATIENCE", 0.2)
    monkeypatch.setattr("zoo.runtime.distributed.crew.DESERTED", 1.0)
    said = []
    placement = build(Placement, {"workers": "2"})
    with Crew(placement, places=["mars"], anywhere=1) as workers:
        workers.emit = said.append
        with pytest.raises(RunError, match="no worker at the places mars for 1 s"):
            workers.gather()
    assert len(said) == 1
    assert "no node with the resource mars" in said[0].data["text"]


def test_what_goes_to_a_worker_is_its_clients_own():
    def holding(secret):
        return lambda x: float(len(secret) * (x**2).sum())

    clients = [zoo.Client(holding(f"secret of {k}"), bounds=[(-1, 1)] * 2) for k in range(2)]
    method = Federation(job("fedzo", federation(clients)))
    for index in range(2):
        sent = pack(method.part(index))
        assert f"secret of {index}".encode() in sent
        assert f"secret of {1 - index}".encode() not in sent


def test_places_are_for_clusters(crews):
    client = zoo.Client(lambda x: float((x**2).sum()), place="mars", bounds=[(-1, 1)] * 2)
    with pytest.raises(zoo.InputError, match="not at the places mars"):
        zoo.federate([client], rounds=2, workers=crews[1])
    assert zoo.federate([client], rounds=4, survey=3, seed=1).fun < 1e-6  # in this process
