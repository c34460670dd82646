"""Evaluations of one shard, over the threads that it may use."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from zoo.errors import Interrupted
from zoo.problem import Array, Objective, never
from zoo.runtime.protocol import Exchange, State

#: Work, in seconds, below which a piece is not worth handing to another thread.
_WORTHWHILE = 2e-3


class Evaluator:
    """Evaluates rows of points; values do not depend on the number of threads.

    Attributes
    ----------
    seconds_each : float
        Measured time of one evaluation; 0 before the first.
    """

    def __init__(
        self, objective: Objective, threads: int = 1, cancelled: Callable[[], bool] = never
    ) -> None:
        self.objective = objective
        self.threads = threads if objective.concurrent else 1
        self.cancelled = cancelled
        self.seconds_each = 0.0

    def __call__(self, x: Array) -> Array:
        """Values (n,) at the rows of x (n, d)."""
        if getattr(self.objective, "batched", False):  # takes all points of a step at once
            if self.cancelled():
                raise Interrupted
            return self.objective.evaluate(x, self.cancelled)
        if self.seconds_each == 0.0 and len(x) > 1:
            first = self._timed(x[:1])  # may include compiling
            return np.concatenate([first, self._timed(x[1:])])
        return self._timed(x)

    def _timed(self, x: Array) -> Array:
        started = time.perf_counter()
        values = self._evaluate(x)
        self.seconds_each = (time.perf_counter() - started) / max(1, len(x))
        return values

    def _evaluate(self, x: Array) -> Array:
        each = self.seconds_each
        if self.cancelled():
            raise Interrupted
        if self.threads == 1 or len(x) < 2 or 0.0 < each * len(x) < _WORTHWHILE:
            # In pieces, so that a request to stop is heard.
            rows = max(1, int(0.05 / each)) if each > 0.0 else len(x)
            pieces = [x[i : i + rows] for i in range(0, len(x), rows)]
            values = []
            for piece in pieces:
                if self.cancelled():
                    raise Interrupted
                values.append(self.objective.evaluate(piece, self.cancelled))
            return np.concatenate(values)
        rows = max(1, min(-(-len(x) // self.threads), int(0.05 / each) if each > 0.0 else 1))
        pieces = [x[i : i + rows] for i in range(0, len(x), rows)]
        with ThreadPoolExecutor(self.threads, "zoo-evaluate") as pool:
            futures = [
                pool.submit(self.objective.evaluate, piece, self.cancelled) for piece in pieces
            ]
            try:
                return np.concatenate([future.result() for future in futures])
            except BaseException:
                for future in futures:
                    future.cancel()
                raise


class EvaluationShard:
    """The shard of an ask/tell method: it holds nothing and evaluates the points of the message."""

    def __init__(self, evaluator: Evaluator) -> None:
        self._evaluator = evaluator

    def step(self, message: Array) -> Array:
        """Values (n,) at the points of the message (n, d); there may be none."""
        return self._evaluator(message) if len(message) else np.empty(0)

    def exchange(self, message: Array) -> Exchange:
        """See :class:`zoo.runtime.protocol.Shard`."""
        return (yield message)

    def state(self) -> State:
        """Nothing changes."""
        return {}

    def restore(self, state: State) -> None:
        """Take up nothing."""
