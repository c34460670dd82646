"""Programs at work: values at many points, in single, double and double-double precision.

An operation is looked up once for a block of points, whose numbers stay in the nearest cache; the
loop over the points is in vectors. Arithmetic is IEEE's: x + c/x at x = 0 is infinite, and 1 over
it is 0, as good programs rely on.

A number of double-double precision is an unevaluated sum of two float64, of 106 bits or so (Dekker
1971; Knuth; with fused products as in Joldes, Muller and Popescu 2017, algorithms 6, 12 and 17).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from evolve.autonumerics.programs import ADD, DIV, FMA, MUL, SUB, Program
from zoo.jit import inlined, kernel
from zoo.lanes import LANES, fma, load, spread, store, where_finite

Array = npt.NDArray[np.float64]

#: Points of a block: with 16 rows or so they stay in the nearest cache.
BLOCK = 128


@inlined
def row_of(operand, constants):
    """Row of an operand: x, the constants, then results."""
    if operand > 0:
        return operand + constants
    return -operand


@kernel
def apply(op, r, to, a, b, c, n):
    """Row ``to`` of r: an operation on other rows."""
    if op == ADD:
        for i in range(0, n, LANES):
            store(r, (to, i), load(r, (a, i)) + load(r, (b, i)))
    elif op == SUB:
        for i in range(0, n, LANES):
            store(r, (to, i), load(r, (a, i)) - load(r, (b, i)))
    elif op == MUL:
        for i in range(0, n, LANES):
            store(r, (to, i), load(r, (a, i)) * load(r, (b, i)))
    elif op == DIV:
        for i in range(0, n, LANES):
            store(r, (to, i), load(r, (a, i)) / load(r, (b, i)))
    elif op == FMA:
        for i in range(0, n, LANES):
            store(r, (to, i), fma(load(r, (a, i)), load(r, (b, i)), load(r, (c, i))))
    else:
        for i in range(0, n, LANES):
            store(r, (to, i), math.sqrt(load(r, (a, i))))


@kernel
def walk(codes, count, r, n):
    """All operations at n points, after x and the constants in the first rows of r."""
    for k in range(len(codes)):
        a, b, c = codes[k, 1], codes[k, 2], codes[k, 3]
        apply(
            codes[k, 0], r, count + 1 + k, row_of(a, count), row_of(b, count), row_of(c, count), n
        )


@kernel
def run(codes, constants, x, r, out):
    """Values of one program at x, of a multiple of LANES points, in the type of the arrays.

    Parameters
    ----------
    codes : (n, 4) int8
    constants : (K,)
    x, out : (N,)
    r : (1 + K + n or more, BLOCK)
        Rows that may be used.
    """
    count = len(constants)
    for k in range(count):
        for i in range(0, BLOCK, LANES):
            store(r, (k + 1, i), constants[k])
    for begin in range(0, len(x), BLOCK):
        n = min(BLOCK, len(x) - begin)
        for i in range(0, n, LANES):
            store(r, (0, i), load(x, begin + i))
        walk(codes, count, r, n)
        last = row_of(len(codes), count) if len(codes) else 1
        for i in range(0, n, LANES):
            store(out, begin + i, load(r, (last, i)))


@inlined
def _two_sum(a, b):
    s = a + b
    t = s - a
    return s, (a - (s - t)) + (b - t)


@inlined
def _normal(high, low):
    """High and low part of a sum, low no part where high is infinite, or nothing at all."""
    s = high + low
    return s, where_finite(s, low - (s - high))


@inlined
def dd_add(ah, al, bh, bl):
    """Sum of two double-double numbers."""
    s, e = _two_sum(ah, bh)
    t, f = _two_sum(al, bl)
    s, e = _normal(s, where_finite(s, e + t))
    return _normal(s, e + where_finite(s, f))


@inlined
def dd_mul(ah, al, bh, bl):
    """Product of two double-double numbers."""
    p = ah * bh
    rest = fma(ah, bh, spread(0.0) - p)
    rest = fma(al, bl, rest)
    rest = fma(ah, bl, fma(al, bh, rest))
    return _normal(p, where_finite(p, rest))


@inlined
def dd_div(ah, al, bh, bl):
    """Quotient of two double-double numbers."""
    zero = spread(0.0)
    q = ah / bh
    r = fma(zero - q, bh, ah)
    rest = (fma(zero - q, bl, r) + al) / bh
    q, rest = _normal(q, where_finite(rest, rest))
    # One more step: the remainder of what has been found so far.
    ph, pl = dd_mul(q, rest, bh, bl)
    rh, _ = dd_add(ah, al, zero - ph, zero - pl)
    more = rh / bh
    return _normal(q, rest + where_finite(more, more))


@inlined
def dd_sqrt(ah, al):
    """Square root of a double-double number."""
    zero = spread(0.0)
    q = math.sqrt(ah)
    ph, pl = q * q, fma(q, q, zero - q * q)
    rh, _ = dd_add(ah, al, zero - ph, zero - pl)
    more = rh / (q + q)
    return _normal(q, where_finite(more, more))


@kernel
def dd_apply(op, h, w, to, a, b, c, n):
    """Row ``to`` of h and w: an operation on other rows, of high and low parts."""
    for i in range(0, n, LANES):
        ah, al = load(h, (a, i)), load(w, (a, i))
        bh, bl = load(h, (b, i)), load(w, (b, i))
        if op == ADD:
            high, low = dd_add(ah, al, bh, bl)
        elif op == SUB:
            high, low = dd_add(ah, al, spread(0.0) - bh, spread(0.0) - bl)
        elif op == MUL:
            high, low = dd_mul(ah, al, bh, bl)
        elif op == DIV:
            high, low = dd_div(ah, al, bh, bl)
        elif op == FMA:
            high, low = dd_mul(ah, al, bh, bl)
            high, low = dd_add(high, low, load(h, (c, i)), load(w, (c, i)))
        else:
            high, low = dd_sqrt(ah, al)
        store(h, (to, i), high)
        store(w, (to, i), low)


@kernel
def dd_run(codes, constants, rest, x, low, h, w, out, out_low):
    """Values of one program in double-double precision; see :func:`run`.

    ``rest``, ``low`` and ``out_low`` are the low parts of constants, x and values.
    """
    count = len(constants)
    for k in range(count):
        for i in range(0, BLOCK, LANES):
            store(h, (k + 1, i), constants[k])
            store(w, (k + 1, i), rest[k])
    for begin in range(0, len(x), BLOCK):
        n = min(BLOCK, len(x) - begin)
        for i in range(0, n, LANES):
            store(h, (0, i), load(x, begin + i))
            store(w, (0, i), load(low, begin + i))
        for k in range(len(codes)):
            a, b, c = codes[k, 1], codes[k, 2], codes[k, 3]
            dd_apply(
                codes[k, 0], h, w, count + 1 + k,
                row_of(a, count), row_of(b, count), row_of(c, count), n,
            )  # fmt: skip
        last = row_of(len(codes), count) if len(codes) else 1
        for i in range(0, n, LANES):
            store(out, begin + i, load(h, (last, i)))
            store(out_low, begin + i, load(w, (last, i)))


def _rows(program: Program, dtype: Any) -> Any:
    return np.empty((1 + len(program.constants) + len(program.codes), BLOCK), dtype)


def padded(x: Any, dtype: Any = np.float64) -> Any:
    """Points in the given type, the last one repeated up to a multiple of LANES."""
    x = np.asarray(x, dtype).reshape(-1)
    return np.concatenate([x, np.repeat(x[-1:], -len(x) % LANES)])


def evaluate(program: Program, x: Any, dtype: Any = np.float64) -> Any:
    """Values of a program at points (N,), in the arithmetic of float32 or float64."""
    points = padded(x, dtype)
    out = np.empty_like(points)
    run(program.codes, program.constants.astype(dtype), points, _rows(program, dtype), out)
    return out[: np.size(x)]


def evaluate_dd(program: Program, x: Any, low: Any = None) -> tuple[Array, Array]:
    """High and low parts of the values of a program at points (N,), in double-double precision."""
    points = padded(x)
    rest = np.zeros_like(points) if low is None else padded(low)
    out, out_low = np.empty_like(points), np.empty_like(points)
    h, w = _rows(program, np.float64), _rows(program, np.float64)
    dd_run(program.codes, program.constants, program.low, points, rest, h, w, out, out_low)
    n = np.size(x)
    return out[:n], out_low[:n]
