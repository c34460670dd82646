"""A client where its data is: a shard that answers, or is absent, within its time."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from zoo.errors import Interrupted, ObjectiveError
from zoo.fzoos.algorithms.table import local_of
from zoo.fzoos.client import NoValue, Oracle
from zoo.fzoos.exchange import Message, Report
from zoo.fzoos.job import Job
from zoo.fzoos.linear import one_thread
from zoo.problem import never
from zoo.runtime.protocol import Exchange, State


class ClientShard:
    """See :class:`zoo.runtime.protocol.Shard`.

    What an absent client has queried by then stays with it, and in its ledger.
    """

    def __init__(
        self, index: int, job: Job, threads: int = 1, cancelled: Callable[[], bool] = never
    ) -> None:
        self.index, self.job, self._cancelled = index, job, cancelled
        self._end = float("inf")
        problem = job.problem
        self._oracle = Oracle(
            problem.clients[index].open(isolate=job.config.round_timeout is not None),
            problem.lower,
            problem.upper,
            noise=problem.noise,
            seed=job.seed,
            client=index,
            threads=threads,
            cancelled=lambda: cancelled() or self._late(),
        )
        self._local = local_of(job, index, self._oracle)

    def _late(self) -> bool:
        return time.monotonic() > self._end

    def step(self, message: Message) -> Report:
        """Answer, if it is among those who are asked."""
        if self.index not in message.clients:
            return Report(None, self._oracle.queries)
        limit = self.job.config.round_timeout
        self._end = time.monotonic() + limit if limit is not None else float("inf")
        arrays, reason = None, ""
        try:
            with one_thread():
                arrays = self._local.answer(message.task)
        except Interrupted:
            if self._cancelled():
                raise
            reason = f"no answer within {limit:g} s"
        except (ObjectiveError, NoValue) as error:
            reason = str(error)
        return Report(arrays, self._oracle.queries, reason)

    def exchange(self, message: Message) -> Exchange:
        """Answer; nothing is evaluated outside."""
        return self.step(message)
        yield  # makes this a generator

    def state(self) -> State:
        """What the client remembers, and its ledger."""
        return {"queries": np.array(self._oracle.queries), **self._local.state()}

    def restore(self, state: State) -> None:
        """Take up a state."""
        self._oracle.queries = int(state["queries"])
        self._local.restore({name: array for name, array in state.items() if name != "queries"})
