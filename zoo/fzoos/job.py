"""Who shares a problem, and how it is solved: all that a client's side needs to know."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from zoo.fzoos.config import FZooSConfig
from zoo.fzoos.directions import ALL, START, generator
from zoo.fzoos.problems import Federated

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Job:
    """A federated run, without what changes in it.

    Attributes
    ----------
    problem : Federated
    config : FZooSConfig
        Completed.
    seed : int
    x0 : (d,), optional
        First iterate, in the unit box; by default uniform in it.
    """

    problem: Federated
    config: FZooSConfig
    seed: int
    x0: Array | None = None

    @property
    def dimension(self) -> int:
        """Number of coordinates d."""
        return len(self.problem.lower)

    @property
    def start(self) -> Array:
        """First iterate (d,)."""
        if self.x0 is not None:
            return self.x0.copy()
        return generator(self.seed, ALL, START, 0).random(self.dimension)
