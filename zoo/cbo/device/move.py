"""The first positions of a tile of particles, and its moves."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from zoo.cbo import dynamics as dy
from zoo.cbo.device.noise import first_of, four_of, normal_pair, one_of, philox, unit
from zoo.cbo.device.polarized import own_consensus
from zoo.cbo.device.shape import Shape
from zoo.cbo.kernels import SPREAD_EVERY
from zoo.cuda import cuda, device_function, four_at, put_four
from zoo.streams import INITIAL, KICK, MEMORY_NOISE, NOISE

_gate = device_function(dy.drift_gate)


class By(NamedTuple):
    """What moves a particle."""

    sigma: Any
    pull: Any
    truncation: Any
    length: Any  # to the consensus
    length_own: Any  # to the best place it has seen
    back: Any
    shaken: Any
    thrown: Any
    kick: Any


def draw_of(shape: Shape) -> Any:
    """Device function that draws the first positions of a tile."""
    real = np.dtype(shape.real).type
    memory, unbounded = shape.memory, shape.boundary == dy.UNBOUNDED

    @cuda.jit(device=True)
    def scattered(plan, i, j, z, w):
        """First position of a coordinate of particle i: uniform in a box, or normal."""
        p = plan.params[0]
        drawn = one_of(j % 4, z) if p.init_normal else unit(one_of(j % 4, w))
        spread = 0.0 if p.guess and i == 0 else plan.extent[j]
        v = plan.origin[j] + spread * drawn
        if not unbounded:
            v = min(max(v, plan.lower[j]), plan.upper[j])
        return real(v)

    @cuda.jit(device=True)
    def draw(plan, run, seed, stream, pop, tile):
        """Draw the particles of a tile."""
        blocks, d = pop.x.shape[2] // 4, plan.params[0].dimension
        r, a, tile_x = tile.r, tile.a, tile.x
        step = np.uint64(run.step)
        for q in range(cuda.threadIdx.x, tile.rows * blocks, cuda.blockDim.x):
            i, b = q // blocks, q % blocks
            particle = pop.first + a + i
            w = philox(np.uint64(b), np.uint64(particle), step, INITIAL, seed, stream)
            z0, z1 = normal_pair(w[0], w[1])
            z2, z3 = normal_pair(w[2], w[3])
            z = (z0, z1, z2, z3)
            for k in range(4):
                j = 4 * b + k
                v = real(0.0)
                if j < d:
                    v = scattered(plan, particle, j, z, w)
                tile_x[i * tile.across + j] = v
                pop.x[r, a + i, j] = v
                if memory:
                    pop.y[r, a + i, j] = v

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
    # Noise of coordinates that are not there, beyond d, is multiplied by their distance, 0, else.
    masked = hopping or isotropic

    @cuda.jit(device=True)
    def reals_at(array, at):
        """Four numbers of a row, from a multiple of four on, in the positions' precision."""
        a, b, c, d = four_at(array, at)
        return real(a), real(b), real(c), real(d)

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
    def moved(k, v, own, center, low, high, width, xi, xi_own, xi_kick, by):
        """Number k of four coordinates where it goes, and the distance that spreads are of."""
        v, center, xi = one_of(k, v), one_of(k, center), one_of(k, xi)
        away = v - center
        if hopping:
            new = center + by.sigma * xi
        elif isotropic:
            new = (v - by.pull * away) + by.sigma * min(by.length, by.truncation) * xi
        elif affine:
            new = (v - by.pull * away) + by.sigma * xi
        else:
            cut = min(max(away, -by.truncation), by.truncation)
            new = (v - by.pull * away) + (by.sigma * cut) * xi
        if memory:
            mine = v - one_of(k, own)
            scale = by.length_own if isotropic else mine
            new += by.shaken * scale * one_of(k, xi_own) - by.back * mine
        if by.kick:
            new += by.thrown * one_of(k, width) * one_of(k, xi_kick)
        if hopping:
            away = new - center
        return confined(new, one_of(k, low), one_of(k, high), center), away

    @cuda.jit(device=True)
    def move(plan, run, seed, stream, fours, pop, members, center, tile, room, offset):
        """Move the particles of a tile, which are of ``members``; the thread's (x - c)^2, or 0."""
        p, first, x, y = plan.params[0], pop.first, pop.x, pop.y
        d, dp = p.dimension, x.shape[2]
        flat, limits, factor = fours.x, fours.limits, center.factor
        r, a, rows, tile_x, across = tile
        pulls, lengths, lengths_own = room.work[2], room.work[3], room.work[4]
        c = center.c[r]
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
            points, energies = center.points[r], center.energies[r]
            own_consensus(run.alpha, inverse, offset, x[r], d, points, energies, tile)
            cuda.syncthreads()
        if isotropic or gated or memory:
            for i in range(me, rows, cuda.blockDim.x):
                m = members[a + i] if batches else a + i
                share = drift
                if gated:
                    share *= _gate(gate, p.gate_eps, pop.energy[r, m], run.at_consensus)
                pulls[i] = share
                if isotropic:
                    away, mine = 0.0, 0.0
                    for j in range(d):
                        v = float(x[r, m, j])
                        middle = tile_x[i * across + j] if polarized else c[j]
                        away += (v - middle) * (v - middle)
                        if memory:
                            mine += (v - y[r, m, j]) * (v - y[r, m, j])
                    lengths[i] = math.sqrt(away)
                    lengths_own[i] = math.sqrt(mine)
            cuda.syncthreads()
        if affine:
            for q in range(me, rows * blocks, cuda.blockDim.x):
                i, b = q // blocks, q % blocks
                particle = np.uint64(first + (members[a + i] if batches else a + i))
                z = four(seed, stream, iteration, NOISE, particle, np.uint64(b))
                for k in range(4):
                    tile_x[i * across + 4 * b + k] = one_of(k, z)
            cuda.syncthreads()
        kick = kicks and run.kick > 0
        thrown = real(p.kick_sigma * root)
        back, shaken = real(p.lam_memory * run.dt), real(p.sigma_memory * root)
        squares, measured = 0.0, run.step % SPREAD_EVERY == 0
        # Unsigned indices are not looked at for being counted from the end.
        ur, lines, length = np.uint64(r), np.uint64(across), np.uint64(dp)
        one, two, three = np.uint64(1), np.uint64(2), np.uint64(3)
        start = ur * np.uint64(x.shape[1])
        i, b = me // blocks, me % blocks
        down_by, across_by = cuda.blockDim.x // blocks, cuda.blockDim.x % blocks
        while i < rows:
            m = members[a + i] if batches else a + i
            j = np.uint64(4 * b)
            here, at = np.uint64(i) * lines + j, (start + np.uint64(m)) * length + j
            # What takes a while to come is asked for before anything is written.
            v, own = four_at(flat, at), (real(0.0), real(0.0), real(0.0), real(0.0))
            if polarized:
                about = (
                    real(tile_x[here]), real(tile_x[here + one]), real(tile_x[here + two]),
                    real(tile_x[here + three]),
                )  # fmt: skip
            else:
                about = reals_at(c, j)
            low, high, width = own, own, own
            if memory:
                own = four_at(y[r, m], j)
            if not unbounded:
                low, high = four_at(limits[0], j), four_at(limits[1], j)
            particle, block = np.uint64(first + m), np.uint64(b)
            if affine:  # rows of the factor are zero before their diagonal
                z0, z1, z2, z3 = real(0.0), real(0.0), real(0.0), real(0.0)
                for k in range(min(d, 4 * b + 4)):
                    xi = real(tile_x[i * across + k])
                    f0, f1, f2, f3 = reals_at(factor[r, k], j)
                    z0, z1, z2, z3 = z0 + xi * f0, z1 + xi * f1, z2 + xi * f2, z3 + xi * f3
                z = (z0, z1, z2, z3)
            else:
                z = four(seed, stream, iteration, NOISE, particle, block)
            zm, zk = z, z
            if memory:
                zm = four(seed, stream, iteration, MEMORY_NOISE, particle, block)
            if kick:
                zk = four(seed, stream, iteration, KICK, particle, block)
                width = reals_at(plan.width, j)
            if masked and 4 * b + 4 > d:
                z, zm = first_of(z, d - 4 * b), first_of(zm, d - 4 * b)
            by = By(
                sigma, real(pulls[i]) if gated else real(drift), truncation,
                real(lengths[i]) if isotropic else truncation,
                real(lengths_own[i]) if isotropic else truncation,
                back, shaken, thrown, kick,
            )  # fmt: skip
            x0, away0 = moved(0, v, own, about, low, high, width, z, zm, zk, by)
            x1, away1 = moved(1, v, own, about, low, high, width, z, zm, zk, by)
            x2, away2 = moved(2, v, own, about, low, high, width, z, zm, zk, by)
            x3, away3 = moved(3, v, own, about, low, high, width, z, zm, zk, by)
            put_four(flat, at, (x0, x1, x2, x3))
            if not affine:  # others still need what is there
                tile_x[here], tile_x[here + one] = x0, x1
                tile_x[here + two], tile_x[here + three] = x2, x3
            if measured:
                for away in (away0, away1, away2, away3):
                    squares += float(away) * float(away)
            i, b = i + down_by, b + across_by
            if b >= blocks:
                i, b = i + 1, b - blocks
        if affine and not batches:  # those who are evaluated are another tile
            cuda.syncthreads()
            for q in range(me, rows * dp, cuda.blockDim.x):
                tile_x[q // dp * across + q % dp] = x[r, a + q // dp, q % dp]
        return squares

    return move
