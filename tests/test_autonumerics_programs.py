"""Programs and their interpreter, against arithmetic in 60 digits, and against NumPy."""

import mpmath
import numpy as np
import pytest
from published_programs import published

from evolve.autonumerics.interpreter import evaluate, evaluate_dd
from evolve.autonumerics.programs import (
    ADD,
    ARITY,
    DIV,
    FMA,
    MUL,
    SQRT,
    SUB,
    Program,
    canonical,
    expression,
    parse,
    program,
)


def random_program(rng, operations=tuple(range(6)), most=14):
    """A program in canonical form that depends on x."""
    while True:
        count = int(rng.integers(1, 7))
        codes = []
        for k in range(rng.integers(1, most)):
            op = int(rng.choice(list(operations)))
            operands = [int(rng.integers(-count, k + 1)) for _ in range(ARITY[op])]
            codes.append([op, *operands, *[0] * (3 - ARITY[op])])
        constants = rng.standard_normal(count) * 10.0 ** rng.uniform(-1, 1, count)
        made = program(codes, constants, 1e-17 * constants)
        if made.cost:
            return made


def plainly(given, x, constants, sqrt):
    """Value of a program, operation after operation, in any arithmetic."""
    results = []

    def of(operand):
        if operand == 0:
            return x
        return results[operand - 1] if operand > 0 else constants[-operand - 1]

    for op, *operands in given.codes.tolist():
        a, b, c = (of(o) for o in operands)
        if op == ADD:
            results.append(a + b)
        elif op == SUB:
            results.append(a - b)
        elif op == MUL:
            results.append(a * b)
        elif op == DIV:
            results.append(a / b)
        elif op == FMA:
            results.append(a * b + c)
        else:
            results.append(sqrt(a))
    return results[-1]


@pytest.mark.parametrize("seed", range(5))
def test_double_double_is_good_to_30_digits(seed):
    rng = np.random.default_rng(seed)
    checked = 0
    for _ in range(60):
        given = random_program(rng)
        x = rng.uniform(0.1, 2, 7)
        low = 1e-17 * rng.standard_normal(7)
        high, rest = evaluate_dd(given, x, low)
        with mpmath.workdps(60):
            constants = [
                mpmath.mpf(a) + mpmath.mpf(b)
                for a, b in zip(given.constants.tolist(), given.low.tolist(), strict=True)
            ]
            for i in (0, 6):
                at = mpmath.mpf(float(x[i])) + mpmath.mpf(float(low[i]))
                try:
                    exact = plainly(given, at, constants, mpmath.sqrt)
                except ZeroDivisionError:
                    continue
                if isinstance(exact, mpmath.mpc) or not 1e-100 < abs(exact) < 1e100:
                    continue
                error = (mpmath.mpf(float(high[i])) + mpmath.mpf(float(rest[i]))) / exact - 1
                # Subtracting near numbers loses digits, here as in any arithmetic.
                assert abs(error) < 1e-27
                checked += abs(error) < 1e-30
    assert checked > 80


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("points", [1, 16, 100, 128, 300])
def test_interpreter_is_numpys_arithmetic(points, dtype):
    rng = np.random.default_rng(points)
    x = np.concatenate([[0.0], rng.uniform(-2, 2, points)])[:points].astype(dtype)
    for _ in range(60):
        given = random_program(rng, (ADD, SUB, MUL, DIV, SQRT))
        constants = given.constants.astype(dtype)
        with np.errstate(all="ignore"):
            expected = plainly(given, x, constants, np.sqrt)
        found = evaluate(given, x, dtype)
        assert found.dtype == dtype
        np.testing.assert_array_equal(found, expected)  # infinities and NaN too


def test_fma_rounds_once():
    given = parse("fma x c1 c2", [1.0 + 2.0**-30, -1.0])
    x = 1.0 - 2.0**-30
    assert evaluate(given, [x])[0] == -(2.0**-60)
    assert x * (1.0 + 2.0**-30) - 1.0 == 0.0


@pytest.mark.parametrize("precise", [False, True])
def test_infinities_are_kept(precise):
    given = parse("div c1 x; add x t1; div c1 t2", [2.0])  # 2/(x + 2/x)
    x = [0.0, -0.0, 1.0, np.inf]
    found = evaluate_dd(given, x)[0] if precise else evaluate(given, x)
    np.testing.assert_array_equal(found, [0.0, 0.0, 2 / 3, 0.0])
    low = evaluate_dd(given, x)[1]
    assert np.isfinite(low).all()
    for text, expected in (("div c1 x", np.inf), ("div x x", np.nan), ("sqrt x", 0.0)):
        high = evaluate_dd(parse(text, [2.0]), [0.0])[0]
        np.testing.assert_array_equal(high, [expected])
    root = parse("sub x c1; sqrt t1", [2.0])
    assert np.isnan(evaluate_dd(root, [1.0])[0][0])


@pytest.mark.parametrize(
    ("name", "ops", "error", "rounded"),
    [
        ("f2", 2, 4.1381e-2, 4.1381e-2),
        ("f3", 3, 1.2266e-3, 1.2266e-3),
        ("f5", 5, 6.3386e-6, 6.3386e-6),
        ("f10", 10, 3.520e-15, 4.9e-15),
    ],
)
def test_published_programs(name, ops, error, rounded):
    given = published(name)
    assert given.cost == ops
    x = np.linspace(0, 1, 20_001)
    high, low = evaluate_dd(given, x)
    with mpmath.workdps(40):
        truth = [2 ** mpmath.mpf(float(point)) for point in x[::100]]
        top = [float(t) for t in truth]
        rest = [float(t - a) for t, a in zip(truth, top, strict=True)]
    errors = ((high[::100] - top) + (low[::100] - rest)) / top
    assert np.abs(errors).max() == pytest.approx(error, rel=1e-3)
    assert np.abs(evaluate(given, x) / np.exp2(x) - 1).max() == pytest.approx(rounded, rel=0.02)


def test_canonical_form_keeps_the_function():
    rng = np.random.default_rng(2)
    x = np.linspace(0.3, 1.7, 9)
    for _ in range(300):
        count = int(rng.integers(1, 5))
        codes = []
        for k in range(rng.integers(1, 10)):
            op = int(rng.integers(0, 6))
            operands = [int(rng.integers(-count, k + 1)) for _ in range(ARITY[op])]
            codes.append([op, *operands, *[0] * (3 - ARITY[op])])
        raw = Program(np.array(codes, np.int8), rng.uniform(0.5, 2, count), np.zeros(count))
        made = canonical(raw)
        with np.errstate(all="ignore"):
            expected = np.broadcast_to(plainly(raw, x, raw.constants, np.sqrt), x.shape)
            found = evaluate(made, x)
        np.testing.assert_allclose(found, expected, rtol=1e-9)
        again = canonical(made)
        assert again.text() == made.text()
        np.testing.assert_array_equal(again.constants, made.constants)


def test_cost_counts_what_depends_on_x():
    for text, ops, constants in (
        ("add c1 c2; mul t1 x", 1, 1),  # constants are folded
        ("add x c1; mul x x; add t2 c1", 2, 1),  # t1 is not needed
        ("mul x x; mul x x; add t1 t2", 2, 0),  # done once
        ("add c1 x; mul x c2; mul t1 t2", 3, 2),
        ("sub x c1", 1, 1),
        ("sub x c1; add x c1; mul t1 t2", 3, 2),  # -c1 and c1 are two constants
        ("add c1 c2", 0, 1),
    ):
        given = parse(text, [3.0, 5.0])
        assert (given.cost, len(given.constants)) == (ops, constants)
    assert parse("add c1 c2; mul t1 x", [3.0, 5.0]).constants.tolist() == [8.0]
    assert parse("sub x c1", [3.0]).text() == "add x c1"
    assert parse("sub x c1", [3.0]).constants.tolist() == [-3.0]
    assert parse("mul c1 x", [1.0]).text() == parse("mul x c1", [1.0]).text()


def test_text_and_formulas():
    given = published("f3")
    assert given.text() == "add x c2; div c1 t1; add t2 c3"
    other = parse(given.text(), given.constants, given.low)
    assert other.text() == given.text()
    np.testing.assert_array_equal(other.constants, given.constants)
    assert expression(given) == "c1 / (x + c2) + c3"
    assert expression(parse("mul x x; sub c1 t1; div x t2", [1.0])) == "x / (c1 - x^2)"
    assert expression(parse("fma x x c1; sqrt t1", [1.0])) == "sqrt(x * x + c1)"
    assert expression(parse("add x c1; sub x t1", [1.0])) == "x - (x + c1)"
    assert expression(published("f10")) == ("t1 = c3 / x + x; (c1 / (c2 / t1 + t1 + c4) + c5)^8")
    assert expression(parse("mul x x; add t1 c1; mul t2 t2; div t3 t1", [1.0])) == (
        "t1 = x^2; (t1 + c1)^2 / t1"
    )
