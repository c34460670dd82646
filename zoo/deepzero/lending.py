"""Networks at work in a process, lent to the shards that step at the same time."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

from zoo.deepzero.job import Job
from zoo.problem import never


@dataclass
class Lent:
    """A network, or black box, at work.

    Attributes
    ----------
    model : Engine or BlackBox
    task : Task, optional
        Whose batch it has, with the mean loss ``base`` at the task's parameters: what one shard
        has made for it, others find.
    """

    model: Any
    task: Any = None
    base: float = math.nan


class Models:
    """As many of a job as are in use at the same time: they take much memory, and shards are many.

    Parameters
    ----------
    job : Job
    threads : int
        Of each.
    cancelled : callable
    """

    def __init__(self, job: Job, threads: int = 1, cancelled: Callable[[], bool] = never) -> None:
        self._new = lambda: Lent(job.model(threads, cancelled))
        self._free: list[Lent] = []
        # A GPU has memory for one, and does its work one thing after the other anyway.
        self._turn: Any = threading.Lock() if job.config.device == "cuda" else nullcontext()
        self._lock = threading.Lock()

    @contextmanager
    def lent(self, task: Any) -> Iterator[Lent]:
        """Lend one, that has been at this task if there is such a one."""
        with self._turn, self._lent(task) as lent:
            yield lent

    @contextmanager
    def _lent(self, task: Any) -> Iterator[Lent]:
        with self._lock:
            self._free.sort(key=lambda lent: lent.task is task)
            lent = self._free.pop() if self._free else None
        lent = lent or self._new()
        try:
            yield lent
        finally:
            with self._lock:
                self._free.append(lent)
