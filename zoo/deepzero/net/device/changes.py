"""What changes of single parameters do to the loss, on a GPU: one launch has all of them.

A block of threads takes one coordinate after another, and a thread some of the samples; what
follows a change is that of :mod:`zoo.deepzero.net.change`. A stage is done a tile's channels at a
time: their convolution, their sums over the batch, what follows them. Neither the bits of a
derivative nor what it takes depend on how many blocks there are.
"""

from __future__ import annotations

import functools
import math
from typing import Any, NamedTuple

import numpy as np
from numba import float64

from zoo.cuda import SIMULATED, WARP, block_total, cuda, device_function, warp_total
from zoo.deepzero.net import columns as col
from zoo.deepzero.net.coordinates import located
from zoo.deepzero.net.device.convolution import MAP, MOST, SINGLE, convolution
from zoo.deepzero.net.device.passes import activation_of
from zoo.deepzero.net.forward import EPS

#: Threads of a block.
THREADS = 2 if SIMULATED else 256
_WARPS = THREADS // WARP
_SUMS = 3 * MOST

#: Single precision has its own exponentials of changes up to this; larger ones have double's.
_SMALL = 0.25
#: Changes beyond this are far: rounded probabilities may no longer stand for the logits.
_FAR = 4.0

#: Registers of a thread: with as many as the compiler would like, half as many threads wait for
#: memory at the same time.
_REGISTERS = 128

_located = device_function(located)
_kernel = cuda.jit if SIMULATED else cuda.jit(max_registers=_REGISTERS)


class Changes(NamedTuple):
    """Kernels of changes."""

    cge: Any
    probe: Any


@functools.cache
def changes(real: Any) -> Changes:
    """Kernels of changes in a precision."""
    zero, one = real(0), real(1)
    single = real is np.float32
    activate = activation_of(real)
    small, large = convolution(real, SINGLE, True), convolution(real, MAP, True)

    @cuda.jit(device=True)
    def bent(u, change, kind, levels):
        """Change of the activation of u."""
        if kind == 1:
            before, after = change + min(u, zero), -max(u, zero)
            return after if before < after else before
        if kind == 2:
            a, t = real(math.tanh(u)), real(math.tanh(change))
            if abs(t) < real(0.5):
                return t * (one - a * a) / (one + a * t)
            return real(math.tanh(u + change)) - a
        if kind == 3 or kind == 4:
            return activate(u + change, kind, levels) - activate(u, kind, levels)
        return change

    @cuda.jit(device=True)
    def normalize(stage, c0, channels, sums, held, factors, inverses, theta, n):
        """Factors by which the changes of some channels' convolutions are normalized.

        They are those of the change, of what it changes, and what is subtracted; from the sums of
        this thread.
        """
        me = cuda.threadIdx.x
        if stage[col.GAMMA] < 0:
            return
        count = stage[col.HCONV] * stage[col.WCONV] * n
        left = min(channels, stage[col.C] - c0)
        cuda.syncthreads()
        for q in range(3 * left):
            total = warp_total(float64(sums[q]))
            if me % WARP == 0:
                held[me // WARP, q] = total
        cuda.syncthreads()
        for c in range(me, left, cuda.blockDim.x):
            total, mixed, squares = 0.0, 0.0, 0.0
            for warp in range(cuda.blockDim.x // WARP):
                total += held[warp, 3 * c]
                mixed += held[warp, 3 * c + 1]
                squares += held[warp, 3 * c + 2]
            mean = total / count
            inverse = inverses[stage[col.CHANNEL_AT] + c0 + c]
            q = ((2.0 * mixed + squares) / count - mean * mean) * inverse * inverse
            root = math.sqrt(max(1.0 + q, EPS * inverse * inverse))
            before = theta[stage[col.GAMMA] + c0 + c] * inverse
            change = -before * q / (root * (1.0 + root))
            factors[c, 0], factors[c, 1] = real(before + change), real(change)
            factors[c, 2] = real((before + change) * mean)
        cuda.syncthreads()

    @cuda.jit(device=True)
    def finish(
        stage, k, channel, c0, count, scaled, factors, dz, da, z, gap, u, a_at, length, n
    ):  # fmt: skip
        """Changes of the activations of ``count`` channels from those of their convolutions.

        A shortcut from the stage after k has changed in one channel only. Returns whether anything
        has changed for this thread's samples.
        """
        size, wconv = stage[col.MAXPOOL], stage[col.WCONV]
        pixels, rows = stage[col.HCONV] * wconv, stage[col.H] * stage[col.W]
        hpool, wpool = stage[col.HPOOL], stage[col.WPOOL]
        high, across = stage[col.AVERAGE_H], stage[col.AVERAGE_W]
        kind, levels = stage[col.ACTIVATION], stage[col.LEVELS]
        share, step = real(1.0 / (high * across)), stage[col.SHORTCUT_STRIDE]
        shortcut = stage[col.SHORTCUT] > k
        found = False
        for c in range(count):
            after, change, shift = factors[c, 0], factors[c, 1], factors[c, 2]
            source = c0 + c - stage[col.SHORTCUT_CHANNEL]
            added = shortcut and source >= 0 and source < stage[col.SHORTCUT_C]
            if added and stage[col.SHORTCUT] == k + 1:
                added = source == channel
            r = stage[col.OUT_AT] - a_at + (c0 + c) * rows
            for top in range(0, stage[col.H] * high, high):
                for side in range(0, stage[col.W] * across, across):
                    for b in range(cuda.threadIdx.x, n, cuda.blockDim.x):
                        total = zero
                        for y in range(top, top + high):
                            for x in range(side, side + across):
                                most = zero
                                for yy in range(y * size, y * size + size):
                                    for xx in range(x * size, x * size + size):
                                        pixel = yy * wconv + xx
                                        d = dz[np.uint64((c * pixels + pixel) * length + b)]
                                        own = (c0 + c) * pixels + pixel
                                        if scaled:
                                            at = (stage[col.Z_AT] + own) * length + b
                                            d = d * after + (z[np.uint64(at)] * change - shift)
                                        if added:
                                            q = source * stage[col.SHORTCUT_H] + yy * step
                                            q = q * stage[col.SHORTCUT_W] + xx * step
                                            q += stage[col.SHORTCUT_AT] - a_at
                                            d += da[np.uint64(q * length + b)]
                                        if size > 1:
                                            at = (stage[col.GAP_AT] + own) * length + b
                                            d += gap[np.uint64(at)]
                                        first = yy == y * size and xx == x * size
                                        if first or not d <= most:
                                            most = d
                                q = ((c0 + c) * hpool + y) * wpool + x + stage[col.U_AT]
                                total += bent(u[np.uint64(q * length + b)], most, kind, levels)
                        total *= share
                        found |= total != zero
                        da[np.uint64(r * length + b)] = total
                    r += 1
        return found

    @cuda.jit(device=True)
    def follow(
        table, bases, k, channel, weights, theta, inverse, z, gap, u, dz, da, held, factors,
        length, n,
    ):  # fmt: skip
        """Changes of the logits, the first rows of dz, from those of a channel's activation."""
        sums = cuda.local.array(_SUMS, real)
        a_at, last = table[0, col.OUT_AT], len(table) - 1
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
                        stage, da, x_at, begin, end, weights, bases[m], theta, c0, 0, pixels, dz,
                        to, z, sums, length, n,
                    )  # fmt: skip
                else:
                    large(
                        stage, da, x_at, begin, end, weights, bases[m], theta, c0, 0, pixels, dz,
                        to, z, sums, length, n,
                    )  # fmt: skip
                if m == last:
                    continue
                normalize(stage, c0, channels, sums, held, factors, inverse, theta, n)
                count = min(channels, stage[col.C] - c0)
                scaled = stage[col.GAMMA] >= 0
                finish(
                    stage, k, channel, c0, count, scaled, factors, dz, da, z, gap, u, a_at, length,
                    n,
                )  # fmt: skip

    @cuda.jit(device=True)
    def grown(x):
        """expm1(x) where x is small, to the precision of the network."""
        if not single:
            return math.expm1(x)
        value = real(1 / 40320)
        for k in range(7):  # Horner's scheme of the series
            value = value * x + _FACTORS[k]
        return value * x

    @cuda.jit(device=True)
    def loss_change(table, a, p, y, whole, dz, only, length, b):
        """Change of the loss of sample b from those of its logits; see zoo.deepzero.net.loss.

        ``only`` is the one logit that has moved, whose row is 0, or -1.
        """
        stage = table[len(table) - 1]
        classes, at = stage[col.C], stage[col.OUT_AT]
        first, last = (only, only + 1) if only >= 0 else (0, classes)
        most, own = zero, zero
        for c in range(first, last):
            t = dz[np.uint64((c - first) * length + b)]
            size = abs(t)
            if not size <= most:
                most = size
            if c == y[b]:
                own = t
        if single and most <= real(_SMALL):
            s = zero
            for c in range(first, last):
                t = dz[np.uint64((c - first) * length + b)]
                s += p[c * length + b] * grown(t)
            ratio = s / (s + real(2))
            square = ratio * ratio
            series = real(1 / 9)
            for k in range(4):
                series = series * square + _ARTANH[k]
            return float64((ratio + ratio) * series - own)
        if most <= real(_FAR):
            s = 0.0
            for c in range(first, last):
                t = float64(dz[np.uint64((c - first) * length + b)])
                s += float64(p[c * length + b]) * math.expm1(t)
            return math.log1p(s) - own
        highest = -np.inf
        for c in range(classes):
            t = a[(at + c) * length + b]
            if c >= first and c < last:
                t += dz[np.uint64((c - first) * length + b)]
            if not float64(t) <= highest:
                highest = float64(t)
        total = 0.0
        for c in range(classes):
            t = float64(a[(at + c) * length + b])
            if c >= first and c < last:
                t += float64(dz[np.uint64((c - first) * length + b)])
            total += math.exp(t - highest)
        return highest + math.log(total) - whole[b] - own

    @cuda.jit(device=True)
    def shift(stage, c, cin, i, j, mu, a, z, inverse, dz, sums, length, n):
        """Change of a channel's convolution, or normalization, from that of a parameter of it."""
        stride = stage[col.STRIDE]
        rows, columns = stage[col.HCONV] * stride, stage[col.WCONV] * stride
        moving = stage[col.GAMMA] >= 0 and cin >= -1
        z_at = stage[col.Z_AT] + c * stage[col.HCONV] * stage[col.WCONV]
        step = real(mu)
        if cin == -2:
            step = real(mu * inverse[stage[col.CHANNEL_AT] + c])
        r = 0
        for y in range(i - stage[col.PADDING], rows + i - stage[col.PADDING], stride):
            for x in range(j - stage[col.PADDING], columns + j - stage[col.PADDING], stride):
                inside = y >= 0 and y < stage[col.HIN] and x >= 0 and x < stage[col.WIN]
                q = stage[col.IN_AT] + (cin * stage[col.HIN] + y) * stage[col.WIN] + x
                for b in range(cuda.threadIdx.x, n, cuda.blockDim.x):
                    d, was = step, zero
                    if stage[col.GAMMA] >= 0:
                        was = z[np.uint64((z_at + r) * length + b)]
                    if cin >= 0:
                        d = a[np.uint64(q * length + b)] * step if inside else zero
                    elif cin == -2:
                        d = was * step
                    dz[np.uint64(r * length + b)] = d
                    if moving:
                        sums[0] += d
                        sums[1] += was * d
                        sums[2] += d * d
                r += 1

    @cuda.jit(device=True)
    def total_change(
        table, bases, k, i, mu, weights, theta, a, z, gap, u, p, y, whole, inverse, dz, da, held,
        factors, scratch, length, n,
    ):  # fmt: skip
        """Sum of the changes of the losses from that of parameter i, which is of stage k."""
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
                    d *= a[np.uint64((stage[col.IN_AT] + q) * length + b)]
                dz[np.uint64(b)] = d
        else:
            for q in range(3):
                sums[q] = zero
            shift(stage, c, cin, row, column, mu, a, z, inverse, dz, sums, length, n)
            scaled = stage[col.GAMMA] >= 0 and cin >= -1
            normalize(stage, c, 1, sums, held, factors, inverse, theta, n)
            found = finish(
                stage, k, -1, c, 1, scaled, factors, dz, da, z, gap, u, table[0, col.OUT_AT],
                length, n,
            )  # fmt: skip
            if not cuda.syncthreads_or(np.int32(found)):  # its unit is dead, or its inputs are zero
                return 0.0
            follow(
                table, bases, k, c, weights, theta, inverse, z, gap, u, dz, da, held, factors,
                length, n,
            )  # fmt: skip
        change = 0.0
        for b in range(cuda.threadIdx.x, n, cuda.blockDim.x):
            change += loss_change(table, a, p, y, whole, dz, only, length, b)
        return block_total(change, scratch)

    @_kernel
    def cge(
        table, bases, coordinates, mu, central, weights, theta, a, z, gap, u, p, y, whole, inverse,
        all_dz, all_da, g, length, n,
    ):  # fmt: skip
        """Derivatives by coordinates; see :func:`zoo.deepzero.net.coordinates.cge`."""
        held = cuda.shared.array((_WARPS, _SUMS), float64)
        factors = cuda.shared.array((MOST, 3), real)
        scratch = cuda.shared.array(_WARPS, float64)
        dz, da = all_dz[cuda.blockIdx.x], all_da[cuda.blockIdx.x]
        for at in range(cuda.blockIdx.x, len(coordinates), cuda.gridDim.x):
            i, k = coordinates[at], len(table) - 1
            while table[k, col.WEIGHT] > i:
                k -= 1
            change = 0.0
            for back in range(1 + central):
                part = total_change(
                    table, bases, k, i, -mu if back else mu, weights, theta, a, z, gap, u, p, y,
                    whole, inverse, dz, da, held, factors, scratch, length, n,
                )  # fmt: skip
                change += -part if back else part
            if cuda.threadIdx.x == 0:
                g[at] = change / ((1 + central) * mu * n)

    @cuda.jit(device=True)
    def only_first(stage, c, pixel, gap, dz, length, b):
        """Let only the first of several maxima of a window move, so that the window counts once."""
        size, wconv = stage[col.MAXPOOL], stage[col.WCONV]
        own = stage[col.GAP_AT] + c * stage[col.HCONV] * wconv
        y, x = pixel // wconv // size * size, pixel % wconv // size * size
        for i in range(size * size):
            q = (y + i // size) * wconv + x + i % size
            if q < pixel:
                tied = gap[(own + q) * length + b] == zero
                if tied and gap[(own + pixel) * length + b] == zero:
                    dz[np.uint64(pixel * length + b)] = zero

    @_kernel
    def probe(
        table, bases, items, mu, weights, theta, a, z, gap, u, p, y, whole, inverse, all_dz,
        all_da, mass, g, length, n,
    ):  # fmt: skip
        """Node probes of pixels of units; see :mod:`zoo.deepzero.net.nodes`.

        ``items`` are (stage, channel, first pixel, end), and g has a row for each of them.
        """
        held = cuda.shared.array((_WARPS, _SUMS), float64)
        factors = cuda.shared.array((MOST, 3), real)
        scratch = cuda.shared.array(_WARPS, float64)
        dz, da = all_dz[cuda.blockIdx.x], all_da[cuda.blockIdx.x]
        delta = mass[cuda.blockIdx.x]
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
                            only_first(stage, c, pixel, gap, dz, length, b)
                    finish(
                        stage, k, -1, c, 1, False, factors, dz, da, z, gap, u, table[0, col.OUT_AT],
                        length, n,
                    )  # fmt: skip
                    follow(
                        table, bases, k, c, weights, theta, inverse, z, gap, u, dz, da, held,
                        factors, length, n,
                    )  # fmt: skip
                for b in range(me, n, wide):
                    delta[b] = loss_change(table, a, p, y, whole, dz, only, length, b)
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
                            total += delta[b] * (1.0 if bias else float64(a[(r + xx) * length + b]))
                        total = block_total(total, scratch)
                        if me == 0:
                            g[at, q] += total / (mu * n)

    return Changes(cge, probe)


#: Factors of the series of expm1 and of artanh, from the second highest on.
_FACTORS = tuple(np.float32(1.0 / math.factorial(k)) for k in range(7, 0, -1))
_ARTANH = tuple(np.float32(1.0 / k) for k in range(7, 0, -2))
