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
from zoo.cbo import consensus as cs
from zoo.cbo import dynamics as dy
from zoo.evaluate import evaluate
from zoo.jit import kernel
from zoo.vmath import folded_sum

# The configuration as kernels read it; see zoo.cbo.config for the meanings.
PARAMS = np.dtype(
    [
        ("dimension", np.int64),
        ("particles", np.int64),  # of the whole population
        ("blocks", np.int64),  # that it is cut into
        ("dynamics", np.int64),
        ("noise", np.int64),
        ("lam", np.float64),
        ("alpha", np.float64),
        ("alpha_factor", np.float64),
        ("alpha_max", np.float64),
        ("ess", np.float64),  # 0: alpha follows its factor
        ("sigma", np.float64),
        ("sigma_factor", np.float64),
        ("sigma_min", np.float64),
        ("dt", np.float64),
        ("dt_factor", np.float64),
        ("dt_min", np.float64),
        ("truncation", np.float64),
        ("gate", np.int64),
        ("gate_eps", np.float64),
        ("batch", np.int64),  # of this block; 0: no batches
        ("move_all", np.int64),  # batches choose who is evaluated, and everyone moves
        ("memory", np.int64),
        ("lam_memory", np.float64),
        ("sigma_memory", np.float64),
        ("kick_sigma", np.float64),
        ("kick_spread", np.float64),
        ("kick_patience", np.int64),
        ("about_last", np.int64),  # which consensus the covariance is about
        ("kappa", np.float64),
        ("kernel_scaled", np.int64),
        ("boundary", np.int64),
        ("init_normal", np.int64),
        ("spread_tol", np.float64),
        ("steps", np.int64),
        ("max_evaluations", np.int64),
        ("target", np.float64),
        ("patience", np.int64),
        ("tile", np.int64),  # particles a tile
        ("stride", np.int64),  # steps between two rows of the trace
    ]
)

# What a call of the loop does in each superstep.
MOVING, EVALUATING, OBSERVING, ADVANCING = 1, 2, 4, 8

#: Steps between two measurements of the spread.
SPREAD_EVERY = 8

#: Times that first positions are drawn, at most, for want of a finite value.
SCATTERS = 10

#: Columns of a trace row: step, evaluations, best energy, spread, alpha.
TRACE = 5


class Plan(NamedTuple):
    """What no superstep changes; rows are padded to ``dp`` with zeros."""

    params: Any  # (1,) PARAMS
    lower: Any  # (dp,) bounds
    upper: Any
    origin: Any  # (dp,) of the first positions: lower corner of a box, or mean
    extent: Any  # (dp,) of the first positions: widths of the box, or standard deviations
    width: Any  # (dp,) unit of the kicks


class Population(NamedTuple):
    """The particles that live here: n of each of R runs."""

    first: Any  # number of the first particle in its run
    runs: Any  # (R,) consensus.RUN
    x: Any  # (R, n, dp) positions
    energy: Any  # (R, n) at the last evaluation; inf where it was not finite
    y: Any  # (R, n, dp) personal bests, or (R, 0, dp)
    y_energy: Any  # (R, n) or (R, 0)
    order: Any  # (R, 1, n) particles in order; with batches also the permutations of two epochs
    epochs: Any  # (R, 2) which
    best_x: Any  # (R, dp) best particle so far


class Center(NamedTuple):
    """What the whole of each run shares."""

    c: Any  # (R, dp) consensus
    covariance: Any  # (R, dp, dp) or (R, 0, 0)
    factor: Any  # its transposed Cholesky factor
    points: Any  # (R, dp, N) all particles for polarized dynamics, or (R, dp, 0)
    energies: Any  # (R, N) theirs, from the lowest, or (R, 0)


class Sums(NamedTuple):
    """What a superstep found, of each run here, or of each block of one run."""

    head: Any  # (R,) consensus.SUMS
    first_moment: Any  # (R, dp)
    second_moment: Any  # (R, dp, dp) or (R, 0, 0)
    best_x: Any  # (R, dp) the particles of head.best


class Trace(NamedTuple):
    """The course of each run, at every ``stride`` steps."""

    rows: Any  # (R, T, TRACE)
    used: Any  # (R,) rows in use


@kernel
def turn(params, seed, stream, first, step, order, epochs):
    """Whose turn it is in a step: a row of ``order``, and its range.

    Batches are the slices of a permutation that is drawn anew when used up (Carrillo, Jin, Li, Zhu
    2021): a function of the step alone.
    """
    n = order.shape[1]
    if params.batch == 0:
        return 0, 0, n
    a_pass = n // params.batch
    epoch = step // a_pass
    slot = epoch % 2
    if epochs[slot] != epoch:
        streams.permutation(seed, stream, np.uint64(epoch), streams.BATCH, first, order[1 + slot])
        epochs[slot] = epoch
    start = (step % a_pass) * params.batch
    return 1 + slot, start, start + params.batch


@kernel
def evaluated_next(params, seed, stream, first, run, order, epochs):
    """Whose turn it is to be evaluated in the superstep that ``run`` stands before."""
    step = run.step + 1 if run.phase == cs.MOVE else 0
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
def advance(plan, run, sums, energies, c, covariance, factor, best_x):
    """Close a superstep: merge the blocks' sums, set the schedules, decide whether to go on.

    Parameters
    ----------
    sums : Sums
        Of all blocks, in order.
    energies : (m,) float64
        Of all particles evaluated, where the effective sample size sets alpha.
    c, covariance, factor : arrays
        Receive the consensus, its covariance and the factor of that.
    best_x : (dp,)
        Receives the best particle so far.
    """
    p = plan.params[0]
    squares, moved = 0.0, 0
    for s in range(len(sums.head)):
        head = sums.head[s]
        run.evaluations += head.evaluations
        run.nonfinite += head.nonfinite
        squares += head.squares
        moved += head.moved
        if head.best < run.best:
            run.best = head.best
            best_x[:] = sums.best_x[s]
            run.improved = run.step + (1 if run.phase == cs.MOVE else 0)
    if run.phase == cs.MEASURE:
        if not abs(run.at_consensus) < np.inf:
            run.nonfinite += 1
            run.at_consensus = np.inf
        elif run.at_consensus < run.best:
            run.best = run.at_consensus
            best_x[:] = c
        run.phase = cs.DONE
        return
    if run.best == np.inf:  # nothing finite yet: scatter anew
        run.step += 1
    else:
        cs.merge(
            run.alpha,
            sums.head,
            sums.first_moment,
            sums.second_moment,
            p.about_last > 0 and run.phase == cs.MOVE,
            c,
            covariance,
        )
        if len(covariance) > 0:
            cs.cholesky(covariance, factor)
        if run.phase == cs.MOVE:
            run.step += 1
            if moved > 0:
                run.spread = math.sqrt(squares / moved)
                if run.spread0 == 0.0:
                    run.spread0 = run.spread
            run.alpha = min(run.alpha * p.alpha_factor, p.alpha_max)
            run.sigma = max(run.sigma * p.sigma_factor, p.sigma_min)
            run.dt = max(run.dt * p.dt_factor, p.dt_min)
        if p.ess > 0.0 and run.phase != cs.WEIGH:
            run.alpha = cs.ess_alpha(run.alpha, energies, p.ess, 1e-30, p.alpha_max)
        run.phase = cs.WEIGH if p.ess > 0.0 and run.phase == cs.SCATTER else cs.MOVE
    _stop_or_kick(p, run, moved > 0)


@kernel
def _stop_or_kick(p, run, measured):
    run.kick = 0
    batch = p.batch * p.blocks if p.batch > 0 else p.particles
    cost = batch + (p.blocks if p.gate != dy.UNGATED else 0)
    moving = run.phase == cs.MOVE and run.step > 0
    if run.best <= p.target:
        run.status = cs.TARGET
    elif run.best == np.inf and run.step >= SCATTERS:
        run.status = cs.NEVER_FINITE
    elif run.step >= p.steps:
        run.status = cs.STEPS
    elif run.evaluations + cost + 1 > p.max_evaluations:
        run.status = cs.EVALUATIONS
    elif p.patience > 0 and run.step - run.improved >= p.patience:
        run.status = cs.STAGNATED
    elif moving and p.kick_sigma > 0.0:
        since = run.step - max(run.improved, run.kicked)
        stale = p.kick_patience > 0 and since >= p.kick_patience
        if (measured and run.spread <= p.kick_spread * run.spread0) or stale:
            run.kick = 1
            run.kicked = run.step
            run.kicks += 1
    elif measured and run.spread <= p.spread_tol * run.spread0:
        run.status = cs.CONVERGED
    if run.status != cs.RUNNING:
        run.phase = cs.MEASURE if run.best < np.inf else cs.DONE


@kernel
def record_one(stride, runs, trace):
    """Call :func:`record` for one run; whether it wrote a row."""
    return record(stride, runs[0], trace.rows[0], 0) > 0


@kernel
def close(plan, runs, sums, energies, center, best_x):
    """Call :func:`advance` for the one run whose blocks' sums are given."""
    advance(
        plan,
        runs[0],
        sums,
        energies,
        center.c[0],
        center.covariance[0],
        center.factor[0],
        best_x[0],
    )


@kernel
def record(stride, run, rows, used):
    """Write a run's row of the trace if its step is one to be traced; returns the rows in use."""
    due = run.phase == cs.MOVE and run.step % stride == 0
    if not (due or run.phase == cs.DONE) or used == len(rows):
        return used
    rows[used, 0] = run.step
    rows[used, 1] = run.evaluations
    rows[used, 2] = run.best
    rows[used, 3] = run.spread
    rows[used, 4] = run.alpha
    return used + 1


@kernel
def supersteps(target, plan, seed, first_run, pop, center, sums, trace, steps, doing):
    """Take the runs that live here through up to ``steps`` supersteps.

    Parameters
    ----------
    target : Target
        Used where ``doing`` has EVALUATING.
    first_run : int
        Number of the first run here; a run's number is the stream of its random numbers.
    doing : int
        MOVING, EVALUATING, OBSERVING: the parts of the superstep to do. ADVANCING: close it, for
        populations that are whole here.
    """
    p = plan.params[0]
    runs_here, n, dp = pop.x.shape
    d = p.dimension
    tile = min(p.tile, n)
    size = tile * dp
    lane_row, lane_block = streams.lanes(tile, d)
    member_row = np.zeros_like(lane_row)
    xi = np.empty(4 * len(lane_row))
    new, old, mine, drift = np.empty(size), np.empty(size), np.empty(size), np.zeros(size)
    cc, squares, lower, upper = np.empty(size), np.empty(size), np.empty(size), np.empty(size)
    _repeat(plan.lower, lower)
    _repeat(plan.upper, upper)
    weight, z = np.empty(tile), np.empty(d)
    distance = np.empty(center.energies.shape[1])
    gathered_x, gathered_energy = np.empty((tile, dp)), np.empty(tile)
    no_energies = np.empty(0)

    for r in range(runs_here):
        run = pop.runs[r]
        stream = np.uint64(first_run + r)
        x, energy, y, y_energy = pop.x[r], pop.energy[r], pop.y[r], pop.y_energy[r]
        flat = x.reshape(-1)
        order, epochs = pop.order[r], pop.epochs[r]
        c = center.c[r]
        head = sums.head[r]
        first_moment, second_moment = sums.first_moment[r], sums.second_moment[r]
        found, best_x = sums.best_x[r], pop.best_x[r]
        factor, points, shared = center.factor[r], center.points[r], center.energies[r]
        covariance, traced = center.covariance[r], trace.rows[r]
        carriers, carried = (y, y_energy) if p.memory else (x, energy)
        one = Sums(
            sums.head[r : r + 1],
            sums.first_moment[r : r + 1],
            sums.second_moment[r : r + 1],
            sums.best_x[r : r + 1],
        )
        for _ in range(steps):
            if run.phase == cs.DONE:
                break
            moving = doing & MOVING > 0 and (run.phase == cs.MOVE or run.phase == cs.SCATTER)
            evaluating = doing & EVALUATING > 0 and run.phase != cs.WEIGH
            observing = doing & OBSERVING > 0 and run.phase != cs.MEASURE
            measuring = run.phase == cs.MOVE and run.step % SPREAD_EVERY == 0
            if doing & MOVING:
                cs.clear(head, first_moment, second_moment)
                head.best = run.best
            if run.phase == cs.MEASURE or (run.phase == cs.MOVE and p.gate != dy.UNGATED):
                if evaluating:
                    evaluate(target, c, 0, d, dp, 1, weight, 0, z)
                    run.at_consensus = weight[0]
                if doing & MOVING:
                    head.evaluations = 1

            # Two passes, over those who move and over those who are evaluated; one where they are
            # the same and can be done tile by tile.
            fused = p.batch == 0
            for part in range(1 if fused else 2):
                move_now = moving and (fused or part == 0)
                look_now = (evaluating or observing) and run.phase != cs.MEASURE
                look_now = look_now and (fused or part == 1)
                if not (move_now or look_now):
                    continue
                gathered = not fused and (part == 1 or not p.move_all)
                gathered = gathered and not (part == 0 and run.phase == cs.SCATTER)
                slot, start, stop = 0, 0, n
                if gathered and part == 0:
                    slot, start, stop = turn(p, seed, stream, pop.first, run.step, order, epochs)
                elif gathered:
                    slot, start, stop = evaluated_next(
                        p, seed, stream, pop.first, run, order, epochs
                    )
                if move_now:
                    for f in range(size if measuring else 0):
                        squares[f] = 0.0
                    if drift[0] != _pull(p, run):
                        drift[:] = _pull(p, run)
                    if p.dynamics != dy.POLARIZED:
                        _repeat(c, cc)
                    elif run.phase == cs.MOVE and len(shared) == n:
                        share_points(x, energy, points, shared)
                for a in range(start, stop, tile):
                    rows = min(tile, stop - a)
                    members = order[slot, a : a + rows]
                    width = rows * dp
                    blocks = width // 4
                    if move_now and run.phase == cs.SCATTER:
                        _scatter(
                            plan, seed, stream, run, pop.first + a, blocks, lane_row, lane_block, xi
                        )
                        for f in range(width):
                            flat[a * dp + f] = xi[f]
                        energy[a : a + rows] = np.inf
                        if p.memory:
                            y_energy[a : a + rows] = np.inf
                    elif move_now:
                        numbers, first = lane_row, pop.first + a
                        before = flat[a * dp : a * dp + width]
                        if gathered:
                            numbers, first = member_row, pop.first
                            for q in range(blocks):
                                numbers[q] = members[q // (dp // 4)]
                            for i in range(rows):
                                for j in range(dp):
                                    old[i * dp + j] = x[members[i], j]
                            before = old[:width]
                        iteration = np.uint64(run.step + 1)
                        _noise(
                            seed,
                            stream,
                            iteration,
                            streams.NOISE,
                            first,
                            blocks,
                            numbers,
                            lane_block,
                            d,
                            xi,
                        )
                        _move(
                            p,
                            run,
                            before,
                            energy,
                            members,
                            cc,
                            factor,
                            points,
                            shared,
                            distance,
                            drift,
                            xi,
                            new[:width],
                            dp,
                        )
                        if p.memory:
                            for i in range(rows):
                                for j in range(dp):
                                    mine[i * dp + j] = y[members[i], j]
                            _noise(
                                seed,
                                stream,
                                iteration,
                                streams.MEMORY_NOISE,
                                first,
                                blocks,
                                numbers,
                                lane_block,
                                d,
                                xi,
                            )
                            pull, noise = p.lam_memory * run.dt, p.sigma_memory * math.sqrt(run.dt)
                            dy.remember(before, mine, pull, noise, p.noise, xi, new, dp)
                        if run.kick:
                            _noise(
                                seed,
                                stream,
                                iteration,
                                streams.KICK,
                                first,
                                blocks,
                                numbers,
                                lane_block,
                                d,
                                xi,
                            )
                            scale = p.kick_sigma * math.sqrt(run.dt)
                            for i in range(rows):
                                for j in range(dp):
                                    new[i * dp + j] += scale * plan.width[j] * xi[i * dp + j]
                        if measuring:
                            at = new[:width] if p.dynamics == dy.HOPPING else before
                            dy.add_squares(at, cc, squares)
                        after = new[:width] if gathered else flat[a * dp : a * dp + width]
                        dy.confine(p.boundary, lower, upper, cc, new[:width], after)
                        for i in range(rows if gathered else 0):
                            for j in range(dp):
                                x[members[i], j] = new[i * dp + j]
                    if not look_now:
                        continue
                    if evaluating and gathered:
                        for m in members:
                            evaluate(target, flat, m, d, dp, 1, energy, m, z)
                    elif evaluating:
                        evaluate(target, flat, a, d, dp, rows, energy, a, z)
                    if not observing:
                        continue
                    if run.phase != cs.WEIGH:
                        _observe(p, x, energy, y, y_energy, members, head, found)
                    at, e = carriers, carried
                    if gathered:
                        at, e = gathered_x, gathered_energy
                        for i in range(rows):
                            e[i] = carried[members[i]]
                            for j in range(dp):
                                at[i, j] = carriers[members[i], j]
                    cs.accumulate(
                        run.alpha,
                        at,
                        e,
                        0 if gathered else a,
                        rows,
                        weight,
                        c,
                        head,
                        first_moment,
                        second_moment,
                    )
                if move_now and measuring:
                    head.squares = folded_sum(squares)
                    head.moved = (stop - start) * d

            if doing & ADVANCING:
                energies = no_energies
                if p.ess > 0.0 and run.phase != cs.MEASURE:
                    slot, start, stop = evaluated_next(
                        p, seed, stream, pop.first, run, order, epochs
                    )
                    energies = carried[order[slot, start:stop]]
                advance(plan, run, one, energies, c, covariance, factor, best_x)
                trace.used[r] = record(p.stride, run, traced, trace.used[r])


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
def _noise(seed, stream, iteration, purpose, first, blocks, rows, lane_block, d, xi):
    """Normals of a tile, zero in the padding."""
    streams.normals(seed, stream, iteration, purpose, first, blocks, rows, lane_block, xi)
    dp = streams.padded(d)
    for i in range(4 * blocks // dp if d < dp else 0):
        for j in range(d, dp):
            xi[i * dp + j] = 0.0


@kernel
def _scatter(plan, seed, stream, run, first, blocks, lane_row, lane_block, xi):
    """First positions: uniform in a box, or normal."""
    p = plan.params[0]
    iteration = np.uint64(run.step)
    if p.init_normal:
        streams.normals(
            seed, stream, iteration, streams.INITIAL, first, blocks, lane_row, lane_block, xi
        )
    else:
        streams.uniforms(
            seed, stream, iteration, streams.INITIAL, first, blocks, lane_row, lane_block, xi
        )
    dp = len(plan.lower)
    for i in range(4 * blocks // dp):
        for j in range(dp):
            v = plan.origin[j] + plan.extent[j] * xi[i * dp + j]
            if p.boundary != dy.UNBOUNDED:
                v = min(max(v, plan.lower[j]), plan.upper[j])
            xi[i * dp + j] = v


@kernel
def _pull(p, run):
    """Share of the way to the consensus that one step drifts."""
    if p.noise == dy.COVARIANCE:  # the exact Ornstein-Uhlenbeck step, stable for any dt
        return -math.expm1(-p.lam * run.dt)
    return p.lam * run.dt


@kernel
def _move(
    p,
    run,
    before,
    energy,
    members,
    cc,
    factor,
    points,
    energies,
    distance,
    drift,
    xi,
    new,
    dp,
):
    """Drift and noise of one tile, by the dynamics chosen."""
    if p.dynamics == dy.POLARIZED:
        rows = len(members)
        dy.polarized_consensus(
            run.alpha,
            (run.alpha if p.kernel_scaled else 1.0) / (2.0 * p.kappa * p.kappa),
            before.reshape(rows, dp),
            points,
            energies,
            distance,
            cc[: rows * dp].reshape(rows, dp),
        )
    noise = run.sigma * math.sqrt(run.dt)
    if p.noise == dy.COVARIANCE:
        noise = run.sigma * math.sqrt(-math.expm1(-2.0 * p.lam * run.dt))
    if p.gate != dy.UNGATED:
        pull = _pull(p, run)
        for i in range(len(members)):
            gate = dy.drift_gate(p.gate, p.gate_eps, energy[members[i]], run.at_consensus)
            for j in range(dp):
                drift[i * dp + j] = gate * pull
    if p.dynamics == dy.HOPPING:
        dy.hopping(before, cc, run.sigma, xi, new)
    elif p.noise == dy.ANISOTROPIC:
        dy.anisotropic(before, cc, drift, noise, p.truncation, xi, new)
    elif p.noise == dy.ISOTROPIC:
        dy.isotropic(before, cc, drift, noise, p.truncation, xi, new, dp)
    else:
        dy.covariance(before, cc, drift, noise, factor, xi, new, p.dimension)


@kernel
def _observe(p, x, energy, y, y_energy, members, head, best_x):
    """Take note of new energies: worst values, best particle, personal bests."""
    for m in members:
        value = energy[m]
        if not abs(value) < np.inf:
            energy[m] = np.inf
            head.nonfinite += 1
        elif value < head.best:
            head.best = value
            best_x[:] = x[m]
        if p.memory and not energy[m] >= y_energy[m]:
            y_energy[m] = energy[m]
            y[m] = x[m]
    head.evaluations += len(members)
