"""Counting rows, and the search for a table: edits evaluated by what they change.

An edit sets one cell of the table to another value: x[i, j] <- v. With S the counts of the table in
the cells of query set k, N' its rows and a the target, the loss is

    L = sum_k w_k || S_k / N' - a_k ||^2 = sum_k w_k || r_k ||^2 / N'^2,      r = S - N' a

and a row that moves from cell p to cell p' of set k changes it by

    (2 / N'^2) w_k (r_k[p'] + 1/2 - r_k[p] + 1/2)

An edit moves one row, and only in the sets that look at column j: nothing else is read. N' a is
rounded to multiples of 2^-20, so that residuals are exact however many edits have been made.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from zoo.jit import borrowed, call_objective, inlined, kernel
from zoo.streams import philox

_LOW = np.uint64(0xFFFFFFFF)
_32, _63 = np.uint64(32), np.uint64(63)
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)

#: Purpose of the search's random numbers; see :mod:`zoo.streams`.
EDITS = np.uint64(16)

_EMPTY = -1  # key of a slot that is free
_PER_ROW = 2.0**20  # units of a residual


class Layout(NamedTuple):
    """Query sets as the search takes them.

    d columns, V views, E entries, T thresholds, U uses of columns by thresholds, F functions. An
    *entry* is a marginal, of up to R columns, seen from one of its views.
    """

    sizes: Any  # (d,) int64: codes of each column
    picks: Any  # (P,) int64: columns, as often as they are to be edited
    # Marginals
    views: Any  # (d + 1,) int64: those of column j are views[j] .. views[j + 1]
    maps: Any  # (V, codes) int16: bin of each code
    entries: Any  # (V + 1,) int64: those of view q are entries[q] .. entries[q + 1]
    offset: Any  # (E,) int64: first cell of the marginal
    own: Any  # (E,) int64: cells between two bins of the view
    other: Any  # (R - 1, E) int64: the marginal's other views
    stride: Any  # (R - 1, E) int64: cells between two bins of those; 0 where there are fewer
    weight: Any  # (E,) float64
    # Thresholds: rows whose sum of scores is above the bound, by the code of a column
    uses: Any  # (d + 1,) int64: those of column j are threshold[uses[j] .. uses[j + 1]]
    threshold: Any  # (U,) int64
    base: Any  # (d,) int64: first row of a column in score
    score: Any  # (sum of sizes, T) int32
    bound: Any  # (T,) int32
    by: Any  # (T,) int64: column; -1 for none
    start: Any  # (T,) int64: first cell
    heavy: Any  # (T,) float64: weight
    # Functions: of a row's values, to a cell
    function: Any  # (F,) int64: machine addresses
    value: Any  # (d, codes) float64: what they are given for a code
    first: Any  # (F,) int64: first cell
    cells: Any  # (F,) int64
    worth: Any  # (F,) float64: weight


class Genome(NamedTuple):
    """A table, and what is known of it."""

    codes: Any  # (n, d) int16
    bins: Any  # (n, V) int16
    sums: Any  # (n, T) int32: of scores
    held: Any  # (n, F) int64: cell of each function; -1 for none
    row: Any  # (d,) float64: room for the values of one row
    residual: Any  # (cells,) or (slots,) float64
    keys: Any  # (slots,) int64: cell in each slot of a hash table; (0,) if every cell has its place
    used: Any  # (1,) int64: slots in use


@inlined
def _slot(keys, cell):
    """Where a cell is; -1 - the place where it would be, if it is not there."""
    if len(keys) == 0:
        return cell
    mask = np.int64(len(keys) - 1)
    place = np.int64((np.uint64(cell) * _GOLDEN) >> _32) & mask
    while keys[place] != cell:
        if keys[place] == _EMPTY:
            return -1 - place
        place = (place + 1) & mask
    return place


@inlined
def _at(genome, cell):
    """Residual of a cell."""
    place = _slot(genome.keys, cell)
    return genome.residual[place] if place >= 0 else 0.0


@inlined
def add_to(genome, cell, change):
    """Change the residual of a cell."""
    place = _slot(genome.keys, cell)
    if place < 0:
        place = -1 - place
        genome.keys[place] = cell
        genome.used[0] += 1
        genome.residual[place] = change
    else:
        genome.residual[place] += change


@inlined
def _rest(genome, layout, row, e):
    """Cell of a row in an entry's marginal, but for the view's own share."""
    cell = layout.offset[e]
    if layout.other.shape[0] > 0:
        cell += layout.stride[0, e] * genome.bins[row, layout.other[0, e]]
    for r in range(1, layout.other.shape[0]):
        cell += layout.stride[r, e] * genome.bins[row, layout.other[r, e]]
    return cell


@inlined
def _cell_of(genome, layout, f, row, column, code):
    """Cell in which function f puts a row, its column set to a code; -1 for none."""
    d = len(layout.sizes)
    for j in range(d):
        genome.row[j] = layout.value[j, genome.codes[row, j]]
    genome.row[column] = layout.value[column, code]
    found = call_objective(layout.function[f], genome.row, 0, d)
    if found >= 0.0 and found < layout.cells[f]:
        return layout.first[f] + np.int64(found)
    return np.int64(-1)


@inlined
def _moved(genome, old, new):
    """What the loss changes, in units of 2 w / N'^2, as a row moves between cells; -1: none."""
    change = 0.0
    if old != new:
        if new >= 0:
            change += _at(genome, new) + 0.5
        if old >= 0:
            change += 0.5 - _at(genome, old)
    return change


@inlined
def _move(genome, old, new):
    """Move a row between cells."""
    if old != new:
        if old >= 0:
            add_to(genome, old, -1.0)
        if new >= 0:
            add_to(genome, new, 1.0)


@inlined
def _passed(genome, layout, t, row, column, new, total):
    """Cell of a row in a threshold's set, given the sum of its scores; -1 if it is not above."""
    if total <= layout.bound[t]:
        return np.int64(-1)
    by = layout.by[t]
    if by < 0:
        return layout.start[t]
    return layout.start[t] + np.int64(new if by == column else genome.codes[row, by])


@inlined
def _delta(genome, layout, row, column, old, new):
    """Change of the loss by an edit, in units of 2 / N'^2."""
    change = 0.0
    for q in range(layout.views[column], layout.views[column + 1]):
        u, v = np.int64(layout.maps[q, old]), np.int64(layout.maps[q, new])
        if u != v:
            for e in range(layout.entries[q], layout.entries[q + 1]):
                cell = _rest(genome, layout, row, e)
                gain = _at(genome, cell + layout.own[e] * v) - _at(genome, cell + layout.own[e] * u)
                change += layout.weight[e] * (gain + 1.0)
    a, b = layout.base[column] + old, layout.base[column] + new
    for i in range(layout.uses[column], layout.uses[column + 1]):
        t = layout.threshold[i]
        total = genome.sums[row, t]
        before = _passed(genome, layout, t, row, column, old, total)
        total += layout.score[b, t] - layout.score[a, t]
        after = _passed(genome, layout, t, row, column, new, total)
        change += layout.heavy[t] * _moved(genome, before, after)
    for f in range(len(layout.function)):
        after = _cell_of(genome, layout, f, row, column, new)
        change += layout.worth[f] * _moved(genome, genome.held[row, f], after)
    return change


@inlined
def _apply(genome, layout, row, column, new):
    """Make an edit."""
    old = genome.codes[row, column]
    for q in range(layout.views[column], layout.views[column + 1]):
        u, v = np.int64(layout.maps[q, old]), np.int64(layout.maps[q, new])
        if u != v:
            for e in range(layout.entries[q], layout.entries[q + 1]):
                cell = _rest(genome, layout, row, e)
                add_to(genome, cell + layout.own[e] * u, -1.0)
                add_to(genome, cell + layout.own[e] * v, 1.0)
            genome.bins[row, q] = v
    a, b = layout.base[column] + old, layout.base[column] + new
    for i in range(layout.uses[column], layout.uses[column + 1]):
        t = layout.threshold[i]
        total = genome.sums[row, t]
        before = _passed(genome, layout, t, row, column, old, total)
        total += layout.score[b, t] - layout.score[a, t]
        genome.sums[row, t] = total
        _move(genome, before, _passed(genome, layout, t, row, column, new, total))
    for f in range(len(layout.function)):
        after = _cell_of(genome, layout, f, row, column, new)
        _move(genome, genome.held[row, f], after)
        genome.held[row, f] = after
    genome.codes[row, column] = new


@kernel
def count_cells(bins, offset, members, strides, counts):
    """Add the rows of a table, in bins (n, V), to the cells of marginals.

    See :class:`evolve.gsd.marginals.Views`.
    """
    for row in range(bins.shape[0]):
        for m in range(members.shape[0]):
            cell = offset[m]
            for r in range(members.shape[1]):
                cell += strides[m, r] * bins[row, members[m, r]]
            counts[cell] += 1.0


@kernel
def count_above(codes, base, score, bound, by, start, counts):
    """Add the rows of codes (n, d) to the cells of thresholds.

    See :class:`evolve.gsd.thresholds.Thresholds`.
    """
    n, d = codes.shape
    sums = np.empty(len(bound), np.int32)
    for row in range(n):
        sums[:] = 0
        for j in range(d):
            one = score[base[j] + codes[row, j]]
            for t in range(len(bound)):
                sums[t] += one[t]
        for t in range(len(bound)):
            if sums[t] > bound[t]:
                counts[start[t] + (codes[row, by[t]] if by[t] >= 0 else 0)] += 1.0


@kernel
def count(genome, layout, marginals, members, strides):
    """Add every row of a table to its cells; fills sums and held.

    Parameters
    ----------
    marginals : (M + 1,) int64
        First cell of each.
    members, strides : (M, R) int64
        See :class:`evolve.gsd.marginals.Views`.
    """
    genome, layout = borrowed(genome), borrowed(layout)  # else every call counts references
    for row in range(genome.codes.shape[0]):
        for m in range(members.shape[0]):
            cell = marginals[m]
            for r in range(members.shape[1]):
                cell += strides[m, r] * genome.bins[row, members[m, r]]
            add_to(genome, cell, 1.0)
        for t in range(len(layout.bound)):
            total = np.int32(0)
            for j in range(len(layout.sizes)):
                total += layout.score[layout.base[j] + genome.codes[row, j], t]
            genome.sums[row, t] = total
            code = genome.codes[row, 0]
            _move(genome, -1, _passed(genome, layout, t, row, 0, code, total))
        for f in range(len(layout.function)):
            cell = _cell_of(genome, layout, f, row, 0, genome.codes[row, 0])
            genome.held[row, f] = cell
            _move(genome, -1, cell)


@kernel
def subtract(genome, cells, targets):
    """Take targets (k,) off the residuals of some cells (k,)."""
    genome = borrowed(genome)
    for i in range(len(cells)):
        add_to(genome, cells[i], -targets[i])


@kernel
def sum_by_set(keys, residual, offset, sums):
    """Add up the residuals of the slots of each set, in whole numbers, which have no order.

    Parameters
    ----------
    sums : (sets, 4) int64
        Of |r| in units of 2^-20; with |r| = h + l, h whole, of h^2, and of h l and l^2 in units of
        2^-20 and 2^-40.
    """
    for place in range(len(keys)):
        if keys[place] != _EMPTY:
            k = np.searchsorted(offset, keys[place], side="right") - 1
            r = np.int64(abs(residual[place]) * _PER_ROW)
            h, part = r >> 20, r & 0xFFFFF
            sums[k, 0] += r
            sums[k, 1] += h * h
            sums[k, 2] += h * part
            sums[k, 3] += part * part


@kernel
def search(genome, layout, seed, stream, step, first, rows, start, candidates, edits):
    """Try random edits in turn, and make those that lower the loss.

    Half of them are mutations (a cell takes a random value of its domain), half crossovers (it
    takes the value of another row). Ends after so many ``candidates``, or when ``edits`` is full.

    Parameters
    ----------
    seed, stream, step : uint64
        Of the random numbers.
    first, rows : int
        Rows that are edited: first .. first + rows - 1. Values come from all.
    start, candidates : int
        Number of the first candidate in its stream, and how many; even.
    edits : (most, 4) int32
        Receives row, column, old and new value of each edit made.

    Returns
    -------
    made, tried : int
    """
    genome, layout = borrowed(genome), borrowed(layout)  # else every call counts references
    n, codes = np.uint64(genome.codes.shape[0]), genome.codes
    made = 0
    for pair in range(start // 2, (start + candidates) // 2):
        words = philox(np.uint64(pair), np.uint64(step), np.uint64(0), EDITS, seed, stream)
        for half in range(2):
            a, b = (words[0], words[1]) if half == 0 else (words[2], words[3])
            row = first + np.int64(((a & _LOW) * np.uint64(rows)) >> _32)
            column = layout.picks[np.int64(((a >> _32) * np.uint64(len(layout.picks))) >> _32)]
            old = codes[row, column]
            if b >> _63:
                new = codes[np.int64(((b & _LOW) * n) >> _32), column]
            else:
                new = np.int16(((b & _LOW) * np.uint64(layout.sizes[column])) >> _32)
            if new != old and _delta(genome, layout, row, column, old, new) < 0.0:
                _apply(genome, layout, row, column, new)
                edits[made, 0], edits[made, 1] = row, column
                edits[made, 2], edits[made, 3] = old, new
                made += 1
                if made == len(edits):
                    return made, 2 * pair + half + 1 - start
    return made, candidates


@kernel
def undo(genome, layout, edits):
    """Take edits back, the last one first."""
    genome, layout = borrowed(genome), borrowed(layout)  # else every call counts references
    for k in range(len(edits) - 1, -1, -1):
        _apply(genome, layout, edits[k, 0], edits[k, 1], np.int16(edits[k, 2]))


@kernel
def redo(genome, layout, edits):
    """Make edits."""
    genome, layout = borrowed(genome), borrowed(layout)  # else every call counts references
    for k in range(len(edits)):
        _apply(genome, layout, edits[k, 0], edits[k, 1], np.int16(edits[k, 3]))


@kernel
def still_good(genome, layout, edits, kept):
    """Make those edits that lower the loss here.

    Returns
    -------
    count : int
        How many; their numbers are in ``kept``.
    change : float
        Of the loss, in units of 2 / N'^2.
    """
    genome, layout = borrowed(genome), borrowed(layout)  # else every call counts references
    count, total = 0, 0.0
    for k in range(len(edits)):
        row, column, new = edits[k, 0], edits[k, 1], np.int16(edits[k, 3])
        old = genome.codes[row, column]
        if new != old:
            change = _delta(genome, layout, row, column, old, new)
            if change < 0.0:
                _apply(genome, layout, row, column, new)
                kept[count] = k
                count += 1
                total += change
    return count, total
