"""What changes of single parameters do to the loss, on a GPU: one launch has all of them.

A block of threads takes one coordinate after another, and a thread some of the samples; what
follows a change is that of :mod:`zoo.deepzero.net.change`. A stage is done a tile's channels at a
time: their convolution, their sums over the batch, what follows them. Neither the bits of a
derivative nor what it takes depend on how many blocks there are.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np
from numba import float64

from zoo.cuda import block_total, cuda, device_function, kernel_of_registers
from zoo.deepzero.net import columns as col
from zoo.deepzero.net.coordinates import located
from zoo.deepzero.net.device.convolution import MAP, MOST, SINGLE, convolution
from zoo.deepzero.net.device.following import WARPS, following
from zoo.deepzero.net.device.resident import Scratch

_SUMS = 3 * MOST

#: Registers of a thread: with as many as the compiler would like, half as many threads wait for
#: memory at the same time.
_REGISTERS = 128

_located = device_function(located)
_kernel = kernel_of_registers(_REGISTERS)


class Changes(NamedTuple):
    """Kernels of changes."""

    cge: Any
    probe: Any


@functools.cache
def changes(real: Any) -> Changes:
    """Kernels of changes in a precision."""
    zero = real(0)
    _, _, shift, normalize, finish, loss_change = following(real)
    small, large = convolution(real, SINGLE, True), convolution(real, MAP, True)

    @cuda.jit(device=True)
    def scratch_of(all_dz, all_da):
        return Scratch(
            all_dz[cuda.blockIdx.x],
            all_da[cuda.blockIdx.x],
            cuda.shared.array((WARPS, _SUMS), float64),
            cuda.shared.array((MOST, 3), real),
            cuda.shared.array(WARPS, float64),
        )

    @cuda.jit(device=True)
    def follow(net, a_at, k, channel, cache, scratch, size):
        """Changes of the logits, the first rows of dz, from those of a channel's activation."""
        table, dz, da = net.table, scratch.dz, scratch.da
        sums = cuda.local.array(_SUMS, real)
        last = len(table) - 1
        for m in range(k + 1, last + 1):
            stage = table[m]
            begin, end = (channel, channel + 1) if m == k + 1 else (0, stage[col.CIN])
            pixels, area = stage[col.HCONV] * stage[col.WCONV], stage[col.HIN] * stage[col.WIN]
            x_at = stage[col.IN_AT] - a_at + begin * area
            channels = SINGLE[1] if pixels == 1 else MAP[1]
            for c0 in range(0, stage[col.C], channels):
                for q in range(_SUMS):
                    sums[q] = zero
                to = c0 if m == last else 0
                if pixels == 1:
                    small(
                        stage, net.bases[m], cache, da, x_at, begin, end, c0, 0, pixels, dz, to,
                        sums, size,
                    )  # fmt: skip
                else:
                    large(
                        stage, net.bases[m], cache, da, x_at, begin, end, c0, 0, pixels, dz, to,
                        sums, size,
                    )  # fmt: skip
                if m == last:
                    continue
                normalize(stage, c0, channels, sums, cache, scratch, size.n)
                count = min(channels, stage[col.C] - c0)
                scaled = stage[col.GAMMA] >= 0
                out_at = stage[col.OUT_AT] - a_at + c0 * stage[col.H] * stage[col.W]
                finish(stage, k, channel, c0, count, scaled, cache, scratch, out_at, a_at, size)

    @cuda.jit(device=True)
    def total_change(net, a_at, k, i, mu, cache, scratch, size):
        """Sum of the changes of the losses from that of parameter i, which is of stage k."""
        table, dz = net.table, scratch.dz
        length, n = size
        sums = cuda.local.array(_SUMS, real)
        stage, last = table[k], len(table) - 1
        c, cin, row, column = _located(stage, i)
        only = -1
        if k == last:
            only = c
            for b in range(cuda.threadIdx.x, n, cuda.blockDim.x):
                d = real(mu)
                if cin >= 0:
                    q = (cin * stage[col.HIN] + row) * stage[col.WIN] + column
                    d *= cache.a[np.uint64((stage[col.IN_AT] + q) * length + b)]
                dz[np.uint64(b)] = d
        else:
            for q in range(3):
                sums[q] = zero
            shift(stage, c, cin, row, column, mu, cache, dz, sums, size)
            scaled = stage[col.GAMMA] >= 0 and cin >= -1
            normalize(stage, c, 1, sums, cache, scratch, n)
            out_at = stage[col.OUT_AT] - a_at + c * stage[col.H] * stage[col.W]
            found = finish(stage, k, -1, c, 1, scaled, cache, scratch, out_at, a_at, size)
            if not cuda.syncthreads_or(np.int32(found)):  # its unit is dead, or its inputs are zero
                return 0.0
            follow(net, a_at, k, c, cache, scratch, size)
        change = 0.0
        for b in range(cuda.threadIdx.x, n, cuda.blockDim.x):
            change += loss_change(table, cache, dz, b, length, only, length, b)
        return block_total(change, scratch.sums)

    @_kernel
    def cge(net, a_at, coordinates, mu, central, cache, all_dz, all_da, g, size):
        """Derivatives by coordinates; see :func:`zoo.deepzero.net.coordinates.cge`.

        All of them are of stages whose activations are rows ``a_at`` and beyond.
        """
        scratch = scratch_of(all_dz, all_da)
        for at in range(cuda.blockIdx.x, len(coordinates), cuda.gridDim.x):
            i, k = coordinates[at], len(net.table) - 1
            while net.table[k, col.WEIGHT] > i:
                k -= 1
            change = 0.0
            for back in range(1 + central):
                step = -mu if back else mu
                part = total_change(net, a_at, k, i, step, cache, scratch, size)
                change += -part if back else part
            if cuda.threadIdx.x == 0:
                g[at] = change / ((1 + central) * mu * size.n)

    @cuda.jit(device=True)
    def only_first(stage, c, pixel, gap, dz, length, b):
        """Let only the first of several maxima of a window move, so that the window counts once."""
        window, wconv = stage[col.MAXPOOL], stage[col.WCONV]
        own = stage[col.GAP_AT] + c * stage[col.HCONV] * wconv
        y, x = pixel // wconv // window * window, pixel % wconv // window * window
        for i in range(window * window):
            q = (y + i // window) * wconv + x + i % window
            if q < pixel:
                tied = gap[(own + q) * length + b] == zero
                if tied and gap[(own + pixel) * length + b] == zero:
                    dz[np.uint64(pixel * length + b)] = zero

    @_kernel
    def probe(net, a_at, items, mu, cache, all_dz, all_da, mass, g, size):
        """Node probes of pixels of units; see :mod:`zoo.deepzero.net.nodes`.

        ``items`` are (stage, channel, first pixel, end), and g has a row for each of them.
        """
        scratch = scratch_of(all_dz, all_da)
        table, dz, delta = net.table, scratch.dz, mass[cuda.blockIdx.x]
        length, n = size
        me, wide = cuda.threadIdx.x, cuda.blockDim.x
        last = len(table) - 1
        for at in range(cuda.blockIdx.x, len(items), cuda.gridDim.x):
            k, c = items[at, 0], items[at, 1]
            stage = table[k]
            taps = stage[col.KH] * stage[col.KW]
            for pixel in range(items[at, 2], items[at, 3]):
                cuda.syncthreads()
                for r in range(stage[col.HCONV] * stage[col.WCONV]):
                    for b in range(me, n, wide):
                        dz[np.uint64(r * length + b)] = real(mu) if r == pixel else zero
                only = c if k == last else -1
                if k < last:
                    if stage[col.MAXPOOL] > 1:
                        for b in range(me, n, wide):
                            only_first(stage, c, pixel, cache.gap, dz, length, b)
                    out_at = stage[col.OUT_AT] - a_at + c * stage[col.H] * stage[col.W]
                    finish(stage, k, -1, c, 1, False, cache, scratch, out_at, a_at, size)
                    follow(net, a_at, k, c, cache, scratch, size)
                for b in range(me, n, wide):
                    delta[b] = loss_change(table, cache, dz, b, length, only, length, b)
                y0 = pixel // stage[col.WCONV] * stage[col.STRIDE] - stage[col.PADDING]
                x0 = pixel % stage[col.WCONV] * stage[col.STRIDE] - stage[col.PADDING]
                for q in range(stage[col.CIN] * taps + (stage[col.BIAS] >= 0)):
                    tap = q % taps
                    yy, xx = y0 + tap // stage[col.KW], x0 + tap % stage[col.KW]
                    bias = q == stage[col.CIN] * taps
                    if bias or (
                        yy >= 0 and yy < stage[col.HIN] and xx >= 0 and xx < stage[col.WIN]
                    ):
                        r = stage[col.IN_AT] + (q // taps * stage[col.HIN] + yy) * stage[col.WIN]
                        total = 0.0
                        for b in range(me, n, wide):
                            entered = 1.0 if bias else float64(cache.a[(r + xx) * length + b])
                            total += delta[b] * entered
                        total = block_total(total, scratch.sums)
                        if me == 0:
                            g[at, q] += total / (mu * n)

    return Changes(cge, probe)
