"""The library's entry points, and what they say of unusable input."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numba import njit
from scipy.optimize import Bounds, OptimizeResult

import zoo

BOUNDS = [(-2.0, 2.0)] * 3
QUICK = {"steps": 40, "particles": 20}


def sphere(x):
    return float(x @ x)


def test_result_is_scipys():
    result = zoo.minimize(sphere, BOUNDS, **QUICK)
    assert isinstance(result, OptimizeResult)
    assert "fun" in repr(result)
    for name in ("x", "fun", "nfev", "nit", "success", "status", "message", "seed", "seconds"):
        assert name in result
    assert result.fun == sphere(result.x)


def test_forms_of_bounds():
    a = zoo.minimize(sphere, BOUNDS, **QUICK)
    b = zoo.minimize(sphere, Bounds([-2, -2, -2], [2, 2, 2]), **QUICK)
    c = zoo.minimize(sphere, np.array(BOUNDS), **QUICK)
    assert a.fun == b.fun == c.fun


def test_batched_gives_the_same_bits():
    one = zoo.minimize(lambda x: float(np.sum(x * x)), BOUNDS, **QUICK)
    many = zoo.minimize(
        lambda x: np.array([np.sum(p * p) for p in x]), BOUNDS, batched=True, **QUICK
    )
    assert one.fun == many.fun


def test_values_of_size_one_and_arguments_are_taken():
    result = zoo.minimize(lambda x, k: np.array([k * (x @ x)]), BOUNDS, args=(2.0,), **QUICK)
    assert result.fun == 2.0 * sphere(result.x)


def test_the_objective_may_write_on_its_argument():
    def greedy(x):
        value = sphere(x)
        x[:] = np.nan
        return value

    assert zoo.minimize(greedy, BOUNDS, **QUICK).fun == zoo.minimize(sphere, BOUNDS, **QUICK).fun


def test_compiled_objectives_of_other_return_types():
    @njit
    def whole(x):
        return int(np.sum(np.abs(x)) * 100)

    assert zoo.minimize(whole, BOUNDS, **QUICK).fun >= 0


def test_start_point():
    result = zoo.minimize(sphere, BOUNDS, x0=[1.0, 1.0, 1.0], init_std=1e-3, steps=0, particles=50)
    assert np.abs(result.particles - 1.0).max() < 0.01


def test_callback_stops():
    seen = []

    def stop(progress):
        seen.append(progress)
        return True

    result = zoo.minimize(sphere, BOUNDS, callback=stop, steps=10**9, sigma=13.0, particles=20)
    assert result.status == "stopped"
    assert seen[0].evaluations > 0


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"bounds": [(2, -2)]}, "lower bound must be below"),
        ({"bounds": [(0, np.inf)]}, "finite"),
        ({"bounds": None}, "bounds are needed"),
        ({"bounds": "wide"}, "pairs of numbers"),
        ({"bounds": [(1, 2, 3)]}, "pairs"),
        ({"method": "cob"}, "did you mean 'cbo'"),
        ({"particels": 30}, "did you mean 'particles'"),
        ({"particles": -3}, "particles must be >= 1"),
        ({"particles": 2.5}, "whole number"),
        ({"particles": "many"}, "whole number"),
        ({"steps": 10**30}, "at most"),
        ({"sigma": float("nan")}, "a number"),
        ({"noise": "isotropc"}, "did you mean 'isotropic'"),
        ({"memory": 1}, "true or false"),
        ({"batch": 30}, "batch must be at most particles"),
        ({"evaluations": 5}, "evaluations must be at least particles + 1 = 21"),
        ({"seed": -1}, "seed"),
        ({"seed": 1.5}, "seed"),
        ({"threads": 0}, "threads"),
        ({"x0": [1.0]}, "x0 must be 3"),
        ({"x0": [1.0, np.nan, 0.0]}, "finite"),
        ({"on_error": "ignore"}, "raise | penalize"),
        ({"fun": 3}, "callable"),
        ({"dynamics": "sampling", "alpha_schedule": "ess"}, "constant alpha"),
        ({"init_lower": 1.0}, "together"),
    ],
)
def test_unusable_input_is_one_line(change, words):
    arguments = {"fun": sphere, "bounds": BOUNDS, **QUICK} | change
    with pytest.raises(zoo.InputError) as error:
        zoo.minimize(**arguments)
    assert words in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("objective", "words"),
    [
        (lambda x: 1 / 0, "raised ZeroDivisionError"),
        (lambda x: "0.5", "returned str"),
        (lambda x: None, "returned NoneType"),
        (lambda x: x, "returned ndarray of shape (3,)"),
        (lambda x: 1j, "returned complex"),
        (lambda x: float("nan"), "never finite: 200 evaluations"),
    ],
)
def test_failing_objectives_say_what_and_where(objective, words):
    with pytest.raises(zoo.ObjectiveError) as error:
        zoo.minimize(objective, BOUNDS, **QUICK)
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_exceptions_may_be_penalized():
    def picky(x):
        if x[0] < 0:
            raise ValueError("negative")
        return sphere(x)

    with pytest.raises(zoo.ObjectiveError, match="negative") as error:
        zoo.minimize(picky, BOUNDS, **QUICK)
    assert error.value.point[0] < 0
    result = zoo.minimize(picky, BOUNDS, on_error="penalize", **QUICK)
    assert result.failures["ValueError"] == result.nonfinite > 0
    assert result.x[0] >= 0


def test_compiled_objectives_that_raise():
    @njit
    def picky(x):
        if x[1] > 1.0:
            raise ValueError("too high")
        return x[0] ** 2 + x[1] ** 2

    with pytest.raises(zoo.ObjectiveError, match="too high") as error:
        zoo.minimize(picky, BOUNDS, **QUICK)
    assert error.value.point[1] > 1.0
    result = zoo.minimize(picky, BOUNDS, on_error="penalize", **QUICK)
    assert result.failures["ValueError"] == result.nonfinite > 0


def test_compiled_objectives_that_do_not_compile():
    @njit
    def wrong(x):
        return x.nothing

    with pytest.raises(zoo.InputError, match="nothing"):
        zoo.minimize(wrong, BOUNDS, **QUICK)


def test_ask_and_tell_are_checked():
    optimizer = zoo.Optimizer(BOUNDS, **QUICK)
    x = optimizer.ask()
    np.testing.assert_array_equal(x, optimizer.ask())
    with pytest.raises(zoo.InputError, match="20 points"):
        optimizer.tell(x[:3], np.zeros(3))
    with pytest.raises(zoo.InputError, match="2 values for 20 points"):
        optimizer.tell(x, [1.0, 2.0])
    with pytest.raises(zoo.InputError, match="last ask"):
        optimizer.tell(x + 1.0, np.zeros(20))
    while not optimizer.finished:
        x = optimizer.ask()
        optimizer.tell(x, (x**2).sum(axis=1))
    with pytest.raises(zoo.InputError, match="has ended"):
        optimizer.ask()
    assert optimizer.result().nfev == 20 + 40 * 20 + 1


def test_a_second_process_compiles_nothing():
    code = (
        "import zoo; from zoo.objectives.registry import get; from zoo.cbo import kernels\n"
        "f = get('rastrigin').function()\n"
        "zoo.minimize(f, [(-5, 5)] * 4, steps=3)\n"
        "for d in (f, kernels.supersteps):\n"
        "    print(sum(d.stats.cache_hits.values()), sum(d.stats.cache_misses.values()))\n"
    )
    for _ in range(2):
        printed = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=True,
            cwd=Path(__file__).parent.parent,
        ).stdout
    assert printed.split() == ["1", "0", "1", "0"]
