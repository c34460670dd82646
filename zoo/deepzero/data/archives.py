"""Files within folders and archives, which are read in order and never extracted."""

from __future__ import annotations

import contextlib
import gzip
import lzma
import tarfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, cast

from zoo.errors import InputError

_BLOCK = tarfile.BLOCKSIZE  # of zeros, at the end of a tar
_RECORD = tarfile.RECORDSIZE  # bytes read at once
_OPENERS: dict[bytes, Callable[..., Any]] = {b"\x1f\x8b": gzip.open, b"\xfd7zXZ\0": lzma.open}


@contextlib.contextmanager
def reading(path: Path) -> Iterator[IO[bytes]]:
    """File to be read, decompressed if it begins as gzip or xz.

    Raises
    ------
    InputError
        If what was compressed, or the tar that is read from it, is damaged.
    """
    with path.open("rb") as file:
        begin = file.read(8)
    opener = next((opener for magic, opener in _OPENERS.items() if begin.startswith(magic)), open)
    try:
        with opener(path, "rb") as file:
            yield file
    except (EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile, tarfile.TarError) as error:
        raise InputError(f"{path} is damaged or incomplete: {error}") from None


def entries(path: Path, wanted: Callable[[str], bool]) -> Iterator[tuple[str, bytes]]:
    """Names and contents of the wanted files of a folder, to its third level, or of a tar.

    Parameters
    ----------
    path : Path
        A folder; or a tar, plain or compressed by gzip or xz.
    wanted : callable
        Whether a file is, by its name with ``/`` within the folder or the tar.

    Raises
    ------
    InputError
        If the archive is damaged, or a wanted file in it is a link.
    """
    if path.is_dir():
        for found in sorted(one for depth in ("*", "*/*", "*/*/*") for one in path.glob(depth)):
            name = found.relative_to(path).as_posix()
            if wanted(name) and found.is_file():
                yield name, found.read_bytes()
        return
    with reading(path) as content:
        stream = _Remembering(content)
        with tarfile.open(fileobj=cast(IO[bytes], stream), mode="r|", bufsize=_RECORD) as tar:
            for member in tar:
                if not wanted(member.name):
                    continue
                if member.islnk() or member.issym():
                    raise InputError(f"{path}: {member.name} is a link; accepted are plain files")
                if (file := tar.extractfile(member)) is not None:
                    yield member.name, file.read()
        if stream.last[tar.offset % _RECORD :][:_BLOCK] != bytes(_BLOCK):
            raise InputError(f"{path} is damaged or incomplete: its end is missing")
        while content.read(_RECORD):  # to the checksum of what is compressed
            pass


class _Remembering:
    """Stream that remembers what was read last: to tarfile a damaged header ends a tar."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.last = b""

    def read(self, size: int) -> bytes:
        self.last = self._file.read(size)
        return self.last
