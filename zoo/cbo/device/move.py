"""The first positions of a tile of particles, and its moves."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from zoo.cbo import dynamics as dy
from zoo.cbo.device.noise import four_of, normal_pair, one_of, philox, unit
from zoo.cbo.device.polarized import own_consensus
from zoo.cbo.device.shape import Shape
from zoo.cuda import cuda, device_function
from zoo.streams import INITIAL, KICK, MEMORY_NOISE, NOISE

_gate = device_function(dy.drift_gate)


def draw_of(shape: Shape) -> Any:
    """Device function that draws the first positions of a tile."""
    real = np.dtype(shape.real).type
    memory, unbounded = shape.memory, shape.boundary == dy.UNBOUNDED

    @cuda.jit(device=True)
    def scattered(p, box, first, i, j, z, w):
        """First position of a coordinate: uniform in a box, or normal."""
        drawn = one_of(j % 4, z) if p.init_normal else unit(one_of(j % 4, w))
        spread = 0.0 if p.guess and first + i == 0 else box[3, j]
        v = box[2, j] + spread * drawn
        if not unbounded:
            v = min(max(v, box[0, j]), box[1, j])
        return real(v)

    @cuda.jit(device=True)
    def draw(p, run, box, seed, stream, first, x, y, r, a, rows, d, dp, tile, across, down):
        """Draw the particles a .. a + rows - 1 of run r."""
        blocks = dp // 4
        step = np.uint64(run.step)
        for q in range(cuda.threadIdx.x, rows * blocks, cuda.blockDim.x):
            i, b = q // blocks, q % blocks
            w = philox(np.uint64(b), np.uint64(first + a + i), step, INITIAL, seed, stream)
            z0, z1 = normal_pair(w[0], w[1])
            z2, z3 = normal_pair(w[2], w[3])
            z = (z0, z1, z2, z3)
            for k in range(4):
                j = 4 * b + k
                v = real(0.0)
                if j < d:
                    v = scattered(p, box, first, a + i, j, z, w)
                tile[i * across + j * down] = v
                x[r, a + i, j] = v
                if memory:
                    y[r, a + i, j] = v

    return draw


def move_of(shape: Shape) -> Any:
    """Device function that moves a tile."""
    real = np.dtype(shape.real).type
    four = four_of(shape.real)
    isotropic, affine = shape.noise == dy.ISOTROPIC, shape.noise == dy.COVARIANCE
    gate, gated = shape.gate, shape.gate != dy.UNGATED
    hopping, polarized = shape.hopping, shape.polarized
    memory, kicks, batches = shape.memory, shape.kicks, shape.batches
    unbounded, reflecting = shape.boundary == dy.UNBOUNDED, shape.boundary == dy.REFLECT

    @cuda.jit(device=True)
    def confined(v, low, high, back):
        """A coordinate brought back into the bounds; see zoo.cbo.dynamics.confine."""
        if v - v != 0.0:
            v = back
        if unbounded:
            return v
        if reflecting and (v < low or v > high):
            v = real(2.0) * (low if v < low else high) - v
        return min(max(v, low), high)

    @cuda.jit(device=True)
    def move(
        p, run, box, seed, stream, first, members, x, y, energy, c, factor, r, a, rows, d, dp, tile,
        across, down, lengths, pulls, others, others_energy, offset,
    ):  # fmt: skip
        """Move the particles a .. a + rows - 1 of ``members``; the thread's sum of (x - c)^2."""
        me, blocks = cuda.threadIdx.x, dp // 4
        iteration = np.uint64(run.step + 1)
        root = math.sqrt(run.dt)
        sigma = real(run.sigma) if hopping else real(run.sigma * root)
        truncation = real(p.truncation)
        drift = p.lam * run.dt
        if affine:  # the exact Ornstein-Uhlenbeck step
            drift = -math.expm1(-p.lam * run.dt)
            sigma = real(run.sigma * math.sqrt(-math.expm1(-2.0 * p.lam * run.dt)))
        if polarized:
            inverse = (run.alpha if p.kernel_scaled else 1.0) / (2.0 * p.kappa * p.kappa)
            own_consensus(
                run.alpha, inverse, offset, x[r], a, rows, d, others[r], others_energy[r], tile,
                across, down,
            )  # fmt: skip
            cuda.syncthreads()
        if isotropic or gated or memory:
            for i in range(me, rows, cuda.blockDim.x):
                m = members[a + i] if batches else a + i
                share = drift
                if gated:
                    share *= _gate(gate, p.gate_eps, energy[r, m], run.at_consensus)
                pulls[i] = share
                if isotropic:
                    away, mine = 0.0, 0.0
                    for j in range(d):
                        v = float(x[r, m, j])
                        center = tile[i * across + j * down] if polarized else c[r, j]
                        away += (v - center) * (v - center)
                        if memory:
                            mine += (v - y[r, m, j]) * (v - y[r, m, j])
                    lengths[0, i] = math.sqrt(away)
                    lengths[1, i] = math.sqrt(mine)
            cuda.syncthreads()
        if affine:
            for q in range(me, rows * blocks, cuda.blockDim.x):
                i, b = q // blocks, q % blocks
                particle = np.uint64(first + (members[a + i] if batches else a + i))
                z = four(seed, stream, iteration, NOISE, particle, np.uint64(b))
                for k in range(4):
                    tile[i * across + (4 * b + k) * down] = one_of(k, z)
            cuda.syncthreads()
        kick = kicks and run.kick > 0
        thrown = real(p.kick_sigma * root)
        back, shaken = real(p.lam_memory * run.dt), real(p.sigma_memory * root)
        squares = 0.0
        # Unsigned indices are not looked at for being counted from the end.
        ur, lines, columns = np.uint64(r), np.uint64(across), np.uint64(down)
        i, b = me // blocks, me % blocks
        down_by, across_by = cuda.blockDim.x // blocks, cuda.blockDim.x % blocks
        while i < rows:
            m = members[a + i] if batches else a + i
            particle, block = np.uint64(first + m), np.uint64(b)
            if affine:  # rows of the factor are zero before their diagonal
                z0, z1, z2, z3 = real(0.0), real(0.0), real(0.0), real(0.0)
                for k in range(min(d, 4 * b + 4)):
                    xi = real(tile[i * across + k * down])
                    z0 += xi * real(factor[r, k, 4 * b])
                    z1 += xi * real(factor[r, k, 4 * b + 1])
                    z2 += xi * real(factor[r, k, 4 * b + 2])
                    z3 += xi * real(factor[r, k, 4 * b + 3])
                z = (z0, z1, z2, z3)
            else:
                z = four(seed, stream, iteration, NOISE, particle, block)
            zm, zk = z, z
            if memory:
                zm = four(seed, stream, iteration, MEMORY_NOISE, particle, block)
            if kick:
                zk = four(seed, stream, iteration, KICK, particle, block)
            pull = real(pulls[i]) if gated else real(drift)
            um, j0 = np.uint64(m), np.uint64(4 * b)
            at = np.uint64(i) * lines + j0 * columns
            for k in range(4):
                j, here = j0 + np.uint64(k), at + np.uint64(k) * columns
                if 4 * b + k >= d:
                    if not affine:
                        tile[here] = real(0.0)
                    continue
                v = x[ur, um, j]
                center = real(tile[here] if polarized else c[ur, j])
                away = v - center
                xi = one_of(k, z)
                if hopping:
                    new = center + sigma * xi
                elif isotropic:
                    scale = sigma * min(real(lengths[0, i]), truncation)
                    new = (v - pull * away) + scale * xi
                elif affine:
                    new = (v - pull * away) + sigma * xi
                else:
                    cut = min(max(away, -truncation), truncation)
                    new = (v - pull * away) + (sigma * cut) * xi
                if memory:
                    mine = v - y[ur, um, j]
                    scale = real(lengths[1, i]) if isotropic else mine
                    new += shaken * scale * one_of(k, zm) - back * mine
                if kick:
                    new += thrown * real(box[4, j]) * one_of(k, zk)
                if hopping:
                    away = new - center
                squares += float(away) * float(away)
                new = confined(new, real(box[0, j]), real(box[1, j]), center)
                if not affine:  # others still need what is there
                    tile[here] = new
                x[ur, um, j] = new
            i, b = i + down_by, b + across_by
            if b >= blocks:
                i, b = i + 1, b - blocks
        if affine and not batches:  # those who are evaluated are another tile
            cuda.syncthreads()
            for q in range(me, rows * dp, cuda.blockDim.x):
                tile[q // dp * across + q % dp * down] = x[r, a + q // dp, q % dp]
        return squares

    return move
