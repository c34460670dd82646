"""The processes behind an isolated objective: a zygote, and the children that evaluate.

The zygote unpacks the objective, which imports what it needs, once; then it only forks and waits.

    control   parent -> zygote: fork a child, with the descriptors of its channel and its memory
    channel   parent -> child:  evaluate these rows; hung up by the parent: kill the child
              child -> parent:  what came of them;   zygote -> parent: the child has died
    memory    points and values, how many are done, and when the current one began

A channel keeps the order of its messages, whoever of the two sent them: what a child had to say
comes before its death.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import json
import mmap
import os
import resource
import select
import signal
import socket
import struct
import sys
import time
import traceback
from typing import Any, NamedTuple, NoReturn

import numpy as np

from zoo.errors import InputError, ObjectiveError
from zoo.problem import Array, CompiledObjective, Objective
from zoo.runtime.parcel import unpack

#: First row, row to stop at, rows and coordinates of the block.
REQUEST = struct.Struct("=4q")

NO_IMPORT = "the objective cannot be imported in another process"

#: Bytes of a message, at most; a socket takes it at once or not at all.
LONGEST = 1 << 16
_TEXT = 10_000  # characters, of up to 6 bytes in JSON

#: Lowest descriptor of a child's channel: out of the way of an objective that closes its own.
_HIGH = 512

_PR_SET_PDEATHSIG = 1  # prctl(2)


class Block(NamedTuple):
    """Rows of points and their values in shared memory."""

    began: Array  # (1,) time.monotonic() when the row at ``done`` began; inf before the first
    done: Array  # (1,) rows that have their values
    values: Array  # (n,)
    x: Array  # (n, d)


def block_size(rows: int, dimension: int) -> int:
    """Bytes of a block."""
    return 8 * (2 + rows * (1 + dimension))


def block(memory: mmap.mmap, rows: int, dimension: int) -> Block:
    """Views of a block at the start of a memory."""
    numbers = np.frombuffer(memory, np.float64, 2 + rows * (1 + dimension))
    x = numbers[2 + rows :].reshape(rows, dimension)
    return Block(numbers[:1], numbers[1:2], numbers[2 : 2 + rows], x)


def main(parcel: int, control: int, parent: int) -> NoReturn:
    """Be the zygote.

    Parameters
    ----------
    parcel, control, parent : int
        Descriptors: a file with the packed objective, a socket, and the parent's pidfd.
    """
    _die_with_parent(signal.SIGKILL)  # nothing is heard while importing
    for descriptor in (parcel, control, parent):
        os.set_inheritable(descriptor, False)
    objective, broken = None, ""
    try:
        with open(parcel, "rb") as file:
            objective = unpack(file.read())
        objective.failures.clear()
        if isinstance(objective, CompiledObjective):
            objective.evaluate(np.empty((0, 1)))  # compiles: here once, not in every child
    except InputError as error:
        broken = str(error)
    except BaseException as error:
        broken = f"{NO_IMPORT}: {type(error).__name__}: {error}"
    _die_with_parent(0)  # from here on by poll: the thread may end before the process does
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # were it ignored, no status would be kept
    _flush()  # what imports printed, lest every child prints it too
    try:
        _keep(objective, broken, socket.socket(fileno=control), parent)
    except Exception:
        traceback.print_exc()
    finally:
        os._exit(0)  # what imported modules do at exit is for the parent to do


def _keep(objective: Any, broken: str, control: socket.socket, parent: int) -> None:
    """Fork, kill and bury children until the parent ends, or asks for no more."""
    poll = select.poll()
    poll.register(control, select.POLLIN)
    poll.register(parent, select.POLLIN)
    children: dict[int, tuple[int, socket.socket]] = {}  # by pidfd
    while True:
        ready, _ = poll.poll()[0]  # one: it may close the descriptors of the next
        if ready == parent:
            break
        if ready == control.fileno():
            word, descriptors, _, _ = socket.recv_fds(control, 1, 2, socket.MSG_CMSG_CLOEXEC)
            if not word:
                break
            channel, memory = socket.socket(fileno=descriptors[0]), descriptors[1]
            why = broken
            try:
                pid = -1 if broken else os.fork()
            except OSError as error:
                pid, why = -1, f"the objective's process cannot be forked: {error.strerror}"
            if pid == 0:
                os.close(parent)
                control.close()
                for pidfd, (_, other) in children.items():
                    os.close(pidfd)
                    other.close()
                _serve(objective, channel, memory)
            os.close(memory)
            if pid > 0:
                pidfd = os.pidfd_open(pid)
                children[pidfd] = pid, channel
                poll.register(pidfd, select.POLLIN)
                poll.register(channel, select.POLLRDHUP)
            else:
                _last_word(channel, "broken", why[:_TEXT])
        elif ready in children:  # dead
            pid, channel = children.pop(ready)
            _kill(pid)  # what it left running in its group
            code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            poll.unregister(ready)
            os.close(ready)
            with contextlib.suppress(KeyError):
                poll.unregister(channel)
            _last_word(channel, "died", code)
        else:  # hung up
            poll.unregister(ready)
            _kill(next(pid for pid, channel in children.values() if channel.fileno() == ready))
    for pid, _ in children.values():
        _kill(pid)
    for pid, _ in children.values():
        os.waitpid(pid, 0)


def _serve(objective: Objective, channel: socket.socket, descriptor: int) -> NoReturn:
    """Be a child: evaluate rows as asked until the parent hangs up."""
    try:
        zygote = os.getppid()
        _die_with_parent(signal.SIGKILL)
        if os.getppid() != zygote:  # died in between
            os._exit(1)
        os.setsid()  # a group of its own, with whatever the objective starts
        memory = mmap.mmap(descriptor, 0)
        os.close(descriptor)
        high = min(_HIGH, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2)
        low, channel = (
            channel,
            socket.socket(fileno=fcntl.fcntl(channel, fcntl.F_DUPFD_CLOEXEC, high)),
        )
        low.close()
        while request := channel.recv(REQUEST.size):
            _evaluate(objective, channel, memory, *REQUEST.unpack(request))
    finally:
        os._exit(1)


def _evaluate(
    objective: Objective,
    channel: socket.socket,
    memory: mmap.mmap,
    start: int,
    stop: int,
    rows: int,
    dimension: int,
) -> None:
    shared = block(memory, rows, dimension)
    step = stop - start if getattr(objective, "batched", False) else 1
    row = start
    shared.began[0] = time.monotonic()
    try:
        for row in range(start, stop, step):
            some = slice(row, row + step)
            shared.values[some] = objective.evaluate(shared.x[some])
            if objective.failures:
                _tell(channel, "failures", row, objective.failures, objective.last_error[:_TEXT])
                objective.failures.clear()
            _flush()  # it may be killed any time
            shared.began[0] = time.monotonic()  # before ``done``, for the parent reads that first
            shared.done[0] = row + step
    except ObjectiveError as error:
        shared.x[row] = np.asarray(error.point)  # where the parent looks for it
        _tell(channel, "error", str(error)[:_TEXT])
    except BaseException as error:
        why = f": {error}" if str(error) else ""
        _tell(channel, "exits", f"the objective exits ({type(error).__name__}{why})"[:_TEXT])
    else:
        _tell(channel, "end")


def _tell(channel: socket.socket, *message: Any) -> None:
    channel.send(json.dumps(message).encode())


def _last_word(channel: socket.socket, *message: Any) -> None:
    with channel, contextlib.suppress(ConnectionError):  # the parent may have let it go
        _tell(channel, *message)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):  # the objective may have closed or replaced it
            stream.flush()


def _kill(pid: int) -> None:
    """Kill a child that has not been waited for, and its group."""
    os.kill(pid, signal.SIGKILL)
    with contextlib.suppress(ProcessLookupError, PermissionError):  # it has no group yet
        os.killpg(pid, signal.SIGKILL)


def _die_with_parent(number: int) -> None:
    """Be sent a signal when the thread that started this process ends; 0 for none."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0)
