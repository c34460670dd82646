"""Best rational approximations, by exchange (Remez) in arbitrary precision.

The error of the best approximation p/q of degrees m and n alternates m + n + 2 times. For a
reference of so many points x_i the levelled error h is an eigenvalue,

    p(x_i) - (f(x_i) + (-1)^i h w(x_i)) q(x_i) = 0,

which is found by Newton's method from the last one; then the reference moves to the extrema of the
error (Cody, Fraser and Hart 1968). w is |f| for relative errors, and 1 for absolute ones.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

#: Decimal digits.
_DIGITS = 60
_STEPS = 100
#: Points among which extrema are looked for, for each of them.
_DENSITY = 24


#: Takes x and f(x), and returns what errors there are divided by.
Weight = Callable[[Any, Any], Any]


def relative(x: Any, value: Any) -> Any:
    """Weight of relative errors."""
    return abs(value)


def absolute(x: Any, value: Any) -> Any:
    """Weight of absolute errors."""
    return 1


def best_rational(
    function: Callable[[Any], Any],
    domain: tuple[Any, Any],
    m: int,
    n: int,
    weight: Weight,
) -> tuple[Any, list[Any], list[Any]]:
    """Largest error, and coefficients of p and q in the Chebyshev basis of the domain.

    Parameters
    ----------
    function : callable
        Of a number of mpmath.
    domain : (number, number)
    m, n : int
        Degrees; n = 0 is a polynomial.
    weight : callable
        Of x and f(x): :func:`relative`, :func:`absolute`, or what else errors are divided by.

    Raises
    ------
    ArithmeticError
        If the exchange does not converge: the best approximation is degenerate, or has a pole.
    """
    import mpmath as mp

    with mp.workdps(_DIGITS):
        low, high = mp.mpf(domain[0]), mp.mpf(domain[1])
        size = m + n + 2

        def at(t: Any) -> Any:
            return (low + high) / 2 + (high - low) / 2 * t

        known: dict[Any, Any] = {}

        def truth(t: Any) -> Any:
            if t not in known:
                known[t] = function(at(t))
            return known[t]

        def unit(t: Any) -> Any:
            return weight(at(t), truth(t))

        def basis(t: Any, degree: int) -> list[Any]:
            values = [mp.mpf(1), t]
            while len(values) <= degree:
                values.append(2 * t * values[-1] - values[-2])
            return values[: degree + 1]

        def inner(coefficients: list[Any], row: list[Any]) -> Any:
            return sum(c * row[k + 1] for k, c in enumerate(coefficients))

        bottom = [mp.mpf(0)] * n  # of q, after its first coefficient, which is 1

        def solved(points: list[Any], h: Any) -> tuple[Any, list[Any], list[Any]]:
            """Levelled error and coefficients, by Newton's method from h and ``bottom``."""
            for _ in range(_STEPS):
                matrix, right = mp.matrix(size, size), mp.matrix(size, 1)
                for i, t in enumerate(points):
                    sign = (-1) ** i * unit(t)
                    row = basis(t, max(m, n, 1))
                    for k in range(m + 1):
                        matrix[i, k] = row[k]
                    for k in range(1, n + 1):
                        matrix[i, m + k] = -(truth(t) + sign * h) * row[k]
                    above = inner(bottom, row)
                    matrix[i, size - 1] = -sign * (1 + above)
                    right[i] = truth(t) - sign * h * above
                solution = mp.lu_solve(matrix, right)
                before, h = h, solution[size - 1]
                bottom[:] = [solution[m + 1 + k] for k in range(n)]
                if not n or abs(h - before) <= abs(h) * mp.mpf(10) ** (-_DIGITS // 2):
                    return h, [solution[k] for k in range(m + 1)], [mp.mpf(1), *bottom]
            raise ArithmeticError("the levelled error does not converge")

        def error(t: Any, p: list[Any], q: list[Any]) -> Any:
            rows = basis(t, max(m, n, 1))
            below = sum(c * r for c, r in zip(q, rows, strict=False))
            if below <= 0:
                raise ArithmeticError("the denominator has a zero")
            value = sum(c * r for c, r in zip(p, rows, strict=False)) / below
            return (value - truth(t)) / unit(t)

        count = _DENSITY * size
        grid = [-mp.cos(mp.pi * k / count) for k in range(count + 1)]
        points = [-mp.cos(mp.pi * i / (size - 1)) for i in range(size)]
        h = mp.mpf(0)
        for _ in range(_STEPS):
            h, p, q = solved(points, h)
            errors = [error(t, p, q) for t in grid]
            points, worst = _exchanged(mp, grid, errors, size, lambda t: error(t, p, q))  # noqa: B023 (called at once)
            if worst - abs(h) <= worst * mp.mpf(10) ** -8:
                return worst, p, q
        raise ArithmeticError("the exchange does not converge")


def _exchanged(
    mp: Any, grid: list[Any], errors: list[Any], size: int, error: Callable[[Any], Any]
) -> tuple[list[Any], Any]:
    """New reference: the extrema of the error, alternating, the largest among them."""
    runs: list[int] = []
    for i, e in enumerate(errors):  # the largest of each run of one sign
        if runs and (errors[runs[-1]] > 0) == (e > 0):
            if abs(e) > abs(errors[runs[-1]]):
                runs[-1] = i
        else:
            runs.append(i)
    if len(runs) < size:
        raise ArithmeticError("the error does not alternate often enough")
    while len(runs) > size:
        ends = abs(errors[runs[0]]), abs(errors[runs[-1]])
        if len(runs) == size + 1:
            del runs[0 if ends[0] < ends[1] else -1]
        else:
            sizes = [min(abs(errors[i]), abs(errors[j])) for i, j in pairwise(runs)]
            k = sizes.index(min(sizes))
            del runs[k : k + 2]
    found, worst = [], mp.mpf(0)
    for i in runs:
        t, e = grid[i], errors[i]
        if 0 < i < len(grid) - 1:  # the top of a parabola through three points
            a, b, c = errors[i - 1], e, errors[i + 1]
            left, right = grid[i - 1] - t, grid[i + 1] - t
            slope = ((a - b) / left * right - (c - b) / right * left) / (right - left)
            bend = ((c - b) / right - (a - b) / left) / (right - left)
            if bend:
                moved = t - slope / (2 * bend)
                if grid[i - 1] < moved < grid[i + 1] and abs(error(moved)) >= abs(e):
                    t, e = moved, error(moved)
        found.append(t)
        worst = max(worst, abs(e))
    return found, worst
