"""From least squares to the smallest largest error: minimax constants.

Each step is the linear program of Osborne and Watson (1969) in a trust region,

    min h   over p, h,   where   |r_i + J_i p| <= h,   |R p| <= Delta,

with the errors r_i in double-double precision, divided by the largest of them. Its unknowns are
y = R p, where J = Q R has orthogonal columns: however small the error is, and however little some
combinations of the constants matter, the program is well scaled.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from evolve.autonumerics.fit import derivatives
from evolve.autonumerics.interpreter import evaluate_dd
from evolve.autonumerics.programs import Program
from evolve.autonumerics.targets import Target, chebyshev

Array = npt.NDArray[np.float64]

#: Points at which the error is to be small: enough for the extrema of 20 constants.
_POINTS = 256

#: Steps, at most, and the relative gain below which they end.
_STEPS, _GAIN = 60, 1e-5

#: Derivatives at a pole are taken so much nearer to the middle.
_BESIDE = 1e-6

#: First trust region: errors may change by as much as they are.
_REGION = 2.0


class Grid:
    """Points of a target's domain with the truth, where errors of programs are measured."""

    def __init__(self, target: Target, count: int = _POINTS) -> None:
        self.target = target
        self.x = chebyshev(target.domain, count, ends=True)
        self.truth, self.low = target.truth(self.x)
        self.weights = target.weights(self.truth)

    def errors(self, program: Program) -> Array:
        """Errors (N,) with their signs, in exact arithmetic but for 1e-30 or so."""
        high, low = evaluate_dd(program, self.x)
        with np.errstate(invalid="ignore", over="ignore"):
            return ((high - self.truth) + (low - self.low)) * self.weights

    def error(self, program: Program) -> float:
        """Largest error; infinite where the program has no value."""
        worst = float(np.abs(self.errors(program)).max())
        return worst if worst == worst else np.inf


def polished(program: Program, grid: Grid) -> Program:
    """The program with constants of nearly minimax error on the grid, in double-double precision.

    It is as it was where no better ones are found.
    """
    if not len(program.constants):
        return program
    errors = grid.errors(program)
    worst, region = float(np.abs(errors).max()), _REGION
    for _ in range(_STEPS):
        if not 0.0 < worst < np.inf:
            break
        slopes = _slopes(program, grid)
        found = _step(errors / worst, slopes.T / worst, region)
        if found is None:
            break
        p, promised = found
        trial = _moved(program, p)
        after = grid.errors(trial)
        gained = 1.0 - float(np.abs(after).max()) / worst
        ratio = gained / max(1.0 - promised, 1e-300)
        region *= 2.0 if ratio > 0.75 else 1.0 if ratio > 0.25 else 0.25
        if gained > 0.0:
            program, errors, worst = trial, after, (1.0 - gained) * worst
        if 1.0 - promised < _GAIN or region < _REGION * 1e-9:
            break
    return program


def _slopes(program: Program, grid: Grid) -> Array:
    """Derivatives (K, N) of the errors by the constants.

    Where a part of the program has a pole, as x + c/x has at 0, the value may exist, and the
    derivatives tend to a limit: they are taken beside it.
    """
    slopes = derivatives(program, grid.x)
    poles = ~np.isfinite(slopes).all(axis=0)
    if poles.any():
        middle = 0.5 * (grid.x[0] + grid.x[-1])
        slopes[:, poles] = derivatives(program, grid.x[poles] + _BESIDE * (middle - grid.x[poles]))
    return np.where(np.isfinite(slopes), slopes, 0.0) * grid.weights


def _step(errors: Array, slopes: Array, region: float) -> tuple[Array, float] | None:
    """Change of the constants, and the largest error that it promises; None: there is none."""
    from scipy.optimize import linprog

    sizes = np.abs(slopes).max(axis=0)
    usable = sizes > 0.0
    if not usable.any():
        return None
    q, upper = np.linalg.qr(slopes[:, usable] / sizes[usable])
    n = q.shape[1]
    q *= np.sqrt(len(q))
    ones = np.ones((len(errors), 1))
    found = linprog(
        np.concatenate([np.zeros(n), [1.0]]),
        A_ub=np.block([[q, -ones], [-q, -ones]]),
        b_ub=np.concatenate([-errors, errors]),
        bounds=[(-region, region)] * n + [(0.0, None)],
        method="highs-ds",
    )
    if found.status != 0:
        return None
    y = np.sqrt(len(q)) * found.x[:-1]
    p = np.zeros(len(sizes))
    p[usable] = np.linalg.lstsq(upper, y, rcond=1e-15)[0] / sizes[usable]
    return p, float(found.x[-1])


def _moved(program: Program, p: Array) -> Program:
    """The program with constants moved by p."""
    high = program.constants + p
    back = high - program.constants
    low = program.low + ((program.constants - (high - back)) + (p - back))
    return program.with_constants(high, low)
