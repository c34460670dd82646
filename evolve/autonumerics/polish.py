"""From least squares to the smallest largest error: minimax constants.

Each step is the linear program of Osborne and Watson (1969) in a trust region,

    min h   over p, h,   where   |r_i + J_i p| <= h,   |R p| <= Delta,

with the errors r_i in double-double precision, divided by the largest of them. Its unknowns are
y = R p, where J = Q R has orthogonal columns: however small the error is, and however little some
combinations of the constants matter, the program is well scaled.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from evolve.autonumerics.grid import Grid
from evolve.autonumerics.levenberg import derivatives
from evolve.autonumerics.programs import Program

Array = npt.NDArray[np.float64]

#: Steps, at most, and the relative gain below which they end.
_STEPS, _GAIN = 60, 1e-5

#: Derivatives at a pole are taken so much nearer to the middle.
_BESIDE = 1e-6

#: First trust region: errors may change by as much as they are.
_REGION = 2.0


def polished(program: Program, grid: Grid, free: Any = None) -> Program:
    """The program with constants of nearly minimax error on the grid, in double-double precision.

    It is as it was where no better ones are found. ``free`` (K,) says which ones may move.
    """
    free = np.ones(len(program.constants), bool) if free is None else np.asarray(free)
    if not free.any():
        return program
    errors = grid.errors(program)
    worst, region = float(np.abs(errors).max()), _REGION
    for _ in range(_STEPS):
        if not 0.0 < worst < np.inf:
            break
        slopes = np.where(free[:, None], _slopes(program, grid), 0.0)
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


def rounded(program: Program, grid: Grid, dtype: Any = np.float64) -> Program:
    """The program with constants of a type, none with a low part.

    One after the other is rounded, those first whose rounding does most harm, and the others make
    up for it.
    """
    free = np.ones(len(program.constants), bool)
    while free.any():
        nearest = program.constants.astype(dtype).astype(np.float64)
        harm = np.abs(_slopes(program, grid)).max(axis=1) * np.spacing(nearest.astype(dtype))
        k = int(np.argmax(np.where(free, harm, -1.0)))
        free[k] = False
        program = min(
            (
                polished(_with(program, k, value), grid, free)
                for value in _neighbours(program.constants[k] + program.low[k], dtype)
            ),
            key=grid.error,
        )
    return program


def _neighbours(value: float, dtype: Any) -> list[float]:
    """Numbers of a type nearest to one, below and above."""
    nearest = dtype(value)
    return [
        float(nearest),
        *(float(np.nextafter(nearest, dtype(end))) for end in (-np.inf, np.inf)),
    ]


def _with(program: Program, k: int, value: float) -> Program:
    """The program with one other constant."""
    constants, low = program.constants.copy(), program.low.copy()
    constants[k], low[k] = value, 0.0
    return program.with_constants(constants, low)
