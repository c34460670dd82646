"""What is measured, and what the table is to fit: one round, or, adaptively, one after another.

One round for marginals: a share of the budget goes to the single columns, the rest once to every
marginal of k columns, in bins of about equal mass, as many as the noise allows; from these a
marginal in fine bins is estimated (see :mod:`evolve.gsd.estimate`). Ranges, halfspaces, prefixes
and functions are fitted as they were measured.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from evolve.gsd.config import GSDConfig
from evolve.gsd.curator import Curator, Release
from evolve.gsd.estimate import equal_mass, joint, merged, on_simplex, smoothed, total
from evolve.gsd.marginals import Marginal, plain
from evolve.gsd.privacy import sensitivity
from evolve.gsd.queries import Queries

Array = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

#: Bins of a column in an estimated pair, at most.
_FINE = 128
#: Cells of all targets above which only those that are not zero are kept, where that saves memory.
MANY = 1 << 22
#: Cells of a marginal of three columns or more, at most, if it is measured with noise.
_WIDE = 1 << 14
#: Expected distance of noise from zero, in sigmas.
_MEAN_ABS = math.sqrt(2.0 / math.pi)


@dataclass(frozen=True, eq=False)
class Targets:
    """What a table is to fit.

    Attributes
    ----------
    queries : Queries
    weights : (sets,)
    cells, shares : (k,)
        Cells with a target other than zero, and the targets, in shares of the rows.
    sparse : bool
        Whether the others are to be left out.
    last : bool
        Whether this is the last round.
    noise : (sets,)
        Squared distance from its target below which a set need not be fitted, for the noise in it.
    """

    queries: Queries
    weights: Array
    cells: Ints
    shares: Array
    sparse: bool
    noise: Array
    last: bool = True


@dataclass
class Design:
    """What there is to measure, and what is known so far.

    Attributes
    ----------
    bare : Queries
        Of the columns' sizes, and the functions.
    apart : (d,) of bool
        Whether the last code of a column is a null.
    ordered : (d,) of bool
        Whether a column is of numbers, whose codes but for the null are in order.
    sets : sequence of tuples of int
        Columns of the marginals asked for.
    fixed : Queries, optional
        Queries that do not depend on any measurement.
    people : float
        Rows of the data, as far as they are known.
    margins : list of (n_j,)
        Estimated probabilities of the values of each column.
    ones : Release
        The single columns.
    """

    bare: Queries
    apart: Sequence[bool]
    ordered: Sequence[bool]
    sets: Sequence[tuple[int, ...]]
    fixed: Queries | None
    people: float = 0.0
    margins: list[Array] = field(default_factory=list)
    ones: Release | None = None

    @property
    def sizes(self) -> tuple[int, ...]:
        """Codes of each column."""
        return self.bare.sizes

    def most_cells(self, noisy: bool) -> int:
        """Cells of the targets, at most, whatever is measured."""
        ones = sum(self.sizes)
        if self.fixed is not None:
            return ones + int(self.fixed.offset[-1])
        for columns in self.sets:
            pair = len(columns) == 2
            cells = math.prod(min(self.sizes[j], _FINE) if pair else self.sizes[j] for j in columns)
            ones += min(cells, _WIDE) if noisy and not pair else cells
        return ones


Rounds = Generator[Targets, Any, None]


def rounds(curator: Curator, config: GSDConfig, design: Design) -> Rounds:
    """Yield what to fit, round after round; is sent the table (n, d) that has been found.

    Selections and measurements that the curator has released already are not made again, and need
    no table: None may be sent.
    """
    _single_columns(curator, config, design)
    if not design.sets and design.fixed is None:
        yield _targets(design, [], config)
        return
    queries = _coarse(config, design, _sigma(curator, config, design))
    if not config.adaptive:
        release = curator.released() or curator.measure(config.queries, queries, curator.left)
        yield _targets(design, [release], config)
        return
    releases: list[Release] = []
    sets = len(queries.offset) - 1
    count = min(config.rounds, math.ceil(sets / config.per_round))
    codes = yield replace(_targets(design, [], config), last=False)
    for number in range(count):
        release = curator.released() or _chosen(
            curator, config, design, queries, releases, codes, count - number
        )
        releases.append(release)
        targets = _targets(design, releases, config)
        codes = yield replace(targets, last=number == count - 1)


def _single_columns(curator: Curator, config: GSDConfig, design: Design) -> None:
    """Measure the single columns, and estimate them and the number of rows."""
    d = len(design.sizes)
    alone = not design.sets and design.fixed is None
    queries = replace(
        design.bare, marginals=tuple(plain([j], design.sizes) for j in range(d)), functions=()
    )
    rho = curator.left * (1.0 if alone else config.one_way_share)
    ones = curator.released() or curator.measure("single columns", queries, rho)
    counts = np.split(ones.counts.astype(np.float64), queries.offset[1:-1])
    if config.neighbours == "replace-one" or ones.sigma == 0.0:
        design.people = float(counts[0].sum()) if ones.sigma == 0.0 else float(curator.rows)
    else:
        design.people = max(1.0, total(counts, [ones.sigma] * d))
    for j, c in enumerate(counts):
        if design.ordered[j] and ones.sigma > 0.0:
            values = len(c) - design.apart[j]
            c[:values] = smoothed(c[:values], ones.sigma)
    design.margins = [on_simplex(c / design.people) for c in counts]
    design.ones = ones


def _sigma(curator: Curator, config: GSDConfig, design: Design) -> float:
    """Sigma with which the query sets will be measured, as planned."""
    if curator.ledger is None:
        return 0.0
    rho = curator.budget * (1.0 - config.one_way_share)
    sets: float = len(design.sets) if design.fixed is None else len(design.fixed.offset) - 1
    if config.adaptive:
        sets = min(config.rounds * config.per_round, sets) / (1.0 - config.choice_share)
    return sensitivity(config.neighbours) * math.sqrt(sets / (2.0 * rho))


def _coarse(config: GSDConfig, design: Design, sigma: float) -> Queries:
    """The query sets, marginals in bins that suit the noise."""
    if design.fixed is not None:
        return design.fixed
    most = design.people / (config.coarseness * sigma) if sigma > 0.0 else math.inf
    fine = {j: _fine(design, j) for j in {j for columns in design.sets for j in columns}}
    made = []
    for columns in design.sets:
        pairs = len(columns) == 2
        first = [fine[j] if pairs else np.arange(design.sizes[j]) for j in columns]
        masses = [merged(design.margins[j], bins) for bins, j in zip(first, columns, strict=True)]
        cells = most if pairs or sigma == 0.0 else min(most, _WIDE)
        counts = allotted([len(mass) for mass in masses], cells)
        bins = tuple(
            equal_mass(mass, count, design.apart[j])[one]
            for mass, count, one, j in zip(masses, counts, first, columns, strict=True)
        )
        made.append(Marginal(columns, bins))
    return replace(design.bare, marginals=tuple(made), functions=())


def _fine(design: Design, column: int) -> Ints:
    """Bins of a column in an estimated pair."""
    return equal_mass(design.margins[column], _FINE, design.apart[column])


def allotted(sizes: Sequence[int], most: float) -> list[int]:
    """Bins of columns with so many values: about equally many, and their product ``most``, if
    that is enough for two each.
    """
    bins = [0] * len(sizes)
    order = sorted(range(len(sizes)), key=lambda i: sizes[i])
    for done, i in enumerate(order):
        share = most ** (1.0 / (len(sizes) - done)) if most < math.inf else math.inf
        bins[i] = int(min(sizes[i], max(2.0, share)))
        most /= bins[i]
    return bins


def _chosen(
    curator: Curator,
    config: GSDConfig,
    design: Design,
    queries: Queries,
    before: Iterable[Release],
    codes: Any,
    rounds_left: int,
) -> Release:
    """Choose the query sets of a round, and measure them."""
    sets = len(queries.offset) - 1
    cells = np.diff(queries.offset)
    rho = curator.left / rounds_left
    pays = rho * config.choice_share
    many = config.per_round
    handicap = np.zeros(sets)
    worst_cell = queries.thresholds is not None
    if not worst_cell:  # what noise would add to the distance if it were measured
        one = math.sqrt(many / (2.0 * (rho - pays))) if curator.ledger is not None else 0.0
        handicap = _MEAN_ABS * one * cells.astype(np.float64)
    taken = [release.chosen for release in before]
    if taken:
        handicap[np.concatenate(taken)] = np.inf
    many = min(many, int(np.isfinite(handicap).sum()))
    expected = queries.counts(codes) * (design.people / len(codes))
    chosen = curator.choose("choice", queries, expected, handicap, pays, many, worst_cell)
    return curator.measure(config.queries, queries.take(chosen), rho - pays, chosen)


def _targets(design: Design, releases: Sequence[Release], config: GSDConfig) -> Targets:
    """Targets from what has been measured."""
    marginals: list[Marginal] = []
    shares: list[Array] = []
    weights: list[float] = []
    noises: list[float] = []
    direct: list[Release] = []
    ones = design.ones
    assert ones is not None
    fitted: set[int] = set()
    for release in releases:
        if config.queries != "marginals":
            direct.append(release)
            continue
        noise = release.sigma / design.people
        parts = np.split(release.counts / design.people, release.queries.offset[1:-1])
        for marginal, noisy in zip(release.queries.marginals, parts, strict=True):
            fine, share = _estimated(design, marginal, noisy.reshape(marginal.shape), noise)
            marginals.append(fine)
            shares.append(share)
            weights.append(1.0)
            noises.append(config.below_noise * noise**2 * marginal.cells)
            resolved = zip(fine.columns, fine.shape, strict=True)
            fitted |= {j for j, bins in resolved if bins == design.sizes[j]}
    for release in direct:  # as they are, by their precision
        weight = 1.0 if release.sigma == 0.0 else (ones.sigma / release.sigma) ** 2
        sets = len(release.queries.offset) - 1
        weights += [weight] * sets
        noise = (release.sigma / design.people) ** 2
        noises += (noise * np.diff(release.queries.offset)).tolist()
    thresholds = [r.queries.thresholds for r in direct if r.queries.thresholds is not None]
    for release in direct:
        if release.queries.marginals:
            marginals += release.queries.marginals
            shares.append(release.counts / design.people)
    extra = [j for j in range(len(design.sizes)) if j not in fitted]
    marginals[:0] = [plain([j], design.sizes) for j in extra]
    shares[:0] = [design.margins[j] for j in extra]
    weights[:0] = [1.0] * len(extra)
    noise = config.below_noise * (ones.sigma / design.people) ** 2
    noises[:0] = [noise * design.sizes[j] for j in extra]
    joined = None
    for one in thresholds:
        joined = one if joined is None else joined.joined(one)
    shares += [r.counts / design.people for r in direct if not r.queries.marginals]
    functions = [r.queries.functions for r in direct if r.queries.functions]
    queries = replace(
        design.bare,
        marginals=tuple(marginals),
        thresholds=joined,
        functions=functions[0] if functions else (),
    )
    share = np.concatenate([s.ravel() for s in shares])
    cells = np.flatnonzero(share)
    sparse = len(share) > MANY and len(cells) < len(share) // 4
    return Targets(queries, np.array(weights), cells, share[cells], sparse, np.array(noises))


def _estimated(
    design: Design, marginal: Marginal, noisy: Array, noise: float
) -> tuple[Marginal, Array]:
    """Marginal in the bins in which it is fitted, and its estimated shares."""
    columns = marginal.columns
    pairs = len(columns) == 2
    first = [
        _fine(design, j) if pairs else bins for j, bins in zip(columns, marginal.bins, strict=True)
    ]
    margins = [merged(design.margins[j], bins) for bins, j in zip(first, columns, strict=True)]
    coarse = []
    for bins, own, margin in zip(marginal.bins, first, margins, strict=True):
        of_own = np.zeros(len(margin), np.int64)
        of_own[own] = bins
        coarse.append(of_own)
    return Marginal(columns, tuple(first)), joint(noisy, margins, coarse, noise)
