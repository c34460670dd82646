"""Proofs of the largest error: of what is true, and of nothing else."""

from dataclasses import replace

import flint
import mpmath
import numpy as np
import pytest
from published_programs import published

from evolve.autonumerics.certificate import certified, proves, series_of
from evolve.autonumerics.front import published as published_rows
from evolve.autonumerics.grid import grid_of
from evolve.autonumerics.interpreter import evaluate_dd
from evolve.autonumerics.polish import polished
from evolve.autonumerics.programs import parse
from evolve.autonumerics.targets import TARGETS, Target

EXP2 = TARGETS["exp2"]


def exp2(x):
    return (x * flint.arb(2).log()).exp()


@pytest.mark.parametrize(
    ("name", "true", "false"),
    [
        ("f2", 0.041382, 0.04138),
        ("f3", 1.2267e-3, 1.2265e-3),
        ("f5", 6.3387e-6, 6.338e-6),
        ("f10", 3.5202e-15, 3.51e-15),
    ],
)
def test_published_programs(name, true, false):
    given = published(name)
    assert proves(given, exp2, (0.0, 1.0), "relative", true)
    assert not proves(given, exp2, (0.0, 1.0), "relative", false)


def test_of_f10():
    given = published("f10")
    assert (
        certified(given, exp2, (0.0, 1.0), "relative", grid_of(EXP2, 1001).error(given)) <= 3.53e-15
    )
    rounded = given.with_constants(given.constants)  # to double precision
    assert not proves(rounded, exp2, (0.0, 1.0), "relative", 3.53e-15)
    assert proves(rounded, exp2, (0.0, 1.0), "relative", 3.56e-15)
    worse = given.with_constants(given.constants * (1 + 1e-15))
    assert not proves(worse, exp2, (0.0, 1.0), "relative", 3.53e-15)


def test_a_peak_between_all_points_is_seen():
    # 1 + 1e-9/((x - c)^2 + 1e-12) has a peak of 1,000 at c, a millionth wide.
    given = parse("sub x c1; mul t1 t1; add t2 c2; div c3 t3; add t4 c4", [0.3777, 1e-12, 1e-9, 1])
    x = np.linspace(0, 1, 5001)
    far = np.abs(1e-9 / ((x - 0.3777) ** 2 + 1e-12))
    assert np.median(far) < 1e-7
    assert not proves(given, lambda x: x * 0 + 1, (0.0, 1.0), "absolute", 900.0)
    assert proves(given, lambda x: x * 0 + 1, (0.0, 1.0), "absolute", 1000.1)


def test_a_pole_is_seen():
    given = parse("sub x c1; div c2 t1", [0.5, 1.0])
    assert not proves(given, exp2, (0.0, 1.0), "relative", 1e300)
    assert proves(given, exp2, (0.6, 1.0), "relative", 10.0)


def test_poles_that_are_none():
    given = parse("div c1 x; add x t1; div x t2", [2.0])  # x/(x + 2/x) is 0 at 0
    assert proves(given, lambda x: x * x / (x * x + 2), (-1.0, 1.0), "absolute", 1e-25)


def test_certified_bounds_are_tight():
    for name in ("f3", "f5"):
        found = polished(published(name), grid_of(EXP2))
        worst = grid_of(EXP2, 4001).error(found)
        bound = certified(found, exp2, (0.0, 1.0), "relative", worst)
        assert worst <= bound <= worst * 1.003
    assert (
        certified(published("f3"), exp2, (0.0, 1.0), "relative", 1e-9) is None
    )  # it is not so good


def test_units_in_the_last_place():
    """Relative to the binade: twice the error, at one and the same distance, below each power."""
    target = replace(TARGETS["exp"], domain=(0.0, 2.0), error="ulp")
    given = polished(parse("mul c1 x; add t1 c2; mul t2 x; add t3 c3", [1, 1, 1]), grid_of(target))
    x = np.linspace(0, 2, 20001)
    values = evaluate_dd(given, x)[0]
    worst = (np.abs(values - np.exp(x)) / np.spacing(np.exp(x))).max() * 2.0**-52
    assert grid_of(target, 20001).error(given) == pytest.approx(worst, rel=1e-4)
    series = series_of(target)
    bound = certified(given, series, target.domain, "ulp", worst)
    assert worst <= bound <= worst * 1.003
    assert not proves(given, series, target.domain, "ulp", worst * 0.999)


def test_functions_of_ones_own_are_not_taken_for_known_ones():
    own = Target("exp2", lambda x: 2**x * (1 + 1e-6 * x), (0.0, 1.0))
    assert series_of(EXP2) is not None
    assert series_of(replace(EXP2, domain=(0.5, 1.0))) is not None
    assert series_of(own) is None
    assert published_rows([published("f5")], own)[0]["certified_error"] is None


def test_square_roots_of_zero():
    """Bessel's I_1/2 by sqrt(x) (c + c x^2), as its series begins."""
    target = TARGETS["bessel_i_half"]
    given = parse("mul x x; mul t1 c1; add t2 c2; sqrt x; mul t3 t4", [0.13, 0.8])
    found = polished(given, grid_of(target))
    worst = grid_of(target, 2001).error(found)
    bound = certified(found, series_of(target), (0.0, 1.0), "absolute", worst)
    assert worst <= bound <= worst * 1.02
    inside = parse("mul x c1; sqrt t1; mul t2 c2", [2.0, 0.5])
    assert certified(inside, series_of(target), (0.0, 1.0), "absolute", 0.3) is not None
    outside = parse("mul x c1; sqrt t1; mul t2 c2", [-2.0, 0.5])
    assert not proves(outside, series_of(target), (0.0, 1.0), "absolute", 1e9)
    shifted = parse("sub x c1; sqrt t1", [1e-3])  # has no value at 0
    assert not proves(shifted, series_of(target), (0.0, 1.0), "absolute", 1e9)


@pytest.mark.parametrize("domain", [(0.0, 1.0), (-1.0, 1.0), (-1.0, 0.0)])
def test_relative_errors_at_a_zero_of_the_target(domain):
    """The sine by c x + c' x^3: nothing divided by nothing at 0, where a box ends at last."""
    target = replace(TARGETS["sin"], domain=domain, error="relative")
    given = parse("mul x x; mul c1 t1; add t2 c2; mul t3 x", [-0.16, 0.9996])
    x = np.linspace(*domain, 20002)
    values = evaluate_dd(given, x)[0]
    inner = x != 0.0
    worst = np.abs(values[inner] / np.sin(x[inner]) - 1.0).max()
    bound = certified(given, series_of(target), domain, "relative", worst)
    assert worst <= bound <= worst * 1.02
    shifted = parse("add x c1", [1e-9])  # is not zero there
    assert not proves(shifted, series_of(target), domain, "relative", 1e9)


def test_precision_of_others_is_left_as_it_was():
    before = flint.ctx.prec, flint.ctx.cap
    proves(published("f2"), exp2, (0.0, 1.0), "relative", 0.05)
    assert (flint.ctx.prec, flint.ctx.cap) == before


@pytest.mark.parametrize("name", TARGETS)
def test_every_target_is_proven_to_be_itself(name):
    """A Taylor polynomial by mpmath, of the target about the middle of a small interval."""
    target, series = TARGETS[name], series_of(TARGETS[name])
    low, high = target.domain
    middle, radius = low + 0.4 * (high - low), 1e-3 * (high - low)
    with mpmath.workdps(40):
        a = mpmath.taylor(target.function, mpmath.mpf(middle), 3)
    text = "sub x c5; mul c4 t1; add t2 c3; mul t3 t1; add t4 c2; mul t5 t1; add t6 c1"
    constants = [*a, mpmath.mpf(middle)]
    high_parts = [float(c) for c in constants]
    low_parts = [float(c - float(c)) for c in constants]
    given = parse(text, high_parts, low_parts)
    scale = float(max(abs(c) for c in a))
    domain = (middle - radius, middle + radius)
    near = 100 * scale * (radius * 10) ** 4
    assert proves(given, series, domain, "absolute", near)
    moved = parse(text, [high_parts[0] + 4 * near, *high_parts[1:]], low_parts)
    assert not proves(moved, series, domain, "absolute", near)
    assert not proves(given, lambda x: series(x + 0.01), domain, "absolute", near / 1e3)


@pytest.mark.parametrize("name", ["bessel_j0", "bessel_i_half", "log2", "sigmoid", "airy"])
def test_certificates_over_whole_domains(name):
    target = TARGETS[name]
    start = parse("mul c1 x; add t1 c2; mul t2 x; add t3 c3", [0.1, 0.1, 0.5])
    found = polished(start, grid_of(target))
    worst = grid_of(target, 2001).error(found)
    bound = certified(found, series_of(TARGETS[name]), target.domain, target.error, worst)
    assert worst <= bound <= worst * 1.02
