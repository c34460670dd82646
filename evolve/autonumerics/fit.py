"""Constants of a program by least squares: Levenberg and Marquardt's method from many starts.

The gradient of a program is free: derivatives by the constants run forward beside the values, at
``NODES`` Chebyshev nodes. The steps come from a QR decomposition, by modified Gram and Schmidt
with the residual carried along, which is backward stable (Bjorck 1967): normal equations would
square a condition that is bad enough. Columns are scaled by their norms (More 1978), and the
damping follows the gain ratio (Nielsen 1999).

Most starts lead nowhere, so they are many and short, and only the best ones go on.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from evolve.autonumerics.grid import Grid
from evolve.autonumerics.interpreter import BLOCK, apply, dd_run, row_of
from evolve.autonumerics.programs import ADD, DIV, FMA, MUL, SUB, Program
from zoo.jit import inlined, kernel
from zoo.lanes import LANES, fma, load, spread, store, total

Array = npt.NDArray[np.float64]

#: Points at which programs are fitted.
NODES = 32

#: A damping beyond this, relative to the squares of the columns, moves nothing.
_STUCK = 1e16


@kernel
def _masks(codes, count, masks):
    """Bits of the constants that each row depends on."""
    masks[0] = 0
    for k in range(count):
        masks[k + 1] = 1 << k
    for k in range(len(codes)):
        held = 0
        operands = 1 if codes[k, 0] > FMA else 3 if codes[k, 0] == FMA else 2
        for i in range(1, 1 + operands):
            held |= masks[row_of(codes[k, i], count)]
        masks[count + 1 + k] = held


@inlined
def _tangent(d, masks, row, k, count, i):
    """Derivative of a row by constant k."""
    if (masks[row] >> k) & 1:
        return load(d, (row * count + k, i))
    return spread(0.0)


@kernel
def _derive(op, v, d, masks, to, a, b, c, count):
    """Derivatives of row ``to`` by the constants, from those of the rows that it comes of."""
    for i in range(0, NODES, LANES):
        va, vb, value = load(v, (a, i)), load(v, (b, i)), load(v, (to, i))
        inverse = value
        if op == DIV:
            inverse = 1.0 / vb
        elif op > FMA:
            inverse = 0.5 / value
        for k in range(count):
            if not (masks[to] >> k) & 1:
                continue
            da = _tangent(d, masks, a, k, count, i)
            db = _tangent(d, masks, b, k, count, i)
            if op == ADD:
                slope = da + db
            elif op == SUB:
                slope = da - db
            elif op == MUL:
                slope = fma(da, vb, va * db)
            elif op == DIV:
                slope = (da - value * db) * inverse
            elif op == FMA:
                slope = fma(da, vb, fma(va, db, _tangent(d, masks, c, k, count, i)))
            else:
                slope = da * inverse
            store(d, (to * count + k, i), slope)


@kernel
def _values(codes, c, v):
    """Values of all rows; x is in the first one."""
    count = len(c)
    for k in range(count):
        for i in range(0, NODES, LANES):
            store(v, (k + 1, i), c[k])
    for k in range(len(codes)):
        apply(
            codes[k, 0], v, count + 1 + k, row_of(codes[k, 1], count), row_of(codes[k, 2], count),
            row_of(codes[k, 3], count), NODES,
        )  # fmt: skip


@kernel
def _slopes(codes, count, v, d, masks):
    """Derivatives of all rows by the constants, after :func:`_values`."""
    for k in range(count):
        for i in range(0, NODES, LANES):
            store(d, ((k + 1) * count + k, i), 1.0)
    for k in range(len(codes)):
        _derive(
            codes[k, 0], v, d, masks, count + 1 + k, row_of(codes[k, 1], count),
            row_of(codes[k, 2], count), row_of(codes[k, 3], count), count,
        )  # fmt: skip


@kernel
def _residual(value, below, t, low, w, r):
    """Weighted errors, row 0 of r; returns the sum of their squares."""
    squares = spread(0.0)
    for i in range(0, NODES, LANES):
        error = ((load(value, i) - load(t, i)) + (load(below, i) - load(low, i))) * load(w, i)
        store(r, (0, i), error)
        squares = fma(error, error, squares)
    return total(squares)


@kernel
def _factor(d, first, count, w, r, scale, q, upper, rest):
    """QR of the scaled derivatives, w d / scale, and of the residual: R and Q^T r."""
    for k in range(count):
        norm = spread(0.0)
        for i in range(0, NODES, LANES):
            column = load(d, (first + k, i)) * load(w, i)
            store(q, (k, i), column)
            norm = fma(column, column, norm)
        scale[k] = max(scale[k], math.sqrt(total(norm)))
    for i in range(0, NODES, LANES):
        store(q, (count, i), load(r, (0, i)))
    for k in range(count):
        inverse = 1.0 / scale[k] if scale[k] > 0.0 else 0.0
        for i in range(0, NODES, LANES):
            store(q, (k, i), load(q, (k, i)) * inverse)
    for k in range(count):
        norm = spread(0.0)
        for i in range(0, NODES, LANES):
            column = load(q, (k, i))
            norm = fma(column, column, norm)
        length = math.sqrt(total(norm))
        upper[k, k] = length
        inverse = 1.0 / length if length > 0.0 else 0.0
        for i in range(0, NODES, LANES):
            store(q, (k, i), load(q, (k, i)) * inverse)
        for j in range(k + 1, count + 1):
            product = spread(0.0)
            for i in range(0, NODES, LANES):
                product = fma(load(q, (k, i)), load(q, (j, i)), product)
            along = total(product)
            if j < count:
                upper[k, j] = along
            else:
                rest[k] = along
            for i in range(0, NODES, LANES):
                store(q, (j, i), fma(load(q, (k, i)), -along, load(q, (j, i))))


@kernel
def _damped(upper, rest, damping, count, work, p):
    """Least squares of R p = -rest beside sqrt(damping) p = 0, by rotations; returns the gain.

    The gain is the decrease of the sum of squares that the linear model promises.
    """
    for k in range(count):
        for j in range(count):
            work[k, j] = upper[k, j] if j >= k else 0.0
        p[k] = -rest[k]
    root = math.sqrt(damping)
    for k in range(count):
        # The row sqrt(damping) e_k is rotated into rows k, k + 1, ...
        row, right = work[count], 0.0
        for j in range(count):
            row[j] = root if j == k else 0.0
        for j in range(k, count):
            if row[j] == 0.0:
                continue
            length = math.hypot(work[j, j], row[j])
            cosine, sine = work[j, j] / length, row[j] / length
            for m in range(j, count):
                one, two = work[j, m], row[m]
                work[j, m] = cosine * one + sine * two
                row[m] = cosine * two - sine * one
            one = p[j]
            p[j] = cosine * one + sine * right
            right = cosine * right - sine * one
    for k in range(count - 1, -1, -1):
        value = p[k]
        for j in range(k + 1, count):
            value -= work[k, j] * p[j]
        p[k] = value / work[k, k] if work[k, k] != 0.0 else 0.0
    gain = 0.0
    for k in range(count):
        along = 0.0
        for j in range(k, count):
            along += upper[k, j] * p[j]
        gain += rest[k] * rest[k] - (rest[k] + along) ** 2
    return gain


@kernel
def descend(codes, c, cl, x, t, low, w, precise, iterations, v, h, e, d, q, r, masks, small, work):
    """Improve constants c (and low parts cl) in place; returns the sum of squares.

    It is infinite where the program has no value at a node.

    Parameters
    ----------
    precise : bool
        Whether values are of double-double precision.
    v, h, e, d, q, r : float64 rows
        Values; high and low parts; derivatives; the matrix that is decomposed; errors.
    masks : (rows,) int64
    small : (6, K), work : (2 K + 1, K) float64
    """
    count = len(c)
    rows = 1 + count + len(codes)
    last = rows - 1
    out, below = h[rows], e[rows]
    damping, growth = 1e-3, 2.0
    scale, p, rest, kept, kept_low = small[0], small[1], small[2], small[3], small[4]
    upper = work[count + 1 :]
    for k in range(count):
        scale[k] = 0.0
    for i in range(0, NODES, LANES):
        store(v, (0, i), load(x, i))
        store(e, (rows, i), 0.0)
        store(e, (0, i), 0.0)
    zeros = e[0]
    _masks(codes, count, masks)
    _values(codes, c, v)
    if precise:
        dd_run(codes, c, cl, x, zeros, h, e, out, below)
        squares = _residual(out, below, t, low, w, r)
    else:
        squares = _residual(v[last], below, t, low, w, r)
    if not squares < math.inf:
        return math.inf
    slow = 0
    for _ in range(iterations):
        _slopes(codes, count, v, d, masks)
        _factor(d, last * count, count, w, r, scale, q, upper, rest)
        while True:
            gain = _damped(upper, rest, damping, count, work, p)
            for k in range(count):
                kept[k], kept_low[k] = c[k], cl[k]
                step = p[k] / scale[k] if scale[k] > 0.0 else 0.0
                c[k] = kept[k] + step
                if precise:  # what the sum has lost
                    back = c[k] - kept[k]
                    cl[k] += (kept[k] - (c[k] - back)) + (step - back)
            _values(codes, c, v)
            if precise:
                dd_run(codes, c, cl, x, zeros, h, e, out, below)
                after = _residual(out, below, t, low, w, r)
            else:
                after = _residual(v[last], below, t, low, w, r)
            if after < squares:
                break
            for k in range(count):
                c[k], cl[k] = kept[k], kept_low[k]
            damping, growth = damping * growth, growth * 2.0
            if damping > _STUCK or not gain > 0.0:
                return squares
        ratio = (squares - after) / gain
        damping = max(1e-20, damping * max(1.0 / 3.0, 1.0 - (2.0 * ratio - 1.0) ** 3))
        growth = 2.0
        slow = slow + 1 if squares - after < 1e-6 * squares else 0
        squares = after
        if slow >= 3 or squares == 0.0:
            break
    return squares


@kernel
def fit_all(
    codes, starts, x, t, low, w, stages, best, v, h, e, d, q, r, masks, small, work, squares
):
    """Improve starts (S, K) in stages; the best constants go to ``best``, and their sum of squares.

    Parameters
    ----------
    stages : (m, 2) int64
        How many of the best starts take part, and iterations of each.
    """
    count = starts.shape[1]
    cl = small[5]
    for s in range(len(starts)):
        squares[s] = 0.0
    for m in range(len(stages)):
        many = min(stages[m, 0], len(starts))
        for s in range(many):
            if squares[s] < math.inf:
                for k in range(count):
                    cl[k] = 0.0
                squares[s] = descend(
                    codes, starts[s], cl, x, t, low, w, False, stages[m, 1],
                    v, h, e, d, q, r, masks, small, work,
                )  # fmt: skip
        for s in range(1, many):  # the best ones first
            j = s
            while j > 0 and squares[j] < squares[j - 1]:
                squares[j], squares[j - 1] = squares[j - 1], squares[j]
                for k in range(count):
                    starts[j, k], starts[j - 1, k] = starts[j - 1, k], starts[j, k]
                j -= 1
    for k in range(count):
        best[k] = starts[0, k]
    return squares[0]


@kernel
def jacobian(codes, c, x, v, d, masks, out):
    """Derivatives (K, N) by the constants at x, of a multiple of NODES points."""
    count = len(c)
    last = count + len(codes)
    _masks(codes, count, masks)
    for begin in range(0, len(x), NODES):
        for i in range(0, NODES, LANES):
            store(v, (0, i), load(x, begin + i))
        _values(codes, c, v)
        _slopes(codes, count, v, d, masks)
        for k in range(count):
            for i in range(0, NODES, LANES):
                store(out, (k, begin + i), load(d, (last * count + k, i)))


def derivatives(program: Program, x: Array) -> Array:
    """Derivatives (K, N) of a program by its constants at points (N,)."""
    count = len(program.constants)
    points = np.concatenate([x, np.repeat(x[-1:], -len(x) % NODES)])
    rows = 1 + count + program.cost
    v, d = np.zeros((rows, NODES)), np.zeros((rows * count, NODES))
    out, masks = np.zeros((count, len(points))), np.zeros(rows, np.int64)
    jacobian(program.codes, program.constants, points, v, d, masks, out)
    return out[:, : len(x)]


class Fitter:
    """Fits programs of up to so many operations and constants to a target at ``NODES`` points."""

    def __init__(self, nodes: Grid, operations: int, constants: int) -> None:
        self.nodes, self._most = nodes, (operations, constants)
        rows = 2 + constants + operations
        wide = max(NODES, BLOCK)
        self._v, self._r = np.zeros((rows, NODES)), np.zeros((1, NODES))
        self._h, self._e = np.zeros((rows, wide)), np.zeros((rows, wide))
        self._d = np.zeros((rows * constants, NODES))
        self._q = np.zeros((constants + 1, NODES))
        self._masks = np.zeros(rows, np.int64)

    def _memory(self, program: Program) -> tuple[Any, ...]:
        count = len(program.constants)
        if program.cost > self._most[0] or count > self._most[1]:
            raise ValueError(f"the program is larger than {self._most}")
        small, work = np.zeros((6, count)), np.zeros((2 * count + 1, count))
        return (
            self._v, self._h, self._e, self._d, self._q, self._r, self._masks, small, work
        )  # fmt: skip

    def fit(
        self, program: Program, starts: Array, stages: npt.NDArray[np.int64]
    ) -> tuple[float, Array]:
        """Root of the mean squared error, and constants (K,), from starts (S, K)."""
        n, best = self.nodes, np.empty(starts.shape[1])
        squares = fit_all(
            program.codes, starts, n.x, n.truth, n.low, n.weights, stages, best,
            *self._memory(program), np.zeros(len(starts)),
        )  # fmt: skip
        return math.sqrt(squares / NODES), best

    def refine(self, program: Program, iterations: int) -> tuple[float, Program]:
        """The same in double-double precision, from the program's own constants."""
        n = self.nodes
        c, cl = program.constants.copy(), program.low.copy()
        squares = descend(
            program.codes,
            c,
            cl,
            n.x,
            n.truth,
            n.low,
            n.weights,
            True,
            iterations,
            *self._memory(program),
        )
        return math.sqrt(squares / NODES), program.with_constants(c, cl)
