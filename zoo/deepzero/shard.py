"""A piece of the work of a step: the data and the network, resident, and a block of the queries."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from zoo.deepzero.data.batches import batch_rows, crop_and_flip
from zoo.deepzero.directions import direction, estimate
from zoo.deepzero.job import Job
from zoo.deepzero.lending import Lent, Models
from zoo.deepzero.masks import generator
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

    def __init__(self, index: int, job: Job, models: Models) -> None:
        self.index, self.job, self.models = index, job, models

    def step(self, message: Task) -> Report:
        """Do a task."""
        if message.sparsities != self.job.sparsities:
            self.job = replace(self.job, sparsities=dict(message.sparsities))
        with self.models.lent(message) as lent:
            if message.kind == "evaluate":
                return self._evaluate(message, lent)
            self._take_up(message, lent)
            work = self._score if message.kind == "score" else self._gradient
            return work(message, lent.model, lent.base)

    def _take_up(self, task: Task, lent: Lent) -> None:
        """Load the task's batch, and have its base, unless another shard has."""
        job = self.job
        if lent.task is task and job.network is not None:
            return
        lent.task = None
        if task.kind == "score":
            batch = job.data.batch("train", scored_rows(job))
        else:
            rows = batch_rows(job.data.count("train"), job.config.batch, job.seed, task.step)
            batch = job.data.batch("train", rows)
        if job.augment and task.kind != "score":
            batch = (crop_and_flip(batch[0], job.seed, task.step), *batch[1:])
        lent.model.load(*batch)
        if job.based:
            lent.base = lent.model.base(task.theta)
        lent.task = task

    @property
    def _own_base(self) -> int:
        """Queries of the base: all shards need it, and a network's is one to all of them."""
        first = self.index == 0 or self.job.network is None
        return 1 if first and self.job.based else 0

    def _gradient(self, task: Task, model: Any, base: float) -> Report:
        job, config = self.job, self.job.config
        queries = self._own_base
        moments = model.moments.copy() if self.index == 0 and job.normalized else None
        if config.oracle == "es":
            return self._antithetic(task, model, base, moments)
        if config.oracle == "rge":
            values, _ = self._along(task, model, base, config.directions, task.step)
            queries += self._share(config.directions)
        elif config.oracle == "node":
            units = job.units[job.bounds[self.index] : job.bounds[self.index + 1]]
            values = model.probes(units, config.mu)
            queries += int(job.probes[units[:, 0]].sum())
        else:
            mine = job.own(self.index, job.coordinates(task.step))
            values = model.derivatives(mine, config.mu, config.central)
            queries += len(mine) * (2 if config.central else 1)
        return Report(values, base, queries, moments=moments)

    def _antithetic(self, task: Task, model: Any, base: float, moments: Any) -> Report:
        pairs = self.job.config.directions // 2
        values, losses = self._along(task, model, None, pairs, task.step)
        if not self.job.based:
            base = math.fsum(losses) / max(1, len(losses))
        return Report(values, base, len(losses) + self._own_base, moments=moments)

    def _share(self, count: int) -> int:
        shards = self.job.shards
        return count * (self.index + 1) // shards - count * self.index // shards

    def _along(
        self, task: Task, model: Any, base: float | None, count: int, step: int
    ) -> tuple[Array, list[float]]:
        """Sum over this shard's part of ``count`` directions, and the losses along them."""
        job = self.job
        first = count * self.index // job.shards
        losses: list[float] = []

        def loss(theta: Array) -> float:
            losses.append(model.loss(theta))
            return losses[-1]

        directions = partial(direction, job.config.distribution, len(task.theta), job.seed, step)
        last = first + self._share(count)
        return estimate(loss, task.theta, base, job.config.mu, directions, first, last), losses

    def _score(self, task: Task, model: Any, base: float) -> Report:
        count = self.job.config.grasp_directions
        values, losses = self._along(task, model, base, count, SCORING)
        return Report(values, base, len(losses) + self._own_base)

    def _evaluate(self, task: Task, lent: Lent) -> Report:
        job, size = self.job, min(self.job.config.batch, self.job.samples)
        count = job.data.count("test")
        first, last = (count * i // job.shards for i in (self.index, self.index + 1))
        total, right = 0.0, 0
        lent.task = None
        for at in range(first, last, size):
            rows = np.arange(at, min(at + size, last))
            lent.model.load(*job.data.batch("test", rows))
            if job.network is None:
                total += lent.model.loss(task.theta) * len(rows)
                continue
            loss, correct = lent.model.evaluate(task.theta, task.moments)
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
