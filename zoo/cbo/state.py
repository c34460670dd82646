"""What consensus-based optimization stores and passes on: records and named tuples of arrays.

Kernels take them as they are. R is runs, n particles here, N particles of a population, S blocks
of one, d the dimension, dp that rounded up to a multiple of four (the padding is zero).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from zoo.cbo.dynamics import COVARIANCE

# Records are aligned, for a GPU reads the fields of unaligned ones byte by byte.

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
        ("guess", np.int64),  # whether particle 0 starts at the origin of the first positions
        ("spread_tol", np.float64),
        ("steps", np.int64),
        ("max_evaluations", np.int64),
        ("target", np.float64),
        ("patience", np.int64),
        ("tile", np.int64),  # particles a tile
        ("stride", np.int64),  # steps between two rows of the trace
    ],
    align=True,
)

# A run's state between two supersteps; one record a run.
RUN = np.dtype(
    [
        ("phase", np.int64),
        ("step", np.int64),
        ("evaluations", np.int64),
        ("nonfinite", np.int64),
        ("alpha", np.float64),
        ("sigma", np.float64),
        ("dt", np.float64),
        ("best", np.float64),  # lowest energy evaluated so far
        ("improved", np.int64),  # the step that found it
        ("spread", np.float64),  # root mean square of x_ij - c_j in the last move that measured it
        ("spread0", np.float64),  # the first such
        ("kick", np.int64),  # whether the next move adds independent noise
        ("kicked", np.int64),  # the last step that asked for it
        ("kicks", np.int64),
        ("at_consensus", np.float64),  # energy of the consensus point, where known
        ("status", np.int64),
    ],
    align=True,
)

# Phases of a run: draw first positions; weigh them anew, once their energies have set alpha; move;
# measure the consensus point.
SCATTER, WEIGH, MOVE, MEASURE, DONE = range(5)

# Status of a run, and why it ended.
RUNNING, TARGET, CONVERGED, STAGNATED, STEPS, EVALUATIONS, STOPPED, NEVER_FINITE = range(8)

# One shard's sums over the particles that it evaluated.
SUMS = np.dtype(
    [
        ("lowest", np.float64),  # E_min of the sums; inf while empty
        ("weight", np.float64),  # sum w
        ("best", np.float64),  # lowest energy evaluated in this superstep
        ("squares", np.float64),  # sum of (x_ij - c_j)^2 over the particles moved
        ("moved", np.int64),  # how many numbers went into it; 0: not measured
        ("evaluations", np.int64),
        ("nonfinite", np.int64),
    ],
    align=True,
)

#: Columns of a trace row: step, evaluations, best energy, spread, alpha.
TRACE = 5


class Plan(NamedTuple):
    """What no superstep changes."""

    params: Any  # (1,) PARAMS
    lower: Any  # (dp,) bounds
    upper: Any
    origin: Any  # (dp,) of the first positions: lower corner of a box, or mean
    extent: Any  # (dp,) of the first positions: widths of the box, or standard deviations
    width: Any  # (dp,) unit of the kicks


class Population(NamedTuple):
    """The particles that live here: n of each of R runs."""

    first: Any  # number of the first particle in its run
    runs: Any  # (R,) RUN
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

    head: Any  # (R,) SUMS
    first_moment: Any  # (R, dp)
    second_moment: Any  # (R, dp, dp) or (R, 0, 0)
    best_x: Any  # (R, dp) the particles of head.best


class Trace(NamedTuple):
    """The course of each run, at every ``stride`` steps."""

    rows: Any  # (R, T, TRACE)
    used: Any  # (R,) rows in use


def new_center(plan: Plan, runs: int, shared: int) -> Center:
    """What each run shares before its first step: the middle of the first positions.

    ``shared`` particles lay themselves open to each other (polarized dynamics), or 0.
    """
    p = plan.params[0]
    dp = len(plan.lower)
    matrix = dp if p["noise"] == COVARIANCE else 0
    center = Center(
        np.zeros((runs, dp)),
        np.zeros((runs, matrix, matrix)),
        np.zeros((runs, matrix, matrix)),
        np.zeros((runs, dp, shared)),
        np.zeros((runs, shared)),
    )
    center.c[:] = plan.origin + (0.0 if p["init_normal"] else 0.5) * plan.extent
    return center


def new_sums(parts: int, dp: int, covariance: int) -> Sums:
    """Room for the sums of runs or blocks."""
    return Sums(
        np.zeros(parts, SUMS),
        np.zeros((parts, dp)),
        np.zeros((parts, covariance, covariance)),
        np.zeros((parts, dp)),
    )
