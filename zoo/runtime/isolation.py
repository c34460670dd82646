"""Objectives evaluated in processes of their own, which may crash and hang.

A small process, the zygote, imports the objective once; its forked children evaluate it. So a
child that was lost is replaced for the price of a fork, and the process of the run, with its
threads and its compiled code, is never forked. There is one zygote for all children, for it is the
imports that cost time and memory.
"""

from __future__ import annotations

import contextlib
import json
import math
import mmap
import numbers
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import weakref
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np

from zoo.errors import InputError, Interrupted, ObjectiveError
from zoo.problem import Array, CompiledObjective, Objective, Problem, PythonObjective, never
from zoo.runtime.parcel import pack
from zoo.runtime.sandbox import LONGEST, NO_IMPORT, REQUEST, Block, block, block_size

#: Seconds between two looks at whether to stop.
_POLL = 0.05

#: What a channel says once there is nobody on its other side.
_LOST = ["lost"]

#: Bytes of shared memory of a child, at least; what is not used takes no space.
_MEMORY = 1 << 20

#: Seconds that a zygote may take to bury its children.
_PATIENCE = 0.5

_ZYGOTE = """
import sys
descriptors = [int(word) for word in sys.argv[1:4]]
sys.path[:] = sys.argv[4:]
sys.argv[1:] = []
from zoo.runtime.sandbox import main
main(*descriptors)
"""


class _Failure(NamedTuple):
    """An attempt gave no value: its kind, and why."""

    kind: str
    why: str


@dataclass
class IsolatedObjective:
    """A Python objective whose evaluations may crash, hang, and be cancelled at any time.

    It is evaluated in child processes, as many as there are threads that call ``evaluate`` at
    once. Each has a copy of the objective: what that changes in its globals stays in the child,
    and is gone when the child is; random numbers from a global state may be the same in several.
    Children start with this process's current folder, ``sys.path`` and environment, with one
    thread for BLAS unless the environment says otherwise, and nothing on standard input.

    An evaluation that kills its child or takes too long is tried again, and then counts as NaN;
    those before it in the block are not repeated. Exceptions are the wrapped objective's to judge,
    as without isolation. Of a batched objective whose block fails so, the rows are tried one by
    one.

    Attributes
    ----------
    objective : PythonObjective or CompiledObjective
    timeout : float or None
        Seconds that an evaluation, or the block of a batched objective, may take; then its child
        is killed, with all processes of its group.
    retries : int
        Further attempts at an evaluation that failed.
    failures : collections.Counter
        Evaluations given up, by kind (crash, timeout); attempts repeated (retried crash, retried
        timeout); and exceptions penalized, by type.
    last_error : str
        Why the last attempt that failed did.

    Raises
    ------
    InputError
        If the objective cannot be sent to another process; when it is first evaluated, if it
        cannot be imported there.
    """

    objective: Objective
    timeout: float | None = None
    retries: int = 1
    concurrent: bool = field(default=True, init=False)
    failures: Counter[str] = field(default_factory=Counter, init=False)
    last_error: str = field(default="", init=False)

    def __post_init__(self) -> None:
        if not isinstance(self.objective, PythonObjective | CompiledObjective):
            raise InputError(
                "timeout and retries are for Python functions, "
                f"not for an objective of type {type(self.objective).__name__}"
            )
        limit, retries = self.timeout, self.retries
        if limit is not None and (_is_no(numbers.Real, limit) or not 0 < limit < math.inf):
            raise InputError(f"timeout must be a number of seconds > 0, got {limit!r}")
        if _is_no(numbers.Integral, retries) or retries < 0:
            raise InputError(f"retries must be a whole number >= 0, got {retries!r}")
        self.batched = getattr(self.objective, "batched", False)
        self._lock = threading.Lock()
        self._processes = _Processes(pack(self.objective))
        weakref.finalize(self, self._processes.end)

    def __reduce__(self) -> Any:
        return IsolatedObjective, (self.objective, self.timeout, self.retries)

    def close(self) -> None:
        """End the processes; evaluations going on are interrupted, a later one starts anew."""
        self._processes.end()

    def evaluate(self, x: Array, cancelled: Callable[[], bool] = never) -> Array:
        """See :class:`zoo.problem.Objective`."""
        if len(x) == 0:
            return np.empty(0)
        child = self._processes.take(block_size(*x.shape))
        try:
            shared = block(child.memory, *x.shape)
            shared.x[...] = x
            self._evaluate(child, shared, cancelled)
            return shared.values.copy()
        finally:
            self._processes.give(child)

    def _evaluate(self, child: _Child, shared: Block, cancelled: Callable[[], bool]) -> None:
        rows = len(shared.values)
        row, stop, left = 0, rows, self.retries
        while row < rows:
            reached, failure = self._attempt(child, shared, row, stop, cancelled)
            if reached > row:
                row, left = reached, self.retries
            if failure is not None:
                divided = self.batched and stop - row > 1
                with self._lock:
                    self.last_error = failure.why
                    again = "retried " if divided or left else ""
                    self.failures[again + failure.kind] += 1
                if left and not divided:
                    left -= 1
                elif not divided:
                    shared.values[row] = np.nan
                    row, left = row + 1, self.retries
            stop = row + 1 if self.batched else rows

    def _attempt(
        self, child: _Child, shared: Block, row: int, stop: int, cancelled: Callable[[], bool]
    ) -> tuple[int, _Failure | None]:
        """Have rows evaluated; returns the first without a value, and why it has none."""
        shared.began[0], shared.done[0] = math.inf, row
        zygote = self._processes.ask(child, REQUEST.pack(row, stop, *shared.x.shape))
        penalized: list[tuple[int, dict[str, int], str]] = []
        late: int | None = None  # the row that took too long
        try:
            while True:
                if cancelled() or zygote.ended:
                    raise Interrupted
                wait = _POLL
                if self.timeout is not None and late is None:
                    done = int(shared.done[0])  # first: the time may be newer, never older
                    remaining = float(shared.began[0]) + self.timeout - time.monotonic()
                    wait = min(_POLL, remaining)
                    if remaining <= 0.0:
                        late, wait = done, _POLL
                        child.hang_up()
                message = child.hear(wait)
                zygote.works |= message not in (None, _LOST)
                done = int(shared.done[0])
                match message:
                    case ["failures", at, counts, why]:
                        penalized.append((at, counts, why))
                    case ["end"] if late is None:
                        child.busy = False
                        return stop, None
                    case ["error", text]:
                        child.busy = late is not None
                        raise ObjectiveError(text, shared.x[done].copy())
                    case ["exits", text]:
                        child.busy = late is not None
                        raise ObjectiveError(text)
                    case ["broken", text]:
                        raise InputError(text)
                    case ["died" | "lost", *code]:
                        child.drop()
                        how = ending(code[0] if code else zygote.lost())
                        if cancelled() or zygote.ended:
                            raise Interrupted
                        if not (code or zygote.works) and math.isinf(shared.began[0]):
                            raise InputError(f"{NO_IMPORT}: {how}")
                        if done == stop or late not in (None, done):  # its row was done meanwhile
                            return done, None
                        if late is not None:
                            return done, _Failure("timeout", f"no answer within {self.timeout:g} s")
                        return done, _Failure("crash", how)
        finally:
            with self._lock:
                for at, counts, why in penalized:
                    if at < shared.done[0]:  # else it is evaluated again
                        self.failures.update(counts)
                        self.last_error = why


def isolated(problem: Problem, timeout: float | None = None, retries: int | None = None) -> Problem:
    """Return the problem with its evaluations in processes of their own, if either is given."""
    if timeout is None and retries is None:
        return problem
    given = {} if retries is None else {"retries": retries}
    return replace(problem, objective=IsolatedObjective(problem.objective, timeout, **given))


def ending(code: int) -> str:
    """How a process ended, from its return code: negative for a signal."""
    if code >= 0:
        return f"exit status {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"


class _Zygote:
    """The process that has imported an objective and forks its children."""

    def __init__(self, parcel: bytes) -> None:
        self.works = False  # a child of it has evaluated something
        self.ended = False
        self._control, control = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        parent = os.pidfd_open(os.getpid())
        try:
            with control, open(os.memfd_create("zoo-objective"), "w+b") as file:
                file.write(parcel)
                file.seek(0)
                descriptors = (file.fileno(), control.fileno(), parent)
                words = [sys.executable, "-c", _ZYGOTE, *map(str, descriptors)]
                self._process = subprocess.Popen(
                    [*words, *map(str, sys.path)],
                    stdin=subprocess.DEVNULL,
                    pass_fds=descriptors,
                    start_new_session=True,  # Ctrl-C is for us
                    env={"OMP_NUM_THREADS": "1"} | os.environ,
                )
        finally:
            os.close(parent)

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def fork(self, memory: int) -> socket.socket:
        """Channel of a new child; it reads as lost if the zygote is gone."""
        channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs, contextlib.suppress(OSError):
            socket.send_fds(self._control, [b"f"], [theirs.fileno(), memory])
        return channel

    def lost(self) -> int:
        """Return code, once a channel has been lost."""
        self._process.kill()  # it is dead, or of no use
        return self._process.wait()

    def end(self) -> None:
        """End the zygote, which kills its children."""
        self.ended = True
        self._control.shutdown(socket.SHUT_RDWR)
        try:
            self._process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:  # it is still importing, say
            self._process.kill()
            self._process.wait()
        self._control.close()


class _Child:
    """A child process, forked anew when it is lost, and the memory shared with it."""

    def __init__(self, size: int) -> None:
        self.size = max(size, _MEMORY)
        self._descriptor = os.memfd_create("zoo-points")
        os.ftruncate(self._descriptor, self.size)
        self.memory = mmap.mmap(self._descriptor, self.size)
        self._channel: socket.socket | None = None
        self.zygote: _Zygote | None = None
        self.busy = False

    def ask(self, request: bytes, zygote: _Zygote) -> None:
        if self._channel is None:
            self._channel, self.zygote = zygote.fork(self._descriptor), zygote
        self.busy = True
        with contextlib.suppress(ConnectionError):  # its death is heard
            self._channel.send(request)

    def hear(self, seconds: float) -> list[Any] | None:
        """Return the next message; None if there is none yet."""
        assert self._channel is not None
        self._channel.settimeout(seconds)
        try:
            message = self._channel.recv(LONGEST)
        except (TimeoutError, ConnectionResetError):  # what was said before it comes next
            return None
        return json.loads(message) if message else _LOST

    def hang_up(self) -> None:
        """Have the child killed; its death is still to be heard."""
        assert self._channel is not None
        self._channel.shutdown(socket.SHUT_WR)

    def drop(self) -> None:
        """Let a child go that is dead, or is to be killed if it is busy."""
        if self._channel is not None:
            with contextlib.suppress(OSError):
                if self.busy:
                    self.hang_up()
            self._channel.close()
        self._channel, self.busy = None, False

    def close(self) -> None:
        self.drop()
        os.close(self._descriptor)


class _Processes:
    """The zygote of an objective, if it is needed yet, and its children that are free."""

    def __init__(self, parcel: bytes) -> None:
        self._parcel = parcel
        self._owner = os.getpid()
        self._lock = threading.Lock()
        self._zygote: _Zygote | None = None
        self._free: list[_Child] = []

    def take(self, size: int) -> _Child:
        """Take a child with so much memory."""
        with self._lock:
            self._running()
            child = self._free.pop() if self._free else None
        if child is not None and child.size >= size:
            return child
        if child is not None:
            child.close()
        return _Child(size)

    def ask(self, child: _Child, request: bytes) -> _Zygote:
        """Pass a request to a child that was taken; returns the zygote that it is of."""
        with self._lock:
            zygote = self._running()
        child.ask(request, zygote)
        return zygote

    def give(self, child: _Child) -> None:
        """Give back a child that was taken."""
        with self._lock:
            if not child.busy and child.zygote is self._zygote:
                self._free.append(child)
                return
        child.close()

    def end(self) -> None:
        """End all of them."""
        if os.getpid() != self._owner:  # forked: they are the parent's
            return
        with self._lock:
            zygote, self._zygote = self._zygote, None
            self._discard()
        if zygote is not None:
            zygote.end()

    def _running(self) -> _Zygote:
        if self._zygote is None or not self._zygote.alive:
            self._discard()  # children die with their zygote
            self._zygote = _Zygote(self._parcel)
        return self._zygote

    def _discard(self) -> None:
        while self._free:
            self._free.pop().close()


def _is_no(kind: type, value: Any) -> bool:
    return isinstance(value, bool) or not isinstance(value, kind)
