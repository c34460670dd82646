"""Constants of a program by least squares, from many starts.

Most starts lead nowhere, so they are many and short, and only the best ones go on. One start is
led: the program is fitted to functions between what it computes with the constants that it is
given, and the target, one after the other. A change of a good program, to square it for example,
is followed in this way, where a fit at once would end in another valley.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from evolve.autonumerics.grid import Grid
from evolve.autonumerics.levenberg import NODES, descend, memory_of
from evolve.autonumerics.programs import Program
from zoo.jit import kernel

Array = npt.NDArray[np.float64]

#: Functions on the way from what a program computes to the target, and iterations for each.
_BETWEEN, _PATIENCE = 4, 100

#: Below errors of this, on the way, values are of double-double precision.
_PRECISE = 1e-7


@kernel
def _led(codes, c, cl, nodes, limit, precise, between, memory):
    """Lead constants c from what they compute to the target, in place, while errors are small.

    What lies between is t (g / t)^s, or t + s (g - t) where g and t are of unlike signs, with s
    from 1 to 0; ``between`` (4, NODES) holds it.
    """
    x, t, _, w = nodes
    last = len(c) + len(codes)
    g, to, rest, weights = between[0], between[1], between[2], between[3]
    for k in range(len(c)):
        cl[k] = 0.0
    if not descend(codes, c, cl, nodes, precise, 0, memory) < math.inf:
        return
    geometric = True
    for i in range(NODES):
        g[i] = memory[1][last + 1, i] if precise else memory[0][last, i]
        rest[i] = 0.0
        geometric &= g[i] * t[i] > 0.0
    for step in range(1, _BETWEEN + 1):
        s = 1.0 - step / _BETWEEN
        for i in range(NODES):
            to[i] = t[i] + s * (g[i] - t[i])
            weights[i] = w[i]
            if geometric:
                to[i] = t[i] * math.exp(s * math.log(g[i] / t[i]))
                weights[i] = w[i] * abs(t[i] / to[i])
        for k in range(len(c)):
            cl[k] = 0.0
        there = nodes if step == _BETWEEN else (x, to, rest, weights)
        if not descend(codes, c, cl, there, precise, _PATIENCE, memory) < limit:
            return


@kernel
def fit_all(codes, starts, nodes, limit, precise, stages, best, squares, between, memory):
    """Improve starts (S, K) in stages; the best constants go to ``best``; returns their squares.

    Parameters
    ----------
    limit : float
        Lead the last start to the target first, while the sum of squares is below.
    precise : bool
        Lead it in double-double precision.
    stages : (m, 2) int64
        How many of the best starts take part, and iterations of each.
    squares : (S,), between : (4, NODES), memory
        To work with.
    """
    count = starts.shape[1]
    cl = best  # low parts are not used; best is written last
    if limit > 0.0:
        _led(codes, starts[-1], cl, nodes, limit, precise, between, memory)
    for s in range(len(starts)):
        squares[s] = 0.0
    for m in range(len(stages)):
        many = min(stages[m, 0], len(starts))
        for s in range(many):
            if squares[s] < math.inf:
                for k in range(count):
                    cl[k] = 0.0
                squares[s] = descend(codes, starts[s], cl, nodes, False, stages[m, 1], memory)
        for s in range(1, many):  # the best ones first
            j = s
            while j > 0 and squares[j] < squares[j - 1]:
                squares[j], squares[j - 1] = squares[j - 1], squares[j]
                for k in range(count):
                    starts[j, k], starts[j - 1, k] = starts[j - 1, k], starts[j, k]
                j -= 1
    for k in range(count):
        best[k] = starts[0, k]
    return squares[0]


class Fitter:
    """Fits programs of up to so many operations and constants to a target at ``NODES`` points."""

    def __init__(self, nodes: Grid, operations: int, constants: int) -> None:
        self.nodes = nodes.x, nodes.truth, nodes.low, nodes.weights
        self._most = operations, constants
        self._memory = memory_of(operations, constants)
        self._between = np.zeros((4, NODES))

    def fit(
        self,
        program: Program,
        starts: Array,
        stages: npt.NDArray[np.int64],
        lead: float = 0.0,
    ) -> tuple[float, Array]:
        """Root of the mean squared error, and constants (K,), from starts (S, K).

        The last start is led to the target before, as long as errors are below ``lead``.
        """
        self._check(program)
        best, squares = np.empty(starts.shape[1]), np.empty(len(starts))
        found = fit_all(
            program.codes, starts, self.nodes, NODES * lead**2, lead < _PRECISE, stages, best,
            squares, self._between, self._memory,
        )  # fmt: skip
        return math.sqrt(found / NODES), best

    def refine(self, program: Program, iterations: int) -> tuple[float, Program]:
        """The same in double-double precision, from the program's own constants."""
        self._check(program)
        c, cl = program.constants.copy(), program.low.copy()
        squares = descend(program.codes, c, cl, self.nodes, True, iterations, self._memory)
        return math.sqrt(squares / NODES), program.with_constants(c, cl)

    def _check(self, program: Program) -> None:
        if program.cost > self._most[0] or len(program.constants) > self._most[1]:
            raise ValueError(f"the program is larger than {self._most}")
