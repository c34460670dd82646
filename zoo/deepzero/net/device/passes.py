"""Passes over a batch on a GPU: the kernels that a change of a parameter starts from.

What they compute is that of :mod:`zoo.deepzero.net.forward`.
"""

from __future__ import annotations

import functools
import math
from typing import Any, NamedTuple

import numpy as np
from numba import float64

from zoo.cuda import SIMULATED, WARP, block_total, cuda, kernel, kernel_of_registers, rint
from zoo.deepzero.net import columns as col
from zoo.deepzero.net.device.convolution import MAP, SINGLE, convolution
from zoo.deepzero.net.forward import EPS

#: Threads of a block that has a channel to itself.
WIDE = 2 if SIMULATED else 1024
_WARPS = WIDE // WARP
#: Of so many threads each has 64 registers at most.
_wide = kernel_of_registers(64)


class Passes(NamedTuple):
    """Kernels of a pass."""

    lay: Any
    turn: Any
    convolve: Any
    finish: Any
    softmax: Any


@functools.cache
def activation_of(real: Any) -> Any:
    """Device function: the activation of a number."""
    zero, one = real(0), real(1)

    @cuda.jit(device=True)
    def activate(u, kind, levels):
        if kind == 1:
            return zero if u <= zero else u
        if kind == 2:
            return real(math.tanh(u))
        if kind == 3:
            return one if u > zero else zero
        if kind == 4:
            many = real(levels)
            return real(rint(min(max(u, zero), one) * many)) / many + (u - u)
        return u

    return activate


@functools.cache
def passes(real: Any) -> Passes:
    """Kernels of a pass in a precision."""
    activate = activation_of(real)
    small, large = convolution(real, SINGLE, False), convolution(real, MAP, False)

    @cuda.jit
    def lay(x, a, length):
        """Samples (n, features) as the first rows of the activations."""
        n, features = x.shape
        for q in range(cuda.grid(1), features * length, cuda.gridsize(1)):
            b = q % length
            a[q] = x[b, q // length] if b < n else real(0)

    @cuda.jit
    def turn(theta, order, weights):
        """Weights in the order of the convolutions; 0 where there is none."""
        i = cuda.grid(1)
        if i < len(weights):
            weights[i] = theta[order[i]] if order[i] >= 0 else real(0)

    @kernel
    def convolve(net, k, cache, conv, size):
        """Convolution of stage k; a block has a tile's channels at some pixels."""
        stage, base, a = net.table[k], net.bases[k], cache.a
        pixels = stage[col.HCONV] * stage[col.WCONV]
        none = cuda.local.array(1, real)
        share = (pixels + cuda.gridDim.y - 1) // cuda.gridDim.y
        begin = cuda.blockIdx.y * share
        end = min(pixels, begin + share)
        if begin >= end:
            return
        if pixels == 1:
            c = cuda.blockIdx.x * SINGLE[1]
            small(
                stage, base, cache, a, stage[col.IN_AT], 0, stage[col.CIN], c, begin, end, conv, c,
                none, size,
            )  # fmt: skip
        else:
            c = cuda.blockIdx.x * MAP[1]
            large(
                stage, base, cache, a, stage[col.IN_AT], 0, stage[col.CIN], c, begin, end, conv,
                c * pixels, none, size,
            )  # fmt: skip

    @_wide
    def finish(net, k, cache, conv, size, training):
        """What follows the convolution of a channel; a block has it to itself."""
        scratch = cuda.shared.array(_WARPS, float64)
        stage, c = net.table[k], cuda.blockIdx.x
        a, z, gap, u, moments = cache.a, cache.z, cache.gap, cache.u, cache.moments
        length, n = size
        me, wide = cuda.threadIdx.x, cuda.blockDim.x
        pixels, wconv = stage[col.HCONV] * stage[col.WCONV], stage[col.WCONV]
        own = c * pixels * length
        normalized = stage[col.GAMMA] >= 0
        # A thread has the same samples of the same pixels throughout, until windows are taken.
        lanes = min(n, wide)
        mine, by = me // lanes, wide // lanes
        start = mine if mine < by else pixels * n
        lane = me % lanes
        scale, shift = real(1), real(0)
        if normalized:
            channel = stage[col.CHANNEL_AT] + c
            if training:
                total = 0.0
                for r in range(start, pixels, by):
                    for b in range(lane, n, lanes):
                        total += conv[own + r * length + b]
                mean = block_total(total, scratch) / (pixels * n)
                total = 0.0
                for r in range(start, pixels, by):
                    for b in range(lane, n, lanes):
                        away = float64(conv[own + r * length + b]) - mean
                        total += away * away
                variance = block_total(total, scratch) / (pixels * n)
                if me == 0:
                    moments[channel, 0], moments[channel, 1] = mean, variance
            else:
                mean, variance = moments[channel, 0], moments[channel, 1]
            into = 1.0 / math.sqrt(variance + EPS) if variance < np.inf else np.nan
            if me == 0:
                cache.inverse[channel] = into
            centre = real(mean)
            z_at = (stage[col.Z_AT] + c * pixels) * length
            scale = real(cache.theta[stage[col.GAMMA] + c] * into)
            shift = cache.theta[stage[col.BETA] + c]
            for r in range(start, pixels, by):
                for b in range(lane, n, lanes):
                    at = r * length + b
                    away = conv[own + at] - centre
                    z[z_at + at] = away
                    conv[own + at] = scale * away + shift
        source = c - stage[col.SHORTCUT_CHANNEL]
        if stage[col.SHORTCUT] >= 0 and source >= 0 and source < stage[col.SHORTCUT_C]:
            step, wide_from = stage[col.SHORTCUT_STRIDE], stage[col.SHORTCUT_W]
            first = stage[col.SHORTCUT_AT] + source * stage[col.SHORTCUT_H] * wide_from
            for r in range(start, pixels, by):
                there = (first + r // wconv * step * wide_from + r % wconv * step) * length
                for b in range(lane, n, lanes):
                    conv[own + r * length + b] += a[there + b]
        cuda.syncthreads()
        window, hpool, wpool = stage[col.MAXPOOL], stage[col.HPOOL], stage[col.WPOOL]
        u_at, gap_at = stage[col.U_AT] + c * hpool * wpool, stage[col.GAP_AT] + c * pixels
        for r in range(start, hpool * wpool, by):
            first = r // wpool * window * wconv + r % wpool * window
            for b in range(lane, n, lanes):
                most = conv[own + first * length + b]
                for i in range(1, window * window):
                    pixel = first + i // window * wconv + i % window
                    value = conv[own + pixel * length + b]
                    if not value <= most:  # not finite is to be seen
                        most = value
                u[(u_at + r) * length + b] = most
                for i in range(window * window if window > 1 else 0):
                    pixel = first + i // window * wconv + i % window
                    gap[(gap_at + pixel) * length + b] = conv[own + pixel * length + b] - most
        cuda.syncthreads()
        high, across = stage[col.AVERAGE_H], stage[col.AVERAGE_W]
        kind, levels, wout = stage[col.ACTIVATION], stage[col.LEVELS], stage[col.W]
        share = real(1.0 / (high * across))
        rows = stage[col.H] * wout
        out_at = stage[col.OUT_AT] + c * rows
        for r in range(start, rows, by):
            first = u_at + r // wout * high * wpool + r % wout * across
            for b in range(lane, n, lanes):
                total = real(0)
                for i in range(high * across):
                    pixel = first + i // across * wpool + i % across
                    total += activate(u[pixel * length + b], kind, levels) * share
                a[(out_at + r) * length + b] = total

    @_wide
    def softmax(at, classes, cache, result, size):
        """Probabilities; the sum of the losses, and how many are right, into ``result``."""
        a, p, y, whole = cache.a, cache.p, cache.y, cache.whole
        length, n = size
        scratch = cuda.shared.array(_WARPS, float64)
        total, right = 0.0, 0.0
        for b in range(cuda.threadIdx.x, n, cuda.blockDim.x):
            most, first = -np.inf, 0
            for c in range(classes):
                logit = float64(a[(at + c) * length + b])
                if logit > most or logit != logit:
                    most, first = logit, c
            mass = 0.0
            for c in range(classes):
                mass += math.exp(float64(a[(at + c) * length + b]) - most)
            for c in range(classes):
                logit = float64(a[(at + c) * length + b])
                p[c * length + b] = real(math.exp(logit - most) / mass)
            whole[b] = most + math.log(mass)
            total += whole[b] - float64(a[(at + y[b]) * length + b])
            right += 1.0 if first == y[b] else 0.0
        total = block_total(total, scratch)
        right = block_total(right, scratch)
        if cuda.threadIdx.x == 0:
            result[0], result[1] = total, right

    return Passes(lay, turn, convolve, finish, softmax)
