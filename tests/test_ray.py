"""Workers: the same bits on any number of them, through their deaths and that of the driver."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from cbo_variants import VARIANTS
from test_bits import BOUNDS, FUNCTION, SHAPES, assert_same, in_python, options_of

import zoo
from zoo.runtime.events import JOINED, LOST, NOTE, REPLAYED, Event
from zoo.runtime.folder import RunFolder

ROOT = Path(__file__).parent.parent
SOME = ["anisotropic", "covariance-ess", "memory-batch-gate"]
# Whatever a state may have: a covariance, best places, permutations, schedules, kicks, all of x.
OTHERS = ["batch-ess", "schedules", "kick", "hopping-batch", "polarized"]
STATES = [*SOME, *(pytest.param(name, marks=pytest.mark.slow) for name in OTHERS)]


def kill(crew, k=0):
    """End a worker's process the hard way."""
    os.kill(crew.members[k].info["pid"], signal.SIGKILL)


def at_step(step, act):
    """Callback that acts once, when the run has come to a step."""
    done = []

    def callback(progress):
        if progress.step >= step and not done:
            done.append(progress.step)
            act()

    callback.done = done
    return callback


# The same bits


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("variant", VARIANTS)
def test_any_number_of_workers(variant, shape, crews):
    options = options_of(variant, shape)
    inline = zoo.minimize(FUNCTION, BOUNDS, threads=1, **options)
    for count in crews if variant in SOME else (2,):
        assert_same(inline, zoo.minimize(FUNCTION, BOUNDS, workers=crews[count], **options))


@pytest.mark.parametrize("variant", STATES)
def test_a_worker_killed_in_the_middle(variant, crews):
    options = options_of(variant, "blocks") | {"steps": 120, "spread_tol": 0.0}
    inline = zoo.minimize(FUNCTION, BOUNDS, threads=1, **options)
    callback = at_step(20, lambda: kill(crews[2], 1))
    seen = []
    through = zoo.minimize(
        FUNCTION, BOUNDS, workers=crews[2], callback=callback, listeners=[seen.append], **options
    )
    assert callback.done
    assert callback.done[0] < 120
    assert_same(inline, through)
    assert through.workers["lost"] == 1
    assert through.workers["replayed"] == 1
    assert [e.kind for e in seen if e.kind in (LOST, REPLAYED)] == [LOST, REPLAYED]


@pytest.mark.parametrize(
    ("variant", "shape"),
    [
        pytest.param("anisotropic", "one", marks=pytest.mark.slow),
        pytest.param("covariance-ess", "blocks", marks=pytest.mark.slow),
        ("memory-batch-gate", "runs"),
    ],
)
def test_several_workers_killed(variant, shape, crews):
    steps = {"one": 600_000, "blocks": 600, "runs": 50_000}[shape]
    options = options_of(variant, shape) | {"steps": steps, "spread_tol": 0.0}
    inline = zoo.minimize(FUNCTION, BOUNDS, threads=1, **options)
    crew, kills = crews[3], []

    def callback(progress):
        if len(kills) < 3 and progress.step >= (len(kills) + 1) * inline.nit // 5:
            held = crew.live()[: 1 if shape == "one" else 3]
            kills.append(progress.step)
            kill(crew, held[len(kills) % len(held)])

    through = zoo.minimize(FUNCTION, BOUNDS, workers=crew, callback=callback, **options)
    assert_same(inline, through)
    assert len(kills) == 3


DRIVER = """
import json, os, shutil, signal, sys
import numpy as np
sys.path[:0] = [sys.argv[1]]
from test_bits import BOUNDS, FUNCTION, options_of
import zoo
from zoo.optimize import describe, launch, split_options
from zoo.problem import Problem, as_objective
from zoo.runtime.folder import RunFolder
import zoo.runtime.distributed.worker  # before the forks, for their sake

address, out, *variants = sys.argv[2:]
zoo.minimize(FUNCTION, BOUNDS, steps=2)
for variant in [variant for variant in variants for _ in range(3)]:
    if os.path.exists(f"{out}/{variant}/snapshot.npz"):
        continue
    shutil.rmtree(f"{out}/{variant}", ignore_errors=True)
    child = os.fork()
    if child:
        os.waitpid(child, 0)
        continue
    signal.alarm(45)  # Ray has been seen to lose the first call of a forked driver: again
    options = options_of(variant, "blocks") | {"steps": 400, "spread_tol": 0.0}
    seed = options.pop("seed")
    config, budget = split_options("cbo", options)
    folder = RunFolder(f"{out}/{variant}", interval=0.02)
    folder.create(describe("cbo", {}, config, budget, seed))
    steps, saved = [0], []

    def listen(event):
        if event.kind == "progress":
            steps.append(event.data["progress"].step)
            if saved:
                os.kill(os.getpid(), signal.SIGKILL)
        if event.kind == "snapshot" and steps[-1] > 0:
            saved.append(event)

    with zoo.workers(1, ray_address=address, cpus_per_worker=0.2) as crew:
        launch(
            Problem(as_objective(FUNCTION), *BOUNDS.T), "cbo", config, budget, seed,
            crew=crew, placement=crew.placement, listeners=[listen], folder=folder,
        )
    os._exit(0)
assert all(os.path.exists(f"{out}/{variant}/snapshot.npz") for variant in variants)
"""


@pytest.fixture(scope="module")
def killed(cluster, tmp_path_factory, request):
    """Run folders of the variants that are tested, left by drivers that were killed."""
    out = tmp_path_factory.mktemp("killed")
    items = [item for item in request.session.items if "killed" in item.fixturenames]
    variants = [item.callspec.params["variant"] for item in items]
    (out / "driver.py").write_text(DRIVER)
    subprocess.run(
        [
            sys.executable,
            out / "driver.py",
            str(ROOT / "tests"),
            cluster.address,
            str(out),
            *variants,
        ],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        cwd=ROOT,
        check=True,
        timeout=280,
        capture_output=True,
    )
    return out


@pytest.mark.parametrize("variant", STATES)
def test_the_driver_killed_and_resumed_on_other_workers(variant, killed, crews, tmp_path):
    options = options_of(variant, "blocks") | {"steps": 400, "spread_tol": 0.0}
    inline = zoo.minimize(FUNCTION, BOUNDS, threads=1, **options)
    stored = RunFolder(killed / variant)
    assert stored.result() is None
    assert 0 < int(stored.snapshot().method["runs"]["step"][0]) < 400
    shutil.copytree(killed / variant, tmp_path / "here")
    assert_same(inline, zoo.resume(killed / variant, FUNCTION, BOUNDS, workers=crews[3]))
    assert_same(inline, zoo.resume(tmp_path / "here", FUNCTION, BOUNDS))


def test_large_messages_and_replies_go_through_the_store(crews):
    options = {"dynamics": "polarized", "particles": 3000, "shards": 3, "steps": 30, "seed": 3}
    inline = zoo.minimize(FUNCTION, BOUNDS, threads=1, **options)
    callback = at_step(8, lambda: kill(crews[2]))
    through = zoo.minimize(FUNCTION, BOUNDS, workers=crews[2], callback=callback, **options)
    assert callback.done
    assert_same(inline, through)


@pytest.mark.parametrize("distribute", ["shards", "evaluations"])
def test_python_functions_and_every_way_to_distribute(distribute, cluster):
    given = {"cbo": {"steps": 25, "seed": 5, "particles": 12}, "cma": {"steps": 40}}
    with zoo.workers(2, cpus_per_worker=0.2, distribute=distribute) as crew:
        for method, options in given.items():
            inline = zoo.minimize(in_python, BOUNDS, method, **options)
            through = zoo.minimize(in_python, BOUNDS, method, workers=crew, **options)
            compiled = zoo.minimize(FUNCTION, BOUNDS, method, workers=crew, **options)
            for name in ("x", "fun", "nfev", "nit"):
                np.testing.assert_array_equal(inline[name], through[name])
                np.testing.assert_array_equal(inline[name], compiled[name])


# What goes wrong


def test_an_exception_names_its_shard_and_point(crews):
    def breaks(x):
        if x[0] > 4:
            raise ValueError("too far")
        return float((x**2).sum())

    with (
        zoo.workers(2, cpus_per_worker=0.2, distribute="shards") as crew,
        pytest.raises(zoo.ObjectiveError, match=r"too far.*shard \d") as error,
    ):
        zoo.minimize(breaks, BOUNDS, shards=2, particles=40, workers=crew)
    assert error.value.point[0] > 4
    with pytest.raises(zoo.ObjectiveError, match="too far") as error:
        zoo.minimize(breaks, BOUNDS, particles=40, workers=crews[2])
    assert error.value.point[0] > 4


class Odd(Exception):
    def __init__(self, a, b):
        super().__init__(f"{a} and {b}")


def test_exceptions_travel_as_data():
    from zoo.runtime.distributed.worker import fault_of, raised

    def thrown(error, shard=None):
        try:
            raise error
        except Exception as caught:
            return raised(fault_of(caught, shard))

    assert isinstance(thrown(KeyError("a"), 3), KeyError)
    assert "shard 3" in thrown(KeyError("a"), 3).__notes__[0]
    odd = thrown(Odd("this", "that"), 4)
    assert "Odd: this and that (shard 4)" in str(odd)
    assert "raise error" in odd.__notes__[-1]
    found = thrown(zoo.ObjectiveError("no", np.ones(2)))
    assert isinstance(found, zoo.ObjectiveError)
    assert found.point.tolist() == [1, 1]


def test_a_shard_that_kills_its_workers_ends_the_run_which_resumes(cluster, tmp_path):
    def deadly(x):
        if not (tmp_path / "mended").exists() and (tmp_path / "armed").exists():
            os._exit(9)
        return float((x**2).sum())

    options = {"steps": 200, "particles": 12, "shards": 2, "spread_tol": 0.0}

    def arm(progress):
        if progress.step > 20:
            (tmp_path / "armed").touch()

    with zoo.workers(2, cpus_per_worker=0.2, distribute="shards", respawns=1) as crew:
        with pytest.raises(zoo.RunError, match=r"lost its worker 2 times.*respawns is 1"):
            zoo.minimize(
                deadly, BOUNDS, workers=crew, out=tmp_path / "run", callback=arm, **options
            )
        (tmp_path / "mended").touch()
        through = zoo.resume(tmp_path / "run", deadly, BOUNDS, workers=crew)
    assert_same(zoo.minimize(deadly, BOUNDS, **options), through)


def test_what_cannot_be_sent_is_said(crews):
    import threading

    lock = threading.Lock()
    with pytest.raises(zoo.InputError, match=r"cannot be sent to workers.*lock"):
        zoo.minimize(lambda x: float(lock.locked()), BOUNDS, workers=crews[1])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"workers": 0}, "workers must be auto or a whole number >= 1, got '0'"),
        ({"workers": "many"}, "got 'many'"),
        ({"workers": 1.5}, r"got 1\.5"),
        ({"workers": True}, "got True"),
        ({"working_dir": "."}, "working_dir needs workers too"),
        ({"respawns": 2}, "respawns needs workers too"),
        ({"workers": 2, "ray_address": "h"}, "ray_address must be auto, local or HOST:PORT, got"),
        ({"workers": 2, "cpus_per_worker": 1e-5}, r"a fraction of 1 from 0\.0001 on"),
        ({"workers": 2, "threads": 2}, "threads are for a run in its own process"),
        ({"workers": 2, "cpus_per_worker": 1.5}, "cpus_per_worker must be a whole number"),
        ({"workers": 2, "distribute": "all"}, r"distribute must be auto \| shards"),
        ({"workers": 2, "worker": 1}, "unknown parameter 'worker'"),
    ],
)
def test_bad_placements(given, message):
    with pytest.raises(zoo.InputError, match=message):
        zoo.minimize(in_python, BOUNDS, steps=2, **given)


def test_workers_serve_one_run_at_a_time_until_they_are_closed(cluster):
    def nested(x):
        return in_python(x)

    with zoo.workers(1, cpus_per_worker=0.2) as crew:

        def again(progress):
            zoo.minimize(in_python, BOUNDS, workers=crew, steps=2)

        with pytest.raises(zoo.InputError, match="these workers serve another run"):
            zoo.minimize(in_python, BOUNDS, workers=crew, steps=2, callback=again)
        assert zoo.minimize(nested, BOUNDS, workers=crew, steps=2).nit == 2
    with pytest.raises(zoo.InputError, match="these workers have been closed"):
        zoo.minimize(in_python, BOUNDS, workers=crew, steps=2)


def test_another_cluster_cannot_be_had_meanwhile(cluster):
    with pytest.raises(zoo.InputError, match=r"is connected to Ray at .* already"):
        zoo.minimize(in_python, BOUNDS, workers=1, ray_address="127.0.0.1:1")


@pytest.mark.slow
def test_a_cluster_that_asks_for_a_token_is_told_of_at_once(monkeypatch):
    from zoo.runtime.distributed.connection import _start

    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN", "0123456789abcdef" * 4)
    command = ["run", "cbo", "--objective", "rastrigin", "--workers", "1", "--ray-address"]
    with contextlib.ExitStack() as undo:
        _, address = _start(1, undo)
        done = subprocess.run(
            [sys.executable, "-m", "cli.main", *command, address],
            env=os.environ | {"RAY_AUTH_MODE": "disabled"},
            capture_output=True,
            text=True,
            timeout=15,  # Ray tries for 20 seconds
        )
    assert done.returncode == 2
    assert done.stderr.startswith(f"zoo: the Ray cluster at {address} asks for a token: set RAY_")


def test_no_name_is_two_parameters():
    from zoo.config import options_of as names_of
    from zoo.methods import METHODS
    from zoo.runtime.distributed.placement import Placement

    for entry in METHODS.values():
        parts = [*entry.input_classes().values(), entry.config_class(), Placement]
        names = [n for part in parts for n in names_of(part)]
        assert len(names) == len(set(names))


@pytest.mark.slow
def test_a_ray_of_our_own_though_there_is_a_cluster(tmp_path):
    code = """if True:
        import zoo
        with zoo.workers(1, ray_address="local") as crew:
            print(zoo.minimize(lambda x: x[0] ** 2, [(0, 1)], workers=crew, steps=3).nit)"""
    environment = os.environ | {"RAY_ADDRESS": "127.0.0.1:9"}
    ran = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, cwd=tmp_path
    )
    assert ran.stdout == "3\n", ran.stderr


# Evaluations


def bowl(x):  # no compiled code, which every new child would load
    return float(((x - 0.3) ** 2).sum())


def test_crashes_and_hangs_are_counted_and_nothing_is_lost(crews, tmp_path):
    log = tmp_path / "log"
    log.touch()

    def nasty(x):
        draw = np.random.default_rng([os.getpid(), time.monotonic_ns()]).random()
        with log.open("a") as file:
            file.write("crash\n" if draw < 0.05 else "hang\n" if draw < 0.08 else "")
        if draw < 0.05:
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(60 if draw < 0.08 else 0.005)
        return bowl(x)

    options = {"steps": 8, "particles": 24, "seed": 2}
    inline = zoo.minimize(bowl, BOUNDS, **options)
    through = zoo.minimize(nasty, BOUNDS, workers=crews[2], timeout=0.4, retries=8, **options)
    assert_same(inline, through)
    assert through.nfev == 24 * 9 + 1
    wrong = log.read_text().split()
    assert wrong.count("crash") > 0
    # A straggler that was given up may have crashed or hung uncounted, and no one else.
    missing = len(wrong) - sum(through.failures.values())
    assert 0 <= missing <= through.workers.get("copies", 0)
    assert set(through.failures) <= {"retried crash", "retried timeout"}


def test_stragglers_are_sent_twice_and_count_once(crews, tmp_path):
    def straggles(x):
        first = not (tmp_path / "once").exists()
        (tmp_path / "once").touch()
        time.sleep(30 if first else 0.01)
        return bowl(x)

    options = {"steps": 5, "particles": 16, "seed": 2}
    started = time.perf_counter()
    through = zoo.minimize(straggles, BOUNDS, workers=crews[3], **options)
    assert time.perf_counter() - started < 20
    assert_same(zoo.minimize(bowl, BOUNDS, **options), through)
    assert through.workers["copies"] >= 1


@pytest.mark.parametrize("method", ["cbo", pytest.param("cma", marks=pytest.mark.slow)])
def test_evaluating_workers_killed(method, crews):
    def slow(x):
        time.sleep(0.004)
        return in_python(x)

    options = {"steps": 30, "seed": 4} | ({"particles": 24} if method == "cbo" else {})
    crew, kills = crews[2], []

    def callback(progress):
        if len(kills) < 2 and progress.step >= 8 * (len(kills) + 1):
            kills.append(progress.step)
            kill(crew, crew.live()[0])

    through = zoo.minimize(slow, BOUNDS, method, workers=crew, callback=callback, **options)
    inline = zoo.minimize(in_python, BOUNDS, method, **options)
    for name in ("x", "fun", "nfev", "nit"):
        np.testing.assert_array_equal(inline[name], through[name])
    assert through.workers["lost"] == len(kills) == 2


def test_a_cheap_objective_is_told_of(crews):
    with pytest.warns(RuntimeWarning, match=r"an evaluation takes .* without workers"):
        zoo.minimize(in_python, BOUNDS, steps=40, workers=crews[2])


def test_auto_stays_or_goes(cluster, monkeypatch):
    from zoo.runtime import choice

    monkeypatch.setattr(choice, "_on_a_cluster", lambda placement: False)
    notes = []

    def listen(event):
        notes.extend([event.data["text"]] if event.kind == NOTE else [])

    options = {"steps": 3, "particles": 8, "workers": "auto", "listeners": [listen]}
    assert "workers" not in zoo.minimize(in_python, BOUNDS, **options)
    assert "ms: the run stays in its own process" in notes.pop()
    assert "workers" not in zoo.minimize(FUNCTION, BOUNDS, **options)
    assert "threads of this process" in notes.pop()

    def slow(x):
        time.sleep(0.01)
        return in_python(x)

    result = zoo.minimize(slow, BOUNDS, cpus_per_worker=2, **options)
    assert result.workers["workers"] >= 1


def test_auto_stays_with_what_cannot_travel(monkeypatch):
    import threading

    from zoo.runtime import choice

    monkeypatch.setattr(choice, "_on_a_cluster", lambda placement: False)
    lock = threading.Lock()
    with pytest.warns(RuntimeWarning, match=r"stays in its own process: .*lock") as caught:
        result = zoo.minimize(lambda x: float(lock.locked()), BOUNDS, workers="auto", steps=2)
    assert result.nit == 2
    assert {warning.filename for warning in caught} == {__file__}


def test_events_of_workers_after_a_torn_line(tmp_path):
    folder = RunFolder(tmp_path / "run")
    folder.create({})
    first, second = (Event(LOST, {"worker": k, "name": "w", "why": "?"}) for k in (1, 2))
    folder.listen(first)
    with (folder.path / "workers.jsonl").open("a") as file:
        file.write('{"event": "lo')
    folder.listen(second)
    assert [event["worker"] for event in folder.workers()] == [1, 2]


def test_deadlines_and_interrupts_within_a_step(crews):
    def slow(x):
        time.sleep(0.2)
        return in_python(x)

    started = time.perf_counter()
    result = zoo.minimize(slow, BOUNDS, workers=crews[2], particles=16, seconds=2.2)
    assert time.perf_counter() - started < 10
    assert result.status == "seconds"


def test_a_deadline_within_a_superstep_of_shards(cluster):
    def slow(x):
        time.sleep(0.1)
        return in_python(x)

    options = {"particles": 32, "shards": 2, "seed": 1}
    with zoo.workers(2, cpus_per_worker=0.2, distribute="shards") as crew:
        zoo.minimize(in_python, BOUNDS, workers=crew, steps=1, **options)
        started = time.perf_counter()
        result = zoo.minimize(slow, BOUNDS, workers=crew, seconds=4.0, **options)
        assert time.perf_counter() - started < 10
    assert result.status == "seconds"
    assert_same(zoo.minimize(in_python, BOUNDS, steps=result.nit, **options), result)


def test_fewer_workers_than_wanted_are_told_of_and_waited_for_once(cluster, monkeypatch):
    from zoo.runtime.distributed import crew as crews

    monkeypatch.setattr(crews, "_PATIENCE", 6.0)
    started = time.perf_counter()
    with zoo.workers(3, cpus_per_worker=2) as crew:  # the cluster has 4
        with pytest.warns(RuntimeWarning, match="of 3 workers are there"):
            result = zoo.minimize(bowl, BOUNDS, workers=crew, steps=2, particles=8)
        assert result.workers["workers"] < 3
        first = time.perf_counter() - started
        result = zoo.minimize(bowl, BOUNDS, workers=crew, seconds=1.0, particles=8)
    assert first > 5
    assert time.perf_counter() - started - first < 6


@pytest.mark.parametrize("count", [1, 2, 3])
def test_batched_objectives_are_given_the_same_batches(count, crews):
    mixing = np.random.default_rng(0).normal(size=(len(BOUNDS), 200))

    def batched(x):
        return np.tanh(x @ mixing).sum(axis=1)

    whole = {"steps": 40, "particles": 37, "shards": 3, "batched": True}
    few = {"steps": 20, "particles": 12, "shards": 4, "batch": 4, "batched": True}
    for options in (whole, few):
        through = zoo.minimize(batched, BOUNDS, workers=crews[count], **options)
        assert_same(zoo.minimize(batched, BOUNDS, **options), through)


def test_the_users_handler_of_sigterm_stays(tmp_path, cluster):
    code = f"""if True:
        import signal, zoo
        signal.signal(signal.SIGTERM, handler := lambda *_: None)
        zoo.minimize(lambda x: x[0] ** 2, [(0, 1)], workers=1, cpus_per_worker=0.2,
                     ray_address="{cluster.address}", steps=2)
        print(signal.getsignal(signal.SIGTERM) is handler)"""
    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert ran.stdout == "True\n", ran.stderr


def test_fractional_gpus(cluster):
    def visible(x):
        return float(os.environ["CUDA_VISIBLE_DEVICES"] == "0")

    with zoo.workers(2, cpus_per_worker=0.2, gpus_per_worker=0.5) as crew:
        result = zoo.minimize(visible, BOUNDS, workers=crew, particles=8, steps=2)
    assert result.fun == 1.0


def test_a_mixed_cluster_is_told_of(crews, monkeypatch):
    from zoo.runtime.distributed.shards import RayHost

    seen = []
    host = RayHost(crews[1])
    monkeypatch.setattr(crews[1], "emit", seen.append)
    for name in ("znver3", "znver3", "skylake", "haswell"):
        host._compare(name)
    assert len(seen) == 1
    assert "(skylake, znver3)" in seen[0].data["text"]


def test_a_cluster_that_is_not_there_costs_no_folder(tmp_path):
    out = tmp_path / "r"
    code = f"""if True:
        import zoo
        zoo.minimize(
            lambda x: 0.0, [(0, 1)], workers=2, ray_address="127.0.0.1:9", out={str(out)!r}
        )"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert "InputError: no Ray cluster answers at 127.0.0.1:9" in ran.stderr
    assert not out.exists()


# Nodes

NODES = """
import json, sys
sys.path[:0] = [sys.argv[1]]
import ray
from ray.cluster_utils import Cluster
from test_bits import BOUNDS, FUNCTION, options_of
import zoo

cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
done, events = [], []


def callback(progress):
    step = progress.step
    if step > 500 and "removed" not in done:
        done.append("removed")
        cluster.remove_node(nodes[0], allow_graceful=False)
    if step > 1500 and "added" not in done:
        done.append("added")
        cluster.add_node(num_cpus=1)
        while len(crew.live()) < 3:
            crew.joined(0.1)


def listen(event):
    if event.kind in ("joined", "lost", "replayed"):
        events.append([event.kind, event.data])


options = options_of(sys.argv[2], "blocks") | {"steps": 4000, "spread_tol": 0.0}
with zoo.workers(3, ray_address=cluster.address) as crew:
    result = zoo.minimize(
        FUNCTION, BOUNDS, workers=crew, callback=callback, listeners=[listen], **options
    )
print(json.dumps({
    "x": result.x.tolist(), "consensus": result.consensus.tolist(), "nfev": result.nfev,
    "particles": result.particles.tolist(), "events": events, "done": done,
}))
"""


@pytest.mark.slow
def test_a_node_is_lost_and_another_joins(tmp_path):
    (tmp_path / "nodes.py").write_text(NODES)
    ran = subprocess.run(
        [sys.executable, tmp_path / "nodes.py", str(ROOT / "tests"), "anisotropic"],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    found = json.loads(ran.stdout.splitlines()[-1])
    options = options_of("anisotropic", "blocks") | {"steps": 4000, "spread_tol": 0.0}
    inline = zoo.minimize(FUNCTION, BOUNDS, threads=1, **options)
    for name in ("x", "consensus", "nfev", "particles"):
        np.testing.assert_array_equal(inline[name], found[name])
    assert found["done"] == ["removed", "added"]
    nodes = {}
    for kind, data in found["events"]:
        if kind == JOINED:
            nodes.setdefault(data["node"], []).append(data["worker"])
    assert len(nodes) == 4  # the new one was used
    lost = [data for kind, data in found["events"] if kind == LOST]
    assert len(lost) == 1
    assert lost[0]["why"] in ("its node was lost", "it cannot be reached")
