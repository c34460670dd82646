"""Objectives in processes of their own, which crash and hang.

Objectives are defined within the tests, so that they travel by value.
"""

from __future__ import annotations

import ctypes
import gc
import json
import math
import operator
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

import zoo
from zoo.errors import InputError, Interrupted, ObjectiveError
from zoo.objectives.command import CommandObjective
from zoo.objectives.load import ProblemConfig, load
from zoo.problem import CompiledObjective, Problem, PythonObjective
from zoo.runtime.evaluation import Evaluator
from zoo.runtime.isolation import IsolatedObjective

ROOT = Path(__file__).parent.parent
ENVIRONMENT = os.environ | {"PYTHONPATH": str(ROOT)}
BOX = [(-1.0, 1.0)] * 2
SMALL = {"particles": 6, "steps": 4, "seed": 3}


@pytest.fixture
def isolate():
    """Isolated objectives that are closed in the end."""
    made = []

    def make(function, timeout=None, retries=1, **options):
        made.append(IsolatedObjective(PythonObjective(function, **options), timeout, retries))
        return made[-1]

    yield make
    for objective in made:
        objective.close()


def rows(*values):
    """Points (n, 2) by their first coordinate."""
    return np.array([[value, 0.5] for value in values], float)


def alive(pid):
    """Whether a process runs; one that is dead and only not yet collected does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (OSError, IndexError):
        return False


def gone(pids, seconds=1.0):
    end = time.monotonic() + seconds
    while any(alive(pid) for pid in pids) and time.monotonic() < end:
        time.sleep(0.01)
    return not any(alive(pid) for pid in pids)


def children():
    """Processes started by this one, zombies included."""
    tasks = Path("/proc/self/task").glob("*/children")
    return sorted(int(pid) for task in tasks for pid in task.read_text().split())


def pids_in(path, count, seconds=20.0):
    """Process ids that a file has line by line, once it has so many."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if path.exists() and path.read_text().count("\n") >= count:
            return [int(line) for line in path.read_text().split()]
        time.sleep(0.01)
    raise AssertionError(f"{path} does not have {count} lines")


# Values


def test_values_are_those_in_process_bit_for_bit(isolate):
    def odd(x, scale):
        if x[0] > 1.5:
            return [math.nan, math.inf, -math.inf, -0.0][int(x[1] * 1e6) % 4]
        return scale * math.sin(x @ x)

    x = np.random.default_rng(1).normal(size=(500, 7))
    here = PythonObjective(odd, args=(3.0,)).evaluate(x)
    assert isolate(odd, args=(3.0,)).evaluate(x).tobytes() == here.tobytes()
    assert not np.isfinite(here).all()


def test_batched_values_and_blocks_of_many_sizes(isolate):
    def norms(x):
        return (x**2).sum(axis=1)

    objective = isolate(norms, batched=True)
    assert objective.batched
    generator = np.random.default_rng(2)
    for shape in ((1, 1), (1000, 3), (3, 100_000), (40_000, 6), (0, 5), (2, 2)):
        x = generator.normal(size=shape)
        assert objective.evaluate(x).tobytes() == norms(x).tobytes()
    strided = generator.normal(size=(8, 6))[::2, ::3]
    assert objective.evaluate(strided).tolist() == norms(strided).tolist()
    assert not objective.failures


def test_the_objective_is_a_copy(isolate):
    seen = []

    def count(x):
        seen.append(1)
        x[:] = 7.0
        return len(seen)

    objective, x = isolate(count), rows(0, 0, 0)
    assert objective.evaluate(x).tolist() == [1, 2, 3]
    assert objective.evaluate(x).tolist() == [4, 5, 6]
    assert not seen
    assert x.tolist() == rows(0, 0, 0).tolist()


def test_what_it_prints_and_where_it_runs(isolate, tmp_path, monkeypatch, capfd):
    def report(x):
        print("at", x[0], os.getcwd(), end=";")
        print("complaint", file=sys.stderr)
        if x[0] == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return float(os.getsid(0) != session and sys.stdin.read() == "" and sys.path[-1] == marker)

    session, marker = os.getsid(0), str(tmp_path / "marker")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path, marker])
    values = isolate(report, retries=0).evaluate(rows(0, 1, 2))
    assert values[:2].tolist() == [1, 1]
    out, err = capfd.readouterr()
    assert out.startswith(f"at 0.0 {tmp_path};at 1.0 {tmp_path};")  # once each
    assert out.count("at 1.0") == 1
    assert err == "complaint\n" * 3


@pytest.mark.parametrize("given", [None, "3"])
def test_one_thread_for_blas_unless_told(isolate, monkeypatch, given):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if given:
        monkeypatch.setenv("OMP_NUM_THREADS", given)
    objective = isolate(lambda x: float(os.environ["OMP_NUM_THREADS"]))
    assert objective.evaluate(rows(0)).tolist() == [float(given or 1)]


# Crashes


CRASHES = {
    "killed by SIGKILL": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "killed by SIGSEGV": lambda: ctypes.string_at(0),
    "exit status 3": lambda: os._exit(3),
    "exit status 0": lambda: os._exit(0),
}


@pytest.mark.parametrize("why", CRASHES)
@pytest.mark.parametrize("retries", [0, 2])
def test_crash(isolate, tmp_path, why, retries):
    crash, log = CRASHES[why], tmp_path / "log"

    def sometimes(x):
        with log.open("a") as file:
            file.write(f"{x[0]:g} ")
        if x[0] in (2, 3, 5):
            crash()
        return x[0]

    objective = isolate(sometimes, retries=retries)
    values = objective.evaluate(rows(*range(6)))
    np.testing.assert_array_equal(values, [0, 1, math.nan, math.nan, 4, math.nan])
    assert +objective.failures == Counter({"crash": 3, "retried crash": 3 * retries})
    assert objective.last_error == why
    tried = [(f"{row} " * (1 + retries if row in (2, 3, 5) else 1)) for row in range(6)]
    assert log.read_text() == "".join(tried)


def test_crash_once(isolate, tmp_path):
    def first_time(x):
        if x[0] > 0 and not (tmp_path / "seen").exists():
            (tmp_path / "seen").touch()
            os._exit(1)
        return x[0]

    objective = isolate(first_time)
    assert objective.evaluate(rows(0, 1, 2)).tolist() == [0, 1, 2]
    assert objective.failures == {"retried crash": 1}
    assert objective.last_error == "exit status 1"


def test_batched_block_that_crashes_is_tried_row_by_row(isolate, tmp_path):
    log = tmp_path / "log"

    def batch(x):
        with log.open("a") as file:
            file.write(f"{len(x)} ")
        if (x[:, 0] == 2).any():
            os._exit(1)
        return x[:, 0]

    objective = isolate(batch, batched=True)
    np.testing.assert_array_equal(objective.evaluate(rows(0, 1, 2, 3)), [0, 1, math.nan, 3])
    assert log.read_text() == "4 1 1 1 1 1 "
    assert objective.failures == {"retried crash": 2, "crash": 1}  # the block, and the row


def test_nothing_leaks_in_a_hundred_crashes(isolate):
    before = children()
    objective = isolate(lambda x: os._exit(1) if x[0] else 0.0, retries=0)
    objective.evaluate(rows(1, 0))
    descriptors, started = len(os.listdir("/proc/self/fd")), children()
    assert len(started) == len(before) + 1  # the zygote
    values = objective.evaluate(rows(*[1] * 100, 0))
    assert np.isnan(values).sum() == 100
    assert objective.failures == {"crash": 101}
    assert len(os.listdir("/proc/self/fd")) == descriptors
    assert children() == started
    (zygote,) = set(started) - set(before)
    waiting = Path(f"/proc/{zygote}/task/{zygote}/children").read_text().split()
    assert len(waiting) == 1  # the last child: the others were collected
    assert len(os.listdir(f"/proc/{zygote}/fd")) < 12


def test_a_descriptor_closing_objective(isolate):
    def vandal(x):
        os.closerange(3, 256)
        with open(os.open(os.devnull, os.O_WRONLY), "wb") as file:
            file.write(b"garbage")
        return x[0]

    objective = isolate(vandal, retries=0)
    assert objective.evaluate(rows(1, 2, 3)).tolist() == [1, 2, 3]
    assert objective.evaluate(rows(4)).tolist() == [4]
    everything = isolate(lambda x: os.closerange(3, 4096) or x[0], retries=0)
    for _ in range(3):
        assert everything.evaluate(rows(1, 2, 3)).tolist() == [1, 2, 3]
    assert not objective.failures
    assert not everything.failures


def test_a_zygote_that_was_killed_is_replaced(isolate):
    before = children()
    objective = isolate(lambda x: float(os.getpid()))
    child = objective.evaluate(rows(0))[0]
    for pid in set(children()) - set(before):
        os.kill(pid, signal.SIGKILL)
    assert gone([int(child)])
    assert objective.evaluate(rows(0))[0] != child
    assert not objective.failures


def test_a_zygote_killed_under_an_evaluation_is_a_crash(isolate, tmp_path):
    def kill_zygote(x):
        if not (tmp_path / "done").exists():
            (tmp_path / "done").touch()
            os.kill(os.getppid(), signal.SIGKILL)
            time.sleep(60)
        return x[0]

    objective = isolate(kill_zygote)
    assert objective.evaluate(rows(5)).tolist() == [5]
    assert objective.failures == {"retried crash": 1}
    assert objective.last_error == "killed by SIGKILL"


# Timeouts


def test_timeout(isolate, tmp_path):
    log = tmp_path / "log"

    def hangs(x):
        with log.open("a") as file:
            file.write(f"{x[0]:g} ")
        if x[0] == 1:
            time.sleep(1000)
        return x[0]

    objective = isolate(hangs, timeout=0.2)
    started = time.monotonic()
    np.testing.assert_array_equal(objective.evaluate(rows(0, 1, 2)), [0, math.nan, 2])
    assert 0.4 <= time.monotonic() - started < 2
    assert objective.failures == {"retried timeout": 1, "timeout": 1}
    assert objective.last_error == "no answer within 0.2 s"
    assert log.read_text() == "0 1 1 2 "


def test_timeout_in_compiled_code_that_ignores_signals(isolate):
    def deaf(x):
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        return ctypes.PyDLL(None).pause()  # holds the interpreter's lock

    objective = isolate(deaf, timeout=0.1, retries=0)
    assert math.isnan(objective.evaluate(rows(0))[0])
    assert objective.failures == {"timeout": 1}


def test_timeout_is_of_a_row_not_of_the_block(isolate):
    objective = isolate(lambda x: time.sleep(0.1) or x[0], timeout=0.3)
    assert objective.evaluate(rows(*range(6))).tolist() == [0, 1, 2, 3, 4, 5]
    assert not objective.failures


def test_timeout_of_a_batched_block(isolate):
    def batch(x):
        time.sleep(0.08 * len(x))
        return x[:, 0]

    objective = isolate(batch, timeout=0.2, batched=True)
    assert objective.evaluate(rows(*range(4))).tolist() == [0, 1, 2, 3]
    assert objective.failures == {"retried timeout": 1}


class Slow:
    """Something that takes its time to be imported."""

    def __init__(self, seconds):
        self.seconds = seconds

    def __reduce__(self):
        return time.sleep, (self.seconds,)


def test_importing_does_not_count(isolate):
    slow = Slow(0.5)
    objective = isolate(lambda x: float(slow is None), timeout=0.2, retries=0)
    assert objective.evaluate(rows(0, 0)).tolist() == [1, 1]


def test_timeout_kills_what_the_objective_started(isolate, tmp_path):
    def starts(x):
        process = subprocess.Popen(["sleep", "1000"])
        (tmp_path / "pids").write_text(f"{os.getpid()}\n{process.pid}\n")
        return process.wait()

    objective = isolate(starts, timeout=0.3, retries=0)
    assert math.isnan(objective.evaluate(rows(0))[0])
    assert gone(pids_in(tmp_path / "pids", 2))


# Exceptions


def failing(x):
    """Raises, or returns what is no number, in process and isolated alike."""
    if x[0] == 1:
        raise ValueError("too large")
    return "three" if x[0] == 2 else x[0]


def failing_batch(x):
    if (x[:, 0] == 1).any():
        raise ValueError("too large")
    return x if (x[:, 0] == 2).any() else x[:, 0]


@pytest.mark.parametrize("bad", [1, 2])
@pytest.mark.parametrize(("function", "batched"), [(failing, False), (failing_batch, True)])
def test_errors_are_those_in_process(isolate, function, batched, bad):
    x = rows(0, 0, bad, 1)
    with pytest.raises(ObjectiveError) as here:
        PythonObjective(function, batched).evaluate(x)
    objective = isolate(function, batched=batched)
    with pytest.raises(ObjectiveError) as there:
        objective.evaluate(x)
    assert str(there.value) == str(here.value)
    assert there.value.point.tolist() == here.value.point.tolist()
    assert (f"{Path(__file__).name}:" in str(there.value)) == (bad == 1)
    assert objective.evaluate(rows(3)).tolist() == [3]  # and it goes on
    assert not objective.failures


@pytest.mark.parametrize(("function", "batched"), [(failing, False), (failing_batch, True)])
def test_penalized_errors_are_those_in_process(isolate, function, batched):
    x = rows(0, 1, 3, 1, 1)
    here = PythonObjective(function, batched, "penalize")
    objective = isolate(function, batched=batched, on_error="penalize")
    np.testing.assert_array_equal(objective.evaluate(x), here.evaluate(x))
    assert objective.failures == here.failures == {"ValueError": 3}
    with pytest.raises(ObjectiveError, match="number"):
        objective.evaluate(rows(2))


def test_penalized_errors_are_counted_once_among_crashes(isolate):
    def unlucky(x):
        if x[0] == 2:
            os._exit(1)
        return 1 / float(x[0])

    objective = isolate(unlucky, retries=3, on_error="penalize")
    values = objective.evaluate(rows(0, 1, 2, 0, 4))
    np.testing.assert_array_equal(values, [math.nan, 1, math.nan, math.nan, 0.25])
    assert objective.failures == {"ZeroDivisionError": 2, "retried crash": 3, "crash": 1}


@pytest.mark.parametrize(
    ("error", "shown"),
    [
        (SystemExit(3), "SystemExit: 3), at x = [0, 0.5]"),
        (SystemExit(), "SystemExit: None), at x = [0, 0.5]"),
        (KeyboardInterrupt(), "KeyboardInterrupt)"),
    ],
)
def test_exits(isolate, error, shown):
    def leave(x):
        raise error

    for on_error in ("raise", "penalize"):
        with pytest.raises(ObjectiveError) as caught:
            isolate(leave, on_error=on_error).evaluate(rows(0))
        assert str(caught.value) == f"the objective exits ({shown}"


def test_a_very_long_message(isolate):
    def verbose(x):
        raise ValueError("\u00e9\n" * 10**6)

    with pytest.raises(ObjectiveError, match="raised ValueError"):
        isolate(verbose).evaluate(rows(0))


# Cancelling, and the end


def test_cancelled(isolate, tmp_path):
    pid = tmp_path / "pid"

    def hangs(x):
        pid.write_text(f"{os.getpid()}\n")
        time.sleep(1000)

    objective, asked = isolate(hangs), []

    def ask():
        pids_in(pid, 1)  # it hangs
        asked.append(time.monotonic())

    threading.Thread(target=ask).start()
    with pytest.raises(Interrupted):
        objective.evaluate(rows(0), lambda: bool(asked))
    assert time.monotonic() - asked[0] < 0.5
    assert gone(pids_in(pid, 1))
    assert not objective.failures


def test_cancelled_among_failures(isolate):
    def fails(x):
        time.sleep(0.005)
        raise ValueError

    objective = isolate(fails, on_error="penalize")
    objective.evaluate(np.zeros((1, 2)))  # starts its process
    end = time.monotonic() + 0.5
    with pytest.raises(Interrupted):
        objective.evaluate(np.zeros((10_000, 2)), lambda: time.monotonic() > end)
    assert time.monotonic() < end + 0.2
    assert 3 < objective.failures["ValueError"] < 200


def test_cancelled_while_importing(isolate):
    slow, end = Slow(1000), time.monotonic() + 0.3
    objective = isolate(lambda x: float(slow is None))
    with pytest.raises(Interrupted):
        objective.evaluate(rows(0), lambda: time.monotonic() > end)
    assert time.monotonic() < end + 0.2
    started = time.monotonic()
    objective.close()
    assert time.monotonic() - started < 1


def test_closing_interrupts_and_a_later_evaluation_starts_anew(isolate):
    before = children()
    objective = isolate(lambda x: time.sleep(x[0]) or float(os.getpid()))
    first = objective.evaluate(rows(0))[0]
    closing = threading.Timer(0.2, objective.close)
    closing.start()
    with pytest.raises(Interrupted):
        objective.evaluate(rows(1000))
    closing.join()
    assert gone([int(first)])
    assert children() == before
    assert objective.evaluate(rows(0))[0] != first
    objective.close()
    objective.close()
    assert children() == before
    assert not objective.failures


def test_garbage_collection_ends_the_processes():
    gc.collect()  # memories in the tracebacks of other tests
    before, descriptors = children(), len(os.listdir("/proc/self/fd"))
    objective = IsolatedObjective(PythonObjective(lambda x: float(os.getpid())))
    child = int(objective.evaluate(rows(0))[0])
    assert alive(child)
    del objective
    gc.collect()
    assert gone([child])
    assert children() == before
    assert len(os.listdir("/proc/self/fd")) == descriptors


PARENT = """
import os, subprocess, sys, threading, time
from zoo.problem import PythonObjective
from zoo.runtime.isolation import IsolatedObjective
import numpy as np

def write(*pids):
    with open("pids", "a") as file:
        file.writelines(f"{pid}\\n" for pid in pids)

class Import:
    def __reduce__(self):
        return eval, ("open('pids', 'a').write(f'{os.getpid()}\\\\n') and time.sleep(1000)",
                      {"os": os, "time": time})

def hangs(x):
    write(os.getppid(), os.getpid(), subprocess.Popen(["sleep", "1000"]).pid)
    time.sleep(1000)

slow = Import() if sys.argv[1] == "importing" else None
objective = IsolatedObjective(PythonObjective(lambda x: hangs(x) if slow is None else 0.0))
evaluation = threading.Thread(target=objective.evaluate, args=(np.zeros((1, 2)),), daemon=True)
evaluation.start()
while not os.path.exists("pids") or open("pids").read().count("\\n") < int(sys.argv[2]):
    time.sleep(0.01)
if sys.argv[1] == "ends":
    sys.exit()
if sys.argv[1] == "forked":
    copy = os.fork()
    if copy == 0:
        time.sleep(30)
        os._exit(0)
    with open("copy", "w") as file:
        file.write(f"{copy}\\n")
evaluation.join()
"""


@pytest.mark.parametrize(
    ("case", "count"), [("evaluating", 3), ("importing", 1), ("ends", 3), ("forked", 3)]
)
def test_nothing_is_left_of_a_parent_that_has_died(tmp_path, case, count):
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, case, str(count)],
        cwd=tmp_path,
        env=ENVIRONMENT,
        stdout=subprocess.DEVNULL,
    )
    pids = pids_in(tmp_path / "pids", count)
    copy = pids_in(tmp_path / "copy", 1) if case == "forked" else []
    if case == "ends":
        assert parent.wait(5) == 0
    else:
        assert all(alive(pid) for pid in pids)
        parent.kill()
        parent.wait()
    assert gone(pids)
    for pid in copy:  # holds its parent's descriptors open, and is none itself
        assert alive(pid)
        os.kill(pid, signal.SIGKILL)


# Threads


def test_threads_have_children_of_their_own(isolate):
    barrier_free = isolate(lambda x: time.sleep(0.2) or float(os.getpid()))
    barrier_free.evaluate(rows(0))
    seen = []
    started = time.monotonic()
    threads = [
        threading.Thread(target=lambda: seen.append(barrier_free.evaluate(rows(0))[0]))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert time.monotonic() - started < 0.5
    assert len(set(seen)) == 4
    assert barrier_free.evaluate(rows(0))[0] in seen


def test_crashes_on_many_threads_are_counted_exactly(isolate):
    objective = isolate(lambda x: os._exit(1) if x[0] % 3 == 0 else x[0], retries=1)
    found = [None] * 6

    def work(index):
        found[index] = objective.evaluate(rows(*range(30)))

    threads = [threading.Thread(target=work, args=(index,)) for index in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    expected = [math.nan if i % 3 == 0 else i for i in range(30)]
    for values in found:
        np.testing.assert_array_equal(values, expected)
    assert objective.failures == {"crash": 60, "retried crash": 60}


def test_evaluator_on_two_threads_is_faster_and_keeps_the_order(isolate):
    def slow(x):
        time.sleep(0.05)
        return x[0]

    took = {}
    for threads in (1, 2):
        evaluator = Evaluator(isolate(slow), threads)
        evaluator(rows(0, 1))
        started = time.monotonic()
        assert evaluator(rows(*range(20))).tolist() == list(range(20))
        took[threads] = time.monotonic() - started
    assert took[2] < 0.85 * took[1]


# What cannot be used


def test_what_cannot_be_sent():
    lock = threading.Lock()
    with pytest.raises(InputError) as caught:
        IsolatedObjective(PythonObjective(lambda x: lock.locked()))
    assert "the objective cannot be sent" in str(caught.value)
    assert "lock" in str(caught.value)
    assert "\n" not in str(caught.value)


class Unimportable:
    """Unpacked, it calls a function."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize(
    ("call", "why"),
    [
        ((operator.truediv, 1, 0), "ZeroDivisionError: division by zero"),
        ((__import__, "no_such_module_here"), "ModuleNotFoundError: No module named"),
        ((os._exit, 3), "exit status 3"),
        ((sys.exit, 4), "SystemExit: 4"),
        ((ctypes.string_at, 0), "killed by SIGSEGV"),
    ],
)
def test_what_cannot_be_imported(isolate, call, why):
    bomb = Unimportable(*call)
    objective = isolate(lambda x: float(bomb is None))
    for _ in range(2):
        with pytest.raises(InputError) as caught:
            objective.evaluate(rows(0, 1))
        assert str(caught.value).startswith("the objective cannot be ")  # set up, or imported
        assert why in str(caught.value)
    assert not objective.failures


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"timeout": 0}, "timeout must be a number of seconds > 0, got 0"),
        ({"timeout": -1.0}, "timeout must be"),
        ({"timeout": math.nan}, "timeout must be"),
        ({"timeout": math.inf}, "timeout must be"),
        ({"timeout": True}, "timeout must be"),
        ({"timeout": "2"}, "timeout must be a number of seconds > 0, got '2'"),
        ({"retries": -1}, "retries must be a whole number >= 0, got -1"),
        ({"retries": 1.5}, "retries must be"),
    ],
)
def test_bad_limits(given, why):
    with pytest.raises(InputError) as caught:
        zoo.minimize(lambda x: x[0], BOX, **given, **SMALL)
    assert why in str(caught.value)


def test_only_python_functions():
    problem = Problem(CommandObjective("true"), [-1.0, -1.0], [1.0, 1.0])
    with pytest.raises(InputError, match="not for an objective of type CommandObjective"):
        zoo.minimize(problem, timeout=1.0)


def test_it_travels(isolate):
    objective = isolate(len, timeout=3.0, retries=2)
    copy = pickle.loads(pickle.dumps(objective))
    assert (copy.timeout, copy.retries, copy.objective.function) == (3.0, 2, len)
    assert copy.evaluate(rows(0)).tolist() == objective.evaluate(rows(0)).tolist() == [2]
    copy.close()


# Runs


def bowl(x):
    return float(x @ x)


def test_minimize_gives_the_same_bits_and_leaves_nothing():
    before = children()
    here = zoo.minimize(bowl, BOX, **SMALL)
    for given in ({"timeout": 5.0}, {"retries": 0}, {"timeout": 5.0, "threads": 2}):
        problem = zoo.optimize.as_problem(lambda x: float(x @ x), BOX, timeout=5.0)
        assert isinstance(problem.objective, IsolatedObjective)
        there = zoo.minimize(lambda x: float(x @ x), BOX, **given, **SMALL)
        assert (there.fun, there.x.tolist()) == (here.fun, here.x.tolist())
        assert children() == before
    assert isinstance(zoo.optimize.as_problem(bowl, BOX).objective, PythonObjective)


def test_minimize_survives_crashes_and_hangs():
    def treacherous(x):
        if x[0] > 0.4:
            os._exit(1)
        if x[1] > 0.9:
            time.sleep(1000)
        return float(x @ x)

    result = zoo.minimize(treacherous, BOX, timeout=0.1, retries=0, **SMALL)
    assert math.isfinite(result.fun)
    assert result.failures["crash"] > 0
    assert set(result.failures) <= {"crash", "timeout"}


def test_minimize_ends_in_time_though_the_objective_hangs():
    started = time.monotonic()
    wait = Unimportable(int)  # travels as 0, counts the child's evaluations

    def then_hangs(x):
        nonlocal wait
        wait += 1
        if wait > 3:
            time.sleep(1000)
        return float(x @ x)

    result = zoo.minimize(then_hangs, BOX, retries=0, seconds=0.5, threads=1, particles=2)
    assert time.monotonic() - started < 5
    assert "seconds" in result.message


def test_resume_isolated(tmp_path):
    def stops(x):
        if (tmp_path / "stop").exists():
            raise KeyError("stop")
        return float(x @ x)

    settings = {"particles": 6, "steps": 300, "seed": 3}
    whole = zoo.minimize(lambda x: float(x @ x), BOX, **settings)

    def stop(progress):
        (tmp_path / "stop").touch()

    with pytest.raises(ObjectiveError, match="KeyError"):
        zoo.minimize(stops, BOX, timeout=5.0, out=tmp_path / "run", callback=stop, **settings)
    (tmp_path / "stop").unlink()
    before = children()
    resumed = zoo.resume(tmp_path / "run", stops, BOX, timeout=5.0)
    assert (resumed.fun, resumed.x.tolist()) == (whole.fun, whole.x.tolist())
    assert children() == before


# By name, and on the command line


MINE = """
import os, subprocess, sys, time
import numpy as np
from numba import njit
from zoo.problem import Problem, PythonObjective

def hangs(x):
    if x[0] > 0:
        time.sleep(1000)
    return float(x @ x)

def always(x):
    with open("pids", "a") as file:
        file.write(f"{os.getpid()}\\n{subprocess.Popen(['sleep', '1000']).pid}\\n")
    time.sleep(1000)

def exits(x):
    sys.exit(3)

@njit
def jitted(x):
    if x[0] > 10:
        while x[1] == x[1]:
            x[1] += 0.0
    return (x[0] - 0.5) ** 2 + x[1] ** 2

problem = Problem(PythonObjective(hangs), np.full(2, -1.0), np.full(2, 1.0), "mine")
"""


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """A file of objectives in the current folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "isolated_objectives.py").write_text(MINE)
    yield "isolated_objectives.py"
    sys.modules.pop("isolated_objectives", None)


def test_function_in_a_file(mine):
    for given in ({"timeout": 0.2}, {"timeout": 0.2, "retries": 0}):
        problem = load(ProblemConfig(f"{mine}:hangs", bounds="-1,1", dim=2, **given))
        assert problem.name == f"{mine}:hangs"
        np.testing.assert_array_equal(problem.objective.evaluate(rows(-1, 1)), [1.25, math.nan])
        problem.objective.close()
        assert problem.objective.failures["timeout"] == 1
        assert problem.objective.failures["retried timeout"] == given.get("retries", 1)
    plain = load(ProblemConfig(f"{mine}:hangs", bounds="-1,1", dim=2))
    assert isinstance(plain.objective, PythonObjective)


def test_problem_in_a_file(mine):
    problem = load(ProblemConfig(f"{mine}:problem", retries=0, timeout=0.2))
    np.testing.assert_array_equal(problem.objective.evaluate(rows(-1, 1)), [1.25, math.nan])
    problem.objective.close()


def test_jitted_function_in_a_file(mine):
    options = {"bounds": "-1,1", "dim": 2, "shift": 0.25, "rotate": 3}
    here = load(ProblemConfig(f"{mine}:jitted", **options)).objective
    isolated = load(ProblemConfig(f"{mine}:jitted", **options, timeout=0.3, retries=0)).objective
    assert isinstance(isolated.objective, CompiledObjective)
    x = np.random.default_rng(4).uniform(-1, 1, (50, 2))
    assert isolated.evaluate(x).tobytes() == here.evaluate(x).tobytes()
    assert np.isnan(isolated.evaluate(np.array([[30.0, 30.0]]))).all()
    assert isolated.failures == {"timeout": 1}
    isolated.close()


@pytest.mark.parametrize("given", [{"timeout": 1.0}, {"retries": 2}])
def test_not_for_test_functions(given):
    with pytest.raises(InputError, match="is for commands and Python functions"):
        load(ProblemConfig("sphere", **given))


def start(*arguments):
    """The command line in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "cli.main", "run", "cbo", *arguments],
        env=ENVIRONMENT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


FEW = ("--dim", "2", "--bounds", "-1,1", "--particles", "6", "--steps", "2")


def test_command_line_with_a_function_that_hangs(mine):
    arguments = ("--objective", f"{mine}:hangs", "--timeout", "0.1", "--retries", "0", *FEW)
    process = start(*arguments, "--json", "--quiet")
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")
    found = json.loads(out)
    assert found["failures"]["timeout"] > 0
    assert set(found["failures"]) == {"timeout"}


def test_command_line_with_a_function_that_exits(mine):
    process = start("--objective", f"{mine}:exits", "--timeout", "5", *FEW, "--quiet")
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (1, "")
    assert err.startswith("zoo: the objective exits (SystemExit: 3), at x = [")
    assert err.count("\n") == 1


@pytest.mark.parametrize("interrupts", [1, 2])
def test_command_line_interrupted_leaves_nothing(mine, tmp_path, interrupts):
    process = start("--objective", f"{mine}:always", "--timeout", "500", *FEW)
    pids = pids_in(tmp_path / "pids", 2)
    for _ in range(interrupts):
        process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=10)
    assert process.returncode == 130
    if interrupts == 1:
        assert err.startswith("zoo: interrupted at step 0")
    assert gone(pids)
