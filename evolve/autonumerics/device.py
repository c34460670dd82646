"""Programs at work on a GPU: many programs at many points, and one at every float32 of a domain.

A block of threads has one program, so that all of them decode the same operation, and a column of
shared memory for each point: x, the constants, then results; a thread has several columns, for
which it decodes an operation once. Arithmetic is IEEE's, as in the interpreter of the CPU, with
the same bits in single and double precision.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from numba import float32, float64

from evolve.autonumerics.programs import ADD, DIV, FMA, MUL, SUB, Program
from zoo.cuda import SIMULATED, cuda, fma, fmaf, multiprocessors, product

if TYPE_CHECKING:
    from evolve.autonumerics.pieces import Piece

Array = npt.NDArray[np.float64]

#: Threads of a block, and columns of a thread at most.
THREADS, _COLUMNS = (4, 2) if SIMULATED else (128, 4)
#: Shared memory of a block.
_BYTES = 48_000
#: Coefficients of the truth between two float32, at most.
_COEFFICIENTS = 16

_ULP, _LEAST = 2.0**-23, 2.0**-149


@functools.cache
def _values(real: str, columns: int) -> Any:
    """Kernel: values of programs at points, of which a thread has so many at a time.

    Indices are unsigned, so that none is looked at for being counted from the end.
    """
    fused, number = (fma, float64) if real == "float64" else (fmaf, float32)
    one, threads, wide = np.uint64(1), np.uint64(THREADS), np.uint64(THREADS * columns)
    several = np.uint64(columns)

    @cuda.jit
    def values(ops, lengths, constants, counts, x, out):
        r = cuda.shared.array(0, number)
        me = np.uint64(cuda.threadIdx.x)
        p, n = np.uint64(cuda.blockIdx.y), np.uint64(len(x))
        count, length = counts[p], lengths[p]
        for k in range(count):
            for v in range(several):
                r[(k + one) * wide + v * threads + me] = constants[p, k]
        last = (count + length if length > 0 else one) * wide + me
        at = np.uint64(cuda.blockIdx.x) * wide + me
        while at < n:
            for v in range(several):
                r[v * threads + me] = x[min(at + v * threads, n - one)]
            to = (count + one) * wide + me
            for k in range(length):
                op = ops[p, k, 0]
                a, b = ops[p, k, 1] * wide + me, ops[p, k, 2] * wide + me
                if op == ADD:
                    for v in range(several):
                        r[to + v * threads] = r[a + v * threads] + r[b + v * threads]
                elif op == SUB:
                    for v in range(several):
                        r[to + v * threads] = r[a + v * threads] - r[b + v * threads]
                elif op == MUL:
                    for v in range(several):
                        r[to + v * threads] = r[a + v * threads] * r[b + v * threads]
                elif op == DIV:
                    for v in range(several):
                        r[to + v * threads] = r[a + v * threads] / r[b + v * threads]
                elif op == FMA:
                    c = ops[p, k, 3] * wide + me
                    for v in range(several):
                        q = v * threads
                        r[to + q] = fused(r[a + q], r[b + q], r[c + q])
                else:
                    for v in range(several):
                        r[to + v * threads] = math.sqrt(r[a + v * threads])
                to += wide
            for v in range(several):
                if at + v * threads < n:
                    out[p, at + v * threads] = r[last + v * threads]
            at += np.uint64(cuda.gridDim.x) * wide

    return values


@cuda.jit(device=True)
def _applied(op, a, b, c):
    """An operation on three float32."""
    if op == ADD:
        return a + b
    if op == SUB:
        return a - b
    if op == MUL:
        return a * b
    if op == DIV:
        return a / b
    if op == FMA:
        return fmaf(a, b, c)
    return math.sqrt(a)


@cuda.jit(device=True)
def _finite(high, low):
    return low if high - high == 0.0 and low - low == 0.0 else 0.0


@cuda.jit(device=True)
def _normal(high, low):
    s = high + low
    return s, _finite(s, low - (s - high))


@cuda.jit(device=True)
def _dd_add(ah, al, bh, bl):
    s = ah + bh
    t = s - ah
    e = (ah - (s - t)) + (bh - t)
    u = al + bl
    t = u - al
    f = (al - (u - t)) + (bl - t)
    s, e = _normal(s, _finite(s, e + u))
    return _normal(s, e + _finite(s, f))


@cuda.jit(device=True)
def _dd_mul(ah, al, bh, bl):
    p = product(ah, bh)
    rest = fma(ah, bh, -p)
    rest = fma(al, bl, rest)
    rest = fma(ah, bl, fma(al, bh, rest))
    return _normal(p, _finite(p, rest))


@cuda.jit(device=True)
def _dd_div(ah, al, bh, bl):
    q = ah / bh
    r = fma(-q, bh, ah)
    rest = (fma(-q, bl, r) + al) / bh
    q, rest = _normal(q, _finite(rest, rest))
    ph, pl = _dd_mul(q, rest, bh, bl)
    rh, _ = _dd_add(ah, al, -ph, -pl)
    more = rh / bh
    return _normal(q, rest + _finite(more, more))


@cuda.jit(device=True)
def _dd_sqrt(ah, al):
    q = math.sqrt(ah)
    p = product(q, q)
    rh, _ = _dd_add(ah, al, -p, -fma(q, q, -p))
    more = rh / (q + q)
    return _normal(q, _finite(more, more))


@cuda.jit(device=True)
def _dd_apply(op, ah, al, bh, bl, ch, cl):
    if op == ADD:
        return _dd_add(ah, al, bh, bl)
    if op == SUB:
        return _dd_add(ah, al, -bh, -bl)
    if op == MUL:
        return _dd_mul(ah, al, bh, bl)
    if op == DIV:
        return _dd_div(ah, al, bh, bl)
    if op == FMA:
        h, w = _dd_mul(ah, al, bh, bl)
        return _dd_add(h, w, ch, cl)
    return _dd_sqrt(ah, al)


@cuda.jit
def _dd_values(ops, lengths, constants, rests, counts, x, low, out, out_low):
    """Values in double-double precision; a thread has one column, of high and low parts."""
    r = cuda.shared.array(0, float64)
    me, wide = cuda.threadIdx.x, cuda.blockDim.x
    p, n = cuda.blockIdx.y, len(x)
    count, length = counts[p], lengths[p]
    half = (1 + constants.shape[1] + ops.shape[1]) * wide
    for k in range(count):
        r[(k + 1) * wide + me] = constants[p, k]
        r[half + (k + 1) * wide + me] = rests[p, k]
    last = (count + length if length > 0 else 1) * wide
    for begin in range(cuda.blockIdx.x * wide, n, cuda.gridDim.x * wide):
        i = begin + me
        if i < n:
            r[me], r[half + me] = x[i], low[i]
            for k in range(length):
                a, b, c = ops[p, k, 1] * wide, ops[p, k, 2] * wide, ops[p, k, 3] * wide
                h, w = _dd_apply(
                    ops[p, k, 0],
                    r[a + me],
                    r[half + a + me],
                    r[b + me],
                    r[half + b + me],
                    r[c + me],
                    r[half + c + me],
                )
                to = (count + 1 + k) * wide
                r[to + me], r[half + to + me] = h, w
            out[p, i], out_low[p, i] = r[last + me], r[half + last + me]


@cuda.jit
def _worst_of_all(ops, constants, firsts, lasts, middles, scales, factors, powers, found):
    """Largest error in ULP at the float32 of each piece; a block has some of one piece's."""
    r = cuda.shared.array(0, float32)
    worst = cuda.shared.array(THREADS, float64)
    own = cuda.local.array(_COEFFICIENTS, float64)
    me, wide = cuda.threadIdx.x, cuda.blockDim.x
    count, length = len(constants), len(ops)
    piece, degree = cuda.blockIdx.x, factors.shape[1]
    for k in range(count):
        r[(k + 1) * wide + me] = constants[k]
    for k in range(degree):
        own[k] = factors[piece, k]
    middle, scale, power = middles[piece], scales[piece], powers[piece]
    last = (count + length if length > 0 else 1) * wide
    largest = 0.0
    step = cuda.gridDim.y * wide
    for bits in range(firsts[piece] + cuda.blockIdx.y * wide + me, lasts[piece], step):
        x = _single(bits)
        r[me] = x
        for k in range(length):
            a, b, c = ops[k, 1] * wide, ops[k, 2] * wide, ops[k, 3] * wide
            to = (count + 1 + k) * wide
            r[to + me] = _applied(ops[k, 0], r[a + me], r[b + me], r[c + me])
        t = (float(x) - middle) * scale
        truth = own[0]
        for k in range(1, degree):
            truth = fma(truth, t, own[k])
        unit = power
        if unit == 0.0:
            unit = 0.0 if truth == 0.0 else 2.0 ** (math.frexp(abs(truth))[1] - 1)
        error = abs(float(r[last + me]) - truth) / max(unit * _ULP, _LEAST)
        if not error <= largest:
            largest = error if error == error else math.inf
    worst[me] = largest
    cuda.syncthreads()
    half = wide // 2
    while half > 0:
        if me < half:
            worst[me] = max(worst[me], worst[me + half])
        cuda.syncthreads()
        half //= 2
    if me == 0:
        found[piece, cuda.blockIdx.y] = worst[0]


if SIMULATED:

    @cuda.jit(device=True)
    def _single(bits):
        return np.int32(bits).view(np.float32)

else:
    from importlib import import_module

    _libdevice: Any = import_module(cuda.__name__ + ".libdevice")

    @cuda.jit(device=True)
    def _single(bits):
        return _libdevice.int_as_float(np.int32(bits))


def _table(programs: Sequence[Program], real: Any) -> tuple[Any, Any, Any, Any, Any]:
    """Operations on rows (P, L, 4), their numbers, constants (P, K), low parts, their numbers."""
    lengths = np.array([len(one.codes) for one in programs], np.int64)
    counts = np.array([len(one.constants) for one in programs], np.int64)
    ops = np.zeros((len(programs), max(1, lengths.max()), 4), np.int64)
    constants = np.zeros((len(programs), max(1, counts.max())), real)
    rests = np.zeros_like(constants)
    for p, one in enumerate(programs):
        codes = one.codes.astype(np.int64)
        operands = codes[:, 1:]
        ops[p, : len(codes), 0] = codes[:, 0]
        ops[p, : len(codes), 1:] = np.where(operands > 0, operands + counts[p], -operands)
        with np.errstate(over="ignore"):
            constants[p, : counts[p]] = one.constants
        rests[p, : counts[p]] = one.low
    return ops, lengths, constants, rests, counts


def prepared(
    programs: Sequence[Program], x: Any, real: str = "float64", low: Any = None
) -> Callable[[], tuple[Any, ...]]:
    """Launch of programs at points (N,): returns their values (P, N), which stay on the device.

    ``real`` is float32, float64 or "double-double"; the last has high and low parts, of points
    (``low``) and of values.
    """
    double = real == "double-double"
    ops, lengths, constants, rests, counts = _table(programs, np.float64 if double else real)
    points = np.ascontiguousarray(x, constants.dtype)
    shape, registers = (len(programs), len(points)), 1 + constants.shape[1] + ops.shape[1]
    row = (2 if double else 1) * THREADS * points.itemsize * registers
    columns = 1 if double else max(1, min(_COLUMNS, _BYTES // row))
    chunks = -(-len(points) // (THREADS * columns))
    blocks = max(1, min(chunks, 64 * multiprocessors() // len(programs) + 1))
    place = (blocks, len(programs)), THREADS, 0, row * columns
    out = cuda.device_array(shape, points.dtype)
    if double:
        rest = np.zeros_like(points) if low is None else np.ascontiguousarray(low, np.float64)
        given = [*map(cuda.to_device, (ops, lengths, constants, rests, counts, points, rest))]
        outs: tuple[Any, ...] = (out, cuda.device_array(shape, np.float64))
        kernel = _dd_values
    else:
        unsigned = [array.astype(np.uint64) for array in (ops, lengths, counts)]
        table = unsigned[0], unsigned[1], constants, unsigned[2]
        given = [*map(cuda.to_device, table), cuda.to_device(points)]
        outs, kernel = (out,), _values(real, columns)

    def launch() -> tuple[Any, ...]:
        kernel[place](*given, *outs)
        return outs

    return launch


def evaluate(programs: Sequence[Program], x: Any, real: str = "float64") -> Any:
    """Values (P, N) of programs at points (N,), in the arithmetic of float32 or float64."""
    (out,) = prepared(programs, x, real)()
    return out.copy_to_host()


def evaluate_dd(programs: Sequence[Program], x: Any, low: Any = None) -> tuple[Any, Any]:
    """High and low parts (P, N) of the values of programs, in double-double precision."""
    out, out_low = prepared(programs, x, "double-double", low)()
    return out.copy_to_host(), out_low.copy_to_host()


def worst(pieces: Sequence[Piece], program: Program) -> float:
    """Largest error at the float32 of all pieces, in ULP; see ``Precision.worst``."""
    ops, _, constants, _, counts = _table([program], np.float32)
    factors = np.zeros((len(pieces), max(len(piece.factors) for piece in pieces)))
    for k, piece in enumerate(pieces):
        factors[k, factors.shape[1] - len(piece.factors) :] = piece.factors
    columns = [np.array([getattr(piece, name) for piece in pieces])
               for name in ("first", "last", "middle", "scale", "power")]  # fmt: skip
    first, last, middle, scale, power = columns
    blocks = 1 if SIMULATED else 32
    found = cuda.device_array((len(pieces), blocks), np.float64)
    held = THREADS * 4 * (2 + int(counts[0]) + program.cost)
    given = (ops[0, : program.cost], constants[0, : counts[0]], first, last, middle, scale, factors)
    _worst_of_all[(len(pieces), blocks), THREADS, 0, held](
        *map(cuda.to_device, (*map(np.ascontiguousarray, given), power)), found
    )
    return float(found.copy_to_host().max())
