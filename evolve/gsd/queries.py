"""What is asked of a table, as one array of cells: marginals, then thresholds, then functions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

from evolve.gsd.kernels import Layout
from evolve.gsd.marginals import Marginal, Views, views_of
from evolve.gsd.thresholds import Thresholds, none
from zoo.jit import address

Array = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

#: Places among which columns are picked, about.
_PICKS = 1024


@dataclass(frozen=True, eq=False)
class Function:
    """A query of the user's: which cell a row is in.

    Attributes
    ----------
    cell : callable
        Compiled by ``numba.njit``: ``cell(x) -> float`` of the values (d,) of a row (a number as it
        is, a category as its code, NaN for a null), from 0 on. Anything else, and an exception,
        counts the row nowhere.
    cells : int
        How many cells there are.
    """

    cell: Callable[..., float]
    cells: int = 1

    @property
    def guarded(self) -> Any:
        """The same without exceptions: -1 in their place. They would tell of the data."""
        if self.cell not in _guarded:
            cell = self.cell

            def of_row(x):  # type: ignore[no-untyped-def]
                try:
                    return float(cell(x))
                except Exception:
                    return -1.0

            _guarded[cell] = njit(nogil=True)(of_row)
        return _guarded[self.cell]


_guarded: dict[Any, Any] = {}  # kept alive, for their addresses are in use


@dataclass(frozen=True, eq=False)
class Queries:
    """Query sets over a table; a row is in one cell of each at most.

    Attributes
    ----------
    sizes : (d,)
        Codes of each column.
    marginals : sequence of Marginal
    thresholds : Thresholds, optional
    functions : sequence of Function
    values : (d, codes), optional
        What functions are given for a code.
    """

    sizes: tuple[int, ...]
    marginals: tuple[Marginal, ...] = ()
    thresholds: Thresholds | None = None
    functions: tuple[Function, ...] = ()
    values: Array | None = None

    @property
    def offset(self) -> Ints:
        """First cell (sets + 1,) of each set, and the number of all cells."""
        cells = [marginal.cells for marginal in self.marginals]
        cells += [] if self.thresholds is None else self.thresholds.cells.tolist()
        cells += [function.cells for function in self.functions]
        return np.cumsum([0, *cells])

    def views(self) -> Views:
        """The marginals, laid out."""
        return views_of(self.marginals, self.sizes)

    def counts(self, codes: Any) -> Array:
        """Rows (cells,) of codes (n, d) in every cell."""
        parts = [self.views().counts(codes)]
        if self.thresholds is not None:
            parts.append(self.thresholds.counts(codes, self.sizes))
        if self.functions:
            assert self.values is not None
            rows = self.values[np.arange(len(self.sizes)), codes]
            for function in self.functions:
                found = np.array([function.guarded(x) for x in rows], np.float64)
                inside = found[(found >= 0) & (found < function.cells)]
                cells = np.bincount(inside.astype(np.int64), minlength=function.cells)
                parts.append(cells.astype(np.float64))
        return np.concatenate(parts)

    def take(self, which: Ints) -> Queries:
        """Some of the sets, which have no functions among them; marginals first."""
        m = len(self.marginals)
        thresholds = (
            None if self.thresholds is None else self.thresholds.take(which[which >= m] - m)
        )
        marginals = tuple(self.marginals[k] for k in which if k < m)
        return replace(self, marginals=marginals, thresholds=thresholds)

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Marginals and thresholds as flat arrays; :meth:`like` takes them."""
        views = self.views()
        arrays: dict[str, npt.NDArray[Any]] = {
            "columns": views.columns,
            "maps": views.maps,
            "members": views.members,
            "strides": views.strides,
            "functions": np.array(len(self.functions)),
        }
        if self.thresholds is not None:
            arrays |= {f"threshold_{k}": v for k, v in vars(self.thresholds).items()}
        return arrays

    def like(self, arrays: Mapping[str, npt.NDArray[Any]]) -> Queries:
        """Queries of other arrays over the same columns, with these functions if with any."""
        columns, maps = arrays["columns"], arrays["maps"].astype(np.int64)
        marginals = tuple(
            Marginal(
                tuple(int(columns[q]) for q in members[strides > 0]),
                tuple(maps[q, : self.sizes[columns[q]]] for q in members[strides > 0]),
            )
            for members, strides in zip(arrays["members"], arrays["strides"], strict=True)
        )
        parts = {
            name.removeprefix("threshold_"): array
            for name, array in arrays.items()
            if name.startswith("threshold_")
        }
        return replace(
            self,
            marginals=marginals,
            thresholds=Thresholds(**parts) if parts else None,
            functions=self.functions if arrays["functions"] else (),
        )

    def layout(self, weights: Sequence[float] | Array) -> tuple[Layout, Views]:
        """Arrays for the search, with a weight for each set."""
        views, offset = self.views(), self.offset
        d, weights = len(self.sizes), np.asarray(weights, np.float64)
        thresholds = none(self.sizes) if self.thresholds is None else self.thresholds
        m, t = len(self.marginals), len(thresholds)
        entries = sorted(
            (int(views.members[k, r]), k, r)
            for k, marginal in enumerate(self.marginals)
            for r in range(len(marginal.columns))
        )
        others = [[r for r in range(views.members.shape[1]) if r != own] for _, _, own in entries]
        sets = [k for _, k, _ in entries]
        shape = (views.members.shape[1] - 1, len(entries))
        base = np.cumsum([0, *self.sizes])
        uses = [_users(thresholds, j, base) for j in range(d)]
        values = np.zeros((d, 1)) if self.values is None else self.values
        layout = Layout(
            sizes=np.array(self.sizes, np.int64),
            picks=_picks(self.sizes),
            views=np.searchsorted(views.columns, np.arange(d + 1)).astype(np.int64),
            maps=views.maps,
            entries=np.searchsorted([q for q, _, _ in entries], np.arange(len(views.columns) + 1)),
            offset=offset[sets] if sets else np.empty(0, np.int64),
            own=np.array([views.strides[k, r] for _, k, r in entries], np.int64),
            other=_others(views.members, sets, others).reshape(shape),
            stride=_others(views.strides, sets, others).reshape(shape),
            weight=weights[sets] if sets else np.empty(0),
            uses=np.cumsum([0, *map(len, uses)]),
            threshold=np.concatenate([*uses, np.empty(0, np.int64)]),
            base=base[:-1],
            score=np.ascontiguousarray(thresholds.score),
            bound=thresholds.bound,
            by=thresholds.by,
            start=offset[m : m + t],
            heavy=weights[m : m + t],
            function=np.array([address(f.guarded) for f in self.functions], np.int64),
            value=np.ascontiguousarray(values),
            first=offset[m + t : -1],
            cells=np.array([f.cells for f in self.functions], np.int64),
            worth=weights[m + t :],
        )
        return layout, views


def together(queries: Sequence[Queries]) -> Queries:
    """All sets of several queries over the same columns: marginals, thresholds, functions."""
    marginals = tuple(marginal for one in queries for marginal in one.marginals)
    thresholds: Thresholds | None = None
    functions: tuple[Function, ...] = ()
    values = None
    for one in queries:
        if one.thresholds is not None:
            more = one.thresholds
            thresholds = more if thresholds is None else thresholds.joined(more)
        if one.functions:
            functions, values = functions + one.functions, one.values
    return Queries(queries[0].sizes, marginals, thresholds, functions, values)


def _others(of_sets: Ints, sets: Sequence[int], others: Sequence[Sequence[int]]) -> Ints:
    """Members or strides of the other views of each entry, (R - 1, E)."""
    made = [of_sets[k, o] for k, o in zip(sets, others, strict=True)]
    return np.ascontiguousarray(np.array(made, np.int64).T)


def _users(thresholds: Thresholds, column: int, base: Ints) -> Ints:
    """Thresholds that look at a column."""
    scores = thresholds.score[base[column] : base[column + 1]]
    return np.flatnonzero((scores != scores[:1]).any(axis=0) | (thresholds.by == column))


def _picks(sizes: Any) -> Ints:
    """Columns, each as often as it is to be edited: by log size + 1, and never for one code."""
    share = np.where(np.array(sizes) > 1, np.log(sizes) + 1.0, 0.0)
    counts = np.ceil(_PICKS * share / max(share.sum(), 1.0)).astype(np.int64)
    return np.repeat(np.arange(len(sizes)), counts) if counts.any() else np.zeros(1, np.int64)
