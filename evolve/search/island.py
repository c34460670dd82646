"""An island: a shard that varies its own elites, and takes in some of another island's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np

from evolve.search.archive import Archive, Entry
from evolve.search.domain import Domain
from zoo.errors import Interrupted
from zoo.problem import never
from zoo.runtime.protocol import Exchange, State

G = TypeVar("G")

#: Purpose of the random numbers; see :mod:`zoo.streams`.
_EVOLUTION = 40

#: Changes of one elite, one upon the other, while they come to what has been assessed already.
_WALK = 4

#: So many in a row, and the island has nothing left to try.
_PATIENCE = 2000

#: Keys that are remembered; after so many, all are forgotten.
_KEYS = 1 << 21


@dataclass(frozen=True, eq=False)
class Message:
    """What a superstep starts from.

    Attributes
    ----------
    step : int
    candidates : list of int
        Genomes that each island assesses.
    migrants : list of State
        Of each island, in order; none at first.
    """

    step: int
    candidates: list[int]
    migrants: list[State]


@dataclass(frozen=True, eq=False)
class Report:
    """What an island has found: genomes to be passed on, its best ones first; and counts."""

    migrants: State
    assessed: int
    duplicates: int


def packed(domain: Domain[G], entries: list[Entry[G]]) -> State:
    """Entries as arrays."""
    return {
        "cost": np.array([entry.cost for entry in entries], np.int64),
        "score": np.array([entry.score for entry in entries], np.float64),
        **{
            f"genomes/{k}": array
            for k, array in domain.pack([entry.genome for entry in entries]).items()
        },
    }


def unpacked(domain: Domain[G], state: State) -> list[Entry[G]]:
    """Entries from arrays."""
    arrays = {
        k.removeprefix("genomes/"): array for k, array in state.items() if k.startswith("genomes/")
    }
    genomes = domain.unpack(arrays)
    return [
        Entry(int(cost), float(score), genome)
        for cost, score, genome in zip(state["cost"], state["score"], genomes, strict=True)
    ]


class Island(Generic[G]):
    """See :class:`zoo.runtime.protocol.Shard`.

    Parameters
    ----------
    index : int
    domain : Domain
    archive : Archive
        Empty.
    emigrants : int
        Elites that are passed on besides the best of each cost.
    seed : int
    cancelled : callable
        True gives up a step.
    """

    def __init__(
        self,
        index: int,
        domain: Domain[G],
        archive: Archive[G],
        emigrants: int,
        seed: int,
        cancelled: Callable[[], bool] = never,
    ) -> None:
        self.index, self.domain, self.archive, self.emigrants = index, domain, archive, emigrants
        self.seed, self.cancelled = seed, cancelled
        self._seen: set[int] = set()

    def step(self, message: Message) -> Report:
        """Take in the migrants of one other island, and assess so many genomes.

        Raises
        ------
        Interrupted
            If cancelled.
        """
        key = np.array([self.seed, self.index], np.uint64)
        counter = np.array([0, 0, message.step, _EVOLUTION], np.uint64)
        random = np.random.Generator(np.random.Philox(key=key, counter=counter))
        better = self._welcome(message, random)
        assessed = duplicates = 0
        in_vain = 0
        while assessed < message.candidates[self.index] and in_vain < _PATIENCE:
            if self.cancelled():
                raise Interrupted
            if in_vain % _WALK == 0:
                genome = self.archive.choose(random).genome
            genome = self.domain.vary(genome, random)
            key_of = self.domain.key(genome)
            if key_of in self._seen:  # it is varied again, and some more times
                duplicates, in_vain = duplicates + 1, in_vain + 1
                continue
            in_vain = 0
            self._remember(key_of)
            cost = self.domain.cost(genome)
            score, trained = self.domain.assess(genome, self.archive.least(cost), random)
            assessed += 1
            if self.archive.add(Entry(cost, score, trained)):
                better.add(cost)
        leaving = [entry for entry in self.archive.front() if entry.cost in better]
        others = self.archive.entries()
        chosen = random.permutation(len(others))[: self.emigrants]
        leaving += [others[i] for i in chosen]
        return Report(packed(self.domain, leaving), assessed, duplicates)

    def _welcome(self, message: Message, random: np.random.Generator) -> set[int]:
        """Take in the seeds, or migrants; returns the costs of which the best was found here."""
        found: set[int] = set()
        if not self.archive.bins:
            for genome in self.domain.seeds():
                self._remember(self.domain.key(genome))
                score, trained = self.domain.assess(genome, -np.inf, random)
                cost = self.domain.cost(trained)
                if self.archive.add(Entry(cost, score, trained)):
                    found.add(cost)
        count = len(message.migrants)
        if count < 2:
            return found
        origin = (self.index + 1 + message.step % (count - 1)) % count
        for entry in unpacked(self.domain, message.migrants[origin]):
            self._remember(self.domain.key(entry.genome))
            self.archive.add(entry)
        return found

    def _remember(self, key: int) -> None:
        if len(self._seen) >= _KEYS:
            self._seen.clear()
        self._seen.add(key)

    def exchange(self, message: Message) -> Exchange:
        """Take a step; nothing is evaluated outside."""
        return self.step(message)
        yield  # makes this a generator

    def state(self) -> State:
        """The elites, and the keys of all that was assessed."""
        return {
            **packed(self.domain, self.archive.entries()),
            "seen": np.array(sorted(self._seen), np.uint64),
        }

    def restore(self, state: State) -> None:
        """Take up a state."""
        self.archive.bins.clear()
        for entry in unpacked(self.domain, state):
            self.archive.bins.setdefault(entry.cost, []).append(entry)
        self._seen = {int(key) for key in state["seen"]}
