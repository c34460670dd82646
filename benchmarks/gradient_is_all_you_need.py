"""The experiment of "Gradient is All You Need?" (Riedl, Klock, Geldhauser, Fornasier).

On the two-dimensional "canyon" function, from N((8, 8), 0.5^2) or (8, 8): how many runs end within
a distance of the global minimizer at the origin. CBO and consensus hopping find it through the
barrier that stops gradient descent; annealed Langevin dynamics find it sometimes. With --plot the
paths of some runs over the landscape.

    python benchmarks/gradient_is_all_you_need.py [--quick] [--out FILE.json] [--plot FILE.png]
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from report import arguments, report

import zoo
from zoo.objectives.load import ProblemConfig, load

START = np.array([8.0, 8.0])
MEASURED = {"CBO": 0.991, "consensus hopping": 0.761, "gradient descent": 0.0, "Langevin": 0.269}
COMMON = {"particles": 200, "alpha": 100.0, "alpha_schedule": "constant", "boundary": "none"}
METHODS = {
    "CBO": {"noise": "isotropic", "sigma": 1.6, "lam": 1.0, "dt": 0.01, "init_std": 0.5},
    "consensus hopping": {"dynamics": "hopping", "sigma": 0.7, "init_std": 0.7},
}


def canyon(p):
    """Energy of points (..., 2): an independent NumPy form of the objective."""
    x, y = p[..., 0], p[..., 1]
    v = y - (2 / 16 * (x - 1) * (x - 4) ** 2 + 2)
    b = -x - 1.6 * y
    valley = 25 * (1 - np.exp(-1.4 * v**2 * np.exp(-0.002 * x**4)))
    waves = 1.1625 * ((1 - np.cos(0.75 * np.pi * x)) + (1 - np.cos(0.75 * np.pi * y)))
    wall = 4 * np.exp(1 - 2 * v**4) * np.maximum((1 - np.exp(-9 * b**2)) * np.sign(b), 0)
    return valley + 0.4 * x**2 + 0.2 * y**2 + waves + wall


def gradient(p, h=1e-5):
    """Central differences."""
    g = np.empty_like(p)
    for j in range(2):
        e = np.zeros(2)
        e[j] = h
        g[..., j] = (canyon(p + e) - canyon(p - e)) / (2 * h)
    return g


def descend(runs, steps, noise, keep=None):
    """x <- x - dt grad f + sigma_k sqrt(dt) xi, sigma_k = 10/log(k + 1) for annealed Langevin."""
    rng = np.random.Generator(np.random.Philox(key=1))
    dt, p = 1e-3, np.tile(START, (runs, 1))
    for k in range(1, steps + 1):
        p = p - dt * gradient(p)
        if noise:
            p += 10 / np.log(k + 1) * np.sqrt(dt) * rng.standard_normal(p.shape)
        if keep is not None and k % 20 == 0:
            keep.append(p.copy())
    return p


def consensus_runs(name, runs, steps=250):
    problem = load(ProblemConfig(objective="canyon"))
    result = zoo.minimize(
        problem, x0=START, runs=runs, steps=steps, spread_tol=0.0, **COMMON, **METHODS[name]
    )
    return np.atleast_2d(result.get("runs_consensus", result.consensus))


def shares(name, ends):
    distance = np.linalg.norm(ends, axis=1)
    return {
        "method": name,
        "runs": len(ends),
        "< 0.25": float(np.mean(distance < 0.25)),
        "< 0.5": float(np.mean(distance < 0.5)),
        "< 1": float(np.mean(distance < 1.0)),
        "median distance": float(np.median(distance)),
        "known < 0.25": MEASURED[name],
    }


def paths(name, runs, steps):
    """Consensus points over time: the same runs, stopped ever later."""
    return np.stack([consensus_runs(name, runs, k) for k in range(1, steps + 1, 3)])


def draw(path, quick):
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    grid = np.stack(np.meshgrid(np.linspace(-3, 9, 400), np.linspace(-3, 9, 400)), axis=-1)
    figure, axes = plt.subplots(1, 4, figsize=(18, 4.6), sharey=True)
    runs, steps = 12, 60 if quick else 250
    for axis, name in zip(axes, MEASURED, strict=True):
        axis.contourf(grid[..., 0], grid[..., 1], canyon(grid), 30, cmap="terrain")
        if name in METHODS:
            tracks = paths(name, runs, steps)
        else:
            kept: list[np.ndarray] = []
            descend(runs, 500 if quick else 10_000, name == "Langevin", kept)
            tracks = np.stack(kept)
        for r in range(runs):
            axis.plot(tracks[:, r, 0], tracks[:, r, 1], lw=0.8, color="black")
        axis.plot(*tracks[-1].T, "o", ms=3, color="crimson")
        axis.plot(0, 0, "*", ms=12, color="gold")
        axis.set(title=name, xlim=(-3, 9), ylim=(-3, 9), xlabel="x")
    figure.tight_layout()
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    plot = None
    if "--plot" in sys.argv:
        at = sys.argv.index("--plot")
        plot = Path(sys.argv[at + 1])
        del sys.argv[at : at + 2]
    options = arguments(__doc__)
    runs = 50 if options.quick else 1000
    rows = [shares(name, consensus_runs(name, runs)) for name in METHODS]
    rows.append(shares("gradient descent", descend(1, 10_000, False)))
    steps = 500 if options.quick else 10_000
    rows.append(shares("Langevin", descend(runs, steps, True)))
    report(f"Gradient is All You Need?, {runs} runs", rows, options.out)
    if plot is not None:
        draw(plot, options.quick)
