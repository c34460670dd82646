"""What the search needs to know of the things that evolve: nothing but this."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeVar

import numpy as np

from zoo.runtime.protocol import State

G = TypeVar("G")


class Domain(Protocol[G]):
    """Genomes of some kind: how they vary, and what they are worth.

    Everything is a function of its arguments and of the random numbers that it is given.

    Attributes
    ----------
    unit : str
        What assessments are called.
    """

    unit: str

    def fresh(self) -> Domain[G]:
        """The same domain with memory of its own: islands work side by side."""
        ...

    def seeds(self) -> Sequence[G]:
        """What evolution begins with."""
        ...

    def vary(self, genome: G, random: np.random.Generator) -> G:
        """A change of a genome."""
        ...

    def cost(self, genome: G) -> int:
        """What it costs, >= 0."""
        ...

    def key(self, genome: G) -> int:
        """Hash, of 64 bits, of what it does: equal for those that need not both be assessed."""
        ...

    def assess(self, genome: G, least: float, random: np.random.Generator) -> tuple[float, G]:
        """Score, the higher the better, and the genome as it has been trained.

        Below ``least`` it is of no use; a rough score is enough there.
        """
        ...

    def pack(self, genomes: Sequence[G]) -> State:
        """Genomes as arrays."""
        ...

    def unpack(self, state: State) -> list[G]:
        """Genomes from arrays."""
        ...
