"""Objectives that are external programs: a point goes out, one number comes back."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import secrets
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import IO, Any

import numpy as np

from zoo.errors import InputError, Interrupted, ObjectiveError
from zoo.objectives import reaper
from zoo.problem import Array, never, show_point
from zoo.runtime.isolation import ending

#: Seconds between two looks at whether to stop.
_POLL = 0.05

_PLACEHOLDER = re.compile(r"\{(x|\d+)\}")

_ME = secrets.token_hex(8)
_numbers = itertools.count()
_reporting = threading.Lock()
_reaper: tuple[int, IO[bytes]] | None = None  # whose it is, and what it reads


class _Failure(Exception):
    """An evaluation gave no number: its kind, and why."""

    def __init__(self, kind: str, why: str) -> None:
        super().__init__(why)
        self.kind = kind


@dataclass
class CommandObjective:
    """A program that prints the value at a point as its last line.

    ``{x}`` as an argument of its own stands for d arguments; within an argument for the
    coordinates joined by commas; ``{0}``, ``{1}``, ... for single coordinates. Without any of them
    the point is one line of standard input. No shell is involved.

    An evaluation that crashes, takes too long or prints no number is tried again, and then counts
    as NaN.

    Attributes
    ----------
    command : str
        Program and arguments, quoted as for a shell.
    timeout : float or None
        Seconds that an evaluation may take; then its process group is killed.
    retries : int
        Further attempts at an evaluation that failed.
    failures : collections.Counter
        Evaluations given up, by kind (crash, timeout, output), and attempts repeated (retried
        crash, retried timeout, retried output).
    last_error : str
        Why the last attempt that failed did, with the last line it wrote to standard error.

    Raises
    ------
    InputError
        If the program does not exist or may not be executed.
    """

    command: str
    timeout: float | None = None
    retries: int = 1
    concurrent: bool = field(default=True, init=False)
    failures: Counter[str] = field(default_factory=Counter, init=False)
    last_error: str = field(default="", init=False)

    def __post_init__(self) -> None:
        try:
            words = shlex.split(self.command)
        except ValueError as error:
            raise InputError(f"command {self.command!r}: {error}") from None
        if not words:
            raise InputError("command is empty: give a program and its arguments")
        self._program = _executable(words[0])
        self._arguments = words[1:]
        self._on_stdin = not any(_PLACEHOLDER.search(word) for word in self._arguments)
        self._folder: str | None = None  # where to run it: where we are
        self._lock = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        state = {name: value for name, value in vars(self).items() if name != "_lock"}
        return state | {"_folder": self._folder or os.getcwd()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take up the state, maybe on another machine.

        There it runs in the same folder, if there is one, and the program is that of the same
        path; or at the same place below the current folder; or of the same name on the PATH.

        Raises
        ------
        InputError
            If there is none.
        """
        vars(self).update(state)
        self._lock = threading.Lock()
        folder, program = state["_folder"], self._program
        places = [program]
        if program.startswith(os.path.join(folder, "")):
            places.append(os.path.abspath(os.path.relpath(program, folder)))
        name = shlex.split(self.command)[0]
        if os.sep not in name:
            places.append(name)
        found = [path for path in map(shutil.which, places) if path is not None]
        if not found:
            raise InputError(f"command: there is no {program} on {socket.gethostname()}")
        self._program = os.path.abspath(found[0])
        self._folder = folder if os.path.isdir(folder) else None

    def check_dimension(self, dimension: int) -> None:
        """Raise InputError if the command asks for a coordinate that there is not."""
        for word in self._arguments:
            for name in _PLACEHOLDER.findall(word):
                if name != "x" and int(name) >= dimension:
                    raise InputError(
                        f"command asks for coordinate {{{name}}}, but the dimension is "
                        f"{dimension}: they are {{0}} to {{{dimension - 1}}}"
                    )

    def evaluate(self, x: Array, cancelled: Callable[[], bool] = never) -> Array:
        """See :class:`zoo.problem.Objective`."""
        return np.array([self._value(point, cancelled) for point in x], np.float64)

    def _value(self, point: Array, cancelled: Callable[[], bool]) -> float:
        left = self.retries
        while True:
            if cancelled():
                raise Interrupted
            try:
                return self._attempt(point, cancelled)
            except _Failure as failure:
                with self._lock:
                    self.last_error = str(failure)
                    self.failures[("retried " if left else "") + failure.kind] += 1
                if not left:
                    return float("nan")
                left -= 1

    def _attempt(self, point: Array, cancelled: Callable[[], bool]) -> float:
        numbers = [repr(float(v)) for v in point]
        with tempfile.TemporaryFile() as given:  # a pipe could fill up before it is read
            if self._on_stdin:
                given.write((" ".join(numbers) + "\n").encode())
                given.seek(0)
            name = f"{_ME}-{os.getpid()}-{next(_numbers)}"
            _report("+", name)
            try:
                process = subprocess.Popen(
                    [self._program, *_filled(self._arguments, numbers)],
                    stdin=given,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    cwd=self._folder,
                    env=os.environ | {reaper.NAME: name},
                    start_new_session=True,  # Ctrl-C is for us; a group of its own can be killed
                )
            except OSError as error:
                _report("-", name)
                raise ObjectiveError(
                    f"the command does not start: {error.strerror}: {self._program}, "
                    f"at x = {show_point(point)}",
                    point,
                ) from error
        with process:
            try:
                out, err = self._outputs(process, cancelled)
            finally:
                if process.poll() != 0:  # it runs, or was killed: what it has started goes with it
                    _kill(process.pid)
                    process.wait()
                _report("-", name)
        code = process.returncode
        if code != 0:
            raise _Failure("crash", ending(code) + _said(err))
        try:
            return last_number(out.decode(errors="replace"))
        except ValueError as error:
            raise _Failure("output", str(error) + _said(err)) from None

    def _outputs(
        self, process: subprocess.Popen[bytes], cancelled: Callable[[], bool]
    ) -> tuple[bytes, bytes]:
        end = None if self.timeout is None else time.monotonic() + self.timeout
        ended = False
        while True:
            left = _POLL if end is None else min(_POLL, max(0.0, end - time.monotonic()))
            try:
                return process.communicate(timeout=left)
            except subprocess.TimeoutExpired as waited:
                if cancelled():
                    raise Interrupted from None
                if ended:  # what it left running in the background holds its output open
                    return waited.stdout or b"", waited.stderr or b""
                ended = process.poll() is not None
                if not ended and end is not None and time.monotonic() >= end:
                    raise _Failure(
                        "timeout", f"no answer within {self.timeout:g} s" + _said(waited.stderr)
                    ) from None


def last_number(text: str) -> float:
    """Number in the last line of a text that is not empty.

    Raises
    ------
    ValueError
        If there is none, or more on that line.
    """
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not lines:
        raise ValueError("printed nothing")
    try:
        return float(lines[-1])
    except ValueError:
        shown = lines[-1] if len(lines[-1]) <= 60 else lines[-1][:60] + "..."
        raise ValueError(f"printed {shown!r}, not a number") from None


def _report(sign: str, name: str) -> None:
    """Tell the reaper of an evaluation that begins (+), or has ended (-)."""
    global _reaper
    with _reporting:
        if _reaper is None or _reaper[0] != os.getpid():  # or this process was forked
            starting = subprocess.Popen(
                [sys.executable, "-I", "-S", reaper.__file__],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
            assert starting.stdin is not None
            _reaper = os.getpid(), starting.stdin
            starting.wait()  # it goes on as an orphan
        with contextlib.suppress(OSError):
            _reaper[1].write(f"{sign}{name}\n".encode())
            _reaper[1].flush()


def _kill(group: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)


def _executable(program: str) -> str:
    path = os.path.expanduser(program)
    found = shutil.which(path)
    if found is not None:
        return os.path.abspath(found)
    if os.sep not in path:
        raise InputError(f"command: no program {program!r} on the PATH (here: ./{program}?)")
    if not os.path.exists(path):
        raise InputError(f"command: there is no {program}")
    raise InputError(f"command: {program} is not executable (chmod +x {program})")


def _filled(arguments: list[str], numbers: list[str]) -> list[str]:
    def value(match: re.Match[str]) -> str:
        return ",".join(numbers) if match[1] == "x" else numbers[int(match[1])]

    filled: list[str] = []
    for word in arguments:
        filled += numbers if word == "{x}" else [_PLACEHOLDER.sub(value, word)]
    return filled


def _said(err: bytes | None) -> str:
    lines = [line.strip() for line in (err or b"").decode(errors="replace").splitlines()]
    lines = [line for line in lines if line]
    return f": {lines[-1][:200]}" if lines else ""
