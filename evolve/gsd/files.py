"""Files of tables: CSV here, Parquet in its own module."""

from __future__ import annotations

import contextlib
import csv
import itertools
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np

from evolve.gsd.cells import Cells, places
from zoo.errors import InputError, RunError

_CHUNK = 16_384  # rows of a CSV file that are held at once


class _Rows(Protocol):
    """A CSV reader."""

    line_num: int

    def __iter__(self) -> Iterator[list[str]]: ...
    def __next__(self) -> list[str]: ...


_PARQUET = (".parquet", ".pq")


def is_parquet(path: str) -> bool:
    """Whether a file is Parquet, by its name; else it is CSV."""
    return Path(path).suffix.lower() in _PARQUET


def read_cells(path: str, names: Sequence[str] | None = None) -> dict[str, Cells]:
    """Columns of a file by name.

    Parameters
    ----------
    path : str
        Parquet, or else CSV with a header: commas, quotes as in RFC 4180, UTF-8.
    names : sequence of str, optional
        Columns to read, in this order; all of the file's by default.

    Raises
    ------
    InputError
        If the file cannot be read, has no rows, rows of different lengths, or not those columns.
    """
    try:
        if is_parquet(path):
            from evolve.gsd.parquet import parquet_cells  # not needed, nor installed, otherwise

            cells = parquet_cells(path, names)
        else:
            cells = _csv_cells(path, names)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from None
    if not len(next(iter(cells.values())).index):
        raise InputError(f"{path} has no rows, only a header")
    return cells


def names_in(path: str) -> list[str]:
    """Names of the columns of a file that can be read."""
    if is_parquet(path):
        from evolve.gsd.parquet import library

        return list(library().parquet.read_schema(path).names)
    with open(path, encoding="utf-8-sig", newline="") as file:
        return next(csv.reader(file), [])


def check_output(path: str, endings: tuple[str, ...] = (".csv", *_PARQUET)) -> None:
    """Refuse a file that :func:`writing` could not write, before anything is spent on it.

    Raises
    ------
    InputError
        If its name has none of the endings, its folder does not exist, it is a folder, or it is
        Parquet without pyarrow.
    """
    target = Path(path)
    if not target.parent.is_dir():
        raise InputError(f"cannot write {path}: there is no folder {target.parent}")
    if target.is_dir():
        raise InputError(f"cannot write {path}: it is a folder")
    if target.suffix.lower() not in endings:
        raise InputError(f"cannot write {path}: the name must end with {' or '.join(endings)}")
    if is_parquet(path):
        from evolve.gsd.parquet import library

        library()


@contextlib.contextmanager
def writing(path: str) -> Iterator[IO[bytes]]:
    """File that appears under its name only when it is complete.

    Raises
    ------
    RunError
        If it cannot be written.
    """
    temporary = Path(path).with_name(f".{Path(path).name}.{os.getpid()}")
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise RunError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def _csv_cells(path: str, names: Sequence[str] | None) -> dict[str, Cells]:
    with open(path, encoding="utf-8-sig", newline="") as file:
        reader: _Rows = csv.reader(file, strict=True)
        try:
            header = next(reader, [])
            if not header:
                raise InputError(f"{path} must begin with a header of column names; it is empty")
            names, at = places(path, header, names)
            texts: list[dict[str | None, int]] = [{} for _ in at]
            parts: list[list[Any]] = [[np.empty(0, np.int32)] for _ in at]
            rows = _rows(path, reader, len(header))
            while chunk := list(itertools.islice(rows, _CHUNK)):
                columns = list(zip(*chunk, strict=True))
                for place, known, part in zip(at, texts, parts, strict=True):
                    number = (known.setdefault(text, len(known)) for text in columns[place])
                    part.append(np.fromiter(number, np.int32, len(chunk)))
        except csv.Error as error:
            raise InputError(f"{path}, line {reader.line_num}: {error}") from None
        except UnicodeDecodeError:
            raise InputError(
                f"{path} is not UTF-8 text: a table must be CSV in UTF-8, or a .parquet file"
            ) from None
    return {
        name: Cells(list(known), np.concatenate(part))
        for name, known, part in zip(names, texts, parts, strict=True)
    }


def _rows(path: str, reader: _Rows, width: int) -> Iterator[list[str]]:
    for row in reader:
        if len(row) == width:
            yield row
        elif row:  # an empty line is no row
            raise InputError(
                f"{path}, line {reader.line_num}: {len(row)} cells, where the header has {width}"
            )
