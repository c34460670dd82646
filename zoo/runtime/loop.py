"""The run loop: supersteps until the method has finished, with events, snapshots and interrupts."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from zoo.errors import Interrupted
from zoo.problem import never
from zoo.runtime.events import FINISHED, IMPROVED, PROGRESS, SNAPSHOT, STARTED, Event, Listener
from zoo.runtime.hosts import Host
from zoo.runtime.protocol import Method, State

#: Seconds that the steps of one superstep should take: short enough to stay responsive.
_PACE = 0.05
#: Share of the time that may go into keeping states, for an interrupt within a superstep.
_KEEPING = 0.05
#: Seconds between two progress events, at least.
_TELLING = 0.02


class Snapshots(Protocol):
    """Where snapshots go."""

    interval: float

    rows: int

    def save(
        self, method: State, shards: Sequence[State], seconds: float, rows: int | None = None
    ) -> None:
        """Write one; ``rows`` of the history belong to it, all by default."""
        ...


def run(
    method: Method,
    host: Host,
    *,
    seconds: float | None = None,
    listeners: Sequence[Listener] = (),
    snapshots: Snapshots | None = None,
    resumed: Sequence[State] | None = None,
    spent: float = 0.0,
    cancelled: Callable[[], bool] = never,
) -> float:
    """Run a method to its end on a host; returns the seconds it took, ``spent`` included.

    Parameters
    ----------
    method, host
        What runs, and where.
    seconds : float, optional
        Budget of wall-clock time, ``spent`` included; the method is told to stop when it is used.
    listeners : sequence of callables
        Called with every :class:`Event`.
    snapshots : Snapshots, optional
        Where to save the state, every ``snapshots.interval`` seconds and when interrupted.
    resumed : sequence of State, optional
        The shards' states to start from; the method has been restored by the caller.
    cancelled : callable
        Asked between supersteps and during long evaluations; True interrupts the run.

    Raises
    ------
    Interrupted, and whatever the objective or a listener raises
        With ``snapshots`` the last good state is saved first.
    """

    def emit(kind: str, **data: Any) -> None:
        for listener in listeners:
            listener(Event(kind, data))

    def late() -> bool:
        return seconds is not None and time.perf_counter() - started >= seconds

    def stopped() -> bool:
        """Whether evaluations are to be given up: asked to, or late with something in hand."""
        if not running:  # workers start, code is compiled: that is not counted
            return cancelled()
        return cancelled() or (not stopping and late() and method.progress().best < math.inf)

    started = time.perf_counter() - spent
    saved = time.perf_counter()
    steps, stopping, running = 1, False, False
    keeping, kept_at, told = 0.0, saved, 0.0
    best = method.progress().best
    kept: tuple[State, list[State], float, int] | None = None

    def tell() -> None:
        nonlocal best, told
        told = time.perf_counter()
        progress, rows = method.progress(), method.history()
        emit(PROGRESS, progress=progress, seconds=told - started, rows=rows)
        if progress.best < best:
            best = progress.best
            emit(IMPROVED, progress=progress)

    def current() -> tuple[State, list[State], float, int]:
        tell()  # the history is to be as far as the state
        rows = snapshots.rows if snapshots is not None else 0
        return method.state(), host.states(), time.perf_counter() - started, rows

    def save(state: tuple[State, list[State], float, int]) -> None:
        if snapshots is not None:
            snapshots.save(*state)
            emit(SNAPSHOT)

    emit(STARTED, shards=method.shards)
    try:
        host.start(method, stopped, resumed)
        started += time.perf_counter() - saved
        running = True
        try:
            while not method.finished:
                if cancelled():
                    kept = current()
                    raise Interrupted
                now = time.perf_counter()
                if late() and not stopping and method.progress().evaluations:
                    stopping = True
                    method.stop("seconds")
                if snapshots is not None and now - saved >= snapshots.interval:
                    kept = current()
                    save(kept)
                    saved = kept_at = time.perf_counter()
                at = time.perf_counter()
                if (snapshots or seconds) and keeping <= _KEEPING * (at - kept_at):
                    kept, kept_at = current(), time.perf_counter()
                    keeping = kept_at - at
                    at = kept_at
                try:
                    reports = host.step(method.message(steps))
                except Interrupted:
                    if stopping or kept is None or not late():
                        raise
                    # Late: back to what was kept, and to its end.
                    host.close()
                    stopping = True
                    if method.resident:  # else nothing has changed yet
                        method.restore(kept[0])
                    host.start(method, stopped, kept[1])
                    method.stop("seconds")
                    continue
                method.merge(reports)
                took = time.perf_counter() - at
                limit = _PACE
                if seconds is not None:
                    limit = min(limit, max(1e-3, seconds / 20))
                if took < limit / 2:
                    steps = min(2 * steps, 1 << 30)
                elif took > 2 * limit and steps > 1:
                    steps //= 2
                if at + took - told >= _TELLING or method.finished:
                    tell()
        except BaseException:
            if kept is not None:
                save(kept)
            raise
    finally:
        host.close()
    elapsed = time.perf_counter() - started
    emit(FINISHED, progress=method.progress(), seconds=elapsed)
    return elapsed
