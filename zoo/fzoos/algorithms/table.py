"""Both sides of every algorithm, by its name."""

from __future__ import annotations

from functools import partial
from typing import Any

from zoo.fzoos.algorithms import (
    differences,
    evolution,
    pool,
    scalars,
    shared,
    trajectories,
    values,
)
from zoo.fzoos.algorithms.sides import Local, Server
from zoo.fzoos.client import Oracle
from zoo.fzoos.job import Job

_SIDES: dict[str, tuple[Any, Any]] = {
    "shared": (shared.Shared, partial(values.Evaluating, shared.points_of)),
    "fzoos": (trajectories.Averaging, trajectories.Trajectories),
    "decomfl": (scalars.Scalars, scalars.Answering),
    "fedkseed": (pool.Pool, pool.Drawing),
    "fedcma": (evolution.Evolution, partial(values.Evaluating, evolution.points_of)),
} | dict.fromkeys(
    ("fedzo", "fedprox", "scaffold1", "scaffold2"), (differences.server, differences.Differences)
)


def server_of(job: Job) -> Server:
    """The server's side."""
    made: Server = _SIDES[job.config.algorithm][0](job)
    return made


def local_of(job: Job, index: int, oracle: Oracle) -> Local:
    """A client's side."""
    made: Local = _SIDES[job.config.algorithm][1](job, index, oracle)
    return made
