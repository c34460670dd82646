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
from numba import float64, int64

from zoo import streams
from zoo.cbo import dynamics as dy
from zoo.cbo import state as st
from zoo.cbo.advance import advance, record
from zoo.cbo.kernels import SPREAD_EVERY
from zoo.cuda import SIMULATED, block_total, cuda, device_function, multiprocessors
from zoo.streams import INITIAL, KICK, MEMORY_NOISE, NOISE

#: Threads of a block.
THREADS = 2 if SIMULATED else 256
#: Particles of a tile, at most, and the shared memory that one may take: a block has 48 KiB without
#: asking, and what is declared below takes 22,528 bytes of them.
_ROWS, _BYTES = 256, 24_576
#: Particles of a tile that does not fit there.
_LONG = 32
#: Groups of tiles of all runs.
_GROUPS = 512

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
        float64 or float32: of positions, and of what moves them. Objectives see float64, but for
        points that are too long for shared memory.
    shared : bool
        Whether a tile is in shared memory.
    noise, boundary, gate : int
        Codes of zoo.cbo.dynamics.
    hopping, memory, kicks : bool
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
    memory: bool
    kicks: bool
    shifted: bool
    rotated: bool
    pure: bool


def tile_of(dp: int) -> tuple[int, int]:
    """Particles of a tile, and its bytes of shared memory: none if it is too large for that."""
    rows = min((_BYTES // (8 * dp) - 1) // 8 * 8, _ROWS)
    return (rows, 8 * dp * (rows + 1)) if rows > 0 else (_LONG, 0)


def groups_of(runs: int, n: int, tile: int) -> int:
    """Groups of tiles of a run."""
    return max(1, min(-(-n // tile), _GROUPS // runs))


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
    shared = shape.shared
    isotropic = shape.noise == dy.ISOTROPIC
    boundary, gate = shape.boundary, shape.gate
    hopping, memory, kicks = shape.hopping, shape.memory, shape.kicks
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
    def lowest_of(value, at, scratch, places):
        """Smallest value over the threads, and the first place that has it."""
        me = cuda.threadIdx.x
        cuda.syncthreads()
        scratch[me], places[me] = value, at
        cuda.syncthreads()
        width = cuda.blockDim.x // 2
        while width > 0:
            if me < width:
                other, there = scratch[me + width], places[me + width]
                if other < scratch[me] or (other == scratch[me] and there < places[me]):
                    scratch[me], places[me] = other, there
            cuda.syncthreads()
            width //= 2
        return scratch[0], places[0]

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
        p, run, box, seed, stream, first, x, y, energy, c, r, a, rows, d, dp, tile, across, down,
        lengths, pulls,
    ):  # fmt: skip
        """Move a tile; the sum of this thread's (x - c)^2."""
        me, blocks = cuda.threadIdx.x, dp // 4
        iteration = np.uint64(run.step + 1)
        root = math.sqrt(run.dt)
        sigma = real(run.sigma) if hopping else real(run.sigma * root)
        truncation = real(p.truncation)
        drift = p.lam * run.dt
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
                        away += (v - c[r, j]) * (v - c[r, j])
                        if memory:
                            mine += (v - y[r, a + i, j]) * (v - y[r, a + i, j])
                    lengths[0, i] = math.sqrt(away)
                    lengths[1, i] = math.sqrt(mine)
            cuda.syncthreads()
        kick = kicks and run.kick > 0
        thrown = real(p.kick_sigma * root)
        back, shaken = real(p.lam_memory * run.dt), real(p.sigma_memory * root)
        squares = 0.0
        for q in range(me, rows * blocks, cuda.blockDim.x):
            i, b = q // blocks, q % blocks
            particle, block = np.uint64(first + a + i), np.uint64(b)
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
                    tile[i * across + j * down] = real(0.0)
                    continue
                v, center = x[r, a + i, j], real(c[r, j])
                away = v - center
                xi = one_of(k, z)
                if hopping:
                    new = center + sigma * xi
                elif isotropic:
                    scale = sigma * min(real(lengths[0, i]), truncation)
                    new = (v - pull * away) + scale * xi
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
                tile[i * across + j * down] = new
                x[r, a + i, j] = new
        return squares

    @cuda.jit(device=True)
    def group(
        item, groups, rows_of_tile, p, box, seed, first_run, first, runs, flat, x, energy,
        y, y_energy, c, parts, places, moments, shift, rotation, anchor, points,
    ):  # fmt: skip
        """A group of tiles: move, evaluate, and sum up."""
        tile_here = cuda.shared.array(0, float64)
        values = cuda.shared.array(_ROWS, float64)
        weights = cuda.shared.array(_ROWS, float64)
        pulls = cuda.shared.array(_ROWS, float64)
        lengths = cuda.shared.array((2, _ROWS), float64)
        scratch = cuda.shared.array(THREADS, float64)
        numbers = cuda.shared.array(THREADS, int64)
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
                    p, run, box, seed, stream, first, x, y, energy, c, r, a, rows, d, dp, tile,
                    across, down, lengths, pulls,
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
            low, _ = lowest_of(mine, np.int64(0), scratch, numbers)
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
            for j in range(me, d, wide):
                moment = shrink * moments[item, j]
                for i in range(rows):
                    v = y[r, a + i, j] if memory else tile[i * across + j * down]
                    moment += weights[i] * float(v)
                moments[item, j] = moment
        squares = block_total(squares, scratch)
        nonfinite = block_total(nonfinite, scratch)
        best, place = lowest_of(best, place, scratch, numbers)
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
    def close(
        r, groups, doing, plan, head, moment, second, runs, x, c, covariance, factor, found, best_x,
        parts, places, moments, trace, used, shift, rotation, anchor, points,
    ):  # fmt: skip
        """Add up the groups' sums of a run, and close its superstep."""
        scratch = cuda.shared.array(THREADS, float64)
        numbers = cuda.shared.array(THREADS, int64)
        scales = cuda.shared.array(_GROUPS, float64)
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
        lowest, _ = lowest_of(lowest, np.int64(0), scratch, numbers)
        best, at = lowest_of(best, at, scratch, numbers)
        weight, squares, moved, evaluations, nonfinite = 0.0, 0.0, 0.0, 0.0, 0.0
        for g in range(me, groups, wide):
            part = parts[r * groups + g]
            scales[g] = 0.0
            if part.lowest < np.inf:
                scales[g] = math.exp(-run.alpha * (part.lowest - lowest))
                weight += scales[g] * part.weight
            squares += part.squares
            moved += float(part.moved)
            evaluations += float(part.evaluations)
            nonfinite += float(part.nonfinite)
        weight = block_total(weight, scratch)
        squares = block_total(squares, scratch)
        moved = block_total(moved, scratch)
        evaluations = block_total(evaluations, scratch)
        nonfinite = block_total(nonfinite, scratch)
        for j in range(me, d, wide):
            total = 0.0
            for g in range(groups):
                if scales[g] > 0.0:
                    total += scales[g] * moments[r * groups + g, j]
            moment[r, j] = total
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
            if doing > 0:
                one = st.Sums(
                    head[r : r + 1], moment[r : r + 1], second[r : r + 1], found[r : r + 1]
                )
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
        places, moments, trace, used, shift, rotation, anchor, points,
    ):  # fmt: skip
        grid = cuda.cg.this_grid()
        plan = st.Plan(params, box[0], box[1], box[2], box[3], box[4])
        for _ in range(steps):
            for item in range(cuda.blockIdx.x, len(runs) * groups, cuda.gridDim.x):
                group(
                    item, groups, rows_of_tile, params[0], box, seed, first_run, first,
                    runs, flat, x, energy, y, y_energy, c, parts, places, moments, shift,
                    rotation, anchor, points,
                )  # fmt: skip
            grid.sync()
            for r in range(cuda.blockIdx.x, len(runs), cuda.gridDim.x):
                close(
                    r, groups, doing, plan, head, moment, second, runs, x, c, covariance, factor,
                    found, best_x, parts, places, moments, trace, used, shift, rotation, anchor,
                    points,
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
