"""A superstep whose evaluations are made outside the shards, for all of them together."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any

from zoo.problem import Array
from zoo.runtime.protocol import Shard


def exchanged(shards: Sequence[Shard], message: Any) -> Generator[list[Array], Array, list[Any]]:
    """Take one superstep of every shard, side by side.

    Yields the blocks of points that shards ask for, in shard order; is sent the values of all
    their rows; returns the reports, in shard order.
    """
    exchanges = [shard.exchange(message) for shard in shards]
    asked: list[Array | None] = [None] * len(shards)
    reports: list[Any] = [None] * len(shards)

    def send(index: int, values: Array | None) -> None:
        try:
            asked[index] = exchanges[index].send(values)  # type: ignore[arg-type]
        except StopIteration as finished:
            asked[index] = None
            reports[index] = finished.value

    for index in range(len(shards)):
        send(index, None)
    while any(x is not None for x in asked):
        values = yield [x for x in asked if x is not None]
        start = 0
        for index, x in enumerate(asked):
            if x is not None:
                send(index, values[start : start + len(x)].copy())
                start += len(x)
    return reports
