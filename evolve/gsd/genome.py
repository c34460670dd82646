"""The genome: a whole table, resident with its statistics, and the edits made to it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from evolve.gsd import kernels
from evolve.gsd.queries import Queries
from zoo.errors import Interrupted
from zoo.problem import never

Array = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Edits = npt.NDArray[np.int32]

#: Targets are multiples of this many rows, so that residuals are exact.
_UNIT = 2.0**-20
#: Candidates between two questions whether to go on; even.
_PIECE = 1 << 15
#: A hash table is made anew when more than this of it may come into use, and then has at most this
#: in use.
_FULL, _FRESH = 0.9, 0.6


class Table:
    """A table and the residuals of its counts.

    Parameters
    ----------
    codes : (n, d) int16
        Copied.
    queries : Queries
    weights : (sets,)
        Of each query set in the loss.
    cells, shares : (k,) int64, (k,) float64
        Cells whose target is not zero, and those targets, in shares of the rows.
    sparse : bool
        Whether to keep only cells that have a target or rows.
    """

    def __init__(
        self,
        codes: Any,
        queries: Queries,
        weights: Sequence[float] | Array,
        cells: Ints,
        shares: Array,
        sparse: bool = False,
    ) -> None:
        self.queries, self.weights, self.sparse = queries, np.asarray(weights, np.float64), sparse
        self.cells = cells
        self.targets = np.rint(shares * len(codes) / _UNIT) * _UNIT
        self.layout, self._views = queries.layout(weights)
        self._offset = queries.offset
        of_column = np.diff(self.layout.entries[self.layout.views]) + np.diff(self.layout.uses)
        self._most_moves = int(of_column.max()) + len(self.layout.function)  # of an edit
        self._count(np.ascontiguousarray(codes, np.int16).copy(), 0)

    def _count(self, codes: npt.NDArray[np.int16], room: int) -> None:
        """Count from scratch, with room for so many new cells if only some are kept."""
        n, d = codes.shape
        keys, slots = np.empty(0, np.int64), int(self._offset[-1])
        if self.sparse:
            most = min(slots, len(self.cells) + n * len(self.weights) + room)
            slots = 1 << int(most / _FRESH).bit_length()
            keys = np.full(slots, -1, np.int64)
        self.genome = kernels.Genome(
            codes=codes,
            bins=self._views.bins(codes),
            sums=np.zeros((n, len(self.layout.bound)), np.int32),
            held=np.full((n, len(self.layout.function)), -1, np.int64),
            row=np.empty(d),
            residual=np.zeros(slots),
            keys=keys,
            used=np.zeros(1, np.int64),
        )
        marginals = self._offset[: len(self.queries.marginals) + 1]
        kernels.count(self.genome, self.layout, marginals, self._views.members, self._views.strides)
        kernels.subtract(self.genome, self.cells, self.targets)

    @property
    def codes(self) -> npt.NDArray[np.int16]:
        """The table (n, d)."""
        codes: npt.NDArray[np.int16] = self.genome.codes
        return codes

    @property
    def nbytes(self) -> int:
        """Bytes of the table and its statistics."""
        arrays = [*self.genome, *self.layout, self.cells, self.targets]
        return sum(array.nbytes for array in arrays)

    def search(
        self,
        seed: int,
        stream: int,
        step: int,
        first: int,
        rows: int,
        candidates: int,
        most: int,
        cancelled: Callable[[], bool] = never,
    ) -> tuple[Edits, int]:
        """Try random edits of some rows; returns those made, and how many were tried.

        See :func:`evolve.gsd.kernels.search`.

        Raises
        ------
        Interrupted
            If ``cancelled``, which is asked now and then; edits have been made by then.
        """
        self._make_room(most)
        edits = np.empty((most, 4), np.int32)
        key = (np.uint64(seed), np.uint64(stream), np.uint64(step))
        made = tried = 0
        while tried < candidates and made < most:
            if cancelled():
                raise Interrupted
            count = min(_PIECE, candidates - tried)
            one, other = kernels.search(
                self.genome, self.layout, *key, first, rows, tried, count, edits[made:]
            )
            made, tried = made + one, tried + other
        return edits[:made].copy(), tried

    def undo(self, edits: Edits) -> None:
        """Take edits back."""
        self._make_room(len(edits))
        kernels.undo(self.genome, self.layout, edits)

    def redo(self, edits: Edits) -> None:
        """Make edits."""
        self._make_room(len(edits))
        kernels.redo(self.genome, self.layout, edits)

    def accept(self, edits: Edits) -> tuple[Edits, float]:
        """Make those edits that lower the loss; returns them, and by what they change it."""
        self._make_room(len(edits))
        kept = np.empty(len(edits), np.int64)
        count, change = kernels.still_good(self.genome, self.layout, edits, kept)
        return edits[kept[:count]], 2.0 * change / len(self.codes) ** 2

    def loss(self) -> float:
        """L = sum_k w_k || S_k / N' - a_k ||^2."""
        return float(self.squares() @ self.weights)

    def errors(self) -> Array:
        """Distance (sets,) in total variation of the counts from their targets."""
        errors: Array = 0.5 * self._sums(1) / len(self.codes)
        return errors

    def squares(self) -> Array:
        """Squared distance (sets,) of the counts from their targets, in shares of the rows."""
        squares: Array = self._sums(2) / len(self.codes) ** 2
        return squares

    def _sums(self, power: int) -> Any:
        """Sum over the cells of each set of |r|^power, in a way that no order of slots shows."""
        if self.sparse:
            sums = np.zeros((len(self.weights), 4), np.int64)
            kernels.sum_by_set(self.genome.keys, self.genome.residual, self._offset, sums)
            if power == 1:
                return sums[:, 0] * _UNIT
            return sums[:, 1] + 2.0 * _UNIT * sums[:, 2] + _UNIT**2 * sums[:, 3]
        values = np.abs(self.genome.residual) ** power
        return np.add.reduceat(values, self._offset[:-1]) if len(values) else np.zeros(0)

    def _make_room(self, edits: int) -> None:
        """Let a hash table hold the cells that so many edits may add."""
        room = edits * self._most_moves
        used = min(int(self.genome.used[0]) + room, int(self._offset[-1]))
        if self.sparse and used > _FULL * len(self.genome.keys):
            self._count(self.genome.codes, room)
