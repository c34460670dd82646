"""What there is to measure, and in which bins, as far as the single columns tell."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from evolve.gsd.curator import Release
from evolve.gsd.estimate import equal_mass, merged
from evolve.gsd.marginals import Marginal
from evolve.gsd.queries import Queries

Array = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

#: Bins of a column in an estimated pair, at most.
_FINE = 128
#: Ranges in which a column of many numbers is measured besides.
_RANGES = 32
#: Cells of a marginal of three columns or more, at most, if it is measured with noise.
WIDE = 1 << 14


@dataclass
class Design:
    """What there is to measure, and what is known so far.

    Attributes
    ----------
    bare : Queries
        Of the columns' sizes, and the functions.
    apart : (d,) of bool
        Whether the last code of a column is a null.
    ordered : (d,) of bool
        Whether a column is of numbers, whose codes but for the null are in order.
    sets : sequence of tuples of int
        Columns of the marginals asked for.
    fixed : Queries, optional
        Queries that do not depend on any measurement, in place of marginals.
    people : float
        Rows of the data, as far as they are known.
    margins : list of (n_j,)
        Estimated probabilities of the values of each column.
    ones : Release
        The single columns.
    """

    bare: Queries
    apart: Sequence[bool]
    ordered: Sequence[bool]
    sets: Sequence[tuple[int, ...]]
    fixed: Queries | None
    people: float = 0.0
    margins: list[Array] = field(default_factory=list)
    ones: Release | None = None

    @property
    def sizes(self) -> tuple[int, ...]:
        """Codes of each column."""
        return self.bare.sizes

    @property
    def count(self) -> int:
        """Query sets besides the single columns."""
        return len(self.sets) if self.fixed is None else len(self.fixed.offset) - 1

    def most_cells(self, noisy: bool) -> int:
        """Cells of the targets, at most, whatever is measured."""
        cells = sum(self.sizes)
        if self.fixed is not None:
            return cells + int(self.fixed.offset[-1])
        for columns in self.sets:
            pair = len(columns) == 2
            of_set = math.prod(min(self.sizes[j], _FINE if pair else 1 << 62) for j in columns)
            cells += min(of_set, WIDE) if noisy and not pair else of_set
        return cells

    def wide(self, column: int) -> bool:
        """Whether a column of numbers has so many values that ranges of them are measured too."""
        values = self.sizes[column] - self.apart[column]
        return bool(self.ordered[column]) and values >= 2 * _RANGES

    def ranges(self, column: int) -> Marginal:
        """Marginal of a column of numbers in ranges of about equally many values."""
        values = self.sizes[column] - self.apart[column]
        # A null, whose code is the number of values, comes out as a range of its own.
        return Marginal((column,), (np.arange(self.sizes[column]) * _RANGES // values,))

    def fitted_bins(self, columns: Sequence[int]) -> list[Ints]:
        """Bins of the codes of columns in the marginal that is fitted: fine ones for a pair."""
        if len(columns) == 2:
            return [equal_mass(self.margins[j], _FINE, self.apart[j]) for j in columns]
        return [np.arange(self.sizes[j]) for j in columns]

    def measured(self, columns: tuple[int, ...], most: float) -> Marginal:
        """Marginal of columns in about ``most`` cells, in bins of about equal mass."""
        fitted = self.fitted_bins(columns)
        masses = [merged(self.margins[j], bins) for bins, j in zip(fitted, columns, strict=True)]
        wide = len(columns) > 2 and most < math.inf
        counts = allotted([len(mass) for mass in masses], min(most, WIDE) if wide else most)
        return Marginal(
            columns,
            tuple(
                equal_mass(mass, count, self.apart[j])[bins]
                for mass, count, bins, j in zip(masses, counts, fitted, columns, strict=True)
            ),
        )

    def queries(self, most: float) -> Queries:
        """Every query set besides the single columns, marginals in about ``most`` cells each."""
        if self.fixed is not None:
            return self.fixed
        marginals = tuple(self.measured(columns, most) for columns in self.sets)
        return replace(self.bare, marginals=marginals, functions=())


def allotted(sizes: Sequence[int], most: float) -> list[int]:
    """Bins of columns with so many values, about equally many, their product at most ``most``.

    Two each at least, where a column has them.
    """
    bins = [0] * len(sizes)
    order = sorted(range(len(sizes)), key=lambda i: sizes[i])
    for done, i in enumerate(order):
        share = most ** (1.0 / (len(sizes) - done)) if most < math.inf else math.inf
        bins[i] = int(min(sizes[i], max(2.0, share)))
        most /= bins[i]
    return bins
