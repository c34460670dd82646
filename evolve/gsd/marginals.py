"""Marginals: which columns, in which bins, and how many rows fall into each cell.

A table is codes (n, d): one small integer a value. A marginal takes some columns, each through a
map from code to bin, and counts the rows of each combination of bins. Plain marginals, coarse ones,
ranges and the levels of a binary tree differ in their maps alone.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from evolve.gsd.kernels import count_cells

Ints = npt.NDArray[np.int64]

#: Rows that are brought into bins at once.
_BLOCK = 4096


@dataclass(frozen=True, eq=False)
class Marginal:
    """Columns of a table, each in bins.

    Attributes
    ----------
    columns : tuple of int
        In increasing order.
    bins : tuple of int arrays
        For each column the bin of every code, from 0 on.
    """

    columns: tuple[int, ...]
    bins: tuple[Ints, ...]
    shape: tuple[int, ...] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", tuple(int(bins.max()) + 1 for bins in self.bins))

    @property
    def cells(self) -> int:
        """Number of cells."""
        return int(np.prod(self.shape, dtype=np.int64))


def plain(columns: Sequence[int], sizes: Sequence[int]) -> Marginal:
    """Marginal of some columns with one bin a code; ``sizes`` (d,) are the codes of each column."""
    columns = tuple(sorted(columns))
    return Marginal(columns, tuple(np.arange(sizes[j]) for j in columns))


def every(d: int, k: int, among: int | None = None) -> list[tuple[int, ...]]:
    """All sets of k of d columns; with ``among`` only those that have this column."""
    sets = itertools.combinations(range(d), k)
    return [columns for columns in sets if among is None or among in columns]


@dataclass(frozen=True)
class Views:
    """Marginals as flat arrays.

    A *view* is a column through a map; marginals that share one share its bins. The cells of all
    marginals lie in one array, marginal after marginal, each in C order.

    Attributes
    ----------
    columns : (V,) int64
        Column of each view, in increasing order.
    maps : (V, codes) int16
        Bin of each code; 0 beyond the codes of the column.
    offset : (M + 1,) int64
        First cell of each marginal, and the number of all cells.
    members, strides : (M, R) int64
        Views of each marginal, and the cells between two bins of those: 0 where it has fewer.
    """

    columns: Ints
    maps: npt.NDArray[np.int16]
    offset: Ints
    members: Ints
    strides: Ints

    @property
    def cells(self) -> int:
        """Cells of all marginals."""
        return int(self.offset[-1])

    def bins(self, codes: Any) -> npt.NDArray[np.int16]:
        """Bin (n, V) of every row of codes (n, d) in every view."""
        made = np.empty((len(codes), len(self.columns)), np.int16)
        for view, column in enumerate(self.columns):
            made[:, view] = self.maps[view][codes[:, column]]
        return made

    def counts(self, codes: Any) -> npt.NDArray[np.float64]:
        """Rows (cells,) in every cell, in one pass over the rows."""
        counts = np.zeros(self.cells)
        for start in range(0, len(codes), _BLOCK):
            bins = self.bins(codes[start : start + _BLOCK])
            count_cells(bins, self.offset, self.members, self.strides, counts)
        return counts


def views_of(marginals: Sequence[Marginal], sizes: Sequence[int]) -> Views:
    """Lay out marginals; ``sizes`` (d,) are the codes of each column."""
    found: dict[tuple[int, bytes], Ints] = {}
    for marginal in marginals:
        for column, bins in zip(marginal.columns, marginal.bins, strict=True):
            found.setdefault((column, bins.astype(np.int16).tobytes()), bins)
    keys = sorted(found, key=lambda key: key[0])  # stable: views of a column as they came
    number = {key: view for view, key in enumerate(keys)}
    order = max((len(marginal.columns) for marginal in marginals), default=1)
    members = np.zeros((len(marginals), order), np.int64)
    strides = np.zeros_like(members)
    for m, marginal in enumerate(marginals):
        stride = marginal.cells
        for r, (column, bins) in enumerate(zip(marginal.columns, marginal.bins, strict=True)):
            stride //= marginal.shape[r]
            members[m, r] = number[column, bins.astype(np.int16).tobytes()]
            strides[m, r] = stride
    maps = np.zeros((len(keys), max(sizes, default=1)), np.int16)
    for view, key in enumerate(keys):
        maps[view, : len(found[key])] = found[key]
    return Views(
        columns=np.array([column for column, _ in keys], np.int64),
        maps=maps,
        offset=np.cumsum([0, *(marginal.cells for marginal in marginals)]),
        members=members,
        strides=strides,
    )
