"""Parameters of a search on islands."""

from __future__ import annotations

from dataclasses import dataclass

from zoo.config import option


@dataclass(frozen=True)
class SearchConfig:
    """How islands evolve."""

    islands: int = option(4, "Islands that evolve side by side.", least=1)
    elites: int = option(12, "Genomes of each cost that an island keeps.", least=1)
    slack: float = option(
        0.5, "How far, in score, a genome may be behind a cheaper one and yet be kept.", least=0.0
    )
    emigrants: int = option(
        8, "Elites that an island passes on a superstep, besides its new best.", least=0
    )
    batch: int = option(500, "Genomes that an island assesses in a superstep.", least=1)
    candidates: int | None = option(None, "Genomes that are assessed, at most.", least=1)
