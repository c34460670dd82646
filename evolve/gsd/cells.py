"""The cells of a column of a table, as texts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from zoo.errors import InputError


@dataclass(frozen=True)
class Cells:
    """A column: its distinct texts, None for a null of Parquet; and which of them each row has."""

    distinct: list[str | None]
    index: np.ndarray[Any, np.dtype[np.int32]]


def places(
    path: str, header: Sequence[str], names: Sequence[str] | None
) -> tuple[Sequence[str], list[int]]:
    """Names of the columns to read, all if None, and where the header has them.

    Raises
    ------
    InputError
        If it lacks one, or has it twice.
    """
    if names is None:
        names = header
    header = [name if name in names else name.strip() for name in header]
    for name in names:
        if header.count(name) > 1:
            raise InputError(f"{path} has two columns {name!r}")
        if name not in header:
            raise InputError(
                f"{path} has no column {name!r} of the schema; it has "
                f"{', '.join(repr(found) for found in header[:30])}"
            )
    return names, [header.index(name) for name in names]
