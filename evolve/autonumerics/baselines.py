"""What the textbooks offer for a target: minimax polynomials and rational functions, by cost.

A polynomial of degree n takes 2n operations in Horner's form, and p/q of degrees m and n 2m + 2n;
as a continued fraction (J-fraction)

    a + b_1/(x + c_1 + b_2/(x + c_2 + ...))

one of degrees n and n takes 3n, n - 1 and n one less, n + 1 and n two more. Where errors are
relative and the target is positive, k squarings of an approximation of its 2^k-th root take k more.
Of an even target they are also in x^2, which takes one more, and an odd one is x times such a one,
which takes two more. Errors in units in the last place count as relative ones, which they are not
smaller than.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from evolve.autonumerics.remez import Weight, absolute, best_rational, relative
from evolve.autonumerics.targets import Target

#: Squarings, at most.
_SQUARINGS = 5

FAMILIES = (
    "polynomial",
    "polynomial, squared",
    "polynomial in x^2",
    "rational",
    "rational, squared",
    "continued fraction",
    "continued fraction, squared",
    "continued fraction in x^2",
)

#: Below this share of the largest x^2, absolute errors of x g(x^2) count as there.
_NEAR = 1e-6


@dataclass(frozen=True)
class Baseline:
    """A classical approximation: what it is, its operations, and digits of its largest error."""

    family: str
    degrees: tuple[int, int]
    squarings: int
    ops: int
    digits: float


def _root(function: Any, squarings: int, x: Any) -> Any:
    import mpmath

    return mpmath.root(function(x), 2**squarings)


def _forms(m: int, n: int) -> Iterator[tuple[str, int]]:
    """Families of a rational function of degrees m and n, and their operations."""
    if n == 0:
        yield "polynomial", 2 * m
        return
    yield "rational", 2 * m + 2 * n
    if m - n in (-1, 0, 1):
        yield "continued fraction", 3 * n + {-1: -1, 0: 0, 1: 2}[m - n]


def baselines(target: Target, most: int) -> list[Baseline]:
    """All of at most so many operations."""
    import mpmath

    weight = absolute if target.error == "absolute" else relative
    squarings = 0
    if weight is relative and all(target.function(mpmath.mpf(x)) > 0 for x in target.domain):
        squarings = min(_SQUARINGS, most - 2)
    found = []
    for k in range(squarings + 1):
        name = "{}, squared" if k else "{}"
        function = partial(_root, target.function, k) if k else target.function
        found += _of(function, target.domain, weight, most, name, k, k)
    parity = _parity(target)
    if parity is not None:
        low, high = target.domain
        ends = (low * low, high * high)
        squares = (0.0 if low <= 0.0 <= high else min(ends), max(ends))
        inner = partial(_even_part, target.function, parity)
        if parity and weight is absolute:
            weight = partial(_of_odd, squares[1])
        found += _of(inner, squares, weight, most, "{} in x^2", 1 + parity, 0)
    return found


def _of(
    function: Any,
    domain: tuple[float, float],
    weight: Weight,
    most: int,
    name: str,
    more: int,
    squarings: int,
) -> list[Baseline]:
    """Approximations of a function that take so many operations more to be used."""
    import mpmath

    found = []
    for m in range(most // 2 + 1):
        for n in range(most // 2 + 1):
            forms = [
                (name.format(form), ops + more)
                for form, ops in _forms(m, n)
                if m + n > 0 and ops + more <= most and name.format(form) in FAMILIES
            ]
            if not forms:
                continue
            try:
                error = best_rational(function, domain, m, n, weight)[0]
            except (ArithmeticError, ZeroDivisionError):
                continue
            whole = mpmath.expm1(2**squarings * mpmath.log1p(error)) if squarings else error
            digits = -math.log10(float(whole))
            found += [Baseline(form, (m, n), squarings, ops, digits) for form, ops in forms]
    return found


def _parity(target: Target) -> int | None:
    """0 of an even target, 1 of an odd one."""
    import mpmath

    low, high = target.domain
    for parity in (0, 1):
        try:
            if all(
                mpmath.almosteq(target.function(-x), (-1) ** parity * target.function(x), 1e-12)
                for x in (mpmath.mpf(low + share * (high - low)) for share in (0.31, 0.64, 0.97))
            ):
                return parity
        except Exception:  # a user's function may not be there
            return None
    return None


def _even_part(function: Any, parity: int, z: Any) -> Any:
    """f(sqrt z), or f(sqrt z) / sqrt z of an odd f."""
    import mpmath

    x = mpmath.sqrt(z) or mpmath.mpf(10) ** -30
    return function(x) / x**parity


def _of_odd(high: float, z: Any, value: Any) -> Any:
    """Weight of absolute errors of x g(x^2)."""
    import mpmath

    return 1 / mpmath.sqrt(max(z, _NEAR * high))


def best(found: list[Baseline], most: int) -> dict[str, dict[int, Baseline]]:
    """The best of each family of at most 2, 3, ... operations."""
    table: dict[str, dict[int, Baseline]] = {family: {} for family in FAMILIES}
    for ops in range(2, most + 1):
        for family in FAMILIES:
            fit = [b for b in found if b.family == family and b.ops <= ops]
            if fit:
                table[family][ops] = max(fit, key=lambda b: b.digits)
    return table
