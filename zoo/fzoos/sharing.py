"""Arrays that the processes of a machine share: filled by the first, mapped by the others.

A file in memory, which everybody who maps it has a lock on. Who leaves as the last removes it; what
a killed process has left is removed by the next who comes.
"""

from __future__ import annotations

import atexit
import fcntl
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

FOLDER = Path("/dev/shm")
#: Bytes from which on it is worth it.
_WORTH = 1 << 20

_held: dict[str, Any] = {}  # open files, by path: their locks last as long


def shared(name: str, shape: tuple[int, ...], dtype: Any, fill: Callable[[Any], None]) -> Any:
    """Read-only array that ``fill`` has written, in one of the processes that ask for the name.

    Parameters
    ----------
    name : str
        What decides the content: processes with the same name get the same array.
    shape, dtype
    fill : callable
        Takes an array of zeros.
    """
    array = None
    if int(np.prod(shape)) * np.dtype(dtype).itemsize >= _WORTH:
        with suppress(OSError):  # there is no such folder, or no room in it
            array = _mapped(FOLDER / f"zoo-{os.getuid()}-{name}", shape, dtype, fill)
    if array is None:
        array = np.zeros(shape, dtype)
        fill(array)
    array.flags.writeable = False
    return array


def _mapped(path: Path, shape: tuple[int, ...], dtype: Any, fill: Callable[[Any], None]) -> Any:
    _sweep()
    number = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    file = os.fdopen(number, "r+b")
    if os.fstat(number).st_uid != os.getuid():
        raise PermissionError(path)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        fcntl.flock(file, fcntl.LOCK_SH)  # until it is filled
    else:
        os.ftruncate(number, 0)
        # Takes the room now: where there is none, a write would kill us.
        os.posix_fallocate(number, 0, int(np.prod(shape)) * np.dtype(dtype).itemsize)
        fill(np.asarray(np.memmap(file, dtype, "r+", shape=shape)))
        fcntl.flock(file, fcntl.LOCK_SH)
    mapped = np.asarray(np.memmap(file, dtype, "r", shape=shape))
    if not _held:
        atexit.register(_leave)
    _held[str(path)] = file
    return mapped


def _sweep() -> None:
    """Remove what nobody maps any more."""
    for path in FOLDER.glob(f"zoo-{os.getuid()}-*"):
        if str(path) not in _held:
            with suppress(OSError), path.open("r+b") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink()


def _leave() -> None:
    for path, file in _held.items():
        with suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.unlink(path)
