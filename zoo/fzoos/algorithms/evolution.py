"""Federated CMA-ES: everybody evaluates the server's candidates, which it ranks by their mean.

What clients differ by cancels out in the mean, as it does in ``shared``. The strategy is pycma's,
over the unit box; its own criteria to stop are not asked: rounds are the budget. The iterate is the
mean of its distribution, which is evaluated with every generation.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from zoo.fzoos.algorithms.stepping import projected
from zoo.fzoos.directions import ALL, SHARED, generator
from zoo.fzoos.exchange import Arrays, Task, weighted
from zoo.fzoos.job import Job
from zoo.fzoos.linear import one_thread
from zoo.runtime.protocol import State

Array = npt.NDArray[np.float64]

#: In more dimensions the covariance is diagonal: a full one takes memory of d^2 and time of d^3.
_LARGE = 1000


class Evolution:
    """The server's side; see :class:`zoo.fzoos.algorithms.sides.Server`."""

    between = True

    def __init__(self, job: Job) -> None:
        self.job, self.x, self.fun = job, job.start, math.nan
        self._worst = -math.inf  # mean value so far
        self._told: list[Array] = []  # of all generations, which bring the strategy back
        self._strategy = _strategy(job)
        self._asked: list[Array] = []  # candidates of the generation under way
        self._points = np.empty((0, job.dimension))  # and its mean, in the box

    def ask(self, round: int, clients: Sequence[int]) -> Task:
        """See Server."""
        if not len(self._points):
            mean = np.asarray(self._strategy.result.xfavorite)
            with np.errstate(all="ignore"):
                self._asked = self._strategy.ask()
            self._points = projected(np.array([mean, *self._asked]))
        return Task("values", round, {"points": self._points})

    def tell(self, round: int, replies: Mapping[int, Arrays]) -> None:
        """See Server."""
        values = weighted(replies, self.job.problem.weights, "values")
        if math.isfinite(values[0]):
            self.x, self.fun = self._points[0], float(values[0])
        self._worst = float(np.max(values[np.isfinite(values)], initial=self._worst))
        self._learn(np.where(np.isfinite(values[1:]), values[1:], self._worst))
        self._points = np.empty((0, self.job.dimension))

    def _learn(self, values: Array) -> None:
        self._told.append(values)
        if np.isfinite(values).all():  # else there has been no mean value yet
            with np.errstate(all="ignore"):
                self._strategy.tell(self._asked, values.tolist())

    def void(self) -> None:
        """See Server."""

    def state(self) -> State:
        """See Server."""
        return {
            "x": self.x.copy(),
            "book": np.array([self.fun, self._worst]),
            "told": np.array(self._told),
        }

    def restore(self, state: State) -> None:
        """See Server."""
        self.x = state["x"].copy()
        self.fun, self._worst = state["book"].tolist()
        self._told, self._strategy = [], _strategy(self.job)
        self._points = np.empty((0, self.job.dimension))
        with one_thread(), np.errstate(all="ignore"):
            for values in state["told"]:
                self._asked = self._strategy.ask()
                self._learn(values)


def _strategy(job: Job) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it asks for matplotlib
        import cma

    random = generator(job.seed, ALL, SHARED, 0)
    d = job.dimension
    options = {
        "bounds": [[0.0] * d, [1.0] * d],
        "CMA_diagonal": d > _LARGE,
        "randn": lambda *shape: random.standard_normal(shape),
        "seed": np.nan,  # leaves the global generator alone
        "verbose": -9,  # says nothing, writes nothing
        "verb_log": 0,
        "signals_filename": "",  # reads nothing
    }
    if job.config.popsize is not None:
        options["popsize"] = job.config.popsize
    if d == 1:
        options["maxstd"] = math.inf  # pycma fails to limit the deviation of one coordinate
    return cma.CMAEvolutionStrategy(job.start, job.config.sigma0, options)


def points_of(job: Job, task: Task) -> Array:
    """Points (1 + lambda, d) that clients evaluate."""
    return np.asarray(task.arrays["points"])
