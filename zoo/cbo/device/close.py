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
def add_up(task, tasks, d, runs, groups, sums, scratch):
    """A number of a run's moments, from those of its many groups."""
    me, wide, count, parts = cuda.threadIdx.x, cuda.blockDim.x, groups.count, groups.parts
    r, e = task // tasks, task % tasks
    j, k = (e - d) // d, (e - d) % d
    run = runs[r]
    if run.phase == st.DONE or run.phase == st.MEASURE or (e >= d and k > j):
        return
    mine = np.inf
    for item in range(r * count + me, (r + 1) * count, wide):
        mine = min(mine, parts[item].lowest)
    lowest = block_least(mine, scratch)
    total = 0.0
    for item in range(r * count + me, (r + 1) * count, wide):
        part = parts[item]
        if part.lowest < np.inf:
            value = groups.moments[item, e] if e < d else groups.seconds[item, j, k]
            total += math.exp(-run.alpha * (part.lowest - lowest)) * value
    total = block_total(total, scratch)
    if me == 0:
        if e < d:
            sums.first_moment[r, e] = total
        else:
            sums.second_moment[r, j, k] = total


def close_of(shape: Shape, value: Any, consult: Any) -> Any:
    """Device function that ends a run's superstep."""
    affine, many = shape.noise == dy.COVARIANCE, shape.many
    ess, memory, batches = shape.ess, shape.memory, shape.batches
    gated = shape.gate != dy.UNGATED
    advance = advance_of(shape)

    @cuda.jit(device=True)
    def close(r, doing, plan, pop, center, groups, sums, deals, target, trace, room):
        """Add up the groups' sums of a run, but for moments of many; and close its superstep.

        With ``doing`` 0 the particles here are a block of a population: the sums are left for the
        driver, which has those of the other blocks, and closes the superstep.
        """
        scales, scratch, numbers = room.work[0], room.scratch, room.numbers
        me, wide = cuda.threadIdx.x, cuda.blockDim.x
        run, p, c = pop.runs[r], plan.params[0], center.c[r]
        n, d = pop.x.shape[1], p.dimension
        begin, count, parts = r * groups.count, groups.count, groups.parts
        phase = run.phase
        if phase == st.DONE:
            return
        lowest, best, at = np.inf, np.inf, np.int64(count)
        for g in range(me, count, wide):
            lowest = min(lowest, parts[begin + g].lowest)
            if parts[begin + g].best < best:
                best, at = parts[begin + g].best, np.int64(g)
        lowest, _ = block_lowest(lowest, np.int64(0), scratch, numbers)
        best, at = block_lowest(best, at, scratch, numbers)
        weight, squares, moved, evaluations, nonfinite = 0.0, 0.0, 0.0, 0.0, 0.0
        for g in range(me, count, wide):
            part = parts[begin + g]
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
            for g in range(count):
                if scales[g] > 0.0:
                    total += scales[g] * groups.moments[begin + g, j]
            sums.first_moment[r, j] = total
        for e in range(me, d * d if affine and not many else 0, wide):
            j, k = e // d, e % d
            if k <= j:
                total = 0.0
                for g in range(count):
                    if scales[g] > 0.0:
                        total += scales[g] * groups.seconds[begin + g, j, k]
                sums.second_moment[r, j, k] = total
        found = groups.places[begin + at] if at < count else np.int64(-1)
        consulted = gated and phase == st.MOVE
        better = consulted and run.at_consensus <= best and run.at_consensus < run.best
        for j in range(me, d, wide):
            if better:
                sums.best_x[r, j] = c[j]
            elif found >= 0:
                sums.best_x[r, j] = float(pop.x[r, found, j])
        energies = pop.y_energy[r] if memory else pop.energy[r]
        if batches and ess:  # of those alone who were evaluated
            start, stop, slot = turns.turn(p, n, run.step + 1 if phase == st.MOVE else 0)
            for i in range(start + me, stop, wide):
                deals.chosen[r, i - start] = energies[pop.order[r, slot, i]]
            energies = deals.chosen[r]
        cuda.syncthreads()
        if me == 0:
            if phase == st.MEASURE:
                run.at_consensus = float(value(c[:d], target, 0))
                evaluations = 1.0
            if consulted:
                evaluations += 1.0
                if better:
                    best = run.at_consensus
                if not run.at_consensus < np.inf:
                    nonfinite += 1.0
            head = sums.head[r]
            head.lowest = lowest
            head.weight = weight
            head.best = min(best, run.best)
            head.squares = squares
            head.moved = 0
            if moved > 0.0:
                head.moved = (p.batch if batches and p.move_all == 0 else n) * d
            head.evaluations = int(evaluations)
            head.nonfinite = int(nonfinite)
        one = slice(r, r + 1)
        mine = st.Sums(
            sums.head[one], sums.first_moment[one], sums.second_moment[one], sums.best_x[one]
        )
        cuda.syncthreads()
        if doing > 0:
            covariance, factor, best_x = center.covariance[r], center.factor[r], pop.best_x[r]
            advance(p, run, mine, energies, c, covariance, factor, best_x, scratch, numbers)
        if me == 0 and doing > 0:
            if gated and run.phase == st.MOVE:
                consult(p, run, c, target)
            if batches and not turns.ready(p, n, run, pop.epochs[r]):
                deals.news[turns.WANTED] = 1
            trace.used[r] = _record(p.stride, run, trace.rows[r], trace.used[r])
        cuda.syncthreads()

    return close
