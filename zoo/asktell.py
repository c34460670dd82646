"""Ask and tell: a method driven from outside, for evaluations that happen elsewhere."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import numpy as np

from zoo import methods
from zoo.errors import InputError
from zoo.optimize import as_seed, optimize_result, split_options, start_point
from zoo.problem import Array, Problem, as_bounds, as_objective


class Optimizer:
    """A method driven from outside: ask for points, tell their values.

    Gives the same bits as :func:`minimize` with the same arguments.

    Examples
    --------
    >>> import zoo
    >>> optimizer = zoo.Optimizer([(-5, 5)] * 2, seed=1, steps=100, particles=20)
    >>> while not optimizer.finished:
    ...     x = optimizer.ask()
    ...     optimizer.tell(x, (x**2).sum(axis=1))
    >>> bool(optimizer.result().fun < 1e-3)
    True
    """

    def __init__(
        self, bounds: Any, method: str = "cbo", *, seed: int = 0, x0: Any = None, **options: Any
    ) -> None:
        lower, upper = as_bounds(bounds)
        self._problem = Problem(as_objective(_unused), lower, upper)
        config, budget = split_options(method, options)
        if budget.seconds is not None:
            raise InputError("a budget of seconds is for runs that zoo times itself")
        self.seed = as_seed(seed)
        self._method = methods.get(method).method_class()(
            self._problem, config, budget, self.seed, start_point(x0, self._problem)
        )
        self._shards = [self._method.shard(index) for index in range(self._method.shards)]
        self._exchanges: list[Generator[Array, Array, Any] | None] = []
        self._asked: list[Array | None] = []
        self._reports: list[Any] = []
        self._advance(None)

    @property
    def finished(self) -> bool:
        """Whether the run has ended."""
        return bool(self._method.finished)

    def ask(self) -> Array:
        """Points (n, d) to be evaluated next; the same ones until told."""
        if self.finished:
            raise InputError("the run has ended: result() has its result")
        return np.concatenate([x for x in self._asked if x is not None])

    def tell(self, x: Any, y: Any) -> None:
        """Take the values y (n,) of the points x (n, d) that were asked for, in that order."""
        asked = self.ask()
        values = np.asarray(y, np.float64).reshape(-1)
        if np.shape(x) != asked.shape or not np.array_equal(np.asarray(x, np.float64), asked):
            raise InputError(f"x must be the {len(asked)} points of the last ask(), in their order")
        if len(values) != len(asked):
            raise InputError(f"{len(values)} values for {len(asked)} points")
        self._advance(values)

    def result(self) -> Any:
        """Result so far, as a ``scipy.optimize.OptimizeResult``."""
        return optimize_result(self._method.result() | {"seed": self.seed})

    def _advance(self, values: Array | None) -> None:
        if values is not None:
            self._feed(values)
        while not self.finished and all(x is None for x in self._asked):
            if self._exchanges:
                self._method.merge(self._reports)
            if self.finished:
                return
            message = self._method.message(1)
            self._exchanges = [shard.exchange(message) for shard in self._shards]
            self._asked = [None] * len(self._shards)
            self._reports = [None] * len(self._shards)
            for index in range(len(self._shards)):
                self._send(index, None)

    def _feed(self, values: Array) -> None:
        start = 0
        for index, x in enumerate(self._asked):
            if x is not None:
                self._send(index, values[start : start + len(x)].copy())
                start += len(x)

    def _send(self, index: int, values: Array | None) -> None:
        exchange = self._exchanges[index]
        assert exchange is not None
        try:
            self._asked[index] = exchange.send(values)  # type: ignore[arg-type]
        except StopIteration as finished:
            self._asked[index] = None
            self._reports[index] = finished.value


def _unused(x: Array) -> float:
    raise RuntimeError("the values come from tell()")
