"""Proofs of the largest error: of what is true, and of nothing else."""

import flint
import numpy as np
import pytest
from published_programs import published

from evolve.autonumerics.certificate import certified, proves
from evolve.autonumerics.polish import Grid, polished
from evolve.autonumerics.programs import parse
from evolve.autonumerics.targets import TARGETS

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
    assert proves(given, exp2, (0.0, 1.0), True, true)
    assert not proves(given, exp2, (0.0, 1.0), True, false)


def test_of_f10():
    given = published("f10")
    assert certified(given, exp2, (0.0, 1.0), True, Grid(EXP2, 1001).error(given)) <= 3.53e-15
    rounded = given.with_constants(given.constants)  # to double precision
    assert not proves(rounded, exp2, (0.0, 1.0), True, 3.53e-15)
    assert proves(rounded, exp2, (0.0, 1.0), True, 3.56e-15)
    worse = given.with_constants(given.constants * (1 + 1e-15))
    assert not proves(worse, exp2, (0.0, 1.0), True, 3.53e-15)


def test_a_peak_between_all_points_is_seen():
    # 1 + 1e-9/((x - c)^2 + 1e-12) has a peak of 1,000 at c, a millionth wide.
    given = parse("sub x c1; mul t1 t1; add t2 c2; div c3 t3; add t4 c4", [0.3777, 1e-12, 1e-9, 1])
    x = np.linspace(0, 1, 5001)
    far = np.abs(1e-9 / ((x - 0.3777) ** 2 + 1e-12))
    assert np.median(far) < 1e-7
    assert not proves(given, lambda x: x * 0 + 1, (0.0, 1.0), False, 900.0)
    assert proves(given, lambda x: x * 0 + 1, (0.0, 1.0), False, 1000.1)


def test_a_pole_is_seen():
    given = parse("sub x c1; div c2 t1", [0.5, 1.0])
    assert not proves(given, exp2, (0.0, 1.0), True, 1e300)
    assert proves(given, exp2, (0.6, 1.0), True, 10.0)


def test_poles_that_are_none():
    given = parse("div c1 x; add x t1; div x t2", [2.0])  # x/(x + 2/x) is 0 at 0
    assert proves(given, lambda x: x * x / (x * x + 2), (-1.0, 1.0), False, 1e-25)


def test_certified_bounds_are_tight():
    for name in ("f3", "f5"):
        found = polished(published(name), Grid(EXP2))
        worst = Grid(EXP2, 4001).error(found)
        bound = certified(found, exp2, (0.0, 1.0), True, worst)
        assert worst <= bound <= worst * 1.003
    assert certified(published("f3"), exp2, (0.0, 1.0), True, 1e-9) is None  # it is not so good


def test_precision_of_others_is_left_as_it_was():
    before = flint.ctx.prec, flint.ctx.cap
    proves(published("f2"), exp2, (0.0, 1.0), True, 0.05)
    assert (flint.ctx.prec, flint.ctx.cap) == before
