"""Levenberg and Marquardt's method for the constants of a program, with its bend.

The gradient of a program is free: derivatives by the constants run forward beside the values, at
``NODES`` Chebyshev nodes. The steps come from a QR decomposition, by modified Gram and Schmidt
with the residual carried along, which is backward stable (Bjorck 1967): normal equations would
square a condition that is bad enough. Columns are scaled by their norms (More 1978), and the
damping follows the gain ratio (Nielsen 1999).

Good constants lie at the bottom of long, narrow, bent valleys. Steps follow the bend: half the
geodesic acceleration is added to each one (Transtrum and Sethna, "Improvements to the
Levenberg-Marquardt algorithm for nonlinear least-squares minimization", 2012), which takes the
square of the best program of 7 operations to its optimum in 20 steps instead of 150.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from evolve.autonumerics.interpreter import BLOCK, dd_run, row_of, walk
from evolve.autonumerics.programs import ADD, DIV, FMA, MUL, SUB, Program
from zoo.jit import inlined, kernel
from zoo.lanes import LANES, fma, load, spread, store, total

Array = npt.NDArray[np.float64]

#: Points at which programs are fitted.
NODES = 32

#: A damping beyond this, relative to the squares of the columns, moves nothing.
_STUCK = 1e16

#: First damping, and by how much a step that does what was promised may lower it.
_DAMPING, _LOWER = 1e-3, 0.03

#: How far ahead on a step its bend is measured, and how long the acceleration, of which half is
#: added, may be beside it.
_AHEAD, _BEND = 0.1, 0.5


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
    walk(codes, count, v, NODES)


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
def _triangle(upper, damping, count, t, turns):
    """Rotate sqrt(damping) I into R: the triangle t, and the rotations (cosines and sines)."""
    root = math.sqrt(damping)
    for k in range(count):
        for j in range(k, count):
            t[k, j] = upper[k, j]
    row = t[count]
    for k in range(count):
        # The row sqrt(damping) e_k is rotated into rows k, k + 1, ...
        for j in range(k, count):
            row[j] = root if j == k else 0.0
        for j in range(k, count):
            length = math.sqrt(t[j, j] * t[j, j] + row[j] * row[j])
            cosine, sine = 1.0, 0.0
            if length > 0.0:
                cosine, sine = t[j, j] / length, row[j] / length
            turns[k, j, 0], turns[k, j, 1] = cosine, sine
            for m in range(j, count):
                one, two = t[j, m], row[m]
                t[j, m] = cosine * one + sine * two
                row[m] = cosine * two - sine * one


@kernel
def _solved(t, turns, right, count, p):
    """Least squares of R p = -right beside sqrt(damping) p = 0, after :func:`_triangle`."""
    for k in range(count):
        p[k] = -right[k]
    for k in range(count):
        low = 0.0
        for j in range(k, count):
            one, cosine, sine = p[j], turns[k, j, 0], turns[k, j, 1]
            p[j] = cosine * one + sine * low
            low = cosine * low - sine * one
    for k in range(count - 1, -1, -1):
        value = p[k]
        for j in range(k + 1, count):
            value -= t[k, j] * p[j]
        p[k] = value / t[k, k] if t[k, k] != 0.0 else 0.0


@kernel
def _promised(upper, rest, p, count):
    """Decrease of the sum of squares that the linear model promises of a step."""
    gain = 0.0
    for k in range(count):
        along = 0.0
        for j in range(k, count):
            along += upper[k, j] * p[j]
        gain += rest[k] * rest[k] - (rest[k] + along) ** 2
    return gain


@kernel
def _moved(c, cl, kept, kept_low, p, scale, share, count, precise):
    """Constants a share of the step away from those that are kept."""
    for k in range(count):
        step = share * p[k] / scale[k] if scale[k] > 0.0 else 0.0
        c[k], cl[k] = kept[k] + step, kept_low[k]
        if precise:  # what the sum has lost
            back = c[k] - kept[k]
            cl[k] += (kept[k] - (c[k] - back)) + (step - back)


@kernel
def _bent(q, upper, r, ahead, p, count, bend):
    """Q^T of the second derivative of the errors along a step, from the errors ahead on it.

    It is (2 / H) ((r(c + H p) - r(c)) / H - J p).
    """
    for i in range(0, NODES, LANES):
        store(ahead, (0, i), (load(ahead, (0, i)) - load(r, (0, i))) * (2.0 / _AHEAD**2))
    for k in range(count):
        product = spread(0.0)
        for i in range(0, NODES, LANES):
            product = fma(load(q, (k, i)), load(ahead, (0, i)), product)
        along = 0.0
        for j in range(k, count):
            along += upper[k, j] * p[j]
        bend[k] = total(product) - (2.0 / _AHEAD) * along


@kernel
def _error_of(codes, c, cl, nodes, precise, memory, r):
    """Sum of squares of the weighted errors r, of values in double or double-double precision."""
    v, h, e = memory[0], memory[1], memory[2]
    x, t, low, w = nodes
    rows = 1 + len(c) + len(codes)
    _values(codes, c, v)
    if precise:
        dd_run(codes, c, cl, x, e[0], h, e, h[rows], e[rows])
        return _residual(h[rows], e[rows], t, low, w, r)
    return _residual(v[rows - 1], e[rows], t, low, w, r)


@kernel
def descend(codes, c, cl, nodes, precise, iterations, memory):
    """Improve constants c (and low parts cl) in place; returns the sum of squares.

    It is infinite where the program has no value at a node.

    Parameters
    ----------
    nodes : (x, t, low, w)
        Points, high and low parts of the target there, weights of the errors.
    precise : bool
        Whether values are of double-double precision.
    memory : tuple of arrays
        See :func:`memory_of`.
    """
    v, _, e, d, q, r, masks, small, work, turns = memory
    x, w = nodes[0], nodes[3]
    count = len(c)
    rows = 1 + count + len(codes)
    damping, growth = _DAMPING, 2.0
    scale, p, rest, kept, kept_low = small[0], small[1], small[2], small[3], small[4]
    bend, a = small[5], small[6]
    upper, ahead = work[count + 1 :], r[1:]
    for k in range(count):
        scale[k] = 0.0
    for i in range(0, NODES, LANES):
        store(v, (0, i), load(x, i))
        store(e, (rows, i), 0.0)
        store(e, (0, i), 0.0)
    _masks(codes, count, masks)
    squares = _error_of(codes, c, cl, nodes, precise, memory, r)
    if not squares < math.inf:
        return math.inf
    slow = 0
    for _ in range(iterations):
        _slopes(codes, count, v, d, masks)
        _factor(d, (rows - 1) * count, count, w, r, scale, q, upper, rest)
        for k in range(count):
            kept[k], kept_low[k] = c[k], cl[k]
        while True:
            _triangle(upper, damping, count, work, turns)
            _solved(work, turns, rest, count, p)
            gain = _promised(upper, rest, p, count)
            if _BEND > 0.0:
                _moved(c, cl, kept, kept_low, p, scale, _AHEAD, count, precise)
                _error_of(codes, c, cl, nodes, precise, memory, ahead)
                _bent(q, upper, r, ahead, p, count, bend)
                _solved(work, turns, bend, count, a)
                one, two = 0.0, 0.0
                for k in range(count):
                    one, two = one + p[k] * p[k], two + a[k] * a[k]
                if two <= _BEND**2 * one:
                    for k in range(count):
                        p[k] += 0.5 * a[k]
            _moved(c, cl, kept, kept_low, p, scale, 1.0, count, precise)
            after = _error_of(codes, c, cl, nodes, precise, memory, ahead)
            if after < squares:
                break
            damping, growth = damping * growth, growth * 2.0
            if damping > _STUCK or not gain > 0.0:
                for k in range(count):
                    c[k], cl[k] = kept[k], kept_low[k]
                return squares
        for i in range(0, NODES, LANES):
            store(r, (0, i), load(ahead, (0, i)))
        ratio = (squares - after) / gain
        damping = max(1e-20, damping * max(_LOWER, 1.0 - (2.0 * ratio - 1.0) ** 3))
        growth = 2.0
        slow = slow + 1 if squares - after < 1e-6 * squares else 0
        squares = after
        if slow >= 3 or squares == 0.0:
            break
    return squares


def memory_of(operations: int, constants: int) -> tuple[Any, ...]:
    """Arrays that :func:`descend` needs for programs of up to so many operations and constants.

    They are: values; their high and low parts; derivatives; the matrix that is decomposed; errors,
    and those ahead; bits of the constants; vectors; the triangles; the rotations.
    """
    rows, wide = 2 + constants + operations, max(NODES, BLOCK)
    return (
        np.zeros((rows, NODES)),
        np.zeros((rows, wide)),
        np.zeros((rows, wide)),
        np.zeros((rows * constants, NODES)),
        np.zeros((constants + 1, NODES)),
        np.zeros((2, NODES)),
        np.zeros(rows, np.int64),
        np.zeros((7, constants)),
        np.zeros((2 * constants + 1, constants)),
        np.zeros((constants, constants, 2)),
    )


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
