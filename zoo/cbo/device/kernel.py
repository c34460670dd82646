"""The loop over supersteps of all runs here, as one cooperative kernel."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numba import float64, int64

from zoo.cbo import dynamics as dy
from zoo.cbo import state as st
from zoo.cbo.device.batches import WANTED, deal, ready
from zoo.cbo.device.close import add_up, close_of
from zoo.cbo.device.group import group_of
from zoo.cbo.device.objective import value_of
from zoo.cbo.device.shape import REGISTERS, ROWS, THREADS, Shape
from zoo.cuda import cuda, kernel_of_registers


@cuda.jit(device=True)
def _share(x, energy, others, others_energy):
    """Lay all particles open to each other, as they are before anyone moves."""
    runs, n, dp = x.shape
    for q in range(cuda.grid(1), runs * n * dp, cuda.gridsize(1)):
        others[q // (n * dp), q // dp % n, q % dp] = x[q // (n * dp), q // dp % n, q % dp]
    for q in range(cuda.grid(1), runs * n, cuda.gridsize(1)):
        others_energy[q // n, q % n] = energy[q // n, q % n]


@functools.cache
def kernel_of(objective: Any, shape: Shape) -> Any:
    """Kernel of an objective's supersteps, compiled at its first launch.

    Parameters
    ----------
    objective : Numba dispatcher, or Python function
        f(x) of a point (d,).
    shape : Shape
    """
    value = value_of(objective, shape)
    gated, batches, polarized = shape.gate != dy.UNGATED, shape.batches, shape.polarized
    many, affine = shape.many, shape.noise == dy.COVARIANCE

    @cuda.jit(device=True)
    def consult(r, p, run, c, shift, rotation, anchor, points):
        """Evaluate the consensus for the drift gate."""
        found = float(
            value(c[r, : p.dimension], shift, rotation, anchor, points[cuda.blockIdx.x, :, 0])
        )
        run.at_consensus = found if abs(found) < np.inf else np.inf

    group, close = group_of(shape, value), close_of(shape, value, consult)

    @kernel_of_registers(REGISTERS)
    def supersteps(
        steps, doing, groups, rows_of_tile, params, box, limits, seed, first_run, first, runs, flat,
        x, energy, y, y_energy, order, epochs, partners, claims, news, chosen, c, covariance,
        factor, best_x, head, moment, second, found, parts, places, moments, seconds, others,
        others_energy, trace, used, shift, rotation, anchor, points,
    ):  # fmt: skip
        grid = cuda.cg.this_grid()
        plan = st.Plan(params, box[0], box[1], box[2], box[3], box[4])
        p = params[0]
        work = cuda.shared.array((5, ROWS), float64)
        scratch = cuda.shared.array(THREADS, float64)
        numbers = cuda.shared.array(THREADS, int64)
        tasks = p.dimension + p.dimension * p.dimension if affine else p.dimension
        for _ in range(steps):
            if batches:
                if doing == 0:  # others have set the run
                    if cuda.grid(1) == 0 and not ready(p, x.shape[1], runs[0], epochs[0]):
                        news[WANTED] = 1
                    grid.sync()
                deal(p, seed, first_run, first, runs, order, epochs, partners, claims, news)
            if polarized and doing > 0:
                _share(x, energy, others, others_energy)
                grid.sync()
            if gated and doing == 0:
                if cuda.grid(1) == 0 and runs[0].phase == st.MOVE:
                    consult(0, p, runs[0], c, shift, rotation, anchor, points)
                grid.sync()
            for part in range(2 if batches else 1):
                for item in range(cuda.blockIdx.x, len(runs) * groups, cuda.gridDim.x):
                    # energies of others are from the lowest, where others have found it
                    offset = runs[item // groups].best if doing > 0 else 0.0
                    group(
                        item, part, groups, rows_of_tile, p, box, limits, seed, first_run, first,
                        runs, flat, x, energy, y, y_energy, order, c, factor, parts, places,
                        moments, seconds, others, others_energy, offset, shift, rotation, anchor,
                        points, work, scratch, numbers,
                    )  # fmt: skip
                grid.sync()
            if many:
                for task in range(cuda.blockIdx.x, len(runs) * tasks, cuda.gridDim.x):
                    add_up(
                        task, tasks, p.dimension, groups, runs, parts, moments, seconds, moment,
                        second, scratch,
                    )  # fmt: skip
                grid.sync()
            for r in range(cuda.blockIdx.x, len(runs), cuda.gridDim.x):
                close(
                    r, groups, doing, plan, head, moment, second, runs, x, energy, y_energy, order,
                    epochs, news, chosen, c, covariance, factor, found, best_x, parts, places,
                    moments, seconds, trace, used, shift, rotation, anchor, points, work, scratch,
                    numbers,
                )  # fmt: skip
            grid.sync()

    return supersteps
