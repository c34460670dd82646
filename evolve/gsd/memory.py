"""What memory a search will take: said before anything is measured."""

from __future__ import annotations

import math
import os

from evolve.gsd.config import GSDConfig
from evolve.gsd.design import Design
from evolve.gsd.targets import MANY
from zoo.errors import InputError


def stated_memory(config: GSDConfig, design: Design, people: int) -> str:
    """Say what memory the search will take, at most.

    Raises
    ------
    InputError
        If this machine does not have it.
    """
    noisy = config.epsilon < math.inf
    copies, cells, d = config.shards + 1, design.most_cells(noisy), len(design.sizes)
    thresholds = None if design.fixed is None else design.fixed.thresholds
    sets = design.count
    # Codes, bins of some views of each column, sums of scores.
    row = 2 * d + 2 * min(sets * config.marginals, 3 * d) + 4 * len(thresholds or ())
    rows = 0 if config.rows == "same" else int(config.rows)
    if rows == 0 and not noisy:
        rows = people
    whole, each = 0, 4 * 8 * cells + (0 if thresholds is None else thresholds.score.nbytes)
    each += 8 * (d + 8) * len(thresholds or ()) + (1 << 17)  # the layout
    if cells > MANY and not noisy:  # only cells with rows, here or there, are kept
        moves = config.edits * config.shards * math.ceil(sets * config.marginals / d)
        each = min(each, int(16 * 2 / 0.6) * ((people + rows) * sets + moves))
        whole = 4 * 8 * cells  # all are counted, once
    most = whole + copies * (each + rows * row)
    there = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if most > there:
        raise InputError(
            f"the search would take up to {most / 1e9:.3g} GB in {copies} copies, and this machine "
            f"has {there / 1e9:.3g}: fewer shards, rows or marginals take less"
        )
    more = "" if rows else f", and {copies * row / 1e3:.3g} kB a row"
    return f"memory: up to {math.ceil(most / 1e6):,} MB{more}, in {copies} copies"
