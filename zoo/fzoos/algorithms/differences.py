"""FedZO, FedProx and SCAFFOLD with finite differences (FZooS, section 3.2).

    Delta_i(x) = 1/Q sum_q [f_i(x + lambda u_q) - f_i(x)] / lambda u_q

along orthonormal directions u_q (Adam does not mind the scale: there is no factor d), and

    fedzo       g = Delta_i(x)
    fedprox     g = Delta_i(x) + gamma (x - x_r-1)
    scaffold1   g = Delta_i(x) + mean_j Delta_j(x_r-1) - Delta_i(x_r-1), made in the survey
    scaffold2   the same with the mean of the estimates of the last round in place of Delta(x_r-1)
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from zoo.fzoos.algorithms.stepping import Sent, Stepping, projected
from zoo.fzoos.client import NoValue, Oracle
from zoo.fzoos.directions import LOCAL, SURVEY, Adam, generator, orthonormal
from zoo.fzoos.exchange import Task
from zoo.fzoos.job import Job
from zoo.runtime.protocol import State

Array = npt.NDArray[np.float64]


def server(job: Job) -> Stepping:
    """The server's side."""
    scaffold = job.config.algorithm in ("scaffold1", "scaffold2")
    return Stepping(job, ("control",) if scaffold else (), job.config.algorithm == "scaffold1")


class Differences:
    """A client's side; see :class:`zoo.fzoos.algorithms.sides.Local`."""

    def __init__(self, job: Job, index: int, oracle: Oracle) -> None:
        self.job, self.index, self.oracle = job, index, oracle
        d = job.dimension
        self._at, self._value = np.full(d, np.nan), np.nan  # the point known last
        self._sent = Sent()
        self._mean = np.zeros(0)  # of the estimates of the last round

    def answer(self, task: Task) -> dict[str, Array]:
        """See Local."""
        if task.kind == "survey":
            return self._survey(task)
        return self._steps(task)

    def _survey(self, task: Task) -> dict[str, Array]:
        x, kind = task.arrays["x"], self.job.config.algorithm
        found = {"value": np.array([self._known(x)])}
        if kind == "scaffold1":
            found["control"] = self._estimate(x, SURVEY, task.round, 0)
        elif kind == "scaffold2":
            mean = self._mean if len(self._mean) else np.zeros(self.job.dimension)
            found["control"] = mean.copy()
        if "control" in found:
            self._sent.keep(task.round, found["control"])
        return found

    def _steps(self, task: Task) -> dict[str, Array]:
        config, start = self.job.config, task.arrays["x"]
        x, steps = start.copy(), Adam(self.job.dimension, config.eta)
        total = np.zeros_like(x)
        correction = np.zeros_like(x)
        sent = self._sent.within(task, self.index)
        if sent is not None:
            correction = task.arrays["control"] - sent
        assert config.local_steps is not None
        for t in range(config.local_steps):
            g = self._estimate(x, LOCAL, task.round, t)
            total += g
            if config.algorithm == "fedprox":
                assert config.gamma is not None
                correction = float(config.gamma) * (x - start)
            x = projected(x - steps.step(g + correction))
        self._mean = total / config.local_steps
        return {"step": x - start}

    def _known(self, x: Array) -> float:
        if not np.array_equal(x, self._at):
            self._value = self.oracle.one(x)
            self._at = x.copy()
        return self._value

    def _estimate(self, x: Array, purpose: int, round: int, t: int) -> Array:
        config = self.job.config
        random = generator(self.job.seed, self.index, purpose, round, t)
        u = orthonormal(random, config.directions, self.job.dimension)
        points = projected(x + config.step * u)
        if np.array_equal(x, self._at):
            values = self.oracle(points)
        else:
            values = self.oracle(np.concatenate([x[None], points]))
            if np.isnan(values[0]):
                raise NoValue("its value is not finite")
            self._at, self._value, values = x.copy(), float(values[0]), values[1:]
        slopes = (values - self._value) / config.step
        there = np.isfinite(slopes)
        if not there.any():
            raise NoValue("its values are not finite")
        return np.asarray(slopes[there] @ u[there] / there.sum())

    def state(self) -> State:
        """See Local."""
        known = np.append(self._at, self._value)
        return {"known": known, "mean": self._mean.copy(), **self._sent.state()}

    def restore(self, state: State) -> None:
        """See Local."""
        self._at, self._value = state["known"][:-1].copy(), float(state["known"][-1])
        self._mean = state["mean"].copy()
        self._sent.restore(state)
