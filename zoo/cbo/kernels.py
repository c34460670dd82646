"""The superstep of a population, as one compiled loop over tiles of particles.

A superstep moves particles about the consensus of the last one, evaluates them, and adds them to
the sums of the next consensus. With a compiled objective all three are done to one tile after
another, while it is in the cache, for as many supersteps as are asked for; for an objective that
lives outside, the same loop does the moves alone and then the sums alone. The bits are the same.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from zoo import streams
from zoo.cbo import dynamics as dy
from zoo.cbo import state as st
from zoo.cbo.advance import advance, record
from zoo.cbo.consensus import accumulate, clear
from zoo.evaluate import evaluate
from zoo.jit import borrowed, inlined, kernel
from zoo.vmath import folded_sum

# What a call of the loop does in each superstep.
MOVING, EVALUATING, OBSERVING, ADVANCING = 1, 2, 4, 8

#: Steps between two measurements of the spread.
SPREAD_EVERY = 8


class Work(NamedTuple):
    """Room for one tile of T particles; arrays are flat (T * dp,) unless said otherwise."""

    xi: Any  # random numbers; a little longer
    new: Any  # positions after the move
    old: Any  # gathered positions before it
    mine: Any  # gathered personal bests
    c: Any  # consensus, repeated
    drift: Any  # share of the way to it
    squares: Any  # of x - c
    lower: Any  # bounds, repeated
    upper: Any
    x: Any  # (T, dp) gathered positions that carry the consensus
    energy: Any  # (T,) theirs
    weight: Any  # (T,)
    z: Any  # (d,) a transformed point
    distance: Any  # (N,) for polarized dynamics
    lane_row: Any  # from streams.lanes
    lane_block: Any
    member_row: Any  # lane_row of a gathered tile


class Run(NamedTuple):
    """One run's views of Population, Center and Sums."""

    x: Any  # (n, dp)
    flat: Any  # (n * dp,) the same
    energy: Any  # (n,)
    y: Any  # (n, dp) or (0, dp)
    y_energy: Any
    carriers: Any  # positions that carry the consensus: y with memory, else x
    carried: Any  # their energies
    order: Any  # (1 or 3, n)
    epochs: Any  # (2,)
    c: Any  # (dp,)
    factor: Any  # (dp, dp) or (0, 0)
    points: Any  # (dp, N) or (dp, 0)
    energies: Any  # (N,) or (0,)
    first_moment: Any  # (dp,)
    second_moment: Any  # (dp, dp) or (0, 0)
    found: Any  # (dp,) best particle of this superstep


@kernel
def batch_at(batch, n, step):
    """Number of the permutation that a step's batch is a slice of, and where the slice starts.

    A permutation of the particles is drawn anew when used up (Carrillo, Jin, Li, Zhu 2021): batches
    are a function of the step alone.
    """
    a_pass = n // batch
    return step // a_pass, step % a_pass * batch


@kernel
def turn(params, seed, stream, first, step, order, epochs):
    """Whose turn it is in a step: a row of ``order``, and its range."""
    n = order.shape[1]
    if params.batch == 0:
        return 0, 0, n
    epoch, start = batch_at(params.batch, n, step)
    slot = epoch % 2
    if epochs[slot] != epoch:
        streams.permutation(seed, stream, np.uint64(epoch), streams.BATCH, first, order[1 + slot])
        epochs[slot] = epoch
    return 1 + slot, start, start + params.batch


@kernel
def evaluated_next(params, seed, stream, first, run, order, epochs):
    """Whose turn it is to be evaluated in the superstep that ``run`` stands before."""
    step = run.step + 1 if run.phase == st.MOVE else 0
    return turn(params, seed, stream, first, step, order, epochs)


@kernel
def to_evaluate(plan, seed, first_run, pop, r):
    """Particles of run ``r`` here that the superstep after a move evaluates."""
    stream = np.uint64(first_run + r)
    order = pop.order[r]
    slot, start, stop = evaluated_next(
        plan.params[0], seed, stream, pop.first, pop.runs[r], order, pop.epochs[r]
    )
    return order[slot, start:stop]


@kernel
def share_points(x, energy, points, energies):
    """Lay out a whole population for polarized dynamics."""
    n, dp = x.shape
    lowest = np.min(energy)
    for i in range(n):
        energies[i] = energy[i] - lowest
        for j in range(dp):
            points[j, i] = x[i, j]


@kernel
def _new_work(plan, tile, shared):
    dp = len(plan.lower)
    d = plan.params[0].dimension
    size = tile * dp
    row, block = streams.lanes(tile, d)
    lower, upper = np.empty(size), np.empty(size)
    _repeat(plan.lower, lower)
    _repeat(plan.upper, upper)
    return Work(
        np.empty(4 * len(row)),
        np.empty(size),
        np.empty(size),
        np.empty(size),
        np.empty(size),
        np.zeros(size),
        np.empty(size),
        lower,
        upper,
        np.empty((tile, dp)),
        np.empty(tile),
        np.empty(tile),
        np.empty(d),
        np.empty(shared),
        row,
        block,
        np.zeros_like(row),
    )


@inlined
def _borrowed_work(work):
    return Work(
        borrowed(work.xi),
        borrowed(work.new),
        borrowed(work.old),
        borrowed(work.mine),
        borrowed(work.c),
        borrowed(work.drift),
        borrowed(work.squares),
        borrowed(work.lower),
        borrowed(work.upper),
        borrowed(work.x),
        borrowed(work.energy),
        borrowed(work.weight),
        borrowed(work.z),
        borrowed(work.distance),
        borrowed(work.lane_row),
        borrowed(work.lane_block),
        borrowed(work.member_row),
    )


@inlined
def _run_of(params, pop, center, sums, r):
    x, energy = borrowed(pop.x)[r], borrowed(pop.energy)[r]
    y, y_energy = borrowed(pop.y)[r], borrowed(pop.y_energy)[r]
    carriers, carried = (y, y_energy) if params.memory else (x, energy)
    return Run(
        x,
        x.reshape(-1),
        energy,
        y,
        y_energy,
        carriers,
        carried,
        borrowed(pop.order)[r],
        borrowed(pop.epochs)[r],
        borrowed(center.c)[r],
        borrowed(center.factor)[r],
        borrowed(center.points)[r],
        borrowed(center.energies)[r],
        borrowed(sums.first_moment)[r],
        borrowed(sums.second_moment)[r],
        borrowed(sums.best_x)[r],
    )


@kernel
def _repeat(row, out):
    """Fill ``out`` with copies of a row, by doubling: long copies, which vectorize."""
    known = len(row)
    for f in range(known):
        out[f] = row[f]
    while known < len(out):
        more = min(known, len(out) - known)
        source, target = out[:more], out[known : known + more]
        for f in range(more):
            target[f] = source[f]
        known += more


@kernel
def _gather(order, x, out, dp):
    """Rows ``order`` of x, one after the other."""
    for i in range(len(order)):
        for j in range(dp):
            out[i * dp + j] = x[order[i], j]


@inlined
def _noise(seed, stream, iteration, purpose, first, blocks, rows, work, d, dp):
    """Normals of a tile, zero in the padding."""
    streams.normals(seed, stream, iteration, purpose, first, blocks, rows, work.lane_block, work.xi)
    for i in range(4 * blocks // dp if d < dp else 0):
        for j in range(d, dp):
            work.xi[i * dp + j] = 0.0


@inlined
def _scatter_tile(plan, seed, stream, first, state, run, work, a, rows):
    """Draw the first positions of particles a .. a + rows - 1: uniform in a box, or normal."""
    p = plan.params[0]
    dp = len(plan.lower)
    iteration = np.uint64(state.step)
    blocks = rows * dp // 4
    draw = (seed, stream, iteration, streams.INITIAL, first + a, blocks)
    if p.init_normal:
        streams.normals(*draw, work.lane_row, work.lane_block, work.xi)
    else:
        streams.uniforms(*draw, work.lane_row, work.lane_block, work.xi)
    for i in range(rows):
        for j in range(dp):
            spread = 0.0 if p.guess and first + a + i == 0 else plan.extent[j]
            v = plan.origin[j] + spread * work.xi[i * dp + j]
            if p.boundary != dy.UNBOUNDED:
                v = min(max(v, plan.lower[j]), plan.upper[j])
            run.x[a + i, j] = v
            if p.memory:
                run.y[a + i, j] = v
        run.energy[a + i] = np.inf
        if p.memory:
            run.y_energy[a + i] = np.inf


@inlined
def _move_tile(plan, seed, stream, first, state, run, work, slot, a, rows, gathered, measuring):
    """Move the particles order[slot, a : a + rows]."""
    p = plan.params[0]
    d, dp = p.dimension, len(plan.lower)
    width, blocks = rows * dp, rows * dp // 4
    members = run.order[slot, a : a + rows]
    iteration = np.uint64(state.step + 1)
    xi, new, c = work.xi, work.new[:width], work.c
    if gathered:
        numbers, start = work.member_row, first
        for q in range(blocks):
            numbers[q] = members[q // (dp // 4)]
        _gather(members, run.x, work.old, dp)
        x = work.old[:width]
    else:
        numbers, start = work.lane_row, first + a
        x = run.flat[a * dp : a * dp + width]
    _noise(seed, stream, iteration, streams.NOISE, start, blocks, numbers, work, d, dp)
    _drift_and_noise(p, state, run, work, x, members, new, dp)
    if p.memory:
        _noise(seed, stream, iteration, streams.MEMORY_NOISE, start, blocks, numbers, work, d, dp)
        _gather(members, run.y, work.mine, dp)
        pull, noise = p.lam_memory * state.dt, p.sigma_memory * math.sqrt(state.dt)
        dy.remember(x, work.mine, pull, noise, p.noise, xi, new, dp)
    if state.kick:
        _noise(seed, stream, iteration, streams.KICK, start, blocks, numbers, work, d, dp)
        scale = p.kick_sigma * math.sqrt(state.dt)
        for i in range(rows):
            for j in range(dp):
                new[i * dp + j] += scale * plan.width[j] * xi[i * dp + j]
    if measuring:
        dy.add_squares(new if p.dynamics == dy.HOPPING else x, c, work.squares)
    if not gathered:
        dy.confine(p.boundary, work.lower, work.upper, c, new, x)
        return
    dy.confine(p.boundary, work.lower, work.upper, c, new, new)
    for i in range(rows):
        for j in range(dp):
            run.x[members[i], j] = new[i * dp + j]


@kernel
def _pull(p, state):
    """Share of the way to the consensus that one step drifts."""
    if p.noise == dy.COVARIANCE:  # the exact Ornstein-Uhlenbeck step, stable for any dt
        return -math.expm1(-p.lam * state.dt)
    return p.lam * state.dt


@inlined
def _drift_and_noise(p, state, run, work, x, members, new, dp):
    """New positions of one tile by the dynamics chosen."""
    c, drift, xi = work.c, work.drift, work.xi
    if p.dynamics == dy.POLARIZED:
        rows = len(members)
        dy.polarized_consensus(
            state.alpha,
            (state.alpha if p.kernel_scaled else 1.0) / (2.0 * p.kappa * p.kappa),
            x.reshape(rows, dp),
            run.points,
            run.energies,
            work.distance,
            c[: rows * dp].reshape(rows, dp),
        )
    noise = state.sigma * math.sqrt(state.dt)
    if p.noise == dy.COVARIANCE:
        noise = state.sigma * math.sqrt(-math.expm1(-2.0 * p.lam * state.dt))
    if p.gate != dy.UNGATED:
        pull = _pull(p, state)
        for i in range(len(members)):
            gate = dy.drift_gate(p.gate, p.gate_eps, run.energy[members[i]], state.at_consensus)
            for j in range(dp):
                drift[i * dp + j] = gate * pull
    if p.dynamics == dy.HOPPING:
        dy.hopping(x, c, state.sigma, xi, new)
    elif p.noise == dy.ANISOTROPIC:
        dy.anisotropic(x, c, drift, noise, p.truncation, xi, new)
    elif p.noise == dy.ISOTROPIC:
        dy.isotropic(x, c, drift, noise, p.truncation, xi, new, dp)
    else:
        dy.covariance(x, c, drift, noise, run.factor, xi, new, p.dimension)


@inlined
def _evaluate_tile(target, run, work, slot, a, rows, gathered, d, dp):
    """Evaluate the particles order[slot, a : a + rows]."""
    if not gathered:
        evaluate(target, run.flat, a, d, dp, rows, run.energy, a, work.z)
        return
    for m in run.order[slot, a : a + rows]:
        evaluate(target, run.flat, m, d, dp, 1, run.energy, m, work.z)


@inlined
def _observe_tile(p, state, head, run, work, slot, a, rows, gathered):
    """Take note of energies: worst values, best particle, personal bests, consensus sums."""
    if state.phase != st.WEIGH:
        for i in range(a, a + rows):
            m = run.order[slot, i]
            value = run.energy[m]
            if not abs(value) < np.inf:
                run.energy[m] = np.inf
                head.nonfinite += 1
            elif value < head.best:
                head.best = value
                run.found[:] = run.x[m]
            if p.memory and not run.energy[m] >= run.y_energy[m]:
                run.y_energy[m] = run.energy[m]
                run.y[m] = run.x[m]
        head.evaluations += rows
    x, energy, start = run.carriers, run.carried, a
    if gathered:
        x, energy, start = work.x, work.energy, 0
        for i in range(rows):
            m = run.order[slot, a + i]
            energy[i] = run.carried[m]
            for j in range(x.shape[1]):
                x[i, j] = run.carriers[m, j]
    accumulate(
        state.alpha,
        x,
        energy,
        start,
        rows,
        work.weight,
        run.c,
        head,
        run.first_moment,
        run.second_moment,
    )


@kernel
def _observe_consensus(state, head, run):
    """Take note of the gate's evaluation of the consensus point."""
    if not abs(state.at_consensus) < np.inf:
        state.at_consensus = np.inf
        head.nonfinite += 1
    elif state.at_consensus < head.best:
        head.best = state.at_consensus
        run.found[:] = run.c


@inlined
def _begin_move(p, state, run, work, measuring):
    """Lay out what a move needs over a tile."""
    if measuring:
        for f in range(len(work.squares)):
            work.squares[f] = 0.0
    if work.drift[0] != _pull(p, state):
        work.drift[:] = _pull(p, state)
    if p.dynamics != dy.POLARIZED:
        _repeat(run.c, work.c)
    elif state.phase == st.MOVE and len(run.energies) == len(run.x):
        share_points(run.x, run.energy, run.points, run.energies)


@kernel
def supersteps(target, plan, seed, first_run, pop, center, sums, trace, steps, doing):
    """Take the runs that live here through up to ``steps`` supersteps.

    Parameters
    ----------
    target : zoo.evaluate.Target
        Used where ``doing`` has EVALUATING.
    plan, pop, center, sums, trace
        See zoo.cbo.state; everything but the plan is changed in place.
    seed : uint64
    first_run : int
        Number of the first run here; a run's number is the stream of its random numbers.
    steps : int
    doing : int
        MOVING, EVALUATING, OBSERVING: the parts of the superstep to do. ADVANCING: close it, for
        populations that are whole here.
    """
    p = plan.params[0]
    runs_here, n, dp = pop.x.shape
    d = p.dimension
    tile = min(p.tile, n)
    owned = _new_work(plan, tile, center.energies.shape[1])
    work = _borrowed_work(owned)
    no_energies = np.empty(0)
    for r in range(runs_here):
        state = pop.runs[r]
        stream = np.uint64(first_run + r)
        run = _run_of(p, pop, center, sums, r)
        head, covariance, best_x = sums.head[r], center.covariance[r], pop.best_x[r]
        rows_traced = trace.rows[r]
        one = st.Sums(
            sums.head[r : r + 1],
            sums.first_moment[r : r + 1],
            sums.second_moment[r : r + 1],
            sums.best_x[r : r + 1],
        )
        for _ in range(steps):
            phase = state.phase
            if phase == st.DONE:
                break
            weighing = phase != st.MEASURE
            moving = doing & MOVING > 0 and (phase == st.SCATTER or phase == st.MOVE)
            evaluating = doing & EVALUATING > 0 and (phase == st.SCATTER or phase == st.MOVE)
            observing = doing & OBSERVING > 0 and weighing
            measuring = phase == st.MOVE and state.step % SPREAD_EVERY == 0
            if doing & MOVING:
                clear(head, run.first_moment, run.second_moment)
                head.best = state.best
            if phase == st.MEASURE or (phase == st.MOVE and p.gate != dy.UNGATED):
                if doing & EVALUATING:
                    evaluate(target, run.c, 0, d, dp, 1, work.weight, 0, work.z)
                    state.at_consensus = work.weight[0]
                if doing & MOVING:
                    head.evaluations = 1
                    if phase == st.MOVE:
                        _observe_consensus(state, head, run)

            # One pass where those who move are those who are evaluated, tile by tile; with batches
            # one over those who move, and one over those who are evaluated.
            batches = p.batch > 0
            for part in range(2 if batches else 1):
                move = moving and part == 0
                look = (evaluating or observing) and part == (1 if batches else 0)
                if not (move or look):
                    continue
                slot, start, stop = 0, 0, n
                gathered = batches and (look or (phase == st.MOVE and not p.move_all))
                if look and batches:
                    slot, start, stop = evaluated_next(
                        p, seed, stream, pop.first, state, run.order, run.epochs
                    )
                elif gathered:
                    slot, start, stop = turn(
                        p, seed, stream, pop.first, state.step, run.order, run.epochs
                    )
                if move:
                    _begin_move(p, state, run, work, measuring)
                for a in range(start, stop, tile):
                    rows = min(tile, stop - a)
                    if move and phase == st.SCATTER:
                        _scatter_tile(plan, seed, stream, pop.first, state, run, work, a, rows)
                    elif move:
                        _move_tile(
                            plan,
                            seed,
                            stream,
                            pop.first,
                            state,
                            run,
                            work,
                            slot,
                            a,
                            rows,
                            gathered,
                            measuring,
                        )
                    if look and evaluating:
                        _evaluate_tile(target, run, work, slot, a, rows, gathered, d, dp)
                    if look and observing:
                        _observe_tile(p, state, head, run, work, slot, a, rows, gathered)
                if move and measuring:
                    head.squares = folded_sum(work.squares)
                    head.moved = (stop - start) * d

            if doing & ADVANCING:
                energies = no_energies
                if p.ess > 0.0 and weighing:
                    slot, start, stop = evaluated_next(
                        p, seed, stream, pop.first, state, run.order, run.epochs
                    )
                    energies = run.carried[run.order[slot, start:stop]]
                advance(plan, state, one, energies, run.c, covariance, run.factor, best_x)
                trace.used[r] = record(p.stride, state, rows_traced, trace.used[r])
    owned.z[0] = 0.0  # in use until here, for the views of it own nothing
