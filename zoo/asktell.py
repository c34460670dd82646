"""Ask and tell: a method driven from outside, for evaluations that happen elsewhere."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import numpy as np

from zoo import methods
from zoo.errors import InputError
from zoo.optimize import as_seed, optimize_result, split_options, start_point
from zoo.problem import Array, Problem, as_bounds, as_objective
from zoo.runtime.exchanges import exchanged


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
        self._superstep: Generator[list[Array], Array, list[Any]] | None = None
        self._asked: Array = np.empty((0, 0))
        self._advance(None)

    @property
    def finished(self) -> bool:
        """Whether the run has ended."""
        return bool(self._method.finished)

    def ask(self) -> Array:
        """Points (n, d) to be evaluated next; the same ones until told."""
        if self.finished:
            raise InputError("the run has ended: result() has its result")
        return self._asked.copy()

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
        while not self.finished:
            if self._superstep is None:
                self._superstep = exchanged(self._shards, self._method.message(1))
                values = None
            try:
                blocks = self._superstep.send(values)  # type: ignore[arg-type]
                self._asked = np.concatenate(blocks)
                return
            except StopIteration as ended:
                self._superstep = None
                self._method.merge(ended.value)


def _unused(x: Array) -> float:
    raise RuntimeError("the values come from tell()")
