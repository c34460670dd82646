"""What a block of threads does with the change of a convolution, on a GPU.

Threads of a block share a change: a thread has some of the samples, of which nobody else reads or
writes anything. All arithmetic of changes is that of :mod:`zoo.deepzero.net.change`.
"""

from __future__ import annotations

import functools
import math
from typing import Any, NamedTuple

import numpy as np
from numba import float64

from zoo.cuda import SIMULATED, WARP, cuda, warp_total
from zoo.deepzero.net import columns as col
from zoo.deepzero.net.device.passes import activation_of
from zoo.deepzero.net.forward import EPS

#: Threads of a block.
THREADS = 2 if SIMULATED else 256
WARPS = THREADS // WARP

#: Single precision has its own exponentials of changes up to this; larger ones have double's.
_SMALL = 0.25
#: Changes beyond this are far: rounded probabilities may no longer stand for the logits.
_FAR = 4.0

#: Factors of the series of expm1 and of artanh, from the second highest on.
_FACTORS = tuple(np.float32(1.0 / math.factorial(k)) for k in range(7, 0, -1))
_ARTANH = tuple(np.float32(1.0 / k) for k in range(7, 0, -2))


class Following(NamedTuple):
    """Device functions."""

    bent: Any
    factors_of: Any
    shift: Any
    normalize: Any
    finish: Any
    loss_change: Any


@functools.cache
def following(real: Any) -> Following:
    """Device functions in a precision."""
    zero, one = real(0), real(1)
    single = real is np.float32
    activate = activation_of(real)

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
    def factors_of(mean, square, inverse, gamma):
        """Factors of a change d and of z, which it changes, and what is subtracted from their sum.

        From the means of d and of (z + d)^2 - z^2; see :mod:`zoo.deepzero.net.change`.
        """
        q = (square - mean * mean) * inverse * inverse
        root = math.sqrt(max(1.0 + q, EPS * inverse * inverse))
        before = gamma * inverse
        change = -before * q / (root * (1.0 + root))
        return real(before + change), real(change), real((before + change) * mean)

    @cuda.jit(device=True)
    def normalize(stage, c0, channels, sums, cache, scratch, n):
        """Factors of some channels, into ``scratch``, from the sums of this thread."""
        me, held, factors = cuda.threadIdx.x, scratch.held, scratch.factors
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
            factors[c, 0], factors[c, 1], factors[c, 2] = factors_of(
                total / count,
                (2.0 * mixed + squares) / count,
                cache.inverse[stage[col.CHANNEL_AT] + c0 + c],
                cache.theta[stage[col.GAMMA] + c0 + c],
            )
        cuda.syncthreads()

    @cuda.jit(device=True)
    def finish(stage, k, channel, c0, count, scaled, cache, scratch, out_at, a_at, size):
        """Changes of the activations of ``count`` channels from those of their convolutions.

        They go into rows from ``out_at`` on of da, whose first row is row ``a_at`` of all
        activations. A shortcut from the stage after k has changed in one channel only. Returns
        whether anything has changed for this thread's samples.
        """
        dz, da, factors = scratch.dz, scratch.da, scratch.factors
        z, gap, u = cache.z, cache.gap, cache.u
        length, n = size
        window, wconv = stage[col.MAXPOOL], stage[col.WCONV]
        pixels, rows = stage[col.HCONV] * wconv, stage[col.H] * stage[col.W]
        hpool, wpool = stage[col.HPOOL], stage[col.WPOOL]
        high, across = stage[col.AVERAGE_H], stage[col.AVERAGE_W]
        kind, levels = stage[col.ACTIVATION], stage[col.LEVELS]
        share, step = real(1.0 / (high * across)), stage[col.SHORTCUT_STRIDE]
        shortcut = stage[col.SHORTCUT] > k
        # A store may change the table, as far as the compiler knows: it is read once.
        z_at, gap_at, u_at = stage[col.Z_AT], stage[col.GAP_AT], stage[col.U_AT]
        high_from, wide_from = stage[col.SHORTCUT_H], stage[col.SHORTCUT_W]
        from_at, into = stage[col.SHORTCUT_AT] - a_at, stage[col.W]
        found = False
        for c in range(count):
            after, change, shift = factors[c, 0], factors[c, 1], factors[c, 2]
            source = c0 + c - stage[col.SHORTCUT_CHANNEL]
            added = shortcut and source >= 0 and source < stage[col.SHORTCUT_C]
            if added and stage[col.SHORTCUT] == k + 1:
                added = source == channel
            r = out_at + c * rows
            for row in range(rows // into):
                for column in range(into):
                    b = cuda.threadIdx.x
                    while b < n:
                        total = zero
                        for y in range(row * high, row * high + high):
                            for x in range(column * across, column * across + across):
                                most = zero
                                for yy in range(y * window, y * window + window):
                                    for xx in range(x * window, x * window + window):
                                        pixel = yy * wconv + xx
                                        d = dz[np.uint64((c * pixels + pixel) * length + b)]
                                        own = (c0 + c) * pixels + pixel
                                        if scaled:
                                            at = (z_at + own) * length + b
                                            d = d * after + (z[np.uint64(at)] * change - shift)
                                        if added:
                                            q = source * high_from + yy * step
                                            q = q * wide_from + xx * step + from_at
                                            d += da[np.uint64(q * length + b)]
                                        if window > 1:
                                            at = (gap_at + own) * length + b
                                            d += gap[np.uint64(at)]
                                        first = yy == y * window and xx == x * window
                                        if first or not d <= most:
                                            most = d
                                q = ((c0 + c) * hpool + y) * wpool + x + u_at
                                total += bent(u[np.uint64(q * length + b)], most, kind, levels)
                        total *= share
                        found |= total != zero
                        da[np.uint64(r * length + b)] = total
                        b += cuda.blockDim.x
                    r += 1
        return found

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
    def loss_change(table, cache, dz, start, step, only, length, b):
        """Change of the loss of sample b from those of its logits; see zoo.deepzero.net.loss.

        Those are ``start`` and so on in steps of ``step`` in dz; of one logit only, or -1: of all.
        """
        stage, p = table[len(table) - 1], cache.p
        classes, at = stage[col.C], stage[col.OUT_AT]
        first, last = (only, only + 1) if only >= 0 else (0, classes)
        most, own = zero, zero
        for c in range(first, last):
            t = dz[np.uint64(start + (c - first) * step)]
            far = abs(t)
            if not far <= most:
                most = far
            if c == cache.y[b]:
                own = t
        if single and most <= real(_SMALL):
            s = zero
            for c in range(first, last):
                t = dz[np.uint64(start + (c - first) * step)]
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
                t = float64(dz[np.uint64(start + (c - first) * step)])
                s += float64(p[c * length + b]) * math.expm1(t)
            return math.log1p(s) - own
        highest = -np.inf
        for c in range(classes):
            t = cache.a[(at + c) * length + b]
            if c >= first and c < last:
                t += dz[np.uint64(start + (c - first) * step)]
            if not float64(t) <= highest:
                highest = float64(t)
        total = 0.0
        for c in range(classes):
            t = float64(cache.a[(at + c) * length + b])
            if c >= first and c < last:
                t += float64(dz[np.uint64(start + (c - first) * step)])
            total += math.exp(t - highest)
        return highest + math.log(total) - cache.whole[b] - own

    @cuda.jit(device=True)
    def shift(stage, c, cin, i, j, mu, cache, dz, sums, size):
        """Change of a channel's convolution, or normalization, from that of a parameter of it."""
        length, n = size
        stride, padding, in_at = stage[col.STRIDE], stage[col.PADDING], stage[col.IN_AT]
        hin, win, hconv, wconv = stage[col.HIN], stage[col.WIN], stage[col.HCONV], stage[col.WCONV]
        normalized = stage[col.GAMMA] >= 0
        moving = normalized and cin >= -1
        z_at = stage[col.Z_AT] + c * hconv * wconv
        step = real(mu)
        if cin == -2:
            step = real(mu * cache.inverse[stage[col.CHANNEL_AT] + c])
        r = 0
        for row in range(hconv):
            y = row * stride + i - padding
            for column in range(wconv):
                x = column * stride + j - padding
                inside = y >= 0 and y < hin and x >= 0 and x < win
                q = in_at + (cin * hin + y) * win + x
                b = cuda.threadIdx.x
                while b < n:
                    d, was = step, zero
                    if normalized:
                        was = cache.z[np.uint64((z_at + r) * length + b)]
                    if cin >= 0:
                        d = cache.a[np.uint64(q * length + b)] * step if inside else zero
                    elif cin == -2:
                        d = was * step
                    dz[np.uint64(r * length + b)] = d
                    if moving:
                        sums[0] += d
                        sums[1] += was * d
                        sums[2] += d * d
                    b += cuda.blockDim.x
                r += 1

    return Following(bent, factors_of, shift, normalize, finish, loss_change)
