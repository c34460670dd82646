"""Threshold queries: rows whose scores, summed over the columns, are above a bound.

A halfspace scores every number by a random weight; a prefix takes away one for every condition that
fails. Each may be counted by the categories of a column besides. A row is in one cell of a
threshold at most, so the counts of one have the sensitivity of a marginal.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from evolve.gsd.kernels import count_above

Ints = npt.NDArray[np.int64]

#: Scores are whole numbers of this unit, so that sums of them are exact.
UNIT = 2.0**-20


@dataclass(frozen=True, eq=False)
class Thresholds:
    """T threshold queries.

    Attributes
    ----------
    score : (sum of sizes, T) int32
        Of every code of every column, columns one after the other.
    bound : (T,) int32
        Rows with a larger sum are counted,
    by : (T,) int64
        apart for each code of this column; -1: together.
    cells : (T,) int64
        Cells of each.
    """

    score: npt.NDArray[np.int32]
    bound: npt.NDArray[np.int32]
    by: Ints
    cells: Ints

    def __len__(self) -> int:
        return len(self.bound)

    def take(self, which: Any) -> Thresholds:
        """Some of them."""
        score = np.ascontiguousarray(self.score[:, which])  # as kernels are compiled for
        return Thresholds(score, self.bound[which], self.by[which], self.cells[which])

    def joined(self, others: Thresholds) -> Thresholds:
        """These and others."""
        return Thresholds(
            np.concatenate([self.score, others.score], axis=1),
            np.concatenate([self.bound, others.bound]),
            np.concatenate([self.by, others.by]),
            np.concatenate([self.cells, others.cells]),
        )

    def counts(self, codes: Any, sizes: Any) -> npt.NDArray[np.float64]:
        """Rows in every cell, threshold after threshold."""
        start = np.cumsum([0, *self.cells])
        counts = np.zeros(start[-1])
        base = np.cumsum([0, *sizes])[:-1]
        count_above(np.asarray(codes), base, self.score, self.bound, self.by, start, counts)
        return counts


def none(sizes: Any) -> Thresholds:
    """No thresholds, over columns with so many codes."""
    empty = np.empty(0, np.int64)
    score = np.empty((int(np.sum(sizes)), 0), np.int32)
    return Thresholds(score, empty.astype(np.int32), empty, empty)


@dataclass(frozen=True)
class Family:
    """Random thresholds over the numbers of a table: as many as are wanted, block by block.

    halfspaces: [w . x > b] with w ~ N(0, I) / sqrt(number of numeric columns) and b ~ N(0, 1/4),
    the numbers scaled to [-1, 1] and a null in the middle. prefixes: [x_a < t_a and x_b < t_b],
    t uniform in (0, 1) times the range; a null is in none. Each is counted by a random category
    column, if there is one (Liu, Vietri, Steinke, Ullman and Wu, 2021; Vietri et al., 2022).

    Attributes
    ----------
    kind : {"halfspaces", "prefixes"}
    sizes : (d,)
        Codes of each column.
    values : (d,)
        How many of them are numbers in order; 0 for a category.
    seed : int
        Public, and nothing but it decides which thresholds there are.
    """

    kind: str
    sizes: tuple[int, ...]
    values: tuple[int, ...]
    seed: int

    def block(self, number: int, count: int) -> Thresholds:
        """Thresholds of a block, ``count`` of them."""
        purpose = _PURPOSES[self.kind]
        key = np.array([self.seed, number], np.uint64)
        random = np.random.Generator(np.random.Philox(key=key, counter=[0, 0, 0, purpose]))
        numbers = np.flatnonzero(self.values)
        score = np.zeros((sum(self.sizes), count), np.int32)
        base = np.cumsum([0, *self.sizes])
        categories = np.flatnonzero(np.array(self.values) == 0)
        by = random.choice(categories, count) if len(categories) else np.full(count, -1)
        if self.kind == "halfspaces":
            w = random.standard_normal((len(numbers), count)) / np.sqrt(len(numbers))
            bound = np.rint(0.5 * random.standard_normal(count) / UNIT)
            for i, j in enumerate(numbers):
                x = 2.0 * (np.arange(self.values[j]) + 0.5) / self.values[j] - 1.0
                score[base[j] : base[j] + len(x)] = np.rint(np.multiply.outer(x, w[i]) / UNIT)
        else:
            bound = np.full(count, -1)
            t = random.random((len(numbers), count))
            order = np.argsort(random.random((len(numbers), count)), axis=0)
            for i, j in enumerate(numbers):
                below = (
                    np.multiply.outer(np.arange(self.sizes[j]), 1.0 / (t[i] * self.values[j])) < 1.0
                )
                below[self.values[j] :] = False
                used = order[i] < _CONDITIONS
                score[base[j] : base[j + 1]] = np.where(below | ~used, 0, -1)
        cells = np.where(by >= 0, np.array(self.sizes)[by], 1)
        return Thresholds(
            score, bound.astype(np.int32), by.astype(np.int64), cells.astype(np.int64)
        )


#: Purposes of random numbers; see :mod:`zoo.streams`.
_PURPOSES = {"halfspaces": 17, "prefixes": 18}
#: Columns in a prefix.
_CONDITIONS = 2
