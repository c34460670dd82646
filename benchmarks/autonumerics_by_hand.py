"""The best programs for 2^x that are known by hand, of 5 to 10 operations, constants fitted here.

2^x = 1 + 2/(coth(x ln(2)/2) - 1), and coth z is a continued fraction of z + c/z:

    S_0 = x + c/x,   S_1 = S_0 + c/S_0,   2^x ~ (c/(S_n + c) + c)^(2^k),

of 5 + 2n + k operations, every c another constant.
"""

from __future__ import annotations

import math

import numpy as np

from evolve.autonumerics.fit import Fitter
from evolve.autonumerics.grid import grid_of
from evolve.autonumerics.levenberg import NODES
from evolve.autonumerics.polish import polished
from evolve.autonumerics.programs import MUL, parse, program
from evolve.autonumerics.targets import Target
from evolve.autonumerics.variation import fresh

_CORES = (
    "div c1 x; add x t1; add t2 c2; div c3 t3; add t4 c4",
    "div c1 x; add x t1; div c5 t2; add t2 t3; add t4 c2; div c3 t5; add t6 c4",
)
_SQUARES = 3
_STARTS, _STAGES = 400, np.array([[400, 20], [60, 60], [10, 300]])
_ON = np.array([[1, 100]])


def by_hand(target: Target) -> dict[int, float]:
    """Digits of the minimax program of each number of operations."""
    nodes, grid = grid_of(target, NODES, ends=False), grid_of(target)
    random = np.random.Generator(np.random.Philox(key=np.array([1, 0], np.uint64)))
    found: dict[int, float] = {}
    for text in _CORES:
        made = parse(text, np.ones(text.count("c")))
        fitter = Fitter(nodes, made.cost + _SQUARES, len(made.constants))
        starts = fresh(random, (_STARTS, len(made.constants)))
        made = made.with_constants(fitter.fit(made, starts, _STAGES)[1])
        error = math.inf
        for squares in range(_SQUARES + 1):
            if squares:
                last = made.cost
                made = program([*made.codes.tolist(), [MUL, last, last, 0]], made.constants)
                start = made.constants[None].copy()
                made = made.with_constants(fitter.fit(made, start, _ON, 1e3 * error)[1])
            made = fitter.refine(made, 300)[1]
            error = grid.error(polished(made, grid))
            found[made.cost] = max(-math.log10(error), found.get(made.cost, 0.0))
    return found
