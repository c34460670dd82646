"""What a run will cost: said before it starts, from a few coordinates of every kind."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from zoo.deepzero.data.batches import batch_rows
from zoo.deepzero.directions import direction
from zoo.deepzero.job import Job
from zoo.deepzero.masks import kept_weights
from zoo.errors import InputError

Array = npt.NDArray[np.float64]

#: Seconds that are spent on coordinates of one stage, at most a few of them.
_TRIAL = 0.02
_MOST = 200
#: Coordinates that a GPU is tried on, which does hundreds of them at the same time; and units.
_AT_ONCE, _UNITS = 4000, 100
#: Directions that are tried, at most.
_FEW = 10


@dataclass(frozen=True)
class Estimate:
    """Cost of a run.

    Attributes
    ----------
    queries : int
        Losses of a batch, one by one.
    steps : int
    seconds : float, optional
        Of one core, or GPU; None for a black box, and where there is no GPU to try it on.
    memory : int
        Bytes that each thread takes.
    """

    queries: int
    steps: int
    seconds: float | None
    memory: int = 0


def queries_of(job: Job) -> int:
    """Queries of a run of all its epochs."""
    config, steps = job.config, job.config.epochs * job.steps_per_epoch
    bases = steps * _base(job)
    if config.oracle in ("rge", "es"):
        return bases + steps * config.directions
    if config.oracle == "node":
        return bases + steps * int(job.probes[job.units[:, 0]].sum())
    coordinates = steps * job.size
    if config.oracle == "cyclic":
        block = len(job.coordinates(0))
        cycles, rest = divmod(steps, -(-job.size // block))
        coordinates = cycles * job.size + rest * block
    elif job.masks is not None:
        coordinates = steps * job.masks.size
    elif config.sparsity and job.network is not None:
        weights = sum(stage.weights for stage in job.network.stages)
        coordinates -= steps * (weights - round((1.0 - config.sparsity) * weights))
    return bases + coordinates * (2 if config.central else 1) + _scoring(job)


def _base(job: Job) -> int:
    """Queries of a step's base: each shard of a black box has its own."""
    if not job.based:
        return 0
    return job.shards if job.network is None else 1


def _scoring(job: Job) -> int:
    """Queries by which GraSP scores the weights."""
    config = job.config
    if config.oracle != "cge" or not config.sparsity or job.sparsities or job.network is None:
        return 0
    return 2 * (config.grasp_directions + 1)


def estimated(job: Job) -> Estimate:
    """Estimate the cost of a run; compiles, and measures, on this machine."""
    steps = job.config.epochs * job.steps_per_epoch
    if job.network is None or not _here(job):
        return Estimate(queries_of(job), steps, None)
    engine = job.model()
    engine.load(*job.data.batch("train", batch_rows(*_batch(job), 0)))
    theta = job.network.initial(job.seed)
    engine.base(theta)
    if job.config.oracle == "node":  # compiles, as the base has
        engine.probes(job.units[-1:], job.config.mu)
    elif job.config.oracle not in ("rge", "es"):
        engine.derivatives(np.arange(1), job.config.mu)
    started = time.perf_counter()
    engine.base(theta)
    base = time.perf_counter() - started
    each, once = base, 0.0
    if job.config.oracle in ("rge", "es"):
        each += job.config.directions * _of_direction(job, engine, theta)
    else:
        each += _of_queries(job, engine)
    passes = 2 if job.config.oracle in ("rge", "es") or _scoring(job) else 1
    if scoring := _scoring(job):
        rows = min(job.config.grasp_samples * job.network.classes, job.data.count("train"))
        once = scoring * _of_direction(job, engine, theta) * max(1.0, rows / engine.samples)
    memory = engine.plan.nbytes(passes)
    return Estimate(queries_of(job), steps, steps * each + once, memory)


def _here(job: Job) -> bool:
    """Whether this machine has what the job asks for; the workers' may be others."""
    if job.config.device == "cpu":
        return True
    from zoo.cuda import require

    try:
        require()
    except InputError:
        return False
    return True


def _batch(job: Job) -> tuple[int, int, int]:
    return job.data.count("train"), job.config.batch, job.seed


def _of_direction(job: Job, engine: Any, theta: Array) -> float:
    """Seconds of a direction, and of the loss along it."""
    config, took, count = job.config, 0.0, 0
    engine.loss(theta)
    started = time.perf_counter()
    while took < _TRIAL and count < _FEW:
        u = direction(config.distribution, job.size, job.seed, 0, count)
        engine.loss(theta + config.mu * u)
        took, count = time.perf_counter() - started, count + 1
    return took / count


def _of_queries(job: Job, engine: Any) -> float:
    """Seconds of the coordinates, or units, of a step."""
    assert job.network is not None
    if job.config.device != "cpu":
        return _at_once(job, engine)
    config, total = job.config, 0.0
    kept = kept_weights(job.network, job.sparsities) if job.sparsities else {}
    for k, stage in enumerate(job.network.stages):
        if config.oracle == "node":
            total += stage.channels * _seconds_of(engine, k, True)
            continue
        weights = kept.get(stage.name, round((1.0 - config.sparsity) * stage.weights))
        count = weights + stage.end - stage.weight - stage.weights
        seconds = _seconds_of(engine, k, False)
        total += count * seconds * (2 if config.central else 1)
    return total


def _at_once(job: Job, engine: Any) -> float:
    """Seconds of the coordinates, or units, of a step, from many of them that are done at once."""
    config = job.config

    def some(items: Any, most: int) -> Any:
        return items[np.linspace(0, len(items) - 1, min(most, len(items))).astype(np.int64)]

    def work(chosen: Any) -> float:
        started = time.perf_counter()
        if config.oracle == "node":
            engine.probes(chosen, config.mu)
        else:
            engine.derivatives(np.unique(chosen), config.mu, config.central)
        return time.perf_counter() - started

    items = job.units if config.oracle == "node" else job.coordinates(0)
    chosen = some(items, _UNITS if config.oracle == "node" else _AT_ONCE)
    work(chosen)  # compiles, and a library prepares for the sizes
    share = len(items) / len(chosen)
    if _scoring(job):  # coordinates are all of them, and a step will have some
        share *= 1.0 - config.sparsity
    return share * work(chosen)


def _seconds_of(engine: Any, k: int, unit: bool) -> float:
    """Measured seconds of a coordinate, or of a unit's probes, of stage k."""
    stage, mu = engine.network.stages[k], 1e-3
    many = stage.channels if unit else stage.weights
    count = 1
    while True:
        spread = np.linspace(0, many - 1, count).astype(np.int64)
        started = time.perf_counter()
        if unit:
            engine.probes(np.stack([np.full(count, k), spread], 1), mu)
        else:
            engine.derivatives(stage.weight + spread, mu)
        took = time.perf_counter() - started
        if took > _TRIAL or count >= min(many, _MOST):
            return took / count
        count = min(4 * count, many, _MOST)
