"""The library's entry points, and what they say of unusable input."""

import subprocess
import sys
import time
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


def test_compiled_objectives_of_other_signatures():
    @njit
    def whole(x):
        return int(np.sum(np.abs(x)) * 100)

    @njit("float64(float64[:])")
    def eager(x):
        return np.sum(x * x)

    assert zoo.minimize(whole, BOUNDS, **QUICK).fun >= 0
    assert whole(np.ones(3)) == 300  # compiled for its own return type now
    assert zoo.minimize(whole, BOUNDS, **QUICK).fun >= 0
    assert zoo.minimize(eager, BOUNDS, **QUICK).fun < 0.1


def test_compiled_objectives_may_write_on_their_argument():
    @njit
    def greedy(x):
        x -= 1.0
        return np.sum(x * x)

    result = zoo.minimize(greedy, BOUNDS, steps=300)
    np.testing.assert_allclose(result.x, 1.0, atol=1e-2)


def test_batched_failures_name_the_point_and_spare_the_others():
    def picky(x):
        if np.any(x[:, 0] < 0):
            raise ValueError("negative")
        return (x**2).sum(axis=1)

    with pytest.raises(zoo.ObjectiveError) as error:
        zoo.minimize(picky, BOUNDS, batched=True, **QUICK)
    assert error.value.point[0] < 0
    result = zoo.minimize(picky, BOUNDS, batched=True, on_error="penalize", **QUICK)
    one = zoo.minimize(lambda x: picky(x[None])[0], BOUNDS, on_error="penalize", **QUICK)
    assert result.failures == one.failures
    assert result.fun == one.fun


def test_a_function_that_is_not_batched_is_refused_as_batched():
    with pytest.raises(zoo.ObjectiveError, match="for 20 points"):
        zoo.minimize(lambda x: np.array([np.sum(x)]), BOUNDS, batched=True, **QUICK)


def test_batched_objectives_get_all_points_of_a_step():
    sizes = []

    def slow(x):
        sizes.append(len(x))
        time.sleep(0.02)
        return (x**2).sum(axis=1)

    zoo.minimize(slow, BOUNDS, batched=True, steps=3, particles=20)
    assert sizes == [20, 20, 20, 20, 1]


def test_a_problem_of_ones_own():
    problem = zoo.Problem(sphere, [-1, -1], [1.0, 2.0])
    assert zoo.minimize(problem, **QUICK).fun < 0.1
    with pytest.raises(zoo.InputError, match="carries its bounds"):
        zoo.minimize(problem, BOUNDS)
    with pytest.raises(zoo.InputError, match="callable"):
        zoo.Problem(3, [0.0], [1.0])


def test_resume_refuses_another_problem(tmp_path):
    zoo.minimize(sphere, BOUNDS, out=tmp_path / "run", **QUICK)
    (tmp_path / "run" / "result.json").unlink()
    for other in ([(-3.0, 3.0)] * 3, [(-2.0, 2.0)] * 2):
        with pytest.raises(zoo.InputError, match="bounds"):
            zoo.resume(tmp_path / "run", sphere, other)
    assert zoo.resume(tmp_path / "run", sphere, BOUNDS).fun < 0.1


def test_warnings_and_success():
    with pytest.warns(RuntimeWarning, match=r"1\.56"):
        assert not zoo.minimize(sphere, BOUNDS, sigma=20.0, steps=3).success
    assert zoo.minimize(sphere, BOUNDS).success
    optimizer = zoo.Optimizer(BOUNDS)
    x = optimizer.ask()
    optimizer.tell(x, (x**2).sum(axis=1))
    assert optimizer.result().status == "running"
    assert not optimizer.result().success


def test_start_point():
    result = zoo.minimize(sphere, BOUNDS, x0=[1.0, 1.0, 1.0], init_std=1e-3, steps=0, particles=50)
    assert np.abs(result.particles - 1.0).max() < 0.01
    np.testing.assert_array_equal(result.particles[0, 0], 1.0)


def test_callback_stops():
    seen = []

    def stop(progress):
        seen.append(progress)
        return True

    result = zoo.minimize(sphere, BOUNDS, callback=stop, steps=10**9, sigma=13.0, particles=20)
    assert result.status == "stopped"
    assert seen[0].evaluations > 0


def test_callback_stops_by_exception():
    def stop(progress):
        raise StopIteration

    assert zoo.minimize(sphere, BOUNDS, callback=stop, sigma=13.0, steps=10**9).status == "stopped"


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
        ({"step": 30}, "did you mean 'steps'"),
        ({"sigma": np.inf}, "sigma must be finite"),
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
        ({"x0": [1.0, 5.0, 0.0]}, "within the bounds"),
        ({"dynamics": "polarized", "memory": True}, "no batches, memory or gate"),
        ({"dynamics": "hopping", "noise": "isotropic"}, "its own noise"),
        ({"noise": "covariance", "truncation": 1.0}, "truncation"),
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
