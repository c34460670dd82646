"""Between two supersteps: the merge of what was found, the schedules, and whether to go on."""

from __future__ import annotations

import math

import numpy as np

from zoo.cbo import state as st
from zoo.cbo.consensus import cholesky, copy, ess_alpha, merge
from zoo.cbo.dynamics import UNGATED
from zoo.jit import kernel

#: Times that first positions are drawn, at most, for want of a finite value.
SCATTERS = 10


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
    squares, moved = tally(run, sums, best_x)
    if run.phase == st.MEASURE:
        measured(run, c, best_x)
        return
    if run.best == np.inf:  # nothing finite yet: scatter anew
        run.step += 1
    else:
        merge(
            run.alpha,
            sums.head,
            sums.first_moment,
            sums.second_moment,
            p.about_last > 0 and run.phase == st.MOVE,
            c,
            covariance,
            factor,
        )
        if len(covariance) > 0:
            cholesky(covariance, factor)
        if run.phase == st.MOVE:
            schedule(p, run, squares, moved)
        if p.ess > 0.0 and run.phase != st.WEIGH:
            run.alpha = ess_alpha(run.alpha, energies, p.ess, 1e-30, p.alpha_max)
        run.phase = st.WEIGH if p.ess > 0.0 and run.phase == st.SCATTER else st.MOVE
    stop_or_kick(p, run, moved > 0)


@kernel
def tally(run, sums, best_x):
    """Take in what was evaluated; returns the sum of squares of the spread, and of how many."""
    squares, moved = 0.0, 0
    for s in range(len(sums.head)):
        head = sums.head[s]
        run.evaluations += head.evaluations
        run.nonfinite += head.nonfinite
        squares += head.squares
        moved += head.moved
        if head.best < run.best:
            run.best = head.best
            copy(sums.best_x[s], best_x)
            run.improved = run.step + (1 if run.phase == st.MOVE else 0)
    return squares, moved


@kernel
def measured(run, c, best_x):
    """End a run, whose consensus has been evaluated."""
    if not abs(run.at_consensus) < np.inf:
        run.nonfinite += 1
        run.at_consensus = np.inf
    elif run.at_consensus < run.best:
        run.best = run.at_consensus
        copy(c, best_x)
    run.phase = st.DONE


@kernel
def schedule(p, run, squares, moved):
    """Count a move, and set what its successor goes by."""
    run.step += 1
    if moved > 0:
        run.spread = math.sqrt(squares / moved)
        if run.spread0 == 0.0:
            run.spread0 = run.spread
    run.alpha = min(run.alpha * p.alpha_factor, p.alpha_max)
    run.sigma = max(run.sigma * p.sigma_factor, p.sigma_min)
    run.dt = max(run.dt * p.dt_factor, p.dt_min)


@kernel
def stop_or_kick(p, run, spread_known):
    """Set the status, if the run is to end, and whether its next move adds noise."""
    run.kick = 0
    batch = p.batch * p.blocks if p.batch > 0 else p.particles
    cost = batch + (p.blocks if p.gate != UNGATED else 0)
    moving = run.phase == st.MOVE and run.step > 0
    if run.best <= p.target:
        run.status = st.TARGET
    elif run.best == np.inf and run.step >= SCATTERS:
        run.status = st.NEVER_FINITE
    elif run.step >= p.steps:
        run.status = st.STEPS
    elif run.evaluations + cost + 1 > p.max_evaluations:
        run.status = st.EVALUATIONS
    elif p.patience > 0 and run.step - run.improved >= p.patience:
        run.status = st.STAGNATED
    elif moving and p.kick_sigma > 0.0:
        since = run.step - max(run.improved, run.kicked)
        stale = p.kick_patience > 0 and since >= p.kick_patience
        if (spread_known and run.spread <= p.kick_spread * run.spread0) or stale:
            run.kick = 1
            run.kicked = run.step
            run.kicks += 1
    elif spread_known and p.spread_tol > 0.0 and run.spread <= p.spread_tol * run.spread0:
        run.status = st.CONVERGED
    if run.status != st.RUNNING:
        run.phase = st.MEASURE if run.best < np.inf else st.DONE


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
    due = run.phase == st.MOVE and run.step % stride == 0
    if not (due or run.phase == st.DONE) or used == len(rows):
        return used
    rows[used, 0] = run.step
    rows[used, 1] = run.evaluations
    rows[used, 2] = run.best
    rows[used, 3] = run.spread
    rows[used, 4] = run.alpha
    return used + 1
