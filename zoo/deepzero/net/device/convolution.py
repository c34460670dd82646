"""The inner loop of every convolution on a GPU: a tile of sums in each thread's registers.

A thread works on one sample, whose numbers nobody else reads or writes, so that threads wait for
each other only where a batch is summed up. A tile is a few channels of a few pixels; an input feeds
all of its channels and a weight all of its pixels.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numba import boolean, int32, int64, uint32

from zoo.cuda import cuda
from zoo.deepzero.net import columns as col

#: Pixels and channels of a tile of a map; and of one whose map is a single pixel.
MAP, SINGLE = (4, 6), (1, 12)

#: Column of a GPU's table, the last: numbers from a channel of the input to the next. A kernel that
#: computes it does so for every channel, for want of registers.
STEP = col.CHANNEL_AT + 1

#: Channels of a tile, at most.
MOST = max(MAP[1], SINGLE[1])


def tile_of(pixels: int) -> tuple[int, int]:
    """Pixels and channels of a tile, for a convolution with so many pixels."""
    return SINGLE if pixels == 1 else MAP


@functools.cache
def convolution(real: Any, tile: tuple[int, int], changing: bool) -> Any:
    """Device function: a tile's channels of a convolution, at some pixels of all samples.

    ``changing``: the input is a change. Then sums are taken of the result d, of z d, and of d^2,
    where z is what d changes; else the result starts from the bias. Places in the input are of 32
    bits, which takes half the instructions.
    """
    many, channels = tile
    tiled = many * channels
    zero = real(0)

    @cuda.jit(device=True)
    def convolve(stage, base, cache, x, x_at, first, last, c0, begin, end, out, out_at, sums, size):
        """Rows ``out_at + c pixels + r`` of ``out``: channel c0 + c of pixel begin <= r < end.

        Of x only the channels ``first <= c < last`` count, and row ``x_at`` is the first one's. The
        stage's weights begin at ``base``.
        """
        weights, theta, z = cache.weights, cache.theta, cache.z
        length, n = size
        hin, win, wout = stage[col.HIN], stage[col.WIN], stage[col.WCONV]
        kh, kw, fan = stage[col.KH], stage[col.KW], stage[col.CIN]
        stride, padding = stage[col.STRIDE], stage[col.PADDING]
        pixels = stage[col.HCONV] * wout
        padded = (stage[col.C] + channels - 1) // channels * channels
        left = min(channels, stage[col.C] - c0)
        step = np.uint32(stage[STEP])
        normalized, z_at = stage[col.GAMMA] >= 0, stage[col.Z_AT] + c0 * pixels
        held = cuda.local.array(tiled, real)
        value = cuda.local.array(many, real)
        place = cuda.local.array(many, uint32)
        origin = cuda.local.array(many, int64)
        row = cuda.local.array(many, int32)
        column = cuda.local.array(many, int32)
        inside = cuda.local.array(many, boolean)
        for b in range(cuda.threadIdx.x, n, cuda.blockDim.x):
            y, x_ = begin // wout * stride - padding, begin % wout * stride - padding
            edge = wout * stride - padding
            for r in range(begin, end, many):
                for p in range(many):
                    row[p], column[p] = y, x_
                    origin[p] = (x_at + y * win + x_) * length + b
                    x_ += stride
                    if x_ == edge:
                        y, x_ = y + stride, -padding
                for c in range(channels):
                    start = zero
                    if not changing and stage[col.BIAS] >= 0 and c < left:
                        start = theta[stage[col.BIAS] + c0 + c]
                    for p in range(many):
                        held[c * many + p] = start
                for i in range(kh):
                    for j in range(kw):
                        for p in range(many):
                            yy, xx = row[p] + i, column[p] + j
                            within = yy >= 0 and yy < hin and xx >= 0 and xx < win
                            inside[p] = within and r + p < end
                            place[p] = np.uint32(origin[p] + (i * win + j) * length)
                        w = np.uint64(base + ((i * kw + j) * fan + first) * padded + c0)
                        for _ in range(first, last):
                            for p in range(many):
                                value[p] = x[place[p]] if inside[p] else zero
                                place[p] = np.uint32(place[p] + step)
                            for c in range(channels):
                                weight = weights[w + np.uint64(c)]
                                for p in range(many):
                                    held[c * many + p] += weight * value[p]
                            w += np.uint64(padded)
                for c in range(channels):
                    total, mixed, squares = zero, zero, zero
                    for p in range(many):
                        if c < left and r + p < end:
                            d = held[c * many + p]
                            out[np.uint64((out_at + c * pixels + r + p) * length + b)] = d
                            if changing and normalized:
                                was = z[np.uint64((z_at + c * pixels + r + p) * length + b)]
                                total += d
                                mixed += was * d
                                squares += d * d
                    if changing:
                        sums[3 * c] += total
                        sums[3 * c + 1] += mixed
                        sums[3 * c + 2] += squares

    return convolve
