"""What a block of threads does with a group of tiles: move them, evaluate them, sum them up."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import float32, float64

from zoo.cbo import dynamics as dy
from zoo.cbo import state as st
from zoo.cbo.device import batches as turns
from zoo.cbo.device.move import draw_of, move_of
from zoo.cbo.device.resident import Tile
from zoo.cbo.device.shape import Shape
from zoo.cbo.kernels import SPREAD_EVERY
from zoo.cuda import SIMULATED, block_least, block_lowest, block_total, cuda


def group_of(shape: Shape, value: Any) -> Any:
    """Device function that takes a group of tiles through a superstep.

    With batches, those who are moved and those who are evaluated are others: part 0 of a step
    moves, and part 1, when all have been moved, evaluates. Otherwise the one part does both.
    """
    # In the simulator constants beside single precision would be rounded to it; and polarized
    # dynamics add up all particles in a tile.
    double = shape.real == "float64" or shape.polarized or SIMULATED
    kind = float64 if double else float32
    draw, move = draw_of(shape), move_of(shape)
    shared, memory, batches = shape.shared, shape.memory, shape.batches
    affine = shape.noise == dy.COVARIANCE

    @cuda.jit(device=True)
    def weighed(i, j, weights, across, y, members, tile):
        """Coordinate j of the i-th of a tile, times its weight."""
        if memory:
            m = np.uint64(tile.a) + i
            if batches:
                m = np.uint64(members[m])
            return weights[i] * float(y[np.uint64(tile.r), m, j])
        return weights[i] * float(tile.x[j + i * across])

    @cuda.jit(device=True)
    def group(
        item, part_of_step, seed, first_run, plan, fours, pop, center, groups, target, offset, room
    ):
        shared_x = cuda.shared.array(0, kind)
        values, weights, scratch = room.work[0], room.work[1], room.scratch
        moments, seconds = groups.moments, groups.seconds
        x, energy, y, y_energy = pop.x, pop.energy, pop.y, pop.y_energy
        me, wide = cuda.threadIdx.x, cuda.blockDim.x
        r, g = item // groups.count, item % groups.count
        run, p, c = pop.runs[r], plan.params[0], center.c[r]
        phase = run.phase
        dp, d = x.shape[2], p.dimension
        moving, looking = not batches or part_of_step == 0, not batches or part_of_step == 1
        part = groups.parts[item]
        if moving and me == 0:
            part.squares = 0.0
            part.moved = 0
        if looking:
            if me == 0:
                part.lowest = np.inf
                part.weight = 0.0
                part.best = np.inf
                part.evaluations = 0
                part.nonfinite = 0
                groups.places[item] = -1
            for j in range(me, dp, wide):
                moments[item, j] = 0.0
            for e in range(me, dp * dp if affine else 0, wide):
                seconds[item, e // dp, e % dp] = 0.0
        cuda.syncthreads()
        if phase == st.DONE or phase == st.MEASURE:
            return
        start, stop, slot = 0, x.shape[1], 0
        if batches and looking:
            start, stop, slot = turns.turn(p, x.shape[1], run.step + 1 if phase == st.MOVE else 0)
        elif batches and phase == st.MOVE and p.move_all == 0:
            start, stop, slot = turns.turn(p, x.shape[1], run.step)
        members = pop.order[r, slot]  # of those whose turn it is, or of all, in their order
        stream = np.uint64(first_run + r)
        count = (stop - start + groups.rows - 1) // groups.rows
        squares = 0.0
        lowest, weight, best, found = np.inf, 0.0, np.inf, np.int64(-1)
        nonfinite, looked = 0.0, 0
        for t in range(count * g // groups.count, count * (g + 1) // groups.count):
            a = start + t * groups.rows
            rows = min(groups.rows, stop - a)
            if shared:
                tile_x, across = shared_x, dp + 1  # threads that have a particle read other banks
            else:
                at = (r * x.shape[1] + a) * dp
                tile_x, across = fours.x[at : at + rows * dp], dp
            tile = Tile(r, a, rows, tile_x, across)
            cuda.syncthreads()
            if moving and phase == st.SCATTER:
                draw(plan, run, seed, stream, pop, tile)
            elif moving and phase == st.MOVE:
                squares += move(
                    plan, run, seed, stream, fours, pop, members, center, tile, room, offset
                )
            elif looking and shared:
                for q in range(me, rows * dp, wide):
                    i, j = q // dp, q % dp
                    m = members[a + i] if batches else a + i
                    tile_x[i * across + j] = x[r, m, j]
            cuda.syncthreads()
            if not looking:
                continue
            if phase != st.WEIGH:
                for i in range(me, rows, wide):
                    m = members[a + i] if batches else a + i
                    at = i * across
                    fx = float(value(tile_x[at : at + d], target, i))
                    if not abs(fx) < np.inf:
                        fx = np.inf
                        nonfinite += 1.0
                    energy[r, m] = fx
                    if fx < best:  # of a thread, in order: the first
                        best, found = fx, np.int64(a + i)
                    if memory and not fx >= y_energy[r, m]:
                        y_energy[r, m] = fx
                        for j in range(dp):
                            y[r, m, j] = tile_x[at + j]
                looked += rows
            cuda.syncthreads()
            mine = np.inf
            for i in range(me, rows, wide):
                m = members[a + i] if batches else a + i
                values[i] = y_energy[r, m] if memory else energy[r, m]
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
                # Unsigned indices are not looked at for being counted from the end.
                i, by = np.uint64(share), np.uint64(shares)
                most = np.uint64(rows if share < shares else 0)
                of = np.uint64(j), weights, np.uint64(across), y, members, tile
                by2, by3 = by + by, by + by + by
                while i + by3 < most:  # several at once: each takes a while to come
                    two = weighed(i, *of) + weighed(i + by, *of)
                    moment += two + (weighed(i + by2, *of) + weighed(i + by3, *of))
                    i += by2 + by2
                while i < most:
                    moment += weighed(i, *of)
                    i += by
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
                        u = weights[i] * (float(tile_x[at + j]) - c[j])
                        second += u * (float(tile_x[at + k]) - c[k])
                    seconds[item, j, k] = second
        if moving:
            squares = block_total(squares, scratch)
            if me == 0 and phase == st.MOVE and run.step % SPREAD_EVERY == 0:
                part.squares = squares
                part.moved = 1
        if looking:
            nonfinite = block_total(nonfinite, scratch)
            best, found = block_lowest(best, found, scratch, room.numbers)
            if me == 0:
                part.lowest = lowest
                part.weight = weight
                part.best = best
                part.evaluations = looked
                part.nonfinite = int(nonfinite)
                if batches and found >= 0:
                    found = np.int64(members[found])
                groups.places[item] = found

    return group
