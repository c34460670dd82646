"""The loop over supersteps of all runs here, as one kernel."""

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
from zoo.cbo.device.resident import Room
from zoo.cbo.device.shape import REGISTERS, ROWS, THREADS, Shape
from zoo.cuda import cuda, kernel_of_registers


@cuda.jit(device=True)
def _share(pop, center):
    """Lay all particles open to each other, as they are before anyone moves."""
    x, points = pop.x, center.points
    runs, n, dp = x.shape
    for q in range(cuda.grid(1), runs * n * dp, cuda.gridsize(1)):
        points[q // (n * dp), q // dp % n, q % dp] = x[q // (n * dp), q // dp % n, q % dp]
    for q in range(cuda.grid(1), runs * n, cuda.gridsize(1)):
        center.energies[q // n, q % n] = pop.energy[q // n, q % n]


@cuda.jit(device=True)
def _room():
    return Room(
        cuda.shared.array((5, ROWS), float64),
        cuda.shared.array(THREADS, float64),
        cuda.shared.array(THREADS, int64),
    )


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
    def consult(p, run, c, target):
        """Evaluate the consensus for the drift gate."""
        found = float(value(c[: p.dimension], target, 0))
        run.at_consensus = found if abs(found) < np.inf else np.inf

    group, close = group_of(shape, value), close_of(shape, value, consult)

    @kernel_of_registers(REGISTERS)
    def alone(
        steps, doing, seed, first_run, plan, fours, pop, center, groups, sums, deals, target, trace
    ):
        """Take supersteps of runs that are one group each: a block takes all of a run's."""
        room = _room()
        for r in range(cuda.blockIdx.x, len(pop.runs), cuda.gridDim.x):
            for _ in range(steps):
                group(r, 0, seed, first_run, plan, fours, pop, center, groups, target, 0.0, room)
                cuda.syncthreads()
                close(r, doing, plan, pop, center, groups, sums, deals, target, trace, room)

    @kernel_of_registers(REGISTERS)
    def supersteps(
        steps, doing, seed, first_run, plan, fours, pop, center, groups, sums, deals, target, trace
    ):
        """Take supersteps of all runs; with ``doing`` 0 of a block of one, which others close.

        The tuples are those of zoo.cbo.state and zoo.cbo.device.resident.
        """
        grid = cuda.cg.this_grid()
        p, runs = plan.params[0], len(pop.runs)
        room = _room()
        tasks = p.dimension + p.dimension * p.dimension if affine else p.dimension
        for _ in range(steps):
            if batches:
                if doing == 0:  # others have set the run
                    one, epochs = pop.runs[0], pop.epochs[0]
                    if cuda.grid(1) == 0 and not ready(p, pop.x.shape[1], one, epochs):
                        deals.news[WANTED] = 1
                    grid.sync()
                deal(p, seed, first_run, pop, deals)
            if polarized and doing > 0:
                _share(pop, center)
                grid.sync()
            if gated and doing == 0:
                if cuda.grid(1) == 0 and pop.runs[0].phase == st.MOVE:
                    consult(p, pop.runs[0], center.c[0], target)
                grid.sync()
            for part in range(2 if batches else 1):
                for item in range(cuda.blockIdx.x, runs * groups.count, cuda.gridDim.x):
                    # energies of others are from the lowest, where others have found it
                    offset = pop.runs[item // groups.count].best if doing > 0 else 0.0
                    group(
                        item, part, seed, first_run, plan, fours, pop, center, groups, target,
                        offset, room,
                    )  # fmt: skip
                grid.sync()
            if many:
                for task in range(cuda.blockIdx.x, runs * tasks, cuda.gridDim.x):
                    add_up(task, tasks, p.dimension, pop.runs, groups, sums, room.scratch)
                grid.sync()
            for r in range(cuda.blockIdx.x, runs, cuda.gridDim.x):
                close(r, doing, plan, pop, center, groups, sums, deals, target, trace, room)
            grid.sync()

    return alone if shape.alone else supersteps
