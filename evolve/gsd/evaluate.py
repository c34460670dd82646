"""True errors of a synthetic table: how far its marginals are from the real table's.

**Not private.** All of this is computed from the real data, without noise: it is for those who may
see that data, and never for release.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from evolve.gsd.columns import Codes, Column
from evolve.gsd.schema import Schema
from zoo.errors import InputError

Whole = np.ndarray[Any, np.dtype[np.int64]]
Shares = np.ndarray[Any, np.dtype[np.float64]]

WAYS = (1, 2, 3)
MOST_CELLS = 100_000  # of a marginal that is compared
WIDE = 128  # values of a column that stays as it is
MERGED = 32  # bins of one that does not, at most
SEED = 0  # of what is drawn: the same rows every time

#: What :func:`merged` does, in a line.
RULE = f"columns of more than {WIDE} values are merged into at most {MERGED} bins of equal width"


@dataclass(frozen=True)
class Distances:
    """Distances between two tables' marginals, all over the same number of columns.

    Attributes
    ----------
    sets : tuple of tuples of int
        The columns of each marginal.
    tvd : float64 array (sets,)
        Its total-variation distance, 0.5 ||p - q||_1, of shares of rows.
    cell_mean, cell_max : float
        Difference of shares of a cell, over all cells of all these marginals; NaN without any.
    left_out : int
        Marginals that have too many cells.
    """

    sets: tuple[tuple[int, ...], ...]
    tvd: Shares
    cell_mean: float
    cell_max: float
    left_out: int

    @property
    def mean(self) -> float:
        """Mean distance; NaN if there are no marginals."""
        return float(self.tvd.mean()) if len(self.tvd) else math.nan

    @property
    def max(self) -> float:
        """Largest distance; NaN if there are no marginals."""
        return float(self.tvd.max()) if len(self.tvd) else math.nan


@dataclass(frozen=True)
class Comparison:
    """Marginals over ``ways`` columns: of the synthetic table, and of a sample of the real one."""

    ways: int
    synthetic: Distances
    sample: Distances


def distances(
    real: Codes, synthetic: Codes, sizes: Whole, k: int, most_cells: int = MOST_CELLS
) -> Distances:
    """Distances between the marginals over every set of k columns, on the codes as they are.

    Parameters
    ----------
    real, synthetic : int array (N, d), (N', d)
    sizes : int array (d,)
        Number of codes of each column.
    k : int
        Columns of a marginal. There are none if the tables have fewer.
    most_cells : int
        A marginal over two columns or more with more cells is left out, and counted.

    Raises
    ------
    InputError
        If a table has no rows, not d columns, or codes outside the sizes; or k < 1.
    """
    if k < 1:
        raise InputError(f"k must be >= 1, got {k}")
    columns = [_columns(table, sizes) for table in (real, synthetic)]
    sets, tvd, largest, cells, left_out = [], [], [], 0, 0
    for chosen in itertools.combinations(range(len(sizes)), k):
        count = math.prod(int(sizes[j]) for j in chosen)
        if k > 1 and count > most_cells:
            left_out += 1
            continue
        p, q = (_shares(table, sizes, chosen, count) for table in columns)
        difference = np.abs(p - q)
        sets.append(chosen)
        tvd.append(0.5 * difference.sum())
        largest.append(difference.max())
        cells += count
    mean = 2 * float(sum(tvd)) / cells if cells else math.nan
    most = float(max(largest, default=math.nan))
    return Distances(tuple(sets), np.array(tvd, np.float64), mean, most, left_out)


def compare(real: Codes, synthetic: Codes, schema: Schema) -> list[Comparison]:
    """Distances of all 1-, 2- and 3-way marginals, beside those of sampling alone.

    One-way marginals are of all codes. In the others, columns of more than 128 values are merged,
    see :func:`merged`: over 1024 x 1024 cells the distance would say how few rows there are, and
    no more. Triples with more than 100,000 cells then are left out. The sample beside them is of
    as many rows as the synthetic table has, drawn from the real one with replacement, and always
    the same: a table that is nearer is better than the truth seen through so few rows.

    Parameters
    ----------
    real, synthetic : int array (N, d), (N', d)
    schema : Schema
    """
    rows = np.random.Generator(np.random.Philox(key=SEED)).integers(
        0, max(len(real), 1), len(synthetic)
    )
    sizes = schema.sizes
    compared = []
    for k in WAYS:
        if k == 2:
            real, synthetic = (merged(table, schema) for table in (real, synthetic))
            sizes = merged_sizes(schema)
        near = distances(real, synthetic, sizes, k)
        compared.append(Comparison(k, near, distances(real, real[rows], sizes, k)))
    return compared


def merged(codes: Codes, schema: Schema) -> Codes:
    """Codes (N, d) with at most 32 bins in columns of more than 128 values; nulls stay apart.

    As many neighbouring codes go to each bin (the last one may have fewer): for numbers these are
    bins of equal width, for categories labels that the schema names one after the other. Merging
    can only lower a distance.
    """
    made = np.empty_like(codes)
    for j, column in enumerate(schema.columns):
        bins = np.minimum(codes[:, j], column.bins) // width_of(column)
        made[:, j] = np.where(codes[:, j] == column.bins, _bins(column), bins)
    return made


def merged_sizes(schema: Schema) -> Whole:
    """Number of codes of each column after :func:`merged`, (d,), the nulls' included."""
    return np.array([_bins(c) + (c.null is not None) for c in schema.columns], np.int64)


def width_of(column: Column) -> int:
    """Codes that :func:`merged` brings into one; 1 if the column stays as it is."""
    return 1 if column.bins <= WIDE else -(-column.bins // MERGED)


def _bins(column: Column) -> int:
    return -(-column.bins // width_of(column))


def _columns(table: Codes, sizes: Whole) -> Whole:
    """Columns of a table, (d, N), each of them contiguous."""
    if table.ndim != 2 or table.shape[1] != len(sizes) or not len(table):
        raise InputError(f"a table must be rows of {len(sizes)} codes, got shape {table.shape}")
    if ((table < 0) | (table >= sizes)).any():
        raise InputError("a table has codes outside its columns' sizes")
    return np.ascontiguousarray(table.T, np.int64)


def _shares(columns: Whole, sizes: Whole, chosen: tuple[int, ...], count: int) -> Shares:
    """Share of the rows in each cell of a marginal."""
    cell = columns[chosen[0]]
    for j in chosen[1:]:
        cell = cell * sizes[j] + columns[j]
    return np.bincount(cell, minlength=count) / columns.shape[1]
