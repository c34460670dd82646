"""Problems in other processes: elsewhere, without the user's files, with their machine code."""

import functools
import json
import os
import pickle
import shutil
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cloudpickle
import numba
import numpy as np
import pytest

from zoo import methods
from zoo.errors import InputError
from zoo.jit import CACHE, cpu_name, source_digest, warm
from zoo.objectives.command import CommandObjective
from zoo.objectives.load import ProblemConfig, load
from zoo.objectives.registry import FUNCTIONS
from zoo.optimize import split_options
from zoo.problem import CompiledObjective, as_objective
from zoo.runtime.parcel import _Parcel, code_of, pack, unpack

ROOT = Path(__file__).parent.parent
X = np.random.default_rng(0).uniform(-1, 1, (3, 4))

MODEL = """
import math
import threading

import numba
import numpy as np

import {side}
from {side} import helper

LOCK = {lock}

class Model:
    def __init__(self, scale):
        self.scale = scale
    def __call__(self, x):
        return self.scale * {side}.plain(x)

def python(x):
    return {side}.plain(x) + jitted(x)

def batch(x):
    return (x**2).sum(axis=1)

def with_args(x, a, b):
    return a * x[0] + b

def closure(shift):
    return lambda x: {side}.plain(x) + shift

def locked(x):
    with LOCK:
        return float(x.sum())

def closure_locked():
    return lambda x: LOCK is None

@numba.njit(fastmath={{"reassoc", "nsz"}})
def jitted(x):
    s = 0.0
    for v in x:
        s += helper(v) + math.sin({side}.SCALE * v)
    return s

@numba.njit("float64(float64[::1])")
def with_signature(x):
    return helper(x[0]) + 0.1

@numba.njit
def recursive(x):
    return x[0] + recursive(x[1:]) if len(x) > 1 else x[0]

def jitted_closure(shift, inner):
    @numba.njit
    def moved(x):
        return inner(x) + shift
    return moved
"""

SIDE = """
import numba
import {model}  # a circle

SCALE = {scale}

@numba.njit
def helper(v):
    return v * v * SCALE

def plain(x):
    return float((x**2).sum()) + SCALE
"""

WORKER = """
import json, os, sys
import numpy as np
from zoo.runtime.parcel import unpack
objectives = unpack(open(sys.argv[1], "rb").read())
x = np.array(json.loads(sys.argv[2]))
print(json.dumps([[v.hex() for v in o.evaluate(x).tolist()] for o in objectives]))
print(json.dumps([m for m in sys.modules if m == "ray" or m.startswith(("model_", "side_"))]))
"""

COMPILING = """
import json, sys
import numpy as np
from zoo.jit import address, warm
from zoo.runtime.parcel import code_of, unpack
data = open(sys.argv[1], "rb").read()
with warm(code_of(data)):
    objective = unpack(data)
    address(objective.dispatcher)
stats = objective.dispatcher.stats
value = objective.dispatcher(np.array(json.loads(sys.argv[2])))
print(json.dumps([sum(stats.cache_misses.values()), sum(stats.cache_hits.values()), value.hex()]))
"""


@pytest.fixture
def elsewhere(tmp_path):
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    return folder


@pytest.fixture
def user(tmp_path, monkeypatch):
    """A function that makes the user's folder, of modules with names of their own, and loads it."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    folder = tmp_path / "user"
    stem = f"{abs(hash(str(tmp_path)))}"

    def made(scale=3.0, lock="None"):
        folder.mkdir(exist_ok=True)
        for name in ("model", "side"):
            sys.modules.pop(f"{name}_{stem}", None)
        names = {"model": f"model_{stem}", "side": f"side_{stem}"}
        (folder / f"model_{stem}.py").write_text(MODEL.format(**names, lock=lock))
        (folder / f"side_{stem}.py").write_text(SIDE.format(**names, scale=scale))
        path = folder / f"model_{stem}.py"
        load(ProblemConfig(f"{path}:python", bounds="0,1", dim=4))
        return sys.modules[f"model_{stem}"]

    yield made
    for name in ("model", "side"):
        sys.modules.pop(f"{name}_{stem}", None)


def worker(code, data, folder, x=X, **environment):
    """What a fresh process in a folder prints, as lines of JSON."""
    child = start(code, data, folder, x, **environment)
    out, err = child.communicate(timeout=200)
    assert child.returncode == 0, err
    return [json.loads(line) for line in out.splitlines()]


def start(code, data, folder, x=X, **environment):
    path = folder / f"parcel_{len(list(folder.iterdir()))}"
    path.write_bytes(data)
    return subprocess.Popen(
        [sys.executable, "-c", code, path, json.dumps(x.tolist())],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def hexadecimal(values):
    return [float(v).hex() for v in values]


def test_what_is_the_users_travels_by_value(user, elsewhere):
    model = user()
    objectives = [
        as_objective(model.python),
        as_objective(model.batch, batched=True),
        as_objective(model.with_args, args=(2.0, 3.0)),
        as_objective(functools.partial(model.with_args, a=0.3, b=-1.0)),
        as_objective(model.closure(0.7)),
        as_objective(model.Model(2.5)),
        as_objective(lambda x: model.Model(1.5)(x)),  # through the module itself
        as_objective(model.jitted),
        as_objective(model.with_signature),
        as_objective(model.recursive),
        as_objective(model.jitted_closure(0.1, model.jitted_closure(0.2, model.jitted))),
        as_objective(model.jitted.py_func),
        CompiledObjective(model.jitted, np.full(4, 0.5), np.eye(4)[::-1].copy(), np.ones(4)),
    ]
    values = [hexadecimal(objective.evaluate(X)) for objective in objectives]
    shutil.rmtree(Path(model.__file__).parent)
    data = pack(objectives)
    assert len(data) < 30_000
    there, loaded = worker(WORKER, data, elsewhere)
    assert there == values
    assert loaded == []
    assert not [name for name in cloudpickle.list_registry_pickle_by_value() if "model_" in name]


def test_options_of_a_jitted_function_stay(user):
    model = user()
    jitted, signed = unpack(pack([model.jitted, model.with_signature]))
    assert jitted is not model.jitted
    assert jitted.targetoptions == model.jitted.targetoptions
    assert jitted.targetoptions["fastmath"] == {"reassoc", "nsz"}
    with pytest.raises(TypeError, match="No matching definition"):
        signed(3)
    assert unpack(pack(model.jitted)) is jitted  # compiled once a process


def test_built_in_objectives_travel_by_name():
    for name in FUNCTIONS:
        problem = load(ProblemConfig(name, rotate=1))
        data = pack(problem)
        assert len(data) < 100_000
        again = unpack(data)
        assert again.objective.dispatcher is problem.objective.dispatcher
        np.testing.assert_array_equal(again.objective.rotation, problem.objective.rotation)
        assert again.name == name
        assert name.replace("-", "_") in code_of(data)


def test_functions_of_a_script(tmp_path, elsewhere):
    (tmp_path / "beside.py").write_text("def shift():\n    return 0.25\n")
    script = tmp_path / "script.py"
    script.write_text(
        "import sys, beside\n"
        "from zoo.problem import as_objective\n"
        "from zoo.runtime.parcel import pack\n"
        "def mine(x):\n    return float(x[0]) + beside.shift()\n"
        "sys.stdout.buffer.write(pack([as_objective(mine)]))\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    packed = subprocess.run(
        [sys.executable, script], env=environment, check=True, capture_output=True
    )
    script.unlink()
    (tmp_path / "beside.py").unlink()
    there, _ = worker(WORKER, packed.stdout, elsewhere)
    assert there == [hexadecimal(X[:, 0] + 0.25)]


def test_modules_that_cannot_travel_are_imported_from_their_files(user, elsewhere):
    model = user(lock="threading.Lock()")
    data = pack([as_objective(model.locked), as_objective(model.jitted)])
    values = [hexadecimal(X.sum(axis=1)), hexadecimal(as_objective(model.jitted).evaluate(X))]
    there, loaded = worker(WORKER, data, elsewhere)
    assert there == values
    assert set(loaded) >= {model.__name__}
    shutil.rmtree(Path(model.__file__).parent)
    child = start(WORKER, data, elsewhere)
    lines = child.communicate()[1].strip().splitlines()
    assert lines[-1].startswith("zoo.errors.InputError: the objective cannot be set up on ")
    assert f"cannot pickle '_thread.lock' object (global LOCK of {model.__name__}.py)" in lines[-1]


class Holder:
    def __init__(self, thing):
        self.thing = thing

    def __call__(self, x):
        return 0.0


def test_what_cannot_be_sent_is_said(user, tmp_path):
    model = user(lock="threading.Lock()")
    with (tmp_path / "log").open("w") as log:
        lock = threading.Lock()
        cannot = "cannot pickle '_thread.lock' object"
        not_read = "Cannot pickle files that are not opened for reading: w"
        here = "test_what_cannot_be_sent_is_said.<locals>"
        cases = {
            f"{cannot} (global LOCK of {model.__name__}.py)": model.closure_locked(),
            f"{cannot} (variable lock of {here}.<lambda>)": lambda x: lock is None,
            f"{cannot} (attribute thing of Holder)": Holder(lock),
            f"{not_read} (attribute thing of Holder)": Holder(log),
        }
        for why, function in cases.items():
            with pytest.raises(InputError) as caught:
                pack(as_objective(function))
            assert str(caught.value) == f"the objective cannot be sent to workers: {why}"


def test_what_a_worker_lacks_is_said(tmp_path, monkeypatch):
    package = tmp_path / "site-packages"
    package.mkdir()
    (package / "installed_here.py").write_text("def f(x):\n    return 1.0\n")
    monkeypatch.syspath_prepend(package)
    import installed_here

    data = pack(as_objective(installed_here.f))
    assert unpack(data).function is installed_here.f
    monkeypatch.delitem(sys.modules, "installed_here")
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path != str(package)])
    with pytest.raises(InputError) as caught:
        unpack(data)
    assert str(caught.value) == (
        f"the objective cannot be set up on {socket.gethostname()}: "
        "ModuleNotFoundError: No module named 'installed_here'"
    )
    other = pickle.dumps(_Parcel(*pickle.loads(data))._replace(python=(3, 1)))
    with pytest.raises(InputError, match=r"cannot take what was packed by Python 3\.1: they must"):
        unpack(other)


def test_packing_on_several_threads(user):
    model = user()
    objective = as_objective(model.python)
    before = cloudpickle.list_registry_pickle_by_value()
    with ThreadPoolExecutor(4) as pool:
        packed = list(pool.map(lambda _: pack(objective), range(40)))
    assert cloudpickle.list_registry_pickle_by_value() == before
    assert all(model.__name__.encode() + b".py" in data for data in packed)
    assert {len(data) for data in packed} == {len(packed[0])}


def script(folder, name="value"):
    """A program that prints its own folder's number plus its argument."""
    (folder / "number").write_text("4")
    path = folder / name
    path.write_text('#!/bin/sh\necho "$(cat number)$1"\n')
    path.chmod(0o755)


def test_command_runs_where_it_was_given(tmp_path, elsewhere, monkeypatch):
    there = tmp_path / "there"
    there.mkdir()
    script(there)
    monkeypatch.chdir(there)
    objective = CommandObjective("./value {0}", timeout=20)
    data = pack([objective, CommandObjective("sh value {0}")])
    x = np.array([[0.5], [0.25]])
    x[:, 0] += 1  # "41.5", "41.25"
    assert worker(WORKER, data, elsewhere, x)[0] == [hexadecimal([41.5, 41.25])] * 2
    moved = tmp_path / "moved"
    there.rename(moved)  # another machine: the same below its current folder
    assert worker(WORKER, data, moved, x)[0] == [hexadecimal([41.5, 41.25])] * 2
    child = start(WORKER, data, elsewhere, x)
    assert child.communicate()[1].strip().splitlines()[-1] == (
        f"zoo.errors.InputError: command: there is no {there / 'value'} on {socket.gethostname()}"
    )
    monkeypatch.chdir(moved)
    again = unpack(pack(CommandObjective("./value {0}", retries=5)))
    assert (again.retries, again.evaluate(x).tolist()) == (5, [41.5, 41.25])


def test_machine_code_is_found_again_without_the_file(user, tmp_path, elsewhere):
    model = user()
    x = X[0]
    environment = {"XDG_CACHE_HOME": str(tmp_path / "cache")}
    objective = as_objective(model.jitted_closure(0.1, model.jitted))
    data, value = pack(objective), objective.dispatcher(x).hex()
    moved = pack(as_objective(model.jitted_closure(0.2, model.jitted)))
    path = Path(model.__file__)
    shutil.rmtree(path.parent)
    assert worker(COMPILING, data, elsewhere, x, **environment) == [[1, 0, value]]
    assert worker(COMPILING, data, elsewhere, x, **environment) == [[0, 1, value]]
    # Another value in the closure, another number in the module beside: no code of the old ones.
    other = (float.fromhex(value) - 0.1 + 0.2).hex()
    misses, _, found = worker(COMPILING, moved, elsewhere, x, **environment)[0]
    assert misses == 1
    assert float.fromhex(found) == pytest.approx(float.fromhex(other))
    changed = user(scale=5.0)
    assert Path(changed.__file__) == path
    objective = as_objective(changed.jitted_closure(0.1, changed.jitted))
    expected = objective.dispatcher(x).hex()
    assert worker(COMPILING, pack(objective), elsewhere, x, **environment) == [[1, 0, expected]]
    # The same again, in what will be another process: its old code.
    same = user(scale=3.0)
    again = pack(as_objective(same.jitted_closure(0.1, same.jitted)))
    assert worker(COMPILING, again, elsewhere, x, **environment) == [[0, 1, value]]


def test_name_of_a_function_is_that_of_the_next_process(tmp_path):
    (tmp_path / "named.py").write_text(
        "import numba\n"
        "A = 1.5\n"
        "@numba.njit(fastmath={'nsz', 'arcp', 'reassoc', 'contract'})\n"
        "def f(x):\n    'a text'\n    return x[0] + A\n"
    )
    code = (
        "import named, numba\nfrom zoo.problem import as_objective\n"
        "from zoo.runtime.parcel import code_of, pack\n"
        "print(code_of(pack(as_objective(named.f))))"
    )
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{tmp_path}"}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # the second process finds it compiled
    names = [
        subprocess.run(
            [sys.executable, "-c", code],
            env=environment,
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for _ in range(2)
    ]
    assert (tmp_path / "__pycache__").exists()
    assert names[0] == names[1]
    assert len(names[0].split()) == 2


def test_one_process_compiles_for_all(user, tmp_path, elsewhere):
    model = user()
    data, value = pack(as_objective(model.jitted)), model.jitted(X[0]).hex()
    cache = {"XDG_CACHE_HOME": str(tmp_path / "cache")}
    children = [start(COMPILING, data, elsewhere, X[0], **cache) for _ in range(3)]
    told = sorted(json.loads(child.communicate(timeout=100)[0]) for child in children)
    assert told == [[0, 1, value], [0, 1, value], [1, 0, value]]


def test_warm_without_a_home(user, elsewhere):
    model = user()
    data, value = pack(as_objective(model.jitted)), model.jitted(X[0]).hex()
    nowhere = {"XDG_CACHE_HOME": os.devnull, "HOME": os.devnull}
    for _ in range(2):
        assert worker(COMPILING, data, elsewhere, X[0], **nowhere) == [[1, 0, value]]


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr("zoo.jit.CACHE", str(tmp_path / "cache"))


def test_warm_blocks_of_one_key_wait_for_the_first(cache):
    entered, release = threading.Event(), threading.Event()
    all_in, inside = threading.Barrier(4, timeout=20), []

    def first():
        with warm("key"):
            entered.set()
            assert release.wait(20)

    def other():
        with warm("key"):
            inside.append(1)
            all_in.wait()  # none of them waits for another

    with ThreadPoolExecutor(5) as pool:
        leading = pool.submit(first)
        assert entered.wait(20)
        others = [pool.submit(other) for _ in range(4)]
        time.sleep(0.5)
        waiting = not inside
        release.set()
        leading.result()
        for one in others:
            one.result()
    assert waiting
    assert len(inside) == 4


def test_a_warm_block_that_fails_leaves_its_turn(cache):
    with pytest.raises(ZeroDivisionError), warm("key"):
        1 / 0
    order = []
    entered, leave = threading.Event(), threading.Event()

    def second():
        with warm("key"):
            entered.set()
            leave.wait(20)
            order.append("second")

    def third():
        with warm("key"):
            order.append("third")

    with ThreadPoolExecutor(2) as pool:
        running = [pool.submit(second)]
        entered.wait(20)
        running.append(pool.submit(third))
        with warm("another"):  # is not held up
            order.append("another")
        leave.set()
        for future in running:
            future.result()
    assert order == ["another", "second", "third"]


def test_cpu_and_sources(monkeypatch):
    assert cpu_name() == str(numba.config.CPU_NAME or cpu_name())
    assert cpu_name()
    monkeypatch.setattr(numba.config, "CPU_NAME", "generic")
    assert cpu_name() == "generic"
    assert CACHE.endswith(f"compiled-{source_digest('runtime')[:16]}")
    assert source_digest("runtime") != source_digest()


STEPS = """
import json, sys
import numpy as np
from zoo.problem import never
from zoo.runtime.parcel import unpack
method = unpack(open(sys.argv[1], "rb").read())
shard = method.shard(0, 1, never)
for _ in range(3):
    report = shard.step(method.message(20))
state = shard.state()
print(json.dumps({name: state[name].tobytes().hex() for name in ("x", "energy", "runs")}))
"""


@pytest.mark.parametrize("name", ["jitted", "python"])
def test_a_shard_of_a_packed_method_steps_to_the_same_bits(user, elsewhere, name):
    model = user()
    config, budget = split_options("cbo", {"particles": 20, "steps": 200})
    problem = load(ProblemConfig(f"{model.__file__}:{name}", bounds="-1,2", dim=4))
    method = methods.get("cbo").method_class()(problem, config, budget, 7)
    data = pack(method)
    assert len(data) < 100_000
    shard = method.shard(0)
    for _ in range(3):
        shard.step(method.message(20))
    state = {key: shard.state()[key].tobytes().hex() for key in ("x", "energy", "runs")}
    shutil.rmtree(Path(model.__file__).parent)
    assert worker(STEPS, data, elsewhere) == [state]
