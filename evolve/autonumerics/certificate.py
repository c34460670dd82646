"""Proofs: a bound of a program's largest error over all real numbers of an interval.

The interval is cut into boxes. On a box of middle m and radius rho the error is enclosed by its
Taylor polynomial about m, whose last coefficient is taken over the whole box,

    |e(x)| <= sum_{k<n} |e_k(m)| rho^k + |e_n([m - rho, m + rho])| rho^n,

in ball arithmetic (Arb, by python-flint), so that rounding is part of the bound. A box whose bound
is too large is cut in two. A program is a quotient N/D of series, cleared of divisions, so that
x + c/x has no pole in the way of 1/(x + c/x): it is proven of the function that the program is by
continuity. IEEE arithmetic makes the same of x + c/x at 0, and of most such points, but nothing
of inf - inf.

Next to a zero z of the target the relative error is N/B - 1, with B = D times the target, and both
are zero there: by Cauchy's mean value theorem it is N'/B' - 1 at some point between z and x.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from evolve.autonumerics.programs import ADD, ARITY, DIV, MUL, SQRT, SUB, Program, X
from evolve.autonumerics.targets import TARGETS, Target
from zoo.extras import needed

#: Bits of the arithmetic, order of the polynomials, and boxes, at most.
_BITS, _ORDER, _BOXES = 200, 10, 20_000

#: Takes a series and returns the target of it.
Series = Callable[[Any], Any]


@contextmanager
def _arb() -> Iterator[Any]:
    """python-flint, at work in our precision."""
    flint = needed("flint", "certificates need python-flint", "autonumerics")
    before = flint.ctx.prec, flint.ctx.cap
    flint.ctx.prec, flint.ctx.cap = _BITS, _ORDER + 1
    try:
        yield flint
    finally:
        flint.ctx.prec, flint.ctx.cap = before


def available() -> bool:
    """Whether python-flint is installed."""
    return importlib.util.find_spec("flint") is not None


def _exp2(x: Any) -> Any:
    import flint

    return (x * flint.arb(2).log()).exp()


def _log2(x: Any) -> Any:
    import flint

    return x.log() / flint.arb(2).log()


def _tanh(x: Any) -> Any:
    grown = (2 * x).exp()
    return (grown - 1) / (grown + 1)


def _j0(x: Any) -> Any:
    """Taylor coefficients of Bessel's J_0 about the middle of x, from its differential equation.

    With y = sum a_k z^k and x = m + z,  m (k+2) (k+1) a_{k+2} = -(k+1)^2 a_{k+1} - m a_k - a_{k-1};
    where m may be 0, from |J_0^(k)| <= 1.
    """
    import flint

    middle = x[0]
    a = [middle.bessel_j(0), -middle.bessel_j(1)]
    if middle.contains(0):
        unit = flint.arb(0, 1)
        a += [unit / math.factorial(k) for k in range(2, _ORDER + 1)]
    else:
        for k in range(_ORDER - 1):
            before = a[k - 1] if k else flint.arb(0)
            right = (k + 1) ** 2 * a[k + 1] + middle * a[k] + before
            a.append(-right / (middle * ((k + 2) * (k + 1))))
    return flint.arb_series(a, prec=_ORDER + 1)


def _i_half(x: Any) -> Any:
    """I_1/2(x) = sqrt(2/(pi x)) sinh x."""
    import flint

    grown = x.exp()
    if x[0].contains(0):  # no series: sqrt(x) has none
        wide = (2 / flint.arb.pi() * x[0]).nonnegative_part().sqrt() * _sinhc(x[0])
        return flint.arb_series([wide, *[flint.arb("nan")] * _ORDER], prec=_ORDER + 1)
    return (2 / (flint.arb.pi() * x)).sqrt() * (grown - 1 / grown) / 2


def _sinhc(x: Any) -> Any:
    """sinh(x)/x of a ball about 0: between 1 and cosh(x)."""
    import flint

    return flint.arb(1).union(x.cosh())


#: Targets as functions of a power series.
_SERIES: dict[str, Series] = {
    "exp2": _exp2,
    "exp": lambda x: x.exp(),
    "log2": _log2,
    "log": lambda x: x.log(),
    "sin": lambda x: x.sin(),
    "cos": lambda x: x.cos(),
    "tanh": _tanh,
    "erf": lambda x: x.erf(),
    "gamma": lambda x: x.gamma(),
    "airy": lambda x: (-7 * x).airy_ai(),
    "bessel_j0": _j0,
    "bessel_i_half": _i_half,
    "sigmoid": lambda x: 1 / (1 + (-x).exp()),
}


def series_of(target: Target) -> Series | None:
    """A target of a power series; None for functions that are known by values alone."""
    known = TARGETS.get(target.name)
    return _SERIES[target.name] if known and known.function is target.function else None


def _nonnegative(program: Program, low: float) -> Callable[[int], bool]:
    """Tells of an operand whether it is known not to be negative, where x >= low."""
    known: list[bool] = []

    def of(operand: int) -> bool:
        if operand == X:
            return low >= 0.0
        return known[operand - 1] if operand > 0 else bool(program.constants[-operand - 1] >= 0.0)

    for op, *operands in program.codes.tolist():
        parts = operands[: ARITY[op]]
        square = op == MUL and parts[0] == parts[1]
        known.append(op == SQRT or square or (op != SUB and all(of(o) for o in parts)))
    return of


def _root(value: Any, nonnegative: bool) -> Any:
    """Square root of a series; about a zero, where it has none, its value alone."""
    import flint

    if not (nonnegative and value[0].contains(0)):
        return value.sqrt()
    wide = value[0].nonnegative_part().sqrt()
    return flint.arb_series([wide, *[flint.arb("nan")] * _ORDER], prec=_ORDER + 1)


def _quotient(
    program: Program, x: Any, constants: list[Any], nonnegative: Callable[[int], bool]
) -> tuple[Any, Any]:
    """Numerator and denominator of a program at a series x."""
    one = x * 0 + 1
    results: list[tuple[Any, Any]] = []

    def of(operand: int) -> tuple[Any, Any]:
        if operand == 0:
            return x, one
        return results[operand - 1] if operand > 0 else (one * constants[-operand - 1], one)

    def times(a: tuple[Any, Any], b: tuple[Any, Any]) -> tuple[Any, Any]:
        return a[0] * b[0], a[1] * b[1]

    def plus(a: tuple[Any, Any], b: tuple[Any, Any], sign: int = 1) -> tuple[Any, Any]:
        if a[1] is b[1]:
            return a[0] + sign * b[0], a[1]
        return a[0] * b[1] + sign * b[0] * a[1], a[1] * b[1]

    for op, *operands in program.codes.tolist():
        parts = [of(o) for o in operands[: ARITY[op]]]
        if op == ADD:
            results.append(plus(parts[0], parts[1]))
        elif op == SUB:
            results.append(plus(parts[0], parts[1], -1))
        elif op == MUL:
            results.append(times(parts[0], parts[1]))
        elif op == DIV:
            results.append(times(parts[0], parts[1][::-1]))
        elif len(parts) == 3:
            results.append(plus(times(parts[0], parts[1]), parts[2]))
        else:
            results.append((_root(parts[0][0] / parts[0][1], nonnegative(operands[0])), one))
    return results[-1] if results else of(-1)


def proves(
    program: Program, series: Series, domain: tuple[float, float], kind: str, bound: float
) -> bool:
    """Whether the error is proven to be at most ``bound`` in all of the closed domain.

    Parameters
    ----------
    program : Program
    series : callable
        The target, of a power series of python-flint.
    domain : (float, float)
    kind : str
        Of the error; see :class:`evolve.autonumerics.targets.Target`.
    bound : float

    Raises
    ------
    InputError
        If python-flint is not installed.
    """
    with _arb() as flint:
        constants = [
            flint.arb(float(a)) + flint.arb(float(b))
            for a, b in zip(program.constants, program.low, strict=True)
        ]

        nonnegative = _nonnegative(program, domain[0])

        def error(x: Any) -> tuple[list[Any], float]:
            top, bottom = _quotient(program, x, constants, nonnegative)
            truth = series(x)
            relative = kind == "relative"
            found = top / (bottom * truth) - 1 if relative else top / bottom - truth
            held = found.coeffs()
            unit = _binade(truth[0]) if kind == "ulp" else 1.0
            return list(held) + [flint.arb(0)] * (_ORDER + 1 - len(held)), unit

        def beside_a_zero(low: float, high: float) -> float:
            """Bound of the relative error in a box that ends at a zero; infinite in others."""
            if kind != "relative":
                return math.inf
            ends = [flint.arb(low), flint.arb(high), flint.arb(low).union(flint.arb(high))]
            tops, below = [], []
            for place in ends:
                x = flint.arb_series([place, 1], prec=_ORDER + 1)
                top, bottom = _quotient(program, x, constants, nonnegative)
                tops.append(top)
                below.append(bottom * series(x))
            if not any(tops[k][0].is_zero() and below[k][0].is_zero() for k in (0, 1)):
                return math.inf
            return _upper(tops[2][1] / below[2][1] - 1)

        boxes, left = [domain], _BOXES
        while boxes:
            low, high = boxes.pop()
            left -= 1
            if _bound(flint, error, low, high) <= bound or beside_a_zero(low, high) <= bound:
                continue
            middle = 0.5 * (low + high)
            if left <= 0 or not low < middle < high:
                return False
            boxes += [(low, middle), (middle, high)]
        return True


def _binade(value: Any) -> float:
    """Largest power of two that no number of a ball is smaller than, in size, but for 2^-100."""
    import flint

    least = value.abs_lower() * (1 + flint.arb(2) ** -100)
    near = float(least)
    if near == 0.0:
        return 0.0
    power = math.ldexp(1.0, math.frexp(near)[1] - 1)
    return power if least >= power else 0.5 * power


def _bound(
    flint: Any, error: Callable[[Any], tuple[list[Any], float]], low: float, high: float
) -> float:
    """Bound of the error in a box; infinite where there is none."""
    middle = (flint.arb(low) + flint.arb(high)) / 2
    radius = (flint.arb(high) - flint.arb(low)) / 2
    box = flint.arb(low).union(flint.arb(high))
    best = math.inf
    try:
        wide, unit = error(flint.arb_series([box, 1], prec=_ORDER + 1))
        best = _upper(wide[0] / unit)
        near, _ = error(flint.arb_series([middle, 1], prec=_ORDER + 1))
        total = abs(wide[_ORDER]) * radius**_ORDER
        for k in range(_ORDER):
            total += abs(near[k]) * radius**k
        best = min(best, _upper(total / unit))
    except (ZeroDivisionError, ValueError):
        pass
    return best


def _upper(value: Any) -> float:
    """Float64 that is no less than the absolute value of a ball."""
    if not value.is_finite():
        return math.inf
    return math.nextafter(float(value.abs_upper()), math.inf)


def certified(
    program: Program, series: Series, domain: tuple[float, float], kind: str, found: float
) -> float | None:
    """Smallest bound, of four digits, that is proven; ``found`` is the largest error known of.

    None if nothing near it is.
    """
    for slack in (1e-3, 1e-2, 1e-1):
        bound = rounded_up(found * (1.0 + slack))
        if proves(program, series, domain, kind, bound):
            return bound
    return None


def rounded_up(value: float) -> float:
    """The next number of four digits."""
    unit = 10.0 ** (math.floor(math.log10(value)) - 3)
    return float(f"{math.ceil(value / unit) * unit:.3e}")
