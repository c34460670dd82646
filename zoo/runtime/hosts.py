"""Where shards live. A host knows shards and messages, never a method."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

from zoo.runtime.protocol import Method, Shard, State


class Host(Protocol):
    """Holds the shards of one run."""

    def start(
        self, method: Method, cancelled: Callable[[], bool], states: Sequence[State] | None
    ) -> None:
        """Build the shards, in the given states if any."""
        ...

    def step(self, message: Any) -> list[Any]:
        """Step every shard; reports in shard order."""
        ...

    def states(self) -> list[State]:
        """State of every shard."""
        ...

    def close(self) -> None:
        """Let the shards go."""
        ...


def _build(
    method: Method,
    threads: int,
    cancelled: Callable[[], bool],
    states: Sequence[State] | None,
) -> list[Shard]:
    shards = [method.shard(index, threads, cancelled) for index in range(method.shards)]
    for shard, state in zip(shards, states or (), strict=bool(states)):
        shard.restore(state)
    return shards


class InlineHost:
    """All shards in the calling thread."""

    def __init__(self) -> None:
        self._shards: list[Shard] = []

    def start(
        self, method: Method, cancelled: Callable[[], bool], states: Sequence[State] | None
    ) -> None:
        """See :class:`Host`."""
        self._shards = _build(method, 1, cancelled, states)

    def step(self, message: Any) -> list[Any]:
        """See :class:`Host`."""
        return [shard.step(message) for shard in self._shards]

    def states(self) -> list[State]:
        """See :class:`Host`."""
        return [shard.state() for shard in self._shards]

    def close(self) -> None:
        """See :class:`Host`."""
        self._shards = []


class ThreadsHost:
    """Shards in this process, stepped by a pool of threads; compiled loops release the GIL.

    Threads that shards leave free serve the evaluations within a shard.
    """

    def __init__(self, threads: int | None = None) -> None:
        self.threads = threads or len(os.sched_getaffinity(0))
        self._shards: list[Shard] = []
        self._pool: ThreadPoolExecutor | None = None

    def start(
        self, method: Method, cancelled: Callable[[], bool], states: Sequence[State] | None
    ) -> None:
        """See :class:`Host`."""
        self._shards = _build(method, max(1, self.threads // method.shards), cancelled, states)
        if min(self.threads, len(self._shards)) > 1:
            self._pool = ThreadPoolExecutor(min(self.threads, len(self._shards)), "zoo-shard")

    def step(self, message: Any) -> list[Any]:
        """See :class:`Host`."""
        if self._pool is None:
            return [shard.step(message) for shard in self._shards]
        return list(self._pool.map(lambda shard: shard.step(message), self._shards))

    def states(self) -> list[State]:
        """See :class:`Host`."""
        return [shard.state() for shard in self._shards]

    def close(self) -> None:
        """See :class:`Host`."""
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
            self._pool = None
        self._shards = []
