"""A client that evaluates what it is asked for, and remembers nothing."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from zoo.fzoos.client import NoValue, Oracle
from zoo.fzoos.exchange import Task
from zoo.fzoos.job import Job
from zoo.runtime.protocol import State

Array = npt.NDArray[np.float64]


class Evaluating:
    """A client's side; see :class:`zoo.fzoos.algorithms.sides.Local`.

    Parameters
    ----------
    points_of : callable
        Points (e, d) that a task asks for.
    job : Job
    index : int
    oracle : Oracle
    """

    def __init__(
        self, points_of: Callable[[Job, Task], Array], job: Job, index: int, oracle: Oracle
    ) -> None:
        self.job, self.oracle, self._points_of = job, oracle, points_of

    def answer(self, task: Task) -> dict[str, Array]:
        """See Local."""
        values = self.oracle(self._points_of(self.job, task))
        if not np.isfinite(values).any():
            raise NoValue("its values are not finite")
        return {"values": values}

    def state(self) -> State:
        """See Local."""
        return {}

    def restore(self, state: State) -> None:
        """See Local."""
