"""How the budget is spent: in one round, or, adaptively, in one after another.

One round: a share goes to the single columns, the rest to every query set once; marginals are
measured in bins of about equal mass, as many as the noise allows. Adaptive: the sets are chosen and
measured round by round, by how badly the table found so far fits them.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from typing import Any

import numpy as np

from evolve.gsd.config import GSDConfig
from evolve.gsd.curator import Curator, Release
from evolve.gsd.design import Design
from evolve.gsd.estimate import by_levels, on_simplex, smoothed, total
from evolve.gsd.marginals import plain
from evolve.gsd.noise import stacked
from evolve.gsd.queries import Queries
from evolve.gsd.targets import Targets, targets_of

#: Expected distance of noise from zero, in sigmas.
_MEAN_ABS = math.sqrt(2.0 / math.pi)

_SINGLE = "single columns"

Rounds = Generator[Targets, Any, None]


def rounds(curator: Curator, config: GSDConfig, design: Design) -> Rounds:
    """Yield what to fit, round after round; is sent the table (n, d) that has been found.

    Selections and measurements that the curator has released already are not made again, and need
    no table: None may be sent.
    """
    _single_columns(curator, config, design)
    if not design.count:
        yield targets_of(design, [], config, last=True)
        return
    planned = curator.budget * (1.0 - config.one_way_share)
    count = math.ceil(min(config.rounds * config.per_round, design.count) / config.per_round)
    sets = design.count
    if config.adaptive:
        planned, sets = planned * (1.0 - config.choice_share), min(sets, count * config.per_round)
    sigma = 0.0
    if curator.ledger is not None:
        sigma = stacked(config.neighbours, sets) / math.sqrt(2.0 * planned)
    most = design.people / (config.coarseness * sigma) if sigma > 0.0 else math.inf
    queries = design.queries(most)
    if not config.adaptive:
        release = curator.released(config.queries) or curator.measure(
            config.queries, queries, curator.left
        )
        yield targets_of(design, [release], config, last=True)
        return
    releases: list[Release] = []
    codes = yield targets_of(design, [], config, last=False)
    for number in range(count):
        found = curator.released(config.queries)
        if found is None and curator.exhausted:
            return  # what was paid for this round is lost: a crash came between
        left = count - number
        found = found or _chosen(curator, config, design, queries, releases, codes, left)
        releases.append(found)
        codes = yield targets_of(design, releases, config, last=number == count - 1)


def _single_columns(curator: Curator, config: GSDConfig, design: Design) -> None:
    """Measure the single columns, and estimate them and the number of rows."""
    single = [plain([j], design.sizes) for j in range(len(design.sizes))]
    ranges = {j: design.ranges(j) for j in range(len(single)) if design.wide(j)}
    queries = Queries(design.sizes, (*single, *ranges.values()))
    rho = curator.left * (config.one_way_share if design.count else 1.0)
    ones = curator.released(_SINGLE) or curator.measure(_SINGLE, queries, rho)
    counts = np.split(ones.counts.astype(np.float64), queries.offset[1:-1])
    if ones.rows is not None:
        design.people = float(ones.rows)
    else:
        design.people = max(1.0, total(counts, [ones.sigma] * len(counts)))
    shares = [c / design.people for c in counts[: len(single)]]
    if ones.sigma > 0.0:
        for j, c in enumerate(counts[: len(single)]):
            values = len(c) - design.apart[j]
            if j in ranges:
                wider = counts[len(single) + list(ranges).index(j)]
                of = ranges[j].bins[0][:values]
                within = by_levels(c[:values], wider[: of[-1] + 1], of, ones.sigma, design.people)
                shares[j][:values] = within
            elif design.ordered[j]:
                shares[j][:values] = smoothed(c[:values], ones.sigma) / design.people
    design.margins = [on_simplex(share) for share in shares]
    design.ones = ones


def _chosen(
    curator: Curator,
    config: GSDConfig,
    design: Design,
    queries: Queries,
    before: Sequence[Release],
    codes: Any,
    rounds_left: int,
) -> Release:
    """Choose the query sets of a round, and measure them."""
    rho = curator.left / rounds_left
    curator.check("choice", rho)
    for_choice = rho * config.choice_share
    worst_cell = queries.thresholds is not None
    handicap = np.zeros(design.count)
    if not worst_cell and curator.ledger is not None:  # what noise would add, were it measured
        sigma = stacked(config.neighbours, config.per_round) / math.sqrt(2.0 * (rho - for_choice))
        handicap = _MEAN_ABS * sigma * np.diff(queries.offset)
    for release in before:
        handicap[release.chosen] = np.inf
    many = min(config.per_round, int(np.isfinite(handicap).sum()))
    expected = queries.counts(codes) * (design.people / len(codes))
    chosen = curator.choose("choice", queries, expected, handicap, for_choice, many, worst_cell)
    return curator.measure(config.queries, queries.take(chosen), rho - for_choice, chosen)
