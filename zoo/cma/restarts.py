"""The schedules of restarts, which pycma has only within its own loop.

IPOP: Auger and Hansen, "A restart CMA evolution strategy with increasing population size", CEC
2005. BIPOP: Hansen, "Benchmarking a BI-population CMA-ES on the BBOB-2009 function testbed",
GECCO 2009.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from zoo.cma.config import SMALLEST, CMAConfig
from zoo.problem import Array


@dataclass
class Restart:
    """A run between two restarts: how it was started, and what came of it."""

    regime: str  # first | large | small
    popsize: int
    sigma0: float
    maxfevals: int | None = None
    iterations: int = 0
    evaluations: int = 0
    fun: float = math.inf
    stop: dict[str, Any] = field(default_factory=dict)


def next_restart(
    config: CMAConfig, done: list[Restart], uniforms: Callable[[int], Array]
) -> Restart | None:
    """What comes after the runs that are done; None if nothing does.

    IPOP multiplies the population by ``popsize_factor``. BIPOP does so too, but whenever the other
    regime has used fewer evaluations, which the first run counts for, starts a run of
    lambda_small = floor(lambda (lambda_large / (2 lambda))^(U^2)), sigma = sigma0 10^(-2 U'), and
    at most half the evaluations of the last large one.

    Parameters
    ----------
    config : CMAConfig
    done : list of Restart
    uniforms : callable
        Gives so many independent uniforms U of the restart to come.
    """
    first = done[0].popsize
    large = [run for run in done if run.regime == "large"]
    spent = sum(run.evaluations for run in large)
    if config.restarts == "none":
        return None
    if config.restarts == "bipop" and sum(run.evaluations for run in done) - spent < spent:
        u, v = uniforms(2).tolist()
        popsize = math.floor(first * (0.5 * large[-1].popsize / first) ** (u * u))
        sigma0 = config.sigma0 * 10.0 ** (-2.0 * v)
        return Restart("small", max(SMALLEST, popsize), sigma0, large[-1].evaluations // 2)
    if len(large) >= config.max_restarts:
        return None
    popsize = math.floor(first * config.popsize_factor ** (len(large) + 1))
    return Restart("large", popsize, config.sigma0)
