"""The live progress line on stderr."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from zoo.runtime.events import JOINED, LOST, PROGRESS, STARTED, Event, Listener


class ProgressLine:
    """Says where a run stands, whenever it is asked."""

    def __init__(self, cancelled: Callable[[], bool], seconds: float | None = None) -> None:
        self._cancelled = cancelled
        self._seconds = seconds
        self._latest: Any = None
        self._elapsed = 0.0
        self._workers: set[int] = set()
        self._first: tuple[float, int, float] | None = None  # clock, evaluations, done

    def listen(self, event: Event) -> None:
        """Take in an event."""
        if event.kind == STARTED:
            self._first = None
        if event.kind in (JOINED, LOST):
            (self._workers.add if event.kind == JOINED else self._workers.discard)(
                event.data["worker"]
            )
        if event.kind != PROGRESS:
            return
        self._latest, self._elapsed = event.data["progress"], event.data["seconds"]
        if self._first is None:  # rates count from here, without compiling
            self._first = (time.perf_counter(), self._latest.evaluations, self._latest.done)

    def __str__(self) -> str:
        if self._latest is None:
            return "stopping" if self._cancelled() else "starting: compiling (once)"
        now = self._latest
        of = ""
        if now.of:  # counts steps, or something else
            of = f"/{now.of:,}" if now.done == now.step else f" ({now.done / now.of:.0%})"
        parts = [f"step {now.step:,}{of}"]
        parts.append(f"{now.value} {now.best:.6g}")
        if now.told:
            parts.append(now.told)
        if not math.isnan(now.spread):
            parts.append(f"spread {now.spread:.2e}")
        parts += self._rates()
        if self._workers:
            parts.append(f"{len(self._workers)} worker{'s' * (len(self._workers) > 1)}")
        if self._cancelled():
            parts.append("stopping after this step (Ctrl-C again: at once)")
        return "  ".join(parts)

    def __rich__(self) -> Any:
        from rich.text import Text

        return Text(str(self), no_wrap=True, overflow="ellipsis")

    def _rates(self) -> list[str]:
        assert self._first is not None
        clock, evaluations, done = self._first
        took = time.perf_counter() - clock
        if took < 0.1:
            return []
        now = self._latest
        rates = [f"{short((now.evaluations - evaluations) / took)} {now.unit}/s"]
        left = []
        if now.of and now.done > done:
            left.append((now.of - now.done) * took / (now.done - done))
        if self._seconds is not None:
            left.append(max(0.0, self._seconds - self._elapsed))
        if left:
            rates.append(f"{clock_time(min(left))} left")
        return rates


@contextmanager
def progress_line(
    wanted: bool, cancelled: Callable[[], bool], seconds: float | None = None
) -> Iterator[list[Listener]]:
    """Show a progress line meanwhile, if stderr is a terminal; yields the listeners it needs."""
    if not (wanted and sys.stderr.isatty()):
        yield []
        return
    from rich.console import Console
    from rich.live import Live

    line = ProgressLine(cancelled, seconds)
    with Live(line, console=Console(stderr=True), refresh_per_second=8, transient=True):
        yield [line.listen]


def short(number: float) -> str:
    """A count in three digits: 950, 12.3k, 4.56M."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.3g}{letter}"
    return f"{number:.3g}"


def clock_time(seconds: float) -> str:
    """A duration as 12 s, 3:05 or 1:02:03."""
    whole = int(seconds + 0.5)
    if whole < 60:
        return f"{whole} s"
    minutes, seconds = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
