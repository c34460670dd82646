"""What a GPU holds of a population besides what :mod:`zoo.cbo.state` names, as kernels take it.

``st.Center.points`` are (R, N, dp) here, in the positions' precision; of whole runs,
``st.Center.energies`` are as they were evaluated. B is blocks, G groups of tiles of a run.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from zoo.cbo import dynamics as dy
from zoo.cbo import state as st
from zoo.cbo.device.batches import WANTED_ALL
from zoo.cbo.device.shape import Shape
from zoo.cuda import SIMULATED, cuda
from zoo.problem import CompiledObjective


class Fours(NamedTuple):
    """What is read four numbers at a time, in the positions' precision."""

    x: Any  # (R * n * dp,) the positions
    limits: Any  # (2, dp) bounds


class Groups(NamedTuple):
    """Groups of tiles, and their sums; one group's are in places r * count + g."""

    count: Any  # G
    rows: Any  # particles of a tile
    parts: Any  # (R * G,) SUMS
    places: Any  # (R * G,) particles of parts.best, or -1
    moments: Any  # (R * G, dp)
    seconds: Any  # (R * G, dp, dp) or (R * G, 0, 0)


class Deals(NamedTuple):
    """Scratch of batches."""

    partners: Any  # (R, 2, n) int32
    claims: Any  # (R, 2, n) int32
    news: Any  # (NEWS,)
    chosen: Any  # (R, batch) energies of those who were evaluated, where alpha follows them


class Resident(NamedTuple):
    """What is there from launch to launch, in the kernel's order."""

    plan: st.Plan
    fours: Fours
    population: st.Population
    center: st.Center
    groups: Groups
    sums: st.Sums
    deals: Deals


class Target(NamedTuple):
    """Where the objective is taken; see :class:`zoo.evaluate.Target`."""

    shift: Any  # (d,) or (0,)
    rotation: Any  # (d, d) or (0, 0)
    anchor: Any  # (d,)
    z: Any  # (B, d, rows) scratch: a point of each thread, neighbours' beside each other


class Room(NamedTuple):
    """Shared memory of a block, besides its tile."""

    work: Any  # (5, ROWS)
    scratch: Any  # (THREADS,)
    numbers: Any  # (THREADS,) int64


class Tile(NamedTuple):
    """Particles a .. a + rows - 1 of the batch of run r, or of all of it."""

    r: Any
    a: Any
    rows: Any
    x: Any  # coordinate j of particle i at i * across + j
    across: Any


def new_resident(
    plan: st.Plan, shape: Shape, fresh: Any, runs: int, particles: range, groups: int, rows: int
) -> Resident:
    """Room for particles of so many runs, each of which begins as the one record of ``fresh``."""
    put, empty, real = cuda.to_device, cuda.device_array, shape.real
    p, n, dp = plan.params[0], len(particles), len(plan.lower)
    shared = int(p["particles"]) if shape.polarized else 0
    mine = n if shape.memory else 0
    slots, dealt = (3, n) if shape.batches else (1, 0)
    matrix = dp if shape.noise == dy.COVARIANCE else 0
    lower, upper = within(plan.lower, plan.upper, real)
    x = put(np.zeros((runs, n, dp), real))
    points, energies = np.zeros((runs, shared, dp), real), np.zeros((runs, shared))
    center = st.new_center(plan, runs, 0)._replace(points=points, energies=energies)
    population = st.Population(
        first=particles.start,
        runs=put(np.repeat(fresh, runs)),
        x=x,
        energy=put(np.full((runs, n), np.inf)),
        y=put(np.zeros((runs, mine, dp), real)),
        y_energy=put(np.full((runs, mine), np.inf)),
        order=put(np.tile(np.arange(dealt, dtype=np.int32), (runs, slots, 1))),
        epochs=put(np.full((runs, 2), -1)),
        best_x=put(np.zeros((runs, dp))),
    )
    grouped = Groups(
        count=groups,
        rows=rows,
        parts=put(np.zeros(runs * groups, st.SUMS)),
        places=put(np.zeros(runs * groups, np.int64)),
        moments=put(np.zeros((runs * groups, dp))),
        seconds=put(np.zeros((runs * groups, matrix, matrix))),
    )
    deals = Deals(
        partners=empty((runs, 2, dealt), np.int32),
        claims=empty((runs, 2, dealt), np.int32),
        news=put(WANTED_ALL),
        chosen=empty((runs, int(p["batch"]) if shape.ess else 0), np.float64),
    )
    return Resident(
        st.Plan(*map(put, plan._replace(lower=lower, upper=upper))),
        Fours(x.reshape(x.size), put(np.stack([lower, upper]).astype(real))),
        population,
        st.Center(*map(put, center)),
        grouped,
        st.Sums(*map(put, st.new_sums(runs, dp, matrix))),
        deals,
    )


def target_of(objective: CompiledObjective, shape: Shape, d: int, blocks: int, rows: int) -> Target:
    """Where an objective is taken by so many blocks, at tiles of so many particles."""
    wide = d if shape.shifted or not shape.pure else 0
    z = cuda.device_array((blocks, wide, rows), "float64" if SIMULATED else shape.real)
    put = cuda.to_device
    return Target(put(objective.shift), put(objective.rotation), put(objective.anchor), z)


def within(lower: Any, upper: Any, real: str) -> tuple[Any, Any]:
    """Bounds that positions of this type can have, no wider than the given ones."""
    low, high = lower.astype(real), upper.astype(real)
    low = np.where(low < lower, np.nextafter(low, np.inf, dtype=real), low)
    high = np.where(high > upper, np.nextafter(high, -np.inf, dtype=real), high)
    return low.astype(np.float64), high.astype(np.float64)
