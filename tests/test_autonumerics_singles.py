"""Programs in single precision, against NumPy, number after number."""

from dataclasses import replace

import mpmath
import numpy as np
import pytest

from evolve.autonumerics.front import published_singles
from evolve.autonumerics.grid import grid_of
from evolve.autonumerics.interpreter import evaluate
from evolve.autonumerics.numerics import numerics
from evolve.autonumerics.polish import polished
from evolve.autonumerics.programs import ADD, DIV, MUL, SUB, parse
from evolve.autonumerics.singles import Precision
from evolve.autonumerics.targets import TARGETS, Target
from zoo.errors import InputError

EXP2 = TARGETS["exp2"]
NARROW = Target("exp2", TARGETS["exp2"].function, (0.9, 0.91))
CUBIC = parse("mul c1 x; add t1 c2; mul t2 x; add t3 c3; mul t4 x; add t5 c4", [0.1, 0.2, 0.7, 1])


def ulps(found, truth):
    """Errors in units in the last place, where truth is of double precision."""
    exponents = np.maximum(np.floor(np.log2(np.abs(truth))) - 23, -149)
    return np.abs(found.astype(np.float64) - truth) / 2.0**exponents


def every(low, high):
    """All float32 of an interval."""
    found = [np.float32(low)]
    if float(found[0]) < low:
        found = [np.nextafter(found[0], np.float32(np.inf))]
    while float(found[-1]) <= high:
        found.append(np.nextafter(found[-1], np.float32(np.inf)))
    return np.array(found[:-1], np.float32)


@pytest.mark.parametrize(
    ("name", "domain"),
    [("exp2", (0.9, 0.902)), ("sin", (-1e-40, 1e-40)), ("exp2", (-1.001, -0.999)),
     ("log2", (1.4999, 1.5)), ("airy", (0.0, 3e-43))],
)  # fmt: skip
def test_every_number_is_tried(name, domain):
    target = Target(name, TARGETS[name].function, domain)
    precision = Precision(target)
    x = every(*domain)
    assert precision.count == len(x) + (domain[0] < 0 < domain[1])  # 0 has two signs
    step = max(1, len(x) // 3000)
    with mpmath.workdps(30):
        truth = np.array([float(target.function(mpmath.mpf(float(v)))) for v in x[::step]])
    for program in (CUBIC, parse("div c1 x; add x t1; div c2 t2; add t3 c3", [2.0, 3.0, 1.0])):
        found = evaluate(program, x, np.float32)[::step]
        with np.errstate(invalid="ignore", divide="ignore"):
            expected = ulps(found, truth).max()
        worst = precision.worst(program)
        if step == 1:
            assert worst == pytest.approx(expected, rel=1e-6)
        else:
            assert worst >= expected * (1 - 1e-6)


@pytest.mark.parametrize(
    ("domain", "binades"),
    [pytest.param((0.0, 1e-4), 1, marks=pytest.mark.slow), ((-1e-4, 0.0), 2)],
)
def test_truths_that_round_to_a_power_of_two(domain, binades):
    """2^x is just above 1, or just below: there, too, where double precision says 1."""
    precision = Precision(replace(TARGETS["exp2"], domain=domain))
    given = parse("mul c1 x; add t1 c2", [np.log(2.0), 1 + 32 * 2.0**-23])
    assert precision.worst(given) == pytest.approx(32.0 * binades, rel=0.15)


def test_binades_of_a_grid_are_those_beside_its_points():
    """At 1 the function 2^x is 2, and just before it is less: its units are smaller there."""
    grid = grid_of(replace(TARGETS["exp2"], error="ulp"))
    np.testing.assert_array_equal(grid.weights, 1.0)
    wide = grid_of(replace(TARGETS["exp2"], domain=(-1.0, 1.0), error="ulp"), 101)
    np.testing.assert_array_equal(wide.weights, np.where(wide.x <= 0.0, 2.0, 1.0))


def test_cma_improves_constants():
    precision = Precision(TARGETS["exp2"])
    lines = [f"mul {'c1' if k == 1 else f't{2 * k - 2}'} x; add t{2 * k - 1} c{k + 1}"
             for k in range(1, 6)]  # fmt: skip
    taylor = np.log(2.0) ** np.arange(5, -1, -1) / [120, 24, 6, 2, 1, 1]
    given = polished(parse("; ".join(lines), taylor), grid_of(replace(EXP2, error="ulp")))
    before = precision.error(given)
    found, made = precision.evolved(given, 2000, np.random.default_rng(0))
    assert found == precision.error(made) < 0.99 * before
    np.testing.assert_array_equal(made.constants, made.constants.astype(np.float32))
    again, other = precision.evolved(given, 2000, np.random.default_rng(0))
    assert (again, other.constants.tolist()) == (found, made.constants.tolist())


def test_the_number_of_float32_in_an_interval():
    assert Precision(TARGETS["exp2"]).count == 127 * 2**23 + 1
    assert Precision(Target("exp2", TARGETS["exp2"].function, (1.0, 2.0))).count == 2**23 + 1


@pytest.mark.parametrize(
    ("name", "domain"),
    [
        ("exp", (-87.0, 88.0)),
        ("gamma", (1.0, 30.0)),
        ("sin", (0.0, 100.0)),
        ("airy", (-1.0, 2.0)),
        ("log2", (0.99, 1.01)),  # with a zero at a number
        ("sin", (-1.0, 0.0)),
        ("cos", (-0.5, -0.1)),
    ],
)
def test_the_truth_of_every_number_is_true(name, domain):
    precision = Precision(replace(TARGETS[name], domain=domain))
    pieces = precision._pieces
    random = np.random.default_rng(0)
    ends = [(p.first, p.last) for p in pieces]
    assert all(a < b for a, b in ends)
    worst = 0.0
    for k in random.integers(len(pieces), size=150):
        piece = pieces[k]
        bits = random.integers(piece.first, piece.last, size=3)
        x = np.array(bits, np.int64).astype(np.uint32).view(np.float32).astype(np.float64)
        assert ((domain[0] <= x) & (x <= domain[1])).all()
        with mpmath.workdps(50):
            truth = np.array([float(TARGETS[name].function(mpmath.mpf(v))) for v in x])
        made = np.polynomial.polynomial.polyval((x - piece.middle) * piece.scale,
                                                piece.factors[::-1])  # fmt: skip
        units = np.maximum(np.spacing(np.abs(truth).astype(np.float32)), 2.0**-149)
        worst = max(worst, float((np.abs(made - truth) / units).max()))
    assert worst < 2e-3


def test_what_is_worse_than_a_limit_is_given_up():
    precision = Precision(NARROW)
    whole = precision.worst(CUBIC)
    assert precision.worst(CUBIC, whole) == whole
    assert 1.0 < precision.worst(CUBIC, 1.0) <= whole


def test_a_zero_of_the_target():
    """log2(1) = 0: only a program that is 0 there has errors of some ULP."""
    precision = Precision(replace(TARGETS["log2"], domain=(1.0, 1.00001)))
    good = parse("sub x c1; mul t1 c2", [1.0, 1.442695])
    assert precision.worst(good) == pytest.approx(precision.error(good), rel=0.1)
    assert precision.worst(good) < 200
    assert precision.worst(parse("sub x c1; mul t1 c2", [0.999999, 1.442695])) > 1e30


@pytest.mark.parametrize(
    ("name", "domain", "words"),
    [
        ("exp", (90.0, 100.0), "exp is not finite in float32"),
        ("exp2", (0.1, 0.1000000001), "no float32 in the domain"),
    ],
)
def test_what_single_precision_cannot_have(name, domain, words):
    with pytest.raises(InputError, match=words):
        Precision(replace(TARGETS[name], domain=domain)).check()


def test_a_single_bad_number_is_found():
    # (x - c)/(x - c) has no value at c, and is 1 elsewhere.
    c = float(np.float32(0.90567))
    target = Target("one", lambda x: x * 0 + 1, NARROW.domain)
    program = parse("sub x c1; div t1 t1", [c])
    precision = Precision(target)
    assert precision.worst(program) == np.inf
    assert precision.worst(parse("sub x c1; div t1 t1", [0.5])) < 1e-6


def test_constants_are_tuned():
    grid, precision = grid_of(NARROW), Precision(NARROW)
    start = polished(CUBIC, grid)
    before = precision.error(start)
    after, found = precision.tuned(start, 2000, np.random.default_rng(1))
    assert after < before
    assert precision.error(found) == after
    np.testing.assert_array_equal(found.constants, found.constants.astype(np.float32))
    again = precision.tuned(start, 2000, np.random.default_rng(1))
    assert again[0] == after
    assert after <= precision.worst(found) < 3.0


def test_front():
    rows = published_singles([CUBIC, parse("add x c1", [0.96])], NARROW)
    assert [row["ops"] for row in rows] == [1, 6]
    assert rows[1]["error"] < 2.0
    for row in rows:
        program = parse(row["program"], row["constants"])
        assert row["error"] == row["certified_error"] == Precision(NARROW).worst(program)
        assert row["numbers"] == Precision(NARROW).count
        assert row["digits"] == pytest.approx(-np.log10(row["error"] * 2.0**-23))


def test_search_scores_by_ulps():
    domain = numerics(NARROW, (ADD, SUB, MUL, DIV), 8, single=True)
    random = np.random.default_rng(0)
    score, found = domain.assess(CUBIC, -np.inf, random)
    assert score == pytest.approx(-np.log10(domain.precision.error(found)))
    assert score > -0.3
