"""The superstep of a population on a GPU: one launch takes all runs here through many steps.

A block of threads takes tiles of particles, one after another: it moves a tile, evaluates it, and
adds it to the sums of the next consensus, while it is in shared memory, so that a step reads and
writes every position once. Then all blocks wait for each other (a cooperative launch), the sums of
each run are added up, and its superstep is closed by the same code as on a CPU. Tiles belong to
groups, whose sums are added in their order: the bits do not depend on how many blocks there are.

Random words are those of the CPU; what is computed of them may differ from it in the last bits.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import float64, from_dtype, int64

from zoo import streams
from zoo.cbo import dynamics as dy
from zoo.cbo import state as st
from zoo.cbo.advance import advance, record
from zoo.cbo.device_affine import advance_together
from zoo.cbo.device_polarized import own_consensus
from zoo.cbo.kernels import SPREAD_EVERY
from zoo.cuda import (
    SIMULATED,
    block_least,
    block_lowest,
    block_total,
    cuda,
    device_function,
    multiprocessors,
)
from zoo.streams import INITIAL, KICK, MEMORY_NOISE, NOISE

#: Threads of a block.
THREADS = 2 if SIMULATED else 128
#: Particles of a tile, at most, and the shared memory that one may take: a block has 48 KiB without
#: asking, and what is declared below takes 7,168 bytes of them.
_ROWS, _BYTES = 128, 40_960
#: Dimensions of which eight particles fit there.
MOST_DIMENSIONS = _BYTES // 72 // 4 * 4
#: Particles of a tile that does not fit there.
_LONG = 32
#: Tiles that a small population has at least, for all of a GPU to have something to do.
_TILES = 256
#: Groups of tiles of all runs, and those of a run from which on all blocks add up their sums.
_GROUPS, _MANY = 1536, 8
#: Bytes of the groups' sums for covariances, at most.
_MATRICES = 1 << 28

_advance, _record = device_function(advance), device_function(record)
_philox, _normal_pair = device_function(streams.philox), device_function(streams._normal_pair)
_unit = device_function(streams.unit)
_gate = device_function(dy.drift_gate)


@dataclass(frozen=True)
class Shape:
    """What a kernel is compiled for.

    Attributes
    ----------
    real : str
        float64 or float32: of positions, of what moves them, and of what objectives see.
    shared : bool
        Whether a tile is in shared memory.
    noise, boundary, gate : int
        Codes of zoo.cbo.dynamics.
    hopping, polarized, memory, kicks, ess : bool
    shifted, rotated : bool
        Whether the objective is taken at another place; see :class:`zoo.evaluate.Target`.
    pure : bool
        Whether it is known not to write on its argument.
    """

    real: str
    shared: bool
    noise: int
    boundary: int
    gate: int
    hopping: bool
    polarized: bool
    memory: bool
    kicks: bool
    ess: bool
    shifted: bool
    rotated: bool
    pure: bool


def tile_of(dp: int, particles: int, real: str) -> tuple[int, int]:
    """Particles of a tile, of so many in all runs; and its bytes of shared memory, or none."""
    itemsize = 8 if SIMULATED else np.dtype(real).itemsize
    most = min((_BYTES // (itemsize * dp) - 1) // 8 * 8, _ROWS)
    if most <= 0:
        return _LONG, 0
    rows = min(most, max(8, -(-particles // _TILES + 7) // 8 * 8))
    return rows, itemsize * dp * (rows + 1)


def groups_of(runs: int, n: int, tile: int, matrix: int = 0) -> int:
    """Groups of tiles of a run; each has a matrix of so many numbers."""
    most = min(_GROUPS // runs, _MATRICES // (8 * matrix * runs)) if matrix else _GROUPS // runs
    return max(1, min(-(-n // tile), most))


@functools.cache
def normals_of(real: str) -> Any:
    """Device function: two random words to two standard normals."""
    if real == "float64":
        return _normal_pair
    single = np.float32
    scale, turn = single(2.0**-23), single(math.pi)

    def pair(a, b):
        # Box and Muller with the words' upper 23 bits.
        u = (single(a >> np.uint64(41)) + single(0.5)) * scale
        radius = single(math.sqrt(single(-2.0) * single(math.log(u))))
        angle = turn * ((single(b >> np.uint64(41)) + single(0.5)) * scale - single(0.5))
        cosine = single(math.cos(angle))
        if b & np.uint64(1):
            cosine = -cosine
        return radius * cosine, radius * single(math.sin(angle))

    return cuda.jit(device=True)(pair)


@functools.cache
def kernel_of(objective: Any, shape: Shape) -> Any:
    """Kernel of an objective's supersteps, compiled at its first launch.

    Parameters
    ----------
    objective : Numba dispatcher, or Python function
        f(x) of a point (d,).
    shape : Shape
    """
    value_at = device_function(objective)
    pair = normals_of(shape.real)
    real = np.dtype(shape.real).type
    # In the simulator constants beside single precision would be rounded to it.
    kind = float64 if SIMULATED else from_dtype(np.dtype(shape.real))
    shared = shape.shared
    isotropic, affine = shape.noise == dy.ISOTROPIC, shape.noise == dy.COVARIANCE
    together = affine or shape.ess  # what closes a superstep takes all threads
    boundary, gate = shape.boundary, shape.gate
    hopping, memory, kicks = shape.hopping, shape.memory, shape.kicks
    polarized = shape.polarized
    shifted, rotated, pure = shape.shifted, shape.rotated, shape.pure
    unbounded, reflecting = boundary == dy.UNBOUNDED, boundary == dy.REFLECT
    gated = gate != dy.UNGATED

    @cuda.jit(device=True)
    def value_of(x, shift, rotation, anchor, z):
        """Objective at a point."""
        if not shifted:
            if pure:
                return value_at(x)
            for j in range(len(x)):
                z[j] = x[j]
            return value_at(z)
        for j in range(len(x)):
            total = anchor[j]
            if rotated:
                for k in range(len(x)):
                    total += rotation[j, k] * (x[k] - shift[k])
            else:
                total += x[j] - shift[j]
            z[j] = total
        return value_at(z)

    @cuda.jit(device=True)
    def four(seed, stream, iteration, purpose, particle, block):
        """Four normals."""
        a, b, c, d = _philox(block, particle, iteration, purpose, seed, stream)
        z0, z1 = pair(a, b)
        z2, z3 = pair(c, d)
        return z0, z1, z2, z3

    @cuda.jit(device=True)
    def one_of(k, z):
        return z[0] if k == 0 else (z[1] if k == 1 else (z[2] if k == 2 else z[3]))

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
    def scattered(p, box, seed, stream, step, first, i, b, k, z, w):
        """First position of a coordinate: uniform in a box, or normal."""
        j = 4 * b + k
        drawn = one_of(k, z) if p.init_normal else _unit(one_of(k, w))
        spread = 0.0 if p.guess and first + i == 0 else box[3, j]
        v = box[2, j] + spread * drawn
        if not unbounded:
            v = min(max(v, box[0, j]), box[1, j])
        return real(v)

    @cuda.jit(device=True)
    def draw(p, run, box, seed, stream, first, x, y, r, a, rows, d, dp, tile, across, down):
        """Draw the first positions of a tile."""
        blocks = dp // 4
        step = np.uint64(run.step)
        for q in range(cuda.threadIdx.x, rows * blocks, cuda.blockDim.x):
            i, b = q // blocks, q % blocks
            w = _philox(np.uint64(b), np.uint64(first + a + i), step, INITIAL, seed, stream)
            z0, z1 = _normal_pair(w[0], w[1])
            z2, z3 = _normal_pair(w[2], w[3])
            z = (z0, z1, z2, z3)
            for k in range(4):
                j = 4 * b + k
                v = real(0.0)
                if j < d:
                    v = scattered(p, box, seed, stream, step, first, a + i, b, k, z, w)
                tile[i * across + j * down] = v
                x[r, a + i, j] = v
                if memory:
                    y[r, a + i, j] = v

    @cuda.jit(device=True)
    def move(
        p, run, box, seed, stream, first, x, y, energy, c, factor, r, a, rows, d, dp, tile, across,
        down, lengths, pulls, others, others_energy,
    ):  # fmt: skip
        """Move a tile; the sum of this thread's (x - c)^2."""
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
                run.alpha, inverse, run.best, x[r], a, rows, d, others[r], others_energy[r], tile,
                across, down,
            )  # fmt: skip
            cuda.syncthreads()
        if isotropic or gated or memory:
            for i in range(me, rows, cuda.blockDim.x):
                share = drift
                if gated:
                    share *= _gate(gate, p.gate_eps, energy[r, a + i], run.at_consensus)
                pulls[i] = share
                if isotropic:
                    away, mine = 0.0, 0.0
                    for j in range(d):
                        v = float(x[r, a + i, j])
                        center = tile[i * across + j * down] if polarized else c[r, j]
                        away += (v - center) * (v - center)
                        if memory:
                            mine += (v - y[r, a + i, j]) * (v - y[r, a + i, j])
                    lengths[0, i] = math.sqrt(away)
                    lengths[1, i] = math.sqrt(mine)
            cuda.syncthreads()
        if affine:
            for q in range(me, rows * blocks, cuda.blockDim.x):
                i, b = q // blocks, q % blocks
                particle, block = np.uint64(first + a + i), np.uint64(b)
                z = four(seed, stream, iteration, NOISE, particle, block)
                for k in range(4):
                    tile[i * across + (4 * b + k) * down] = one_of(k, z)
            cuda.syncthreads()
        kick = kicks and run.kick > 0
        thrown = real(p.kick_sigma * root)
        back, shaken = real(p.lam_memory * run.dt), real(p.sigma_memory * root)
        squares = 0.0
        i, b = me // blocks, me % blocks
        down_by, across_by = cuda.blockDim.x // blocks, cuda.blockDim.x % blocks
        while i < rows:
            particle, block = np.uint64(first + a + i), np.uint64(b)
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
            for k in range(4):
                j = 4 * b + k
                if j >= d:
                    if not affine:
                        tile[i * across + j * down] = real(0.0)
                    continue
                v = x[r, a + i, j]
                center = real(tile[i * across + j * down] if polarized else c[r, j])
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
                    mine = v - y[r, a + i, j]
                    scale = real(lengths[1, i]) if isotropic else mine
                    new += shaken * scale * one_of(k, zm) - back * mine
                if kick:
                    new += thrown * real(box[4, j]) * one_of(k, zk)
                if hopping:
                    away = new - center
                squares += float(away) * float(away)
                new = confined(new, real(box[0, j]), real(box[1, j]), center)
                if not affine:  # others still need what is there
                    tile[i * across + j * down] = new
                x[r, a + i, j] = new
            i, b = i + down_by, b + across_by
            if b >= blocks:
                i, b = i + 1, b - blocks
        if affine:
            cuda.syncthreads()
            for q in range(me, rows * dp, cuda.blockDim.x):
                tile[q // dp * across + q % dp * down] = x[r, a + q // dp, q % dp]
        return squares

    @cuda.jit(device=True)
    def share(x, energy, others, others_energy):
        """Lay all particles open to each other, as they are before anyone moves."""
        runs, n, dp = x.shape
        for q in range(cuda.grid(1), runs * n * dp, cuda.gridsize(1)):
            others[q // (n * dp), q // dp % n, q % dp] = x[q // (n * dp), q // dp % n, q % dp]
        for q in range(cuda.grid(1), runs * n, cuda.gridsize(1)):
            others_energy[q // n, q % n] = energy[q // n, q % n]

    @cuda.jit(device=True)
    def group(
        item, groups, rows_of_tile, p, box, seed, first_run, first, runs, flat, x, energy,
        y, y_energy, c, factor, parts, places, moments, seconds, others, others_energy, shift,
        rotation, anchor, points, work, scratch, numbers,
    ):  # fmt: skip
        """A group of tiles: move, evaluate, and sum up."""
        tile_here = cuda.shared.array(0, kind)
        values, weights, pulls = work[0], work[1], work[2]
        lengths = work[3:]
        me, wide = cuda.threadIdx.x, cuda.blockDim.x
        r, g = item // groups, item % groups
        run = runs[r]
        phase = run.phase
        n, dp, d = x.shape[1], x.shape[2], p.dimension
        part = parts[item]
        if me == 0:
            part.lowest = np.inf
            part.weight = 0.0
            part.best = np.inf
            part.squares = 0.0
            part.moved = 0
            part.evaluations = 0
            part.nonfinite = 0
            places[item] = -1
        for j in range(me, dp, wide):
            moments[item, j] = 0.0
        for e in range(me, dp * dp if affine else 0, wide):
            seconds[item, e // dp, e % dp] = 0.0
        cuda.syncthreads()
        if phase == st.DONE or phase == st.MEASURE:
            return
        stream = np.uint64(first_run + r)
        count = (n + rows_of_tile - 1) // rows_of_tile
        squares = 0.0
        lowest, weight, best, place = np.inf, 0.0, np.inf, np.int64(-1)
        nonfinite, looked = 0.0, 0
        for t in range(count * g // groups, count * (g + 1) // groups):
            a = t * rows_of_tile
            rows = min(rows_of_tile, n - a)
            # Where the tile is: coordinate j of particle i at i * across + j * down.
            if shared:
                tile, across, down = tile_here, 1, rows_of_tile + 1
            else:
                tile, across, down = flat[(r * n + a) * dp : (r * n + a + rows) * dp], dp, 1
            cuda.syncthreads()
            if phase == st.SCATTER:
                draw(p, run, box, seed, stream, first, x, y, r, a, rows, d, dp, tile, across, down)
            elif phase == st.MOVE:
                squares += move(
                    p, run, box, seed, stream, first, x, y, energy, c, factor, r, a, rows, d, dp,
                    tile, across, down, lengths, pulls, others, others_energy,
                )  # fmt: skip
            elif shared:
                for q in range(me, rows * dp, wide):
                    i, j = q // dp, q % dp
                    tile[i * across + j * down] = x[r, a + i, j]
            cuda.syncthreads()
            if phase != st.WEIGH:
                for i in range(me, rows, wide):
                    at = i * across
                    value = float(
                        value_of(tile[at : at + d * down : down], shift, rotation, anchor,
                                 points[cuda.blockIdx.x, i])
                    )  # fmt: skip
                    if not abs(value) < np.inf:
                        value = np.inf
                        nonfinite += 1.0
                    energy[r, a + i] = value
                    if value < best:  # of a thread, in order: the first
                        best, place = value, np.int64(a + i)
                    if memory and not value >= y_energy[r, a + i]:
                        y_energy[r, a + i] = value
                        for j in range(dp):
                            y[r, a + i, j] = tile[at + j * down]
                looked += rows
            cuda.syncthreads()
            mine = np.inf
            for i in range(me, rows, wide):
                values[i] = y_energy[r, a + i] if memory else energy[r, a + i]
                mine = min(mine, values[i])
            low = block_least(mine, scratch)
            if low == np.inf:
                continue
            shrink = 1.0
            if low < lowest:
                if weight > 0.0:
                    shrink = math.exp(-run.alpha * (lowest - low))
                lowest = low
            total = 0.0
            for i in range(me, rows, wide):
                weights[i] = math.exp(-run.alpha * (values[i] - lowest))
                total += weights[i]
            weight = shrink * weight + block_total(total, scratch)
            # Threads share a coordinate where there are more of them than coordinates.
            shares = max(1, wide // d)
            for j0 in range(0, d, wide):
                here = min(wide, d - j0)
                j, share = j0 + me % here, me // here
                moment = 0.0
                for i in range(share, rows if share < shares else 0, shares):
                    v = y[r, a + i, j] if memory else tile[i * across + j * down]
                    moment += weights[i] * float(v)
                cuda.syncthreads()
                scratch[me] = moment
                cuda.syncthreads()
                if me < here:
                    moment = shrink * moments[item, j]
                    for other in range(shares):
                        moment += scratch[other * here + me]
                    moments[item, j] = moment
            for e in range(me, d * d if affine else 0, wide):
                j, k = e // d, e % d
                if k <= j:
                    second = shrink * seconds[item, j, k]
                    for i in range(rows):
                        at = i * across
                        u = weights[i] * (float(tile[at + j * down]) - c[r, j])
                        second += u * (float(tile[at + k * down]) - c[r, k])
                    seconds[item, j, k] = second
        squares = block_total(squares, scratch)
        nonfinite = block_total(nonfinite, scratch)
        best, place = block_lowest(best, place, scratch, numbers)
        if me == 0:
            part.lowest = lowest
            part.weight = weight
            part.best = best
            part.evaluations = looked
            part.nonfinite = int(nonfinite)
            places[item] = place
            if phase == st.MOVE and run.step % SPREAD_EVERY == 0:
                part.squares = squares
                part.moved = 1

    @cuda.jit(device=True)
    def add_up(task, tasks, d, groups, runs, parts, moments, seconds, moment, second, scratch):
        """A number of a run's moments, from those of its many groups."""
        me, wide = cuda.threadIdx.x, cuda.blockDim.x
        r, e = task // tasks, task % tasks
        j, k = (e - d) // d, (e - d) % d
        run = runs[r]
        if run.phase == st.DONE or run.phase == st.MEASURE or (e >= d and k > j):
            return
        mine = np.inf
        for g in range(me, groups, wide):
            mine = min(mine, parts[r * groups + g].lowest)
        lowest = block_least(mine, scratch)
        total = 0.0
        for g in range(me, groups, wide):
            part = parts[r * groups + g]
            if part.lowest < np.inf:
                value = moments[r * groups + g, e] if e < d else seconds[r * groups + g, j, k]
                total += math.exp(-run.alpha * (part.lowest - lowest)) * value
        total = block_total(total, scratch)
        if me == 0:
            if e < d:
                moment[r, e] = total
            else:
                second[r, j, k] = total

    @cuda.jit(device=True)
    def close(
        r, groups, doing, plan, head, moment, second, runs, x, energy, y_energy, c, covariance,
        factor, found, best_x, parts, places, moments, seconds, trace, used, shift, rotation,
        anchor, points, work, scratch, numbers,
    ):  # fmt: skip
        """Add up the groups' sums of a run, but for moments of many; and close its superstep."""
        scales = work[0]
        me, wide = cuda.threadIdx.x, cuda.blockDim.x
        run, p = runs[r], plan.params[0]
        n, d = x.shape[1], p.dimension
        phase = run.phase
        if phase == st.DONE:
            return
        lowest, best, at = np.inf, np.inf, np.int64(groups)
        for g in range(me, groups, wide):
            lowest = min(lowest, parts[r * groups + g].lowest)
            if parts[r * groups + g].best < best:
                best, at = parts[r * groups + g].best, np.int64(g)
        lowest, _ = block_lowest(lowest, np.int64(0), scratch, numbers)
        best, at = block_lowest(best, at, scratch, numbers)
        weight, squares, moved, evaluations, nonfinite = 0.0, 0.0, 0.0, 0.0, 0.0
        for g in range(me, groups, wide):
            part = parts[r * groups + g]
            scale = 0.0
            if part.lowest < np.inf:
                scale = math.exp(-run.alpha * (part.lowest - lowest))
                weight += scale * part.weight
            if groups <= _MANY:
                scales[g] = scale
            squares += part.squares
            moved += float(part.moved)
            evaluations += float(part.evaluations)
            nonfinite += float(part.nonfinite)
        weight = block_total(weight, scratch)
        squares = block_total(squares, scratch)
        moved = block_total(moved, scratch)
        evaluations = block_total(evaluations, scratch)
        nonfinite = block_total(nonfinite, scratch)
        few = groups <= _MANY
        for j in range(me, d if few else 0, wide):
            total = 0.0
            for g in range(groups):
                if scales[g] > 0.0:
                    total += scales[g] * moments[r * groups + g, j]
            moment[r, j] = total
        for e in range(me, d * d if affine and few else 0, wide):
            j, k = e // d, e % d
            if k <= j:
                total = 0.0
                for g in range(groups):
                    if scales[g] > 0.0:
                        total += scales[g] * seconds[r * groups + g, j, k]
                second[r, j, k] = total
        place = places[r * groups + at] if at < groups else np.int64(-1)
        consulted = gated and phase == st.MOVE
        better = consulted and run.at_consensus <= best and run.at_consensus < run.best
        for j in range(me, d, wide):
            if better:
                found[r, j] = c[r, j]
            elif place >= 0:
                found[r, j] = float(x[r, place, j])
        cuda.syncthreads()
        if me == 0:
            if phase == st.MEASURE:
                run.at_consensus = float(
                    value_of(c[r, :d], shift, rotation, anchor, points[cuda.blockIdx.x, 0])
                )
                evaluations = 1.0
            if consulted:
                evaluations += 1.0
                if better:
                    best = run.at_consensus
                if not run.at_consensus < np.inf:
                    nonfinite += 1.0
            sums = head[r]
            sums.lowest = lowest
            sums.weight = weight
            sums.best = min(best, run.best)
            sums.squares = squares
            sums.moved = n * d if moved > 0.0 else 0
            sums.evaluations = int(evaluations)
            sums.nonfinite = int(nonfinite)
        one = st.Sums(head[r : r + 1], moment[r : r + 1], second[r : r + 1], found[r : r + 1])
        if together and doing > 0:
            cuda.syncthreads()
            energies = y_energy[r] if memory else energy[r]
            advance_together(
                p, run, one, energies, c[r], covariance[r], factor[r], best_x[r], scratch, numbers
            )
        if me == 0 and doing > 0:
            if not together:
                _advance(plan, run, one, c[r, :0], c[r], covariance[r], factor[r], best_x[r])
            if gated and run.phase == st.MOVE:
                value = float(
                    value_of(c[r, :d], shift, rotation, anchor, points[cuda.blockIdx.x, 0])
                )
                run.at_consensus = value if abs(value) < np.inf else np.inf
            used[r] = _record(p.stride, run, trace[r], used[r])
        cuda.syncthreads()

    @cuda.jit
    def supersteps(
        steps, doing, groups, rows_of_tile, params, box, seed, first_run, first, runs, flat,
        x, energy, y, y_energy, c, covariance, factor, best_x, head, moment, second, found, parts,
        places, moments, seconds, others, others_energy, trace, used, shift, rotation, anchor,
        points,
    ):  # fmt: skip
        grid = cuda.cg.this_grid()
        plan = st.Plan(params, box[0], box[1], box[2], box[3], box[4])
        work = cuda.shared.array((5, _ROWS), float64)
        scratch = cuda.shared.array(THREADS, float64)
        numbers = cuda.shared.array(THREADS, int64)
        d = params[0].dimension
        tasks = d + d * d if affine else d
        for _ in range(steps):
            if polarized:
                share(x, energy, others, others_energy)
                grid.sync()
            for item in range(cuda.blockIdx.x, len(runs) * groups, cuda.gridDim.x):
                group(
                    item, groups, rows_of_tile, params[0], box, seed, first_run, first,
                    runs, flat, x, energy, y, y_energy, c, factor, parts, places, moments,
                    seconds, others, others_energy, shift, rotation, anchor, points, work, scratch,
                    numbers,
                )  # fmt: skip
            grid.sync()
            if groups > _MANY:
                for task in range(cuda.blockIdx.x, len(runs) * tasks, cuda.gridDim.x):
                    add_up(
                        task, tasks, d, groups, runs, parts, moments, seconds, moment, second,
                        scratch,
                    )  # fmt: skip
                grid.sync()
            for r in range(cuda.blockIdx.x, len(runs), cuda.gridDim.x):
                close(
                    r, groups, doing, plan, head, moment, second, runs, x, energy, y_energy, c,
                    covariance, factor, found, best_x, parts, places, moments, seconds, trace, used,
                    shift, rotation, anchor, points, work, scratch, numbers,
                )  # fmt: skip
            grid.sync()

    return supersteps


def blocks_of(kernel: Any, items: int, bytes_shared: int) -> int:
    """Blocks to launch: no more than can be there at once."""
    if SIMULATED:
        return 1
    (compiled,) = kernel.overloads.values()
    most = compiled.max_cooperative_grid_blocks(THREADS, bytes_shared)
    return int(min(items, most, 8 * multiprocessors()))
