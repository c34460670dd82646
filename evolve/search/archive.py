"""The best genomes of every cost: elites to vary, and the front of cost and score among them."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import numpy as np

G = TypeVar("G")

#: Scores of one cost that are nearer than this are taken for the same thing written otherwise.
_SAME = 1e-6


@dataclass(frozen=True)
class Entry(Generic[G]):
    """A genome with what it costs and scores."""

    cost: int
    score: float
    genome: G


@dataclass
class Archive(Generic[G]):
    """Elites: of each cost the ``keep`` best, and none that is far behind a cheaper one.

    Attributes
    ----------
    keep : int
    slack : float
        How far it may be behind the best one that costs less.
    """

    keep: int
    slack: float
    bins: dict[int, list[Entry[G]]] = field(default_factory=dict)

    def least(self, cost: int) -> float:
        """Score above which a genome of that cost is kept."""
        cheaper = [kept[0].score for below, kept in self.bins.items() if below < cost]
        least = max(cheaper, default=-math.inf) - self.slack
        kept = self.bins.get(cost, [])
        return max(least, kept[-1].score) if len(kept) >= self.keep else least

    def add(self, entry: Entry[G]) -> bool:
        """Keep a genome, if it is good enough; True: it is the best of its cost."""
        if not entry.score > self.least(entry.cost):
            return False
        kept = self.bins.setdefault(entry.cost, [])
        if any(abs(other.score - entry.score) <= _SAME for other in kept):
            return False
        kept.append(entry)
        kept.sort(key=lambda other: -other.score)
        del kept[self.keep :]
        first = kept[0] is entry
        if first:
            self._purge(entry)
        return first

    def _purge(self, entry: Entry[G]) -> None:
        """Remove what has fallen far behind."""
        for cost in [cost for cost in self.bins if cost > entry.cost]:
            left = [other for other in self.bins[cost] if other.score > entry.score - self.slack]
            if left:
                self.bins[cost] = left
            else:
                del self.bins[cost]

    def choose(self, random: np.random.Generator) -> Entry[G]:
        """One of the elites: any cost, and the better ones more often."""
        costs = sorted(self.bins)
        kept = self.bins[costs[random.integers(len(costs))]]
        rank = int(len(kept) * random.random() ** 2)
        return kept[rank]

    def front(self) -> list[Entry[G]]:
        """Those that no cheaper one is as good as, by cost."""
        found: list[Entry[G]] = []
        for cost in sorted(self.bins):
            best = self.bins[cost][0]
            if not found or best.score > found[-1].score:
                found.append(best)
        return found

    def entries(self) -> list[Entry[G]]:
        """All of them, by cost and score."""
        return [entry for cost in sorted(self.bins) for entry in self.bins[cost]]
