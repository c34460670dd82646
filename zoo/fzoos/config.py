"""Parameters of federated optimization."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from zoo.config import option
from zoo.errors import InputError

ALGORITHMS = (
    "shared",
    "fzoos",
    "fedzo",
    "fedprox",
    "scaffold1",
    "scaffold2",
    "decomfl",
    "fedkseed",
    "fedcma",
)
#: Those whose clients take steps of their own by Adam.
_STEPPING = ("fzoos", "fedzo", "fedprox", "scaffold1", "scaffold2")
_DIFFERENCES = ("fedzo", "fedprox", "scaffold1", "scaffold2")
_SURROGATES = ("shared", "fzoos")
DROPOUTS = ("skip", "stale", "fail")

#: Algorithms that a parameter is for, where not all of them take it.
_ONLY = {
    "local_steps": (*_STEPPING, "decomfl", "fedkseed"),
    "eta": _STEPPING,
    "guard": _STEPPING,
    "gamma": ("fzoos", "fedprox"),
    "kernel": ("fzoos",),
    "length_scale": ("fzoos",),
    "gp_noise": ("fzoos",),
    "curvature": ("shared",),
    "window": _SURROGATES,
    "survey": _SURROGATES,
    "start_points": ("fzoos",),
    "memory": _SURROGATES,
    "features": ("fzoos",),
    "features_window": ("fzoos",),
    "local_queries": ("fzoos",),
    "select": ("fzoos",),
    "max_age": ("shared", *_STEPPING),
    "directions": (*_DIFFERENCES, "decomfl"),
    "step": (*_DIFFERENCES, "decomfl", "fedkseed"),
    "distribution": ("decomfl",),
    "lr": ("decomfl", "fedkseed"),
    "pool": ("fedkseed",),
    "popsize": ("fedcma",),
    "sigma0": ("fedcma",),
    "radius": ("shared",),
}


@dataclass(frozen=True)
class FederatedProblem:
    """What is minimized: a mean of functions, each of which one client alone can evaluate."""

    objective: str = option(
        "quadratic",
        "quadratic (the paper's); a test function of any dimension (zoo list objectives), to which "
        "clients add quadratics that sum to zero; or FILE.py:NAME or pkg.module:NAME, a list of "
        "zoo.Client or a function that returns one.",
    )
    dim: int = option(300, "Dimension d of a test problem.", least=1)
    clients: int = option(5, "Clients of a test problem.", least=1)
    heterogeneity: float = option(5.0, "C: how much the clients of a test problem differ.", least=0)
    condition: float = option(1.0, "Condition number of quadratic.", least=1)
    rotate: bool = option(False, "Rotate quadratic at random.")
    noise: float = option(
        0.0, "Standard deviation of noise in every value of a test problem.", least=0
    )
    instance: int | None = option(
        None, "Seed of a test problem itself; by default that of the run.", least=0
    )


@dataclass(frozen=True)
class FZooSConfig:
    """Every parameter: who takes part, the algorithm, its surrogates, its differences."""

    algorithm: str = option(
        "shared",
        "shared: all clients query the same points, and the surrogate is that of their mean. "
        "fzoos: each has a surrogate of its own, which travel as random features. fedzo, fedprox, "
        "scaffold1, scaffold2: finite differences. decomfl: scalars along shared directions; "
        "fedkseed: along those of a pool. fedcma: CMA-ES, whose candidates all evaluate.",
        choices=ALGORITHMS,
    )
    rounds: int = option(50, "Rounds R.", least=1)
    queries: int | None = option(
        None, "Most queries of all clients; the round under way is finished.", least=1
    )
    target: float | None = option(None, "The run ends when F(x) is this or less.")
    seconds: float | None = option(None, "Most seconds of wall-clock time.", above=0)
    participation: float = option(
        1.0, "Share of the clients that take part in a round, drawn at random.", above=0, most=1
    )
    min_clients: int = option(1, "A round in which fewer clients answer changes nothing.", least=1)
    round_timeout: float | None = option(
        None, "Seconds that a client has to answer; then it is absent from the round.", above=0
    )
    on_dropout: str = option(
        "skip",
        "Of a client that is absent: skip, the others' weights are scaled up; stale, its last "
        "steps stand in, if they are not older than max_age; fail, the run ends.",
        choices=DROPOUTS,
    )
    max_age: int = option(
        10, "Rounds that what an absent client has answered stays in the mean.", least=0
    )
    local_steps: int | None = option(
        None, "Steps T of a client in a round: 10; of decomfl 1.", least=1
    )
    eta: float = option(0.01, "Step of Adam, in units of the box.", above=0)
    guard: bool = option(
        True,
        "Take back a round whose iterate is worse than the one before, by the same clients.",
    )
    gamma: str | None = option(
        None,
        "Share of the correction by the others' surrogates: 1; a number, or 1/t in local step t "
        "(the paper). Of fedprox the pull to the server's iterate: 0.01.",
        numeric=True,
    )
    kernel: str = option("matern", "se: squared exponential; matern: Matern 5/2.",
                         choices=("se", "matern"))  # fmt: skip
    length_scale: float | None = option(
        None, "Of the kernel, in units of the box; by default the most likely one.", above=0
    )
    gp_noise: float | None = option(
        None,
        "Variance of the values' noise, relative to that of the values; by default the most "
        "likely one.",
        least=0,
    )
    window: int | None = option(
        None,
        "Points of a surrogate: 500 for fzoos (paper: 150), 600 for shared.",
        least=2,
        most=5000,
    )
    curvature: str = option(
        "full",
        "Of the surrogate of shared: full, one that all directions have in common, and a Hessian; "
        "common: the former alone; none: a plane.",
        choices=("full", "common", "none"),
    )
    memory: int = option(2000, "Points that are remembered, the latest.", least=2)
    survey: int | None = option(
        None, "Queries about the new iterate at the end of a round: 50.", least=0
    )
    start_points: int = option(10, "Queries about the first iterate.", least=0)
    features: int = option(10_000, "Random features M that a surrogate travels as.", least=1)
    features_window: int = option(500, "Points of a surrogate that travels.", least=2, most=5000)
    local_queries: int = option(
        0, "Queries near the iterate after every local step but the last (paper: 5).", least=0
    )
    select: str = option(
        "shared",
        "Points of a survey. shared: along directions that all clients draw alike, so that their "
        "errors cancel; random: each client its own; uncertain: of 4 times as many (20 times near "
        "a local iterate) those of the most uncertain gradients (the paper).",
        choices=("shared", "random", "uncertain"),
    )
    directions: int = option(20, "Directions Q of a difference estimate.", least=1)
    step: float = option(0.01, "Length of a difference, in units of the box.", above=0)
    distribution: str = option(
        "orthonormal", "Of the directions of decomfl.", choices=("orthonormal", "gaussian")
    )
    lr: float | None = option(
        None,
        "Step of decomfl and fedkseed along the estimate; by default found by its success.",
        above=0,
    )
    pool: int = option(1024, "Directions K of fedkseed.", least=1)
    popsize: int | None = option(
        None, "Candidates lambda of a generation of fedcma; by default 4 + floor(3 ln d).", least=4
    )
    sigma0: float = option(
        0.2, "First standard deviation of fedcma, as a share of the box's width.", above=0, most=1
    )
    radius: float = option(
        0.05,
        "Length of the first step of shared, as a share of the box's diagonal.",
        above=0,
        most=1,
    )

    def __post_init__(self) -> None:
        for name, algorithms in _ONLY.items():
            given = getattr(self, name) != getattr(FZooSConfig, name)
            if given and self.algorithm not in algorithms:
                raise InputError(
                    f"{name} is for {', '.join(algorithms)}, and not for {self.algorithm}"
                )
        if self.on_dropout == "stale" and self.algorithm not in _STEPPING:
            raise InputError(f"on_dropout stale is for {', '.join(_STEPPING)}")
        if self.gamma is not None and not (self.gamma == "1/t" and self.algorithm == "fzoos"):
            try:
                finite = math.isfinite(float(self.gamma))
            except ValueError:
                finite = False
            if not finite:
                also = ", or 1/t" if self.algorithm == "fzoos" else ""
                raise InputError(f"gamma must be a finite number{also}, got {self.gamma!r}")

    def completed(self) -> FZooSConfig:
        """Config with the defaults that depend on the algorithm."""
        algorithm, window, survey = self.algorithm, self.window, self.survey
        if algorithm in _SURROGATES:
            window = window or (600 if algorithm == "shared" else 500)
            survey = 50 if survey is None else survey
        steps, gamma = self.local_steps, self.gamma
        if algorithm in _ONLY["local_steps"]:
            steps = steps or (1 if algorithm == "decomfl" else 10)
        if algorithm in _ONLY["gamma"]:
            gamma = gamma or ("0.01" if algorithm == "fedprox" else "1")
        return replace(self, window=window, survey=survey, local_steps=steps, gamma=gamma)
