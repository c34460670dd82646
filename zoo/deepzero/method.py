"""Zeroth-order training on the superstep protocol: a superstep is one step of the update rule.

The driver holds the parameters, and what the update rule remembers; shards answer with their parts
of a gradient estimate. Nothing that shards know changes, so a lost one is built again, and no more.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from zoo.deepzero import grasp
from zoo.deepzero.job import Job
from zoo.deepzero.lending import Models
from zoo.deepzero.rules import Rule, rate
from zoo.deepzero.shard import DeepZeroShard, Report, Task
from zoo.errors import Diverged
from zoo.problem import Problem, never
from zoo.runtime.protocol import Progress, State

Array = npt.NDArray[np.float64]

#: Share of a batch's moments in the running ones.
_RUNNING = 0.1

_STATUS = {
    "": ("running", "the run goes on"),
    "epochs": ("epochs", "all epochs are done"),
    "seconds": ("seconds", "the budget of seconds is used"),
    "callback": ("stopped", "the callback ended the run"),
    "stopped": ("stopped", "the run was told to stop"),
}


class DeepZero:
    """Zeroth-order training; see :class:`zoo.runtime.protocol.Method`.

    Parameters
    ----------
    job : Job
    theta : (d,)
        First parameters.
    moments : (channels, 2), optional
        First running means and variances of normalized channels.
    """

    resident = False
    problem: Problem | None = None

    def __init__(self, job: Job, theta: Array, moments: Array | None = None) -> None:
        self.job, self.theta = job, theta.astype(np.float64)
        config = job.config
        self.concurrent = job.network is not None
        self.rule = Rule.new(
            config.rule, config.momentum or 0.0, config.weight_decay or 0.0, len(theta)
        )
        channels = sum(stage.channels for stage in job.network.stages) if job.network else 0
        self.moments = np.tile([0.0, 1.0], (channels, 1)) if moments is None else moments.copy()
        self._stale = np.zeros(len(theta) if config.oracle == "cyclic" else 0)
        self._scored: list[Array] = []
        self._step, self._queries = 0, 0
        self._due = "score" if self._to_score() else "gradient"
        self._sum, self._count, self._loss = 0.0, 0, math.inf  # losses of this epoch
        self._train = self._test = math.inf
        self._right: int | None = None
        self._ended, self._reason = "", ""
        self._rows: list[dict[str, Any]] = []

    def _to_score(self) -> bool:
        config = self.job.config
        return bool(config.sparsity and config.oracle == "cge" and not self.job.sparsities)

    def __getstate__(self) -> dict[str, Any]:
        """What goes to workers."""
        return {"job": self.job, "problem": None}

    @property
    def shards(self) -> int:
        """Pieces of a step."""
        return self.job.shards

    def shard(
        self, index: int, threads: int = 1, cancelled: Callable[[], bool] = never
    ) -> DeepZeroShard:
        """Build a shard; see :class:`zoo.runtime.protocol.Method`.

        Raises
        ------
        InputError
            If it is to be on a GPU, and there is none.
        """
        if self.job.config.device == "cuda":
            from zoo.cuda import require

            require()
        models = vars(self).setdefault("_models", Models(self.job, threads, cancelled))
        return DeepZeroShard(index, self.job, models)

    def message(self, steps: int) -> Task:
        """Say what to do next, and where."""
        if self._due == "score" and self._scored:
            ahead = self.theta + self.job.config.mu * self._scored[0]
            return Task("score", self._step, ahead)
        return Task(
            self._due,
            self._step,
            self.theta.copy(),
            self.moments.copy() if self._due == "evaluate" else None,
            self.job.sparsities,
        )

    def merge(self, reports: list[Report]) -> None:
        """Take a step, or take in what an epoch has come to."""
        self._queries += sum(report.queries for report in reports)
        if self._due == "evaluate":
            self._evaluated(reports)
        elif self._due == "score":
            self._score(reports)
        else:
            self._descend(reports)

    def _score(self, reports: list[Report]) -> None:
        job = self.job
        count = job.config.grasp_directions
        self._scored.append(_summed(reports) / count)
        if len(self._scored) < 2:
            return
        assert job.network is not None
        before, after = self._scored
        found = grasp.scores(self.theta, before, after, job.config.mu)
        self._prune(grasp.ratios(job.network, found, job.config.sparsity, job.config.grasp))
        self._scored = []
        self._due = "gradient"

    def _prune(self, sparsities: dict[str, float]) -> None:
        self.job = replace(self.job, sparsities=sparsities)

    @np.errstate(over="ignore", invalid="ignore")  # told of in one line
    def _descend(self, reports: list[Report]) -> None:
        job, config = self.job, self.job.config
        # The base of all of them; or, of es, the mean of each one's own, and some may have none.
        counts = [report.queries for report in reports]
        loss = float(np.average([report.loss for report in reports], weights=counts))
        g = self._gradient(reports)
        self._check(math.isfinite(loss) and bool(np.isfinite(g).all()))
        if reports[0].moments is not None:
            n = self._per_channel()
            new = reports[0].moments * np.stack([np.ones(len(n)), n / np.maximum(1, n - 1)], 1)
            self.moments += _RUNNING * (new - self.moments)
        steps = config.epochs * job.steps_per_epoch
        warmup = min(round(config.warmup * job.steps_per_epoch), steps // 2)
        assert config.lr is not None
        eta = rate(config.lr, self._step, steps, warmup, config.schedule == "cosine")
        self.rule.update(self.theta, g, eta, self._step)
        self._step += 1
        self._check(bool(np.isfinite(self.theta).all()))
        self._sum, self._count, self._loss = self._sum + loss, self._count + 1, loss
        if self._step % job.steps_per_epoch == 0 or self._reason:
            self._due = "evaluate"

    def _check(self, finite: bool) -> None:
        """Refuse to go on with numbers that are not finite."""
        config = self.job.config
        if finite:
            return
        if self._step == 0:
            near = f"or near them (mu {config.mu:g})"
            raise Diverged(f"the loss is not finite at the first parameters, {near}")
        raise Diverged(
            f"the loss is not finite any more at step {self._step:,} (lr {config.lr:g}, mu "
            f"{config.mu:g}): a smaller lr may help"
        )

    def _gradient(self, reports: list[Report]) -> Array:
        job, config = self.job, self.job.config
        if config.oracle in ("rge", "es"):
            count = config.directions // (2 if config.oracle == "es" else 1)
            return _summed(reports) / count
        g = self._stale * config.decay if config.oracle == "cyclic" else np.zeros(len(self.theta))
        g[job.coordinates(self._step)] = np.concatenate([report.values for report in reports])
        if config.oracle == "cyclic":
            self._stale = g.copy()
        return g

    def _per_channel(self) -> Array:
        """Numbers that the moments of each channel are of."""
        job = self.job
        assert job.network is not None
        total = job.data.count("train")
        at = self._step % job.steps_per_epoch * job.config.batch
        samples = min(job.config.batch, total - at)
        pixels = [s.height_conv * s.width_conv for s in job.network.stages]
        channels = [s.channels for s in job.network.stages]
        return samples * np.repeat(pixels, channels).astype(np.float64)

    def _evaluated(self, reports: list[Report]) -> None:
        count = self.job.data.count("test")
        if count:
            self._test = sum(report.loss for report in reports) / count
        if self.job.network is not None:
            self._right = sum(report.right for report in reports)
            self._check(not count or math.isfinite(self._test))
        self._due = "gradient"
        if self._count:  # none, if the run was stopped between two epochs
            self._train = self._sum / self._count
            self._sum, self._count = 0.0, 0
            self._rows.append(
                {
                    "step": self._step,
                    "queries": self._queries,
                    "best": self._train,
                    "test_loss": self._test,
                    "test_accuracy": self.accuracy,
                }
            )
        if self._step >= self.job.config.epochs * self.job.steps_per_epoch:
            self._ended = "epochs"
        elif self._reason:
            self._ended = self._reason

    @property
    def accuracy(self) -> float | None:
        """Share of the test data whose labels were right, at the end of the last epoch."""
        return None if self._right is None else self._right / self.job.data.count("test")

    @property
    def finished(self) -> bool:
        """Whether the run has ended."""
        return bool(self._ended)

    def stop(self, reason: str) -> None:
        """End the run: what there is by now is evaluated."""
        self._reason = reason if reason in _STATUS else "stopped"
        self._due = "evaluate"

    def progress(self) -> Progress:
        """Where the run stands."""
        steps = self.job.config.epochs * self.job.steps_per_epoch
        told = "" if self.accuracy is None else f"accuracy {self.accuracy:.2%}"
        return Progress(
            self._step,
            self._queries,
            self._loss,
            math.nan,
            self._step,
            steps,
            unit="queries",
            value="loss",
            told=told,
        )

    def history(self) -> list[dict[str, Any]]:
        """Rows of the history since the last call, one an epoch."""
        made, self._rows = self._rows, []
        return made

    def state(self) -> State:
        """Everything that a merge changes."""
        book = {
            "step": self._step,
            "queries": self._queries,
            "due": self._due,
            "sum": self._sum,
            "count": self._count,
            "loss": self._loss,
            "train": self._train,
            "test": self._test,
            "right": self._right,
            "ended": self._ended,
            "reason": self._reason,
            "sparsities": self.job.sparsities,
        }
        scored = {f"scored{i}": array for i, array in enumerate(self._scored)}
        return {
            "book": np.array(json.dumps(book)),
            "theta": self.theta.copy(),
            "moments": self.moments.copy(),
            "stale": self._stale.copy(),
            **scored,
            **self.rule.state(),
        }

    def restore(self, state: State) -> None:
        """Take up a state."""
        book = json.loads(state["book"].item())
        self._step, self._queries, self._due = book["step"], book["queries"], book["due"]
        self._sum, self._count, self._loss = book["sum"], book["count"], book["loss"]
        self._train, self._test, self._right = book["train"], book["test"], book["right"]
        self._ended, self._reason = book["ended"], book["reason"]
        self._prune(book["sparsities"])
        self.theta, self.moments = state["theta"].copy(), state["moments"].copy()
        self._stale = state["stale"].copy()
        self._scored = [state[name] for name in ("scored0", "scored1") if name in state]
        self.rule.restore(state)
        self._rows = []

    def result(self) -> dict[str, Any]:
        """Fields of the result."""
        job, config = self.job, self.job.config
        status, message = _STATUS[self._ended]
        return {
            "fun": self._train,
            "train_loss": self._train if math.isfinite(self._train) else None,
            "test_loss": self._test if math.isfinite(self._test) else None,
            "test_accuracy": self.accuracy,
            "queries": self._queries,
            "steps": self._step,
            "epochs": self._step / job.steps_per_epoch,
            "parameters": job.size,
            "oracle": config.oracle,
            "sparsity": job.sparsity,
            "sparsities": job.sparsities or None,
            "lr": config.lr,
            "mu": config.mu,
            "success": status == "epochs",
            "status": status,
            "message": message,
        }


def _summed(reports: list[Report]) -> Array:
    total = reports[0].values.copy()
    for report in reports[1:]:
        total += report.values
    return total
