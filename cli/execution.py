"""A run under the command line: progress, interrupts, stray output, and what ended it."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from cli.failure import FAILED, INTERRUPTED, Ended, say, traceback_wanted
from cli.interrupts import interrupts
from cli.progress import progress_line
from zoo.errors import Diverged, Interrupted, ObjectiveError, RunError
from zoo.runtime.events import LOST, NOTE, PROGRESS, STARTED, Event, Listener

Work = Callable[[Sequence[Listener], Callable[[], bool]], Any]


def executed(
    work: Work,
    *,
    quiet: bool,
    folder: str | None = None,
    seconds: float | None = None,
    objective: Any = None,
    report: Callable[[Any], None],
) -> Any:
    """Result of ``work(listeners, cancelled)``.

    Parameters
    ----------
    work : callable
        Starts or continues a run.
    quiet : bool
        No progress line, and no notes.
    folder : str, optional
        Run folder, if one is written.
    seconds : float, optional
        Budget of seconds, for the time left.
    objective : Objective, optional
        What is evaluated; a command's last complaint is added to a failure.
    report : callable
        Called with what a run had found that is interrupted, or fails.

    Raises
    ------
    Ended
        If the run is interrupted, or fails after it has started.
    """
    started, step = False, 0

    def follow(event: Event) -> None:
        nonlocal started, step
        started = started or event.kind == STARTED
        if event.kind == PROGRESS:
            step = event.data["progress"].step
        elif event.kind == NOTE and not quiet:
            say(event.data["text"])
        elif event.kind == LOST and not quiet:
            name, why = event.data["name"], event.data["why"]
            say(f"lost worker {name} ({why}); another is started in its place")

    try:
        with interrupts() as cancelled, progress_line(not quiet, cancelled, seconds) as listeners:
            return work([follow, *listeners], cancelled)
    except (Interrupted, KeyboardInterrupt) as error:
        found = getattr(error, "result", None)
        if found is not None:
            report(found)
        kept = "nothing of it was kept (--out RUN keeps a run)"
        if folder is not None:
            kept = f"'zoo resume {folder}' continues it"
        raise Ended(f"interrupted at step {step}; {kept}", INTERRUPTED) from error
    except Diverged as error:
        raise Ended(str(error), FAILED) from error
    except RunError as error:
        if started:
            kept = f"; 'zoo resume {folder}' continues it" if folder is not None else ""
            raise Ended(f"{error}{kept}", FAILED) from error
        raise
    except ObjectiveError as error:
        if error.result is not None:
            report(error.result)
        if objective.last_error:
            text = f"{error}; the last failure: {objective.last_error}"
            raise ObjectiveError(text, error.point) from error
        raise


@contextlib.contextmanager
def stdout_for_results() -> Iterator[None]:
    """Send what objectives print meanwhile to stderr: stdout carries results alone."""
    sys.stdout.flush()
    try:
        kept = os.dup(1)
    except OSError:  # there is no stdout
        yield
        return
    try:
        os.dup2(2, 1)
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)


@contextlib.contextmanager
def ray_unheard(wanted: bool) -> Iterator[None]:
    """Keep what Ray's compiled parts write to file descriptor 2 off the terminal."""
    if not wanted or traceback_wanted():
        yield
        return
    sys.stderr.flush()
    try:
        kept = os.dup(2)
    except OSError:  # there is no stderr
        yield
        return
    before = sys.stderr
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        with open(kept, "w", buffering=1, closefd=False) as sys.stderr:
            yield
    finally:
        sys.stderr = before
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
