"""The superstep protocol: what a method and its shards promise, and what hosts rely on.

    message = method.message(steps)
    repeat:   reports = [shard.step(message) for shard in shards]      # side by side
              method.merge(reports)                                    # in shard order
              message = method.message(steps)
    until     method.finished

A shard is a resident piece of the population. ``step`` is a function of its state and the message
alone: no clock, no global random state. The number of shards belongs to the configuration, and
reports are merged in shard order, so the result does not depend on where the shards live.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from zoo.problem import Problem

State = dict[str, np.ndarray[Any, Any]]

#: Yields points (n, d) to be evaluated, is sent their values (n,), returns a report.
Exchange = Generator[np.ndarray[Any, Any], np.ndarray[Any, Any], Any]


@dataclass(frozen=True)
class Progress:
    """Where a run stands.

    ``done`` and ``of`` count the unit of the nearest limit (steps, say); ``of`` 0: no limit known.
    ``unit`` is what is counted as evaluations, ``value`` what best is, ``told`` what else is to be
    said.
    """

    step: int
    evaluations: int
    best: float
    spread: float
    done: int = 0
    of: int = 0
    unit: str = "evaluations"
    value: str = "best"
    told: str = ""


class Shard(Protocol):
    """A resident piece of a population."""

    def step(self, message: Any) -> Any:
        """Take one superstep; returns the report."""
        ...

    def exchange(self, message: Any) -> Exchange:
        """Take one superstep whose evaluations are made outside (ask and tell)."""
        ...

    def state(self) -> State:
        """Everything that a superstep changes, as copies."""
        ...

    def restore(self, state: State) -> None:
        """Take up a state."""
        ...


class Method(Protocol):
    """The driver's side of a system.

    Attributes
    ----------
    problem : Problem or None
        None if nothing is evaluated that came from outside.
    shards : int
    resident : bool
        Whether shards hold a population; if not, they keep nothing from one message to the next.
    concurrent : bool
        Whether shards may step side by side in one process, if the problem's objective may.
    """

    problem: Problem | None
    resident: bool
    concurrent: bool

    @property
    def shards(self) -> int:
        """Number of shards, which belongs to the configuration."""
        ...

    def shard(self, index: int, threads: int, cancelled: Callable[[], bool]) -> Shard:
        """Build shard ``index``; it may use ``threads`` and stops when ``cancelled``."""
        ...

    def message(self, steps: int) -> Any:
        """Message of the next superstep, which may take up to ``steps`` iterations."""
        ...

    def merge(self, reports: list[Any]) -> None:
        """Take in the reports of a superstep, in shard order."""
        ...

    @property
    def finished(self) -> bool:
        """Whether the run has ended."""
        ...

    def stop(self, reason: str) -> None:
        """End the run at the next superstep, for a reason from outside ("seconds")."""
        ...

    def progress(self) -> Progress:
        """Where the run stands."""
        ...

    def history(self) -> list[dict[str, Any]]:
        """Rows of the run's history since the last call."""
        ...

    def state(self) -> State:
        """Everything that a merge changes, as copies."""
        ...

    def restore(self, state: State) -> None:
        """Take up a state."""
        ...

    def result(self) -> dict[str, Any]:
        """Fields of the result, from ``x`` and ``fun`` on."""
        ...
