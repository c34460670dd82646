"""Ctrl-C, SIGTERM and SIGHUP: the first asks the run to stop, the second ends the process."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

from cli.failure import INTERRUPTED


@contextmanager
def interrupts() -> Iterator[Callable[[], bool]]:
    """Yield a question: has the run been asked to stop?"""
    asked: list[int] = []

    def hear(number: int, frame: FrameType | None) -> None:
        if asked:
            with suppress(Exception):  # it may have been at writing there
                print("zoo: stopped at once", file=sys.stderr, flush=True)
            os._exit(INTERRUPTED)
        asked.append(number)

    before = {}
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is not signal.SIG_IGN:  # nohup, say
                before[number] = signal.signal(number, hear)
    try:
        yield lambda: bool(asked)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
