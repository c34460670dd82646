"""Problems by name."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from dataclasses import asdict, fields
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zoo.config import build
from zoo.errors import InputError
from zoo.objectives.load import ProblemConfig, load, located, parse_bounds, rotation_matrix
from zoo.problem import CompiledObjective, PythonObjective

ROOT = Path(__file__).parent.parent

# Names of modules stay loaded in this process: each of these is used by one test alone.
FILE = """
import numba, numpy as np
from zoo.problem import Problem, PythonObjective
import {beside}

def square(x):
    return float((x**2).sum()) + {beside}.ZERO

def batch(x):
    return (x**2).sum(axis=1)

@numba.njit
def jitted(x):
    return ((x - 1.0) ** 2).sum()

@numba.njit
def broken(x):
    return x.nothing

class Kind:
    @staticmethod
    def method(x):
        return 1.0

number = 3
problem = Problem(PythonObjective(square), np.full(2, -1.0), np.full(2, 1.0), "mine")
"""


@pytest.fixture
def objective_file(tmp_path, request):
    """A file of objectives, under a name of its own, with a module beside it."""
    stem = f"objectives_{abs(hash(request.node.name))}"
    (tmp_path / f"{stem}_beside.py").write_text("ZERO = 0.0\n")
    path = tmp_path / f"{stem}.py"
    path.write_text(FILE.format(beside=f"{stem}_beside"))
    before = list(sys.path)
    yield path
    sys.path[:] = before
    sys.modules.pop(stem, None)


def value(problem, x):
    return problem.objective.evaluate(np.atleast_2d(np.asarray(x, float)))[0]


def test_test_function():
    problem = load(ProblemConfig("rastrigin"))
    assert problem.dimension == 20
    assert problem.name == "rastrigin"
    assert (problem.lower[0], problem.upper[0], problem.minimum) == (-5.12, 5.12, 0.0)
    assert len(problem.objective.shift) == len(problem.objective.rotation) == 0
    assert value(problem, np.zeros(20)) == 0.0


@pytest.mark.parametrize("name", ["rosenbrock", "rastrigin", "styblinski-tang", "branin", "levy"])
@pytest.mark.parametrize(("shift", "rotate"), [(0.25, None), (None, 3), (-0.5, 0)])
def test_moved_test_functions(name, shift, rotate):
    plain = load(ProblemConfig(name, dim=None if name == "branin" else 5))
    moved = load(ProblemConfig(name, dim=plain.dimension, shift=shift, rotate=rotate))
    np.testing.assert_array_equal(moved.lower, plain.lower)
    np.testing.assert_allclose(moved.minimizer, plain.minimizer + (shift or 0.0))
    assert value(moved, moved.minimizer) == pytest.approx(moved.minimum, abs=1e-9)
    x = np.random.default_rng(1).uniform(plain.lower, plain.upper)
    turn = np.eye(plain.dimension) if rotate is None else rotation_matrix(plain.dimension, rotate)
    there = turn @ (x - plain.minimizer - (shift or 0.0)) + plain.minimizer
    assert value(moved, x) == pytest.approx(value(plain, there), rel=1e-9)


def test_minimum_is_not_claimed_outside_the_bounds():
    assert load(ProblemConfig("sphere", shift=100.0)).minimum is None
    assert load(ProblemConfig("sphere", bounds="1,2")).minimum is None
    assert load(ProblemConfig("sphere", bounds="-1,2")).minimum == 0.0


def test_rotation_matrix():
    q = rotation_matrix(7, 5)
    np.testing.assert_allclose(q @ q.T, np.eye(7), atol=1e-14)
    np.testing.assert_array_equal(q, rotation_matrix(7, 5))
    assert not np.allclose(q, rotation_matrix(7, 6))
    # Drawn evenly, no entry prefers a sign; QR alone would.
    mean = np.mean([rotation_matrix(3, seed) for seed in range(300)], axis=0)
    assert np.abs(mean).max() < 0.15


def test_python_function_in_a_file(objective_file):
    problem = load(ProblemConfig(f"{objective_file}:square", bounds="-1,1", dim=3))
    assert isinstance(problem.objective, PythonObjective)
    assert problem.name == f"{objective_file.name}:square"
    assert value(problem, [1, 2, 3]) == 14.0
    function = pickle.loads(pickle.dumps(problem.objective.function))
    assert function(np.ones(2)) == 2.0


def test_jitted_function_in_a_file(objective_file):
    text = f"{objective_file}:jitted"
    problem = load(ProblemConfig(text, bounds="-2,2;-2,3"))
    assert isinstance(problem.objective, CompiledObjective)
    assert problem.upper.tolist() == [2.0, 3.0]
    assert value(problem, [1, 1]) == 0.0
    moved = load(ProblemConfig(text, bounds="-2,2", dim=2, shift=0.5, rotate=1))
    at = rotation_matrix(2, 1).T @ np.ones(2) + 0.5
    assert value(moved, at) == pytest.approx(0.0, abs=1e-28)


def test_batched_function_in_a_file(objective_file):
    config = ProblemConfig(f"{objective_file}:batch", bounds="-1,1", dim=2, batched=True)
    x = np.array([[1.0, 2.0], [3.0, 4.0]])
    assert load(config).objective.evaluate(x).tolist() == [5.0, 25.0]


def test_method_of_a_class_in_a_file(objective_file):
    config = ProblemConfig(f"{objective_file}:Kind.method", bounds="-1,1", dim=2)
    assert value(load(config), [0, 0]) == 1.0


def test_problem_in_a_file(objective_file):
    problem = load(ProblemConfig(f"{objective_file}:problem"))
    assert problem.name == "mine"
    for change in ({"dim": 3}, {"bounds": "-1,1"}, {"shift": 1.0}):
        with pytest.raises(InputError):
            load(ProblemConfig(f"{objective_file}:problem", **change))


def test_module(tmp_path, monkeypatch):
    package = tmp_path / "zoo_test_package"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "inner.py").write_text("def f(x):\n    return x[0]\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p not in ("", str(tmp_path))])
    problem = load(ProblemConfig("zoo_test_package.inner:f", bounds="-1,1", dim=1))
    assert problem.name == "zoo_test_package.inner:f"
    assert value(problem, [0.5]) == 0.5


def test_file_called_like_a_library(tmp_path, monkeypatch):
    (tmp_path / "json.py").write_text("def f(x):\n    return 1.0\n")
    (tmp_path / "sched.py").write_text("1/0\n")
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "sched", raising=False)
    problem = load(ProblemConfig(f"{tmp_path}/json.py:f", bounds="-1,1", dim=1))
    assert value(problem, [0]) == 1.0
    import json
    import sched

    assert hasattr(json, "dumps")
    assert hasattr(sched, "scheduler")


def test_command():
    problem = load(ProblemConfig(command="printf %s {1}", bounds="0,1;2,3"))
    assert problem.name == "printf %s {1}"
    assert value(problem, [0.0, 2.5]) == 2.5


BAD = {
    "neither": ({}, "an objective is needed"),
    "both": ({"objective": "sphere", "command": "true"}, "both given"),
    "unknown": ({"objective": "rastrign"}, "did you mean 'rastrigin'"),
    "fixed dimension": ({"objective": "beale", "dim": 3}, "has dimension 2, not 3"),
    "least dimension": ({"objective": "rosenbrock", "dim": 1}, "needs dimension 2 or more"),
    "bounds text": ({"objective": "sphere", "bounds": "1;2"}, "bounds must be LOW,HIGH"),
    "bounds upside down": ({"objective": "sphere", "bounds": "2,1"}, "below the upper"),
    "bounds infinite": ({"objective": "sphere", "bounds": "0,inf"}, "finite"),
    "bounds dimension": ({"objective": "sphere", "dim": 3, "bounds": "0,1;0,1"}, "2 pairs"),
    "infinite shift": ({"objective": "sphere", "shift": float("inf")}, "shift must be finite"),
    "batched test function": ({"objective": "sphere", "batched": True}, "batched is for"),
    "timeout without command": ({"objective": "sphere", "timeout": 1.0}, "timeout is for"),
    "missing file": ({"objective": "no/such.py:f", "bounds": "0,1", "dim": 1}, "does not exist"),
    "a folder": ({"objective": "/tmp/:f", "bounds": "0,1", "dim": 1}, "is a folder"),
    "no function named": ({"objective": "such.py"}, "names no function"),
    "missing module": (
        {"objective": "no_such_module.at_all:f", "bounds": "0,1", "dim": 1},
        "cannot import no_such_module.at_all: No module named 'no_such_module'",
    ),
    "empty module": ({"objective": ":f"}, "names no function"),
    "odd module": ({"objective": ".x:f"}, "cannot import .x"),
    "missing in module": ({"objective": "math:sine"}, "math has no function 'sine'"),
    "command without bounds": ({"command": "true"}, "bounds are needed"),
    "command without dim": ({"command": "true", "bounds": "0,1"}, "dim is needed"),
    "command coordinate": ({"command": "echo {5}", "bounds": "0,1", "dim": 2}, "coordinate {5}"),
    "command shift": ({"command": "true", "bounds": "0,1", "dim": 2, "shift": 1.0}, "shift does"),
    "no program": ({"command": "zoo-no-such", "bounds": "0,1", "dim": 2}, "no program"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input(case):
    values, why = BAD[case]
    with pytest.raises(InputError) as caught:
        load(build(ProblemConfig, values))
    assert why in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("def f(x) return 1", ":1: expected ':'"),
        ("import no_such_thing", "No module named 'no_such_thing'"),
        ("from math import nothing", "cannot import name 'nothing'"),
        ("raise SystemExit(4)", "exits when it is imported (SystemExit: 4)"),
        ("a = 1\n1 / 0", ":2: ZeroDivisionError: division by zero"),
        ("\x00", "null bytes"),
        ("def funktion(x): ...", "did you mean 'funktion'?"),
        ("def a(x): ...\nb = a", "it has a, b"),
        ("function = 3", "is no function, but of type int"),
        ("class function: ...", "is no function, but a class"),
    ],
)
def test_bad_files(tmp_path, content, why):
    path = tmp_path / f"bad_{abs(hash(content))}.py"
    path.write_text(content)
    with pytest.raises(InputError) as caught:
        load(ProblemConfig(f"{path}:function", bounds="0,1", dim=1))
    assert why in str(caught.value)
    assert path.name in str(caught.value)
    assert "Traceback" not in str(caught.value)


def test_user_function_without_bounds(objective_file):
    for change in ({}, {"dim": 2}, {"bounds": "-1,1"}):
        with pytest.raises(InputError, match="needed"):
            load(ProblemConfig(f"{objective_file}:square", **change))


def test_moves_are_for_compiled_functions(objective_file):
    for change in ({"shift": 1.0}, {"rotate": 1}):
        with pytest.raises(InputError, match="shift and rotate are for"):
            load(ProblemConfig(f"{objective_file}:square", bounds="0,1", dim=2, **change))


def test_jitted_function_that_does_not_compile(objective_file):
    with pytest.raises(InputError, match="does not compile"):
        load(ProblemConfig(f"{objective_file}:broken", bounds="0,1", dim=2))


def test_located(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    here = os.getcwd()
    assert located(ProblemConfig("a.py:f")).objective == f"{here}/a.py:f"
    assert located(ProblemConfig("pkg.mod:f")).objective == "pkg.mod:f"
    assert located(ProblemConfig("sphere")).objective == "sphere"
    command = located(ProblemConfig(command="./sim 'a b' {x}")).command
    assert command == f"{here}/sim 'a b' '{{x}}'"
    for untouched in ("sim {x}", "/bin/sim {x}", "'open"):
        assert located(ProblemConfig(command=untouched)).command == untouched
    once = located(ProblemConfig("a.py:f", bounds="0,1"))
    assert located(once) == once


def test_config_survives_json():
    config = ProblemConfig("sphere", dim=3, shift=0.5)
    assert build(ProblemConfig, asdict(config)) == config
    assert len(fields(ProblemConfig)) == 10


def test_config_is_light():
    code = (
        "import sys, zoo.objectives.load;"
        "print([m for m in ('numpy', 'numba', 'scipy', 'ray') if m in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert ran.stdout.strip() == "[]"


FINITE = st.floats(-1e9, 1e9)
PAIRS = st.lists(st.tuples(FINITE, FINITE).filter(lambda p: p[0] < p[1]), min_size=1, max_size=6)


@given(PAIRS, st.sampled_from([";", " ; "]), st.booleans())
@settings(max_examples=50, deadline=None)
def test_bounds_text(pairs, separator, trailing):
    text = separator.join(f"{low!r},{high!r}" for low, high in pairs) + (";" if trailing else "")
    lower, upper = parse_bounds(text, len(pairs))
    assert lower.tolist() == [p[0] for p in pairs]
    assert upper.tolist() == [p[1] for p in pairs]
    if len(pairs) > 1:
        assert parse_bounds(text, None)[0].tolist() == lower.tolist()
        with pytest.raises(InputError, match="pairs of bounds"):
            parse_bounds(text, len(pairs) + 1)
    else:
        assert len(parse_bounds(text, 9)[0]) == 9


@given(st.text("0123456789.,;-+einfa ", max_size=20), st.none() | st.integers(1, 5))
@settings(max_examples=200, deadline=None)
def test_any_bounds_text_is_accepted_or_explained(text, dimension):
    try:
        lower, upper = parse_bounds(text, dimension)
    except InputError:
        return
    assert np.all(lower < upper)
    assert np.all(np.isfinite(lower) & np.isfinite(upper))
    assert dimension in (None, len(lower))
