"""Errors of programs at the points of a grid."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from evolve.autonumerics.interpreter import evaluate_dd
from evolve.autonumerics.programs import Program
from evolve.autonumerics.targets import Target

Array = npt.NDArray[np.float64]

#: Decimal digits in which truth is computed.
_DIGITS = 50

#: Points of a grid: enough for the extrema of 20 constants.
POINTS = 256


def truth_at(target: Target, x: Array) -> tuple[Array, Array]:
    """High and low parts of a target's values at points (N,)."""
    import mpmath

    with mpmath.workdps(_DIGITS):
        values = [target.function(mpmath.mpf(float(point))) for point in x]
        high = [float(value) for value in values]
        low = [float(value - top) for value, top in zip(values, high, strict=True)]
    return np.array(high), np.array(low)


def _weights(target: Target, truth: Array) -> Array:
    """What makes differences errors: 0 at a zero of the function, if errors are not absolute."""
    if target.error == "absolute":
        return np.ones_like(truth)
    size = np.abs(truth) if target.error == "relative" else _binades(np.abs(truth))
    with np.errstate(divide="ignore"):
        return np.where(truth == 0.0, 0.0, 1.0 / size)


def _binades(size: Array) -> Array:
    """Power of two below each value; at one itself, that of values near it that are less."""
    found = np.ldexp(1.0, np.frexp(size)[1] - 1)
    beside = np.minimum(np.append(size[1:], np.inf), np.insert(size[:-1], 0, np.inf))
    return np.where((found == size) & (beside < size), 0.5 * found, found)


def chebyshev(domain: tuple[float, float], count: int, ends: bool = False) -> Array:
    """Chebyshev nodes of an interval, or, with its ends, where their polynomial is extremal."""
    low, high = domain
    k = np.arange(count)
    angles = k * np.pi / (count - 1) if ends else (k + 0.5) * np.pi / count
    points = 0.5 * (low + high) - 0.5 * (high - low) * np.cos(angles)
    if ends:
        points[0], points[-1] = low, high
    return points


@dataclass(frozen=True, eq=False)
class Grid:
    """Points where errors of programs are measured.

    Attributes
    ----------
    x, truth, low, weights : (N,) float64
        Points, high and low parts of the target there, and weights of the errors.
    """

    x: Array
    truth: Array
    low: Array
    weights: Array

    def errors(self, program: Program) -> Array:
        """Errors (N,) with their signs, in exact arithmetic but for 1e-30 or so.

        Where the target is zero, and errors are not absolute, they are none or infinite.
        """
        high, low = evaluate_dd(program, self.x)
        with np.errstate(invalid="ignore", over="ignore"):
            errors = ((high - self.truth) + (low - self.low)) * self.weights
        return np.where((self.weights == 0.0) & (high != 0.0), np.inf, errors)

    def error(self, program: Program) -> float:
        """Largest error; infinite where the program has no value."""
        worst = float(np.abs(self.errors(program)).max())
        return worst if worst == worst else np.inf


def grid_of(target: Target, count: int = POINTS, ends: bool = True) -> Grid:
    """Grid of so many points, dense near the ends of the domain."""
    x = chebyshev(target.domain, count, ends)
    truth, low = truth_at(target, x)
    return Grid(x, truth, low, _weights(target, truth))
