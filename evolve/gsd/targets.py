"""What a table is to fit, from what has been measured.

Of a marginal that was measured in coarse bins, fine ones are estimated (see
:mod:`evolve.gsd.estimate`); everything else is fitted as it was measured, by its precision. Columns
that no fitted marginal resolves are fitted on their own besides.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits

from evolve.gsd.config import GSDConfig
from evolve.gsd.curator import Release
from evolve.gsd.design import Design
from evolve.gsd.estimate import joint, merged
from evolve.gsd.marginals import Marginal, plain
from evolve.gsd.queries import Queries, together

Array = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

#: Cells of all targets above which only those that are not zero are kept, where that saves memory.
MANY = 1 << 22
#: Targets below this share of the rows are none: what proportional fitting leaves in empty cells.
_NOTHING = 1e-9
#: What is fitted as measured is fitted to a little below its noise, and single columns, which were
#: estimated, beside it to much less than theirs.
_AT_NOISE, _BESIDE = 0.95, 0.1


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
    noise : (sets,)
        Squared distance from its target below which a set need not be fitted, for the noise in it.
    last : bool
        Whether this is the last round.
    """

    queries: Queries
    weights: Array
    cells: Ints
    shares: Array
    sparse: bool
    noise: Array
    last: bool = True


@dataclass(frozen=True, eq=False)
class _Part:
    """Query sets with their targets."""

    queries: Queries
    shares: Array
    weight: float
    noise: Array  # (sets,)


def targets_of(
    design: Design, releases: Sequence[Release], config: GSDConfig, last: bool
) -> Targets:
    """Targets from the single columns and other releases."""
    if config.queries == "marginals":
        with threadpool_limits(1):  # the bits of a decomposition must not depend on its threads
            parts = [part for release in releases for part in _estimated(design, release, config)]
    else:
        parts = [_as_measured(design, release) for release in releases]
    parts[:0] = _columns(design, parts, config)
    share = np.concatenate([part.shares for part in parts])
    cells = np.flatnonzero(np.abs(share) > _NOTHING)
    return Targets(
        queries=together([part.queries for part in parts]),
        weights=np.concatenate([np.full(len(part.noise), part.weight) for part in parts]),
        cells=cells,
        shares=share[cells],
        sparse=len(share) > MANY and len(cells) < len(share) // 4,
        noise=np.concatenate([part.noise for part in parts]),
        last=last,
    )


def _estimated(design: Design, release: Release, config: GSDConfig) -> list[_Part]:
    """Marginals in fine bins, each estimated from its coarse one."""
    sigma = release.sigma / design.people
    counts = np.split(release.counts / design.people, release.queries.offset[1:-1])
    parts = []
    for marginal, noisy in zip(release.queries.marginals, counts, strict=True):
        if sigma == 0.0:  # an estimate would have crumbs where there is nothing
            parts.append(_Part(Queries(design.sizes, (marginal,)), noisy, 1.0, np.zeros(1)))
            continue
        pair = len(marginal.columns) == 2
        fine = design.fitted_bins(marginal.columns) if pair else list(marginal.bins)
        margins = [
            merged(design.margins[j], bins) for j, bins in zip(marginal.columns, fine, strict=True)
        ]
        coarse = []
        for margin, own, bins in zip(margins, fine, marginal.bins, strict=True):
            of_own = np.zeros(len(margin), np.int64)
            of_own[own] = bins
            coarse.append(of_own)
        shares = joint(noisy.reshape(marginal.shape), margins, coarse, sigma)
        fitted = Marginal(marginal.columns, tuple(fine))
        noise = np.array([config.below_noise * sigma**2 * marginal.cells])
        parts.append(_Part(Queries(design.sizes, (fitted,)), shares.ravel(), 1.0, noise))
    return parts


def _as_measured(design: Design, release: Release) -> _Part:
    """Query sets as they were measured; more precise ones weigh more."""
    assert design.ones is not None
    weight = 1.0 if release.sigma == 0.0 else (design.ones.sigma / release.sigma) ** 2
    noise = _AT_NOISE * (release.sigma / design.people) ** 2 * np.diff(release.queries.offset)
    return _Part(release.queries, release.counts / design.people, weight, noise)


def _columns(design: Design, parts: Sequence[_Part], config: GSDConfig) -> list[_Part]:
    """Single columns that no estimated marginal resolves."""
    assert design.ones is not None
    resolved: set[int] = set()
    if config.queries == "marginals":
        for part in parts:
            (marginal,) = part.queries.marginals
            bins = zip(marginal.columns, marginal.shape, strict=True)
            resolved |= {j for j, count in bins if count == design.sizes[j]}
    below = config.below_noise if config.queries == "marginals" else _BESIDE
    noise = below * (design.ones.sigma / design.people) ** 2
    return [
        _Part(
            Queries(design.sizes, (plain([j], design.sizes),)),
            design.margins[j],
            1.0,
            np.array([noise * size]),
        )
        for j, size in enumerate(design.sizes)
        if j not in resolved
    ]
