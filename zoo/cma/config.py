"""Parameters of CMA-ES."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from zoo.config import option

#: The penalty's quartiles, and recombination at all, need a population of this size.
SMALLEST = 4
#: A full covariance matrix is slow from here on.
_LARGE = 1000


@dataclass(frozen=True)
class CMAConfig:
    """Every parameter of CMA-ES.

    The search is in box coordinates (x - lower) / (upper - lower), so boxes of any shape are alike.
    """

    popsize: int | None = option(
        None, "Population lambda of the first run; by default 4 + floor(3 ln d).", least=SMALLEST
    )
    sigma0: float = option(
        0.2,
        "First standard deviation in each coordinate, as a share of the box's width there; pycma "
        "keeps it below a third.",
        above=0,
        most=1,
    )
    restarts: str = option(
        "bipop",
        "When pycma's criteria stop a run: none: that is the end. ipop: again from a random point "
        "with popsize-factor times the population. bipop: such runs, and runs of small "
        "populations and steps, for equal shares of the evaluations.",
        choices=("none", "ipop", "bipop"),
    )
    max_restarts: int = option(
        9, "Most restarts with a larger population (those with a small one come on top).", least=0
    )
    popsize_factor: float = option(2.0, "Growth of the population by restart.", least=1)
    active: bool = option(True, "Active CMA: unsuccessful steps shrink the covariance.")
    diagonal: bool = option(
        False, "Separable CMA: a diagonal covariance, linear in time and memory."
    )
    elitist: bool = option(False, "The best point takes part in every recombination.")
    boundary: str = option(
        "transform",
        "What bounds do to points outside: transform: a smooth map into the box. penalty: they "
        "are evaluated at the nearest point of the box and penalized by their distance to it.",
        choices=("transform", "penalty"),
    )
    maxiter: int | None = option(
        None,
        "Most steps between two restarts; by default 100 + 150 (d + 3)^2 / sqrt(popsize).",
        least=1,
    )
    tolfun: float | None = option(
        None,
        "Stop (and restart) when the values of a population and the recent best ones range over "
        "less; by default 1e-11.",
        least=0,
    )
    tolfunhist: float | None = option(
        None, "Stop when the recent best values range over less; by default 1e-12.", least=0
    )
    tolx: float | None = option(
        None,
        "Stop when steps are below this share of the box's width in every coordinate; by default "
        "1e-11.",
        least=0,
    )
    tolstagnation: int | None = option(
        None,
        "Stop when best and median values have not improved over this many steps; by default "
        "100 + 100 d^1.5 / popsize; 0: never.",
        least=0,
    )
    tolflatfitness: int | None = option(
        None,
        "Stop when three quarters of the population have had one value for more than this many "
        "steps; by default 1.",
        least=0,
    )

    def warnings(self, dimension: int) -> list[str]:
        """Say where the choice is unlikely to be meant."""
        found = []
        if self.sigma0 > 1 / 3:
            found.append(
                f"sigma0 = {self.sigma0:g}: standard deviations are kept below a third of the box"
            )
        if dimension > _LARGE and not self.diagonal:
            found.append(
                f"dimension {dimension}: a full covariance matrix takes memory of d^2 and time of "
                "d^3; 'diagonal' takes d"
            )
        return found

    def pycma(self) -> dict[str, Any]:
        """Options as pycma names them; what is None has its default there."""
        names = ("maxiter", "tolfun", "tolfunhist", "tolx", "tolstagnation", "tolflatfitness")
        options = {name: getattr(self, name) for name in names if getattr(self, name) is not None}
        return options | {
            "CMA_active": self.active,
            "CMA_diagonal": self.diagonal,
            "CMA_elitist": self.elitist,
        }
