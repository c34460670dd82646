"""What the textbooks offer for a target: minimax polynomials and rational functions, by cost.

A polynomial of degree n takes 2n operations in Horner's form, and p/q of degrees m and n 2m + 2n;
as a continued fraction (J-fraction)

    a + b_1/(x + c_1 + b_2/(x + c_2 + ...))

one of degrees n and n takes 3n, n - 1 and n one less, n + 1 and n two more. Where errors are
relative and the target is positive, k squarings of an approximation of its 2^k-th root take k more.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from evolve.autonumerics.remez import best_rational
from evolve.autonumerics.targets import Target

#: Squarings, at most.
_SQUARINGS = 5

FAMILIES = (
    "polynomial",
    "polynomial, squared",
    "rational",
    "continued fraction",
    "continued fraction, squared",
)


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

    squarings = 0
    if target.error == "relative" and all(
        target.function(mpmath.mpf(x)) > 0 for x in target.domain
    ):
        squarings = min(_SQUARINGS, most - 2)
    found = []
    for k in range(squarings + 1):
        for m in range(most // 2 + 1):
            for n in range(most // 2 + 1):
                forms = [(f, ops + k) for f, ops in _forms(m, n) if ops + k <= most and m + n > 0]
                if k:
                    forms = [(f, ops) for f, ops in forms if f"{f}, squared" in FAMILIES]
                if not forms:
                    continue
                function = partial(_root, target.function, k) if k else target.function
                try:
                    error = best_rational(function, target.domain, m, n, target.error == "relative")
                except (ArithmeticError, ZeroDivisionError):
                    continue
                digits = -math.log10(float(mpmath.expm1(2**k * mpmath.log1p(error[0]))))
                for family, ops in forms:
                    name = f"{family}, squared" if k else family
                    found.append(Baseline(name, (m, n), k, ops, digits))
    return found


def best(found: list[Baseline], most: int) -> dict[str, dict[int, Baseline]]:
    """The best of each family of at most 2, 3, ... operations."""
    table: dict[str, dict[int, Baseline]] = {family: {} for family in FAMILIES}
    for ops in range(2, most + 1):
        for family in FAMILIES:
            fit = [b for b in found if b.family == family and b.ops <= ops]
            if fit:
                table[family][ops] = max(fit, key=lambda b: b.digits)
    return table
