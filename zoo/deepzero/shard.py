"""A piece of the work of a step: the data and the network, resident, and a block of the queries."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from zoo.deepzero.data.batches import batch_rows, crop_and_flip
from zoo.deepzero.directions import direction, estimate
from zoo.deepzero.job import Job
from zoo.deepzero.masks import generator
from zoo.problem import never
from zoo.runtime.protocol import Exchange, State

Array = npt.NDArray[np.float64]

#: Purpose of random numbers; see :mod:`zoo.streams`.
_SCORED = 38

#: "step" of the directions of GraSP, which no step has.
SCORING = 2**62


@dataclass(frozen=True, eq=False)
class Task:
    """What a superstep does at ``theta``: estimate a "gradient", "score" weights, or "evaluate".

    ``moments`` are the running ones, to evaluate by, and ``sparsities`` those of the job by now.
    """

    kind: str
    step: int
    theta: Array
    moments: Array | None = None
    sparsities: Mapping[str, float] = field(default_factory=dict)  # see Job; found on the way


@dataclass(frozen=True, eq=False)
class Report:
    """A part of an answer.

    Attributes
    ----------
    values : array
        Derivatives by the shard's own coordinates; or its part of a sum over directions (d,).
    loss : float
        Mean of the batch; of an evaluation, the sum of the shard's samples.
    queries : int
        Losses of a batch that this took, or would have taken one by one.
    right : int
        Correct labels of an evaluation.
    moments : (channels, 2)
        Of the batch, from shard 0.
    """

    values: Array
    loss: float
    queries: int
    right: int = 0
    moments: Array | None = None


class DeepZeroShard:
    """See :class:`zoo.runtime.protocol.Shard`; it keeps nothing from one message to the next."""

    def __init__(
        self, index: int, job: Job, threads: int = 1, cancelled: Callable[[], bool] = never
    ) -> None:
        self.index, self.job = index, job
        self.model = job.model(threads, cancelled)

    def step(self, message: Task) -> Report:
        """Do a task."""
        if message.sparsities != self.job.sparsities:
            self.job = replace(self.job, sparsities=dict(message.sparsities))
        if message.kind == "evaluate":
            return self._evaluate(message)
        if message.kind == "score":
            return self._score(message)
        return self._gradient(message)

    def _gradient(self, task: Task) -> Report:
        job, config, theta = self.job, self.job.config, task.theta
        rows = batch_rows(job.data.count("train"), config.batch, job.seed, task.step)
        batch = job.data.batch("train", rows)
        if job.augment:
            batch = (crop_and_flip(batch[0], job.seed, task.step), *batch[1:])
        self.model.load(*batch)
        if config.oracle == "es" and not job.normalized:
            return self._antithetic(task, None)
        base = self.model.base(theta)
        if config.oracle == "es":
            return self._antithetic(task, base)
        queries = 1
        if config.oracle == "rge":
            values = self._along(task, base, config.directions, task.step)
            queries += self._share(config.directions)
        elif config.oracle == "node":
            units = job.units[job.bounds[self.index] : job.bounds[self.index + 1]]
            values = self.model.probes(units, config.mu)
            queries += int(job.probes[units[:, 0]].sum())
        else:
            mine = job.own(self.index, job.coordinates(task.step))
            values = self.model.derivatives(mine, config.mu, config.central)
            queries += len(mine) * (2 if config.central else 1)
        return Report(values, base, queries, moments=self._moments())

    def _antithetic(self, task: Task, base: float | None) -> Report:
        pairs = self.job.config.directions // 2
        values = self._along(task, None, pairs, task.step)
        loss, count = self._losses
        return Report(
            values,
            loss / max(1, count) if base is None else base,
            count + (base is not None),
            moments=self._moments(),
        )

    def _moments(self) -> Array | None:
        return self.model.moments.copy() if self.index == 0 and self.job.normalized else None

    def _share(self, count: int) -> int:
        shards = self.job.shards
        return count * (self.index + 1) // shards - count * self.index // shards

    def _along(self, task: Task, base: float | None, count: int, step: int) -> Array:
        """Sum of this shard's part of ``count`` directions."""
        job = self.job
        first = count * self.index // job.shards
        self._losses = (0.0, 0)

        def loss(theta: Array) -> float:
            value = self.model.loss(theta)
            self._losses = (self._losses[0] + value, self._losses[1] + 1)
            return value

        directions = partial(direction, job.config.distribution, len(task.theta), job.seed, step)
        return estimate(
            loss, task.theta, base, job.config.mu, directions, first, first + self._share(count)
        )

    def _score(self, task: Task) -> Report:
        job = self.job
        self.model.load(*job.data.batch("train", scored_rows(job)))
        base = self.model.base(task.theta)
        count = job.config.grasp_directions
        values = self._along(task, base, count, SCORING)
        return Report(values, base, 1 + self._share(count))

    def _evaluate(self, task: Task) -> Report:
        job, size = self.job, min(self.job.config.batch, self.job.samples)
        count = job.data.count("test")
        first, last = (count * i // job.shards for i in (self.index, self.index + 1))
        total, right = 0.0, 0
        for at in range(first, last, size):
            rows = np.arange(at, min(at + size, last))
            self.model.load(*job.data.batch("test", rows))
            if job.network is None:
                total += self.model.loss(task.theta) * len(rows)
                continue
            loss, correct = self.model.evaluate(task.theta, task.moments)
            total, right = total + loss, right + correct
        return Report(np.empty(0), total, 0, right)

    def exchange(self, message: Task) -> Exchange:
        """Do a task; nothing is evaluated outside."""
        return self.step(message)
        yield  # makes this a generator

    def state(self) -> State:
        """Nothing: see above."""
        return {}

    def restore(self, state: State) -> None:
        """Take up nothing."""


def scored_rows(job: Job) -> Any:
    """Rows of the training data that GraSP scores weights by, so many of each class."""
    rng = generator(job.seed, _SCORED, 0)
    labels = job.data.y_train
    rows = [
        rng.permutation(np.flatnonzero(labels == c))[: job.config.grasp_samples]
        for c in range(int(labels.max()) + 1)
    ]
    return np.sort(np.concatenate(rows))
