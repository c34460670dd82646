"""Parameters of consensus-based optimization."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

from zoo.config import option
from zoo.errors import InputError

DYNAMICS = ("cbo", "hopping", "polarized", "sampling")
NOISES = ("anisotropic", "isotropic", "covariance")
SCHEDULES = ("constant", "multiply", "ess")
BOUNDARIES = ("none", "clip", "reflect")
GATES = ("none", "heaviside", "smooth")

#: Component-wise noise s = sigma sqrt(dt) contracts almost surely below this (E log|1 + s z| < 0).
LARGEST_ANISOTROPIC_S = 1.56


@dataclass(frozen=True)
class CBOConfig:
    """Every parameter of the CBO family.

    The step is x <- x - lam dt (x - c) + sigma sqrt(dt) N(x - c) xi, with c the mean of the
    particles weighted by exp(-alpha f). What decides success is s = sigma sqrt(dt).
    """

    particles: int | None = option(
        None,
        "Particles N of each run; by default 100, with covariance noise 80 d if that is more.",
        least=1,
    )
    runs: int = option(1, "Independent runs at once; the best is the result.", least=1)
    dynamics: str = option(
        "cbo",
        "cbo: drift and noise about one consensus point. hopping: each step samples "
        "N(c, sigma^2 I) about the last consensus ('Gradient is All You Need?'). polarized: a "
        "consensus of its own for each particle, for several minima. sampling: particles settle "
        "to samples of exp(-f) (consensus-based sampling).",
        choices=DYNAMICS,
    )
    noise: str = option(
        "anisotropic",
        "anisotropic: (x - c) xi by coordinate. isotropic: |x - c| xi. covariance: C^(1/2) xi "
        "with the weighted covariance C, unchanged by rotation and scaling of the space.",
        choices=NOISES,
    )
    lam: float = option(1.0, "Drift lambda.", least=0)
    sigma: float | None = option(
        None,
        "Noise sigma, in sigma sqrt(dt), without sqrt 2; for hopping the standard deviation of "
        "the samples. By default anisotropic 10, isotropic 0.9 sqrt(2 lam/d), covariance 1, "
        "hopping a twentieth of the mean width of the bounds, sampling sqrt(1 + alpha).",
        least=0,
    )
    dt: float | None = option(
        None, "Time step; by default 0.01, with covariance noise 5, for sampling 0.1.", above=0
    )
    alpha: float = option(30.0, "Inverse temperature of the weights exp(-alpha f).", above=0)
    alpha_schedule: str | None = option(
        None,
        "constant; multiply: by alpha-factor each step; ess: alpha such that the effective "
        "number of weighted particles is ess times N, whatever the scale of f (solved on the "
        "energies of a step, used in the next). By default "
        "multiply, with covariance noise ess, for sampling constant.",
        choices=SCHEDULES,
    )
    alpha_factor: float = option(1.01, "Growth of alpha a step (schedule multiply).", above=0)
    alpha_max: float = option(1e30, "Largest alpha.", above=0, most=1e300)
    ess: float = option(
        0.3, "Effective share of weighted particles (schedule ess).", above=0, most=1
    )
    sigma_factor: float = option(1.0, "Factor of sigma a step.", above=0)
    sigma_min: float = option(0.0, "Smallest sigma.", least=0)
    dt_factor: float = option(1.0, "Factor of dt a step.", above=0)
    dt_min: float = option(0.0, "Smallest dt.", least=0)
    covariance_about: str = option(
        "last",
        "Covariance of the weighted particles about the last consensus, which keeps the spread "
        "along the way the population moves, or about the new one, which is their own (and what "
        "sampling takes).",
        choices=("last", "new"),
    )
    truncation: float = option(
        math.inf, "Largest |x - c| that the noise sees (truncated noise).", above=0, finite=False
    )
    gate: str = option(
        "none",
        "Drift only particles that are worse than the consensus (one evaluation more a step and "
        "shard): "
        "heaviside, or smooth = (1 + tanh((f(x) - f(c))/gate-eps))/2.",
        choices=GATES,
    )
    gate_eps: float = option(1e-3, "Width of the smooth gate.", above=0)
    batch: int = option(
        0, "Consensus from random mini-batches of this many particles; 0: from all.", least=0
    )
    batch_moves: str = option(
        "batch", "Who moves in a step with mini-batches.", choices=("batch", "all")
    )
    memory: bool = option(
        False, "Consensus of personal bests, to which particles are drawn too (memory effects)."
    )
    lam_memory: float = option(0.4, "Drift to the personal best.", least=0)
    sigma_memory: float = option(0.0, "Noise about the personal best.", least=0)
    kick_sigma: float = option(
        0.0,
        "Independent noise kick-sigma sqrt(dt), in widths of the bounds, added to the particles "
        "that move once they have collapsed or stagnated; 0: never.",
        least=0,
    )
    kick_spread: float = option(
        1e-3, "Collapsed: spread below this share of the first.", least=0, most=1
    )
    kick_patience: int = option(
        0, "Stagnated: steps without a better value; 0: do not ask.", least=0
    )
    kappa: float | None = option(
        None,
        "Width of the kernel of polarized dynamics; by default a tenth of the mean width of the "
        "bounds.",
        above=0,
    )
    kernel_scaling: str = option(
        "alpha",
        "Exponent of that kernel times alpha, so that a growing alpha leads each particle to its "
        "proximal point; or none, as in the formula c(x) = sum k(x, y) exp(-alpha f(y)) y.",
        choices=("alpha", "none"),
    )
    boundary: str = option(
        "reflect",
        "What bounds do to particles: reflect, clip, or none (bounds only place the start).",
        choices=BOUNDARIES,
    )
    init: str = option(
        "uniform",
        "First positions: uniform in the start box, or normal about its middle (also with "
        "init-mean or init-std given).",
        choices=("uniform", "normal"),
    )
    init_lower: float | None = option(None, "Start box, if not the bounds.")
    init_upper: float | None = option(None, "Start box, if not the bounds.")
    init_mean: float | None = option(None, "Mean of a normal start; else the middle of the box.")
    init_std: float | None = option(
        None, "Standard deviation of a normal start; else a quarter of the box.", above=0
    )
    spread_tol: float = option(
        1e-10, "Converged: spread below this share of the first; 0: never.", least=0, most=1
    )
    shards: int = option(
        0,
        "Pieces of the population that may be computed side by side; part of the configuration: "
        "results depend on it, and not on threads or workers. 0: chosen from the sizes.",
        least=0,
    )
    device: str = option(
        "cpu",
        "cpu; or cuda: whole steps on a GPU, of a compiled objective. The random words are the "
        "same, and results differ by rounding.",
        choices=("cpu", "cuda"),
    )
    precision: str = option(
        "float64",
        "Of positions on a GPU, and of what objectives see.",
        choices=("float64", "float32"),
    )

    def __post_init__(self) -> None:
        if self.particles is not None and self.batch > self.particles:
            raise InputError(
                f"batch must be at most particles ({self.particles}), got {self.batch}"
            )
        if self.dynamics == "sampling" and self.alpha_schedule not in (None, "constant"):
            raise InputError("dynamics 'sampling' takes a constant alpha")
        if self.memory and self.noise == "covariance":
            raise InputError("memory needs noise isotropic or anisotropic, got 'covariance'")
        if self.dynamics in ("hopping", "sampling") and self.memory:
            raise InputError(f"memory does not go with dynamics {self.dynamics!r}")
        if self.dynamics in ("hopping", "sampling") and self.gate != "none":
            raise InputError(f"a drift gate does not go with dynamics {self.dynamics!r}")
        if self.dynamics == "polarized" and (
            self.batch or self.noise == "covariance" or self.memory or self.gate != "none"
        ):
            raise InputError(
                "polarized dynamics take noise isotropic or anisotropic, and no batches, memory "
                "or gate"
            )
        if self.dynamics in ("hopping", "sampling") and self.noise != "anisotropic":
            raise InputError(f"dynamics {self.dynamics!r} has its own noise, got {self.noise!r}")
        cut = self.dynamics in ("hopping", "sampling") or self.noise == "covariance"
        if cut and self.truncation < math.inf:
            raise InputError("truncation goes with noise anisotropic or isotropic of a drift")
        if (self.init_lower is None) != (self.init_upper is None):
            raise InputError("init_lower and init_upper are given together or not at all")
        if (
            self.init_lower is not None
            and self.init_upper is not None
            and not self.init_lower < self.init_upper
        ):
            raise InputError(
                f"init_lower must be below init_upper, got {self.init_lower} and {self.init_upper}"
            )

    def resolved(self, dimension: int, width: float) -> CBOConfig:
        """Fill in the defaults that depend on the dynamics, dimension and mean width of bounds."""
        sampling = self.dynamics == "sampling"
        affine = self.noise == "covariance" or sampling
        sigma = {
            "anisotropic": 10.0,
            "isotropic": 0.9 * math.sqrt(2.0 * self.lam / dimension),
            "covariance": 1.0,
        }[self.noise]
        if self.dynamics == "hopping":
            sigma = width / 20.0
        if sampling:  # 1/lambda = 1 + alpha keeps exp(-f) stationary
            sigma = math.sqrt(1.0 + self.alpha)
        defaults = {
            "particles": max(100, 80 * dimension) if affine else 100,
            "sigma": sigma,
            "dt": 0.1 if sampling else 5.0 if affine else 0.01,
            "kappa": width / 10.0,
            "alpha_schedule": "constant" if sampling else "ess" if affine else "multiply",
        }
        filled: dict[str, Any] = {
            name: value for name, value in defaults.items() if getattr(self, name) is None
        }
        if sampling:
            filled["covariance_about"] = "new"
        return replace(self, **filled)

    def warnings(self, dimension: int) -> list[str]:
        """Say where the chosen lambda, sigma, dt cannot contract the particles.

        Component-wise noise contracts almost surely for s = sigma sqrt(dt) < 1.56; isotropic noise
        in mean square for sigma < sqrt(2 lam / d).
        """
        config = self.resolved(dimension, 1.0)
        assert config.sigma is not None
        assert config.dt is not None
        if self.noise == "covariance":
            return []
        if self.dynamics not in ("cbo", "polarized"):
            return []
        if self.lam * config.dt >= 2.0:
            return [f"lam*dt = {self.lam * config.dt:g}: drift steps of 2 or more diverge"]
        s = config.sigma * math.sqrt(config.dt)
        if self.noise == "anisotropic" and s >= LARGEST_ANISOTROPIC_S:
            return [
                f"sigma*sqrt(dt) = {s:.3g}: component-wise noise contracts only below "
                f"{LARGEST_ANISOTROPIC_S} (0.8 to 1.05 works best)"
            ]
        limit = math.sqrt(2.0 * self.lam / dimension)
        if self.noise == "isotropic" and config.sigma >= limit:
            return [
                f"sigma = {config.sigma:g}: isotropic noise contracts in mean square only below "
                f"sqrt(2 lam/d) = {limit:.3g}"
            ]
        return []
