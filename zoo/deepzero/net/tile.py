"""The inner loop of every convolution: a few rows of sums, held in registers.

A row is one number of the network for all samples of the batch, so that samples lie in the lanes of
a vector register. A tile of rows is

    out[row + r step] = start[first + r] + sum_p w[weight + r fan + tap_p] x[source_p]

for r < ROWS, over one chunk of the samples at a time. Numba's loops would keep these sums in
memory; written out in vectors they stay in registers, and a core multiplies at its peak. The order
of the additions is that of p, each fused with its product, on any processor.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from zoo.jit import kernel

_VECTOR = 64  # bytes, of the widest register that there is; LLVM splits it for others
_VECTORS = 2  # of a row in a tile: with 6 rows, 12 sums are under way, enough to hide latency

#: Bytes of a row that a tile works on.
CHUNK = _VECTOR * _VECTORS


def row_length(samples: int, itemsize: int) -> int:
    """Length of the rows for a batch: whole chunks, and an odd number of cache lines.

    Rows that are a power of two apart would fall on each other in the cache.
    """
    chunk = CHUNK // itemsize
    return -(-samples // chunk) * chunk + _VECTOR // itemsize


def _tile(rows: int) -> Any:
    """Intrinsic of a tile of so many rows."""

    @intrinsic
    def tile(typingctx, out, row, step, x, source, tap, count, w, weight, fan, start, first, at):
        arrays = {"out": out, "x": x, "source": source, "tap": tap, "w": w, "start": start}
        word = types.int64
        signature = types.void(
            out, word, word, x, source, tap, word, w, word, word, start, word, word
        )

        def codegen(context, builder, signature, args):
            names = ("out", "row", "step", "x", "source", "tap", "count", "w", "weight", "fan")
            given = dict(zip((*names, "start", "first", "at"), args, strict=True))
            held = {
                name: context.make_array(kind)(context, builder, given[name])
                for name, kind in arrays.items()
            }
            data = {name: array.data for name, array in held.items()}
            element = context.get_value_type(out.dtype)
            size = out.dtype.bitwidth // 8
            lanes = _VECTOR // size
            vector = ir.VectorType(element, lanes)
            fused = cgutils.get_or_insert_function(
                builder.module,
                ir.FunctionType(vector, [vector] * 3),
                f"llvm.fma.v{lanes}f{out.dtype.bitwidth}",
            )
            zero = ir.Constant(ir.IntType(32), 0)
            nothing = ir.Constant(vector, ir.Undefined)
            everywhere = ir.Constant(ir.VectorType(ir.IntType(32), lanes), [0] * lanes)

            def item(name, *index):
                place = index[0]
                for more in index[1:]:
                    place = builder.add(place, more)
                return builder.load(builder.gep(data[name], [place]))

            def broadcast(value):
                lane = builder.insert_element(nothing, value, zero)
                return builder.shuffle_vector(lane, nothing, everywhere)

            def place(name, row, vector_number):
                length = cgutils.unpack_tuple(builder, held[name].shape)[1]
                index = builder.add(builder.mul(row, length), given["at"])
                index = builder.add(index, ir.IntType(64)(vector_number * lanes))
                return builder.bitcast(builder.gep(data[name], [index]), vector.as_pointer())

            numbers = [ir.IntType(64)(r) for r in range(rows)]
            sums = [
                [cgutils.alloca_once(builder, vector) for _ in range(_VECTORS)] for _ in numbers
            ]
            for number, row_of_sums in zip(numbers, sums, strict=True):
                begin = broadcast(item("start", given["first"], number))
                for total in row_of_sums:
                    builder.store(begin, total)
            offsets = [builder.add(given["weight"], builder.mul(given["fan"], r)) for r in numbers]
            with cgutils.for_range(builder, given["count"]) as loop:
                row, tap_at = item("source", loop.index), item("tap", loop.index)
                xs = [builder.load(place("x", row, v), align=size) for v in range(_VECTORS)]
                for offset, row_of_sums in zip(offsets, sums, strict=True):
                    factor = broadcast(item("w", offset, tap_at))
                    for value, total in zip(xs, row_of_sums, strict=True):
                        added = builder.call(fused, [factor, value, builder.load(total)])
                        builder.store(added, total)
            for number, row_of_sums in zip(numbers, sums, strict=True):
                row = builder.add(given["row"], builder.mul(given["step"], number))
                for v, total in enumerate(row_of_sums):
                    builder.store(builder.load(total), place("out", row, v), align=size)
            return context.get_dummy_value()

        return signature, codegen

    return tile


_six, _four, _two, _one = _tile(6), _tile(4), _tile(2), _tile(1)


@kernel
def sums(out, row, step, channels, x, source, tap, count, w, weight, fan, start, first, samples):
    """Rows ``out[row + c step]`` of all channels c; see the module.

    Parameters
    ----------
    out, x : (rows, length)
    row, step, channels : int
    source, tap : int64 arrays
        Rows of x, and where their weights are.
    count : int
        Number of them.
    w, start : arrays
    weight, fan : int
        Weights of channel c begin at ``weight + c fan``.
    first : int
        Channel c starts from ``start[first + c]``.
    samples : int
    """
    chunk = CHUNK // x.itemsize
    for at in range(0, samples, chunk):
        c = 0
        while c < channels:
            left = channels - c
            to, of, begin = row + c * step, weight + c * fan, first + c
            if left >= 6:
                _six(out, to, step, x, source, tap, count, w, of, fan, start, begin, at)
                c += 6
            elif left >= 4:
                _four(out, to, step, x, source, tap, count, w, of, fan, start, begin, at)
                c += 4
            elif left >= 2:
                _two(out, to, step, x, source, tap, count, w, of, fan, start, begin, at)
                c += 2
            else:
                _one(out, to, step, x, source, tap, count, w, of, fan, start, begin, at)
                c += 1


def rows(count: int, samples: int, dtype: Any) -> Any:
    """Rows of zeros, aligned with the cache."""
    dtype = np.dtype(dtype)
    length = row_length(samples, dtype.itemsize)
    memory = np.zeros(count * length + _VECTOR // dtype.itemsize, dtype)
    skip = -memory.ctypes.data % _VECTOR // dtype.itemsize
    return memory[skip : skip + count * length].reshape(count, length)
