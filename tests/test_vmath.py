"""The accuracy that zoo.vmath promises, against the C library in extended precision."""

from __future__ import annotations

import math
import os
import subprocess
import sys

import numpy as np
import pytest
from numba import njit

from zoo import vmath

PI = np.longdouble("3.14159265358979323846264338327950288")


def over_arrays(function):
    @njit
    def apply(x):
        y = np.empty_like(x)
        for i in range(len(x)):
            y[i] = function(x[i])
        return y

    return apply


sin_pi = over_arrays(vmath.sin_pi)
cos_pi = over_arrays(vmath.cos_pi)
sin2_pi = over_arrays(vmath.sin2_pi)
log = over_arrays(vmath.log)
exp = over_arrays(vmath.exp)
expm1 = over_arrays(vmath.expm1)
log1p = over_arrays(vmath.log1p)


@pytest.fixture
def rng():
    return np.random.default_rng(20240607)


def largest_relative_error(values, expected):
    expected = np.asarray(expected, dtype=np.longdouble)
    return float(np.max(np.abs((values - expected) / expected)))


@pytest.mark.parametrize(("ours", "exact"), [(sin_pi, np.sin), (cos_pi, np.cos)])
def test_sin_pi_and_cos_pi(ours, exact, rng):
    r = np.concatenate([np.linspace(-0.5, 0.5, 100_001), rng.normal(scale=1e-3, size=1000)])
    error = np.abs(ours(r) - exact(r.astype(np.longdouble) * PI))
    assert np.max(error) < 5e-16


def test_sin2_pi_is_a_squared_sine(rng):
    x = rng.uniform(-100.0, 100.0, 100_000)
    expected = np.sin(PI * (x.astype(np.longdouble) - np.rint(x))) ** 2
    values = sin2_pi(x)
    assert np.max(np.abs(values - expected)) < 1e-15
    assert np.all(values >= 0.0)


def test_sin2_pi_loses_no_digits_near_integers(rng):
    small = rng.uniform(-1.0, 1.0, 1000) * 10.0 ** rng.uniform(-100.0, -2.0, 1000)
    expected = np.sin(PI * small.astype(np.longdouble)) ** 2
    assert largest_relative_error(sin2_pi(small), expected) < 1e-15


def test_sin2_pi_at_integers_halves_and_huge_numbers():
    whole = np.array([0.0, -0.0, 1.0, -1.0, 2.0, 3.0, 1e6 + 1, -(2.0**50), 2.0**51, 2.0**53, 1e300])
    assert np.all(sin2_pi(whole) == 0.0)
    assert sin2_pi(np.array([0.5, -0.5, 1.5, 2.5])) == pytest.approx(1.0, abs=1e-15)


def test_sin2_pi_of_nan_and_infinity():
    assert np.all(np.isnan(sin2_pi(np.array([math.nan, math.inf, -math.inf]))))


def test_log(rng):
    x = np.concatenate(
        [
            np.exp2(rng.uniform(-1021.9, 1023.9, 100_000)),
            rng.uniform(0.5, 2.0, 100_000),
            1.0 + rng.uniform(-1.0, 1.0, 10_000) * 10.0 ** rng.uniform(-15.0, -1.0, 10_000),
            [sys.float_info.min, sys.float_info.max, math.sqrt(0.5), math.sqrt(2.0)],
        ]
    )
    x = x[x != 1.0]
    assert largest_relative_error(log(x), np.log(x.astype(np.longdouble))) < 5e-16
    assert log(np.array([1.0]))[0] == 0.0


def test_exp(rng):
    x = np.concatenate([rng.uniform(-700.0, 709.0, 200_000), rng.normal(size=10_000)])
    assert largest_relative_error(exp(x), np.exp(x.astype(np.longdouble))) < 5e-16


def test_exp_at_its_ends():
    assert exp(np.array([0.0, -0.0])).tolist() == [1.0, 1.0]
    assert exp(np.array([-708.1, -1e3, -1e300, -math.inf])).tolist() == [0.0] * 4
    assert exp(np.array([709.0]))[0] == pytest.approx(math.exp(709.0), rel=5e-16)


def test_exp_of_nan():
    assert math.isnan(exp(np.array([math.nan]))[0])


def test_expm1(rng):
    tiny = rng.uniform(-1.0, 1.0, 50_000) * 10.0 ** rng.uniform(-300.0, 0.0, 50_000)
    halves = math.log(2.0) * (np.arange(-60, 60) + 0.5)  # where its reduction changes
    edges = np.concatenate([np.nextafter(halves, -math.inf), halves, np.nextafter(halves, 1e3)])
    for x in (rng.uniform(-3.0, 3.0, 200_000), rng.uniform(-700.0, 709.0, 100_000), tiny, edges):
        assert largest_relative_error(expm1(x), np.expm1(x.astype(np.longdouble))) < 5e-16


def test_expm1_at_its_ends():
    assert expm1(np.array([0.0, -0.0])).tolist() == [0.0, 0.0]
    assert expm1(np.array([-50.0, -708.1, -1e300, -math.inf])).tolist() == [-1.0] * 4
    assert expm1(np.array([709.0]))[0] == pytest.approx(math.expm1(709.0), rel=5e-16)
    assert expm1(np.array([5e-324, -1e-310])).tolist() == [5e-324, -1e-310]
    assert math.isnan(expm1(np.array([math.nan]))[0])


def test_log1p(rng):
    tiny = rng.uniform(-1.0, 1.0, 50_000) * 10.0 ** rng.uniform(-300.0, 0.0, 50_000)
    near_one = -1.0 + 10.0 ** rng.uniform(-15.0, 0.0, 50_000)
    large = 10.0 ** rng.uniform(-1.0, 300.0, 50_000)
    for x in (rng.uniform(-0.999, 3.0, 200_000), tiny, near_one, large, np.array([2.0**-53 - 1])):
        assert largest_relative_error(log1p(x), np.log1p(x.astype(np.longdouble))) < 1e-15


def test_log1p_at_its_ends():
    assert log1p(np.array([0.0, -0.0])).tolist() == [0.0, 0.0]
    assert log1p(np.array([5e-324, -1e-310])).tolist() == [5e-324, -1e-310]
    assert math.isnan(log1p(np.array([math.nan]))[0])


def test_log1p_undoes_expm1(rng):
    x = rng.uniform(-1.0, 1.0, 10_000) * 10.0 ** rng.uniform(-20.0, 0.0, 10_000)
    assert largest_relative_error(log1p(expm1(x)), x) < 2e-15


def test_the_first_caller_does_not_decide_the_arithmetic(tmp_path):
    # Numba compiles a callee with its caller's fastmath unless the callee sets its own: with
    # nothing cached, the rounding in these functions would be optimized away.
    code = (
        "from zoo.objectives.functions import ellipsoid, rastrigin; import numpy as np\n"
        "print(rastrigin(np.array([0.5])), ellipsoid(np.array([0.0, 1.0])))"
    )
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert [float(word) for word in done.stdout.split()] == pytest.approx([20.25, 1e6])
