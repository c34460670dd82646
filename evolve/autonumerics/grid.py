"""Errors of programs at the points of a grid."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from evolve.autonumerics.interpreter import evaluate_dd
from evolve.autonumerics.programs import Program
from evolve.autonumerics.targets import Target, chebyshev

Array = npt.NDArray[np.float64]

#: Points of a grid: enough for the extrema of 20 constants.
POINTS = 256


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
        """Errors (N,) with their signs, in exact arithmetic but for 1e-30 or so."""
        high, low = evaluate_dd(program, self.x)
        with np.errstate(invalid="ignore", over="ignore"):
            return ((high - self.truth) + (low - self.low)) * self.weights

    def error(self, program: Program) -> float:
        """Largest error; infinite where the program has no value."""
        worst = float(np.abs(self.errors(program)).max())
        return worst if worst == worst else np.inf


def grid_of(target: Target, count: int = POINTS, ends: bool = True) -> Grid:
    """Grid of so many points, dense near the ends of the domain."""
    x = chebyshev(target.domain, count, ends)
    truth, low = target.truth(x)
    return Grid(x, truth, low, target.weights(truth))
