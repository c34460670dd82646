"""The end of a run's superstep: the sums of its groups are added up, and the next one is set."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from zoo.cbo import dynamics as dy
from zoo.cbo import state as st
from zoo.cbo.advance import record
from zoo.cbo.device import batches as turns
from zoo.cbo.device.advance import advance_of
from zoo.cbo.device.shape import Shape
from zoo.cuda import block_least, block_lowest, block_total, cuda, device_function

_record = device_function(record)


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


def close_of(shape: Shape, value: Any, consult: Any) -> Any:
    """Device function that ends a run's superstep."""
    affine, many = shape.noise == dy.COVARIANCE, shape.many
    ess, memory, batches = shape.ess, shape.memory, shape.batches
    gated = shape.gate != dy.UNGATED
    advance = advance_of(shape)

    @cuda.jit(device=True)
    def close(
        r, groups, doing, plan, head, moment, second, runs, x, energy, y_energy, order, epochs,
        news, chosen, c, covariance, factor, found, best_x, parts, places, moments, seconds, trace,
        used, shift, rotation, anchor, points, work, scratch, numbers,
    ):  # fmt: skip
        """Add up the groups' sums of a run, but for moments of many; and close its superstep.

        With ``doing`` 0 the particles here are a block of a population: the sums are left for the
        driver, which has those of the other blocks, and closes the superstep.
        """
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
            if not many:
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
        for j in range(me, 0 if many else d, wide):
            total = 0.0
            for g in range(groups):
                if scales[g] > 0.0:
                    total += scales[g] * moments[r * groups + g, j]
            moment[r, j] = total
        for e in range(me, d * d if affine and not many else 0, wide):
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
        energies = y_energy[r] if memory else energy[r]
        if batches and ess:  # of those alone who were evaluated
            start, stop, slot = turns.turn(p, n, run.step + 1 if phase == st.MOVE else 0)
            for i in range(start + me, stop, wide):
                chosen[r, i - start] = energies[order[r, slot, i]]
            energies = chosen[r]
        cuda.syncthreads()
        if me == 0:
            if phase == st.MEASURE:
                run.at_consensus = float(
                    value(c[r, :d], shift, rotation, anchor, points[cuda.blockIdx.x, :, 0])
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
            sums.moved = 0
            if moved > 0.0:
                sums.moved = (p.batch if batches and p.move_all == 0 else n) * d
            sums.evaluations = int(evaluations)
            sums.nonfinite = int(nonfinite)
        one = st.Sums(head[r : r + 1], moment[r : r + 1], second[r : r + 1], found[r : r + 1])
        cuda.syncthreads()
        if doing > 0:
            advance(
                p, run, one, energies, c[r], covariance[r], factor[r], best_x[r], scratch, numbers
            )
        if me == 0 and doing > 0:
            if gated and run.phase == st.MOVE:
                consult(r, p, run, c, shift, rotation, anchor, points)
            if batches and not turns.ready(p, n, run, epochs[r]):
                news[turns.WANTED] = 1
            used[r] = _record(p.stride, run, trace[r], used[r])
        cuda.syncthreads()

    return close
