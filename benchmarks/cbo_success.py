"""Success rates of CBO, each function beside its randomly rotated twin.

Success: every coordinate within 0.25 of the minimizer, for the best particle ("best") and for the
consensus point ("consensus"). A twin is f(R (x - x*) + x*) with one random rotation R.
Conventions: Rastrigin 10 d + sum x^2 - 10 cos 2 pi x without 1/d, noise sigma sqrt(dt) without
sqrt 2.

    python benchmarks/cbo_success.py [--quick] [--out FILE.json]
"""

from __future__ import annotations

import time

import numpy as np
from report import arguments, report

import zoo
from zoo.objectives.load import ProblemConfig, load

LITERATURE = {"alpha_schedule": "constant", "alpha": 30.0, "boundary": "none", "spread_tol": 0.0}
BOX3 = {"init_lower": -3.0, "init_upper": 3.0}
SMALL = {**LITERATURE, **BOX3, "sigma": 8.1}
# Covariance noise where the middle of the start box is far from the minimizer: moved by 2.
AFFINE = {"noise": "covariance", "shift": 2.0}

# name, objective, d, options
CASES = [
    ("default", "rastrigin", 20, {}),
    ("default", "rastrigin", 20, {"shift": 2.0}),
    ("default", "ackley", 20, {}),
    ("20 particles", "rastrigin", 20, SMALL | {"particles": 20, "evaluations": 100_000}),
    ("40 particles", "rastrigin", 20, SMALL | {"particles": 40, "evaluations": 200_000}),
    ("40 particles", "ackley", 20, SMALL | {"particles": 40, "evaluations": 200_000}),
    ("40 particles", "rastrigin", 10, SMALL | {"particles": 40, "evaluations": 200_000}),
    (
        "sigma 5.1",
        "rastrigin",
        20,
        SMALL | {"sigma": 5.1, "particles": 50, "evaluations": 100_000},
    ),
    ("covariance", "rastrigin", 10, AFFINE | {"evaluations": 200_000}),
    ("covariance", "rastrigin", 20, AFFINE | {"evaluations": 500_000}),
    ("covariance", "ackley", 20, AFFINE | {"evaluations": 300_000}),
    ("covariance", "ellipsoid", 20, AFFINE | {"evaluations": 400_000}),
    ("covariance", "rosenbrock", 20, AFFINE | {"sigma": 1.1, "evaluations": 800_000}),
]


def within(points, minimizer):
    return float(np.mean(np.max(np.abs(points - minimizer), axis=1) < 0.25))


def success(name, objective, d, options, runs):
    options = dict(options)
    shift = options.pop("shift", None)
    row = {"setting": name, "objective": objective, "d": d}
    row |= {key: options.get(key) for key in ("particles", "sigma")} | {"shift": shift}
    for twin, rotate in (("", None), ("rotated ", 1)):
        problem = load(ProblemConfig(objective=objective, dim=d, rotate=rotate, shift=shift))
        start = time.perf_counter()
        result = zoo.minimize(problem, runs=runs, seed=0, **options)
        row |= {
            f"{twin}best": within(result.runs_x, problem.minimizer),
            f"{twin}consensus": within(result.runs_consensus, problem.minimizer),
            f"{twin}below 1e-6": float(np.mean(result.runs_fun - problem.minimum < 1e-6)),
            f"{twin}median f": float(np.median(result.runs_fun - problem.minimum)),
            f"{twin}evaluations": int(np.mean(result.runs_nfev)),
        }
        row["seconds"] = row.get("seconds", 0.0) + time.perf_counter() - start
    return row


def seeds(count):
    """Separate runs by the defaults, seed 0 to count - 1, as `zoo run cbo` makes them."""
    problem = load(ProblemConfig(objective="rastrigin"))
    results = [zoo.minimize(problem, seed=seed) for seed in range(count)]
    return {
        "seeds": count,
        "below 1e-6": float(np.mean([result.fun < 1e-6 for result in results])),
        "largest f": max(result.fun for result in results),
        "evaluations": int(np.mean([result.nfev for result in results])),
        "seconds each": float(np.mean([result.seconds for result in results])),
    }


def truncated(runs):
    """Isotropic noise, d = 4, N = 100, T = 50, start N(0, 2000 I): success f(c) < 0.1."""
    published = {(1.0, 5.0): 1.00, (1.0, np.inf): 0.89, (1.25, 5.0): 0.96, (1.25, np.inf): 0.00}
    rows = []
    for (sigma, cut), value in published.items():
        result = zoo.minimize(
            load(ProblemConfig(objective="rastrigin25", dim=4)),
            runs=runs,
            noise="isotropic",
            sigma=sigma,
            truncation=cut,
            alpha=1e5,
            alpha_schedule="constant",
            boundary="none",
            init="normal",
            init_mean=0.0,
            init_std=2000**0.5,
            particles=100,
            dt=0.01,
            steps=5000,
            spread_tol=0.0,
        )
        ours = float(np.mean(result.runs_consensus_fun < 0.1))
        rows.append({"sigma": sigma, "M": cut, "success": ours, "published": value})
    return rows


if __name__ == "__main__":
    options = arguments(__doc__)
    runs = 10 if options.quick else 100
    table = [success(*case, runs) for case in CASES]
    report(f"Success of {runs} runs", table, options.out)
    report("Defaults, Rastrigin, d = 20", [seeds(runs)], options.out)
    report("Truncated noise, Rastrigin(2.5)", truncated(runs), options.out)
