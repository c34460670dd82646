"""Time of a local step of FZooS, beside the public scheme's, and of a round on workers.

A step is the surrogate of a window of n points and its gradient at one point, without the query,
on one thread. "public": scikit-learn's Gaussian process of the same kernel, length scale and noise,
not refitted, and forward differences of its mean, a prediction for each coordinate (as in the
authors' code) or all of them in one call. Ours is also given with the correction by 10,000 random
features, with the choice among 100 candidates by the trace of the covariance, and for a window that
grows by a point. Gradients agree to the digits of the differences.

Floor: the bytes of the window, or of the features' directions, read once from memory at the rate
measured beside it (a sum of an array that no cache holds).

    python benchmarks/fzoos_speed.py [--quick] [--out FILE.json]
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from report import arguments, report
from threadpoolctl import threadpool_limits

import zoo
from zoo.fzoos import study
from zoo.fzoos.features import features
from zoo.fzoos.kernels import KERNELS
from zoo.fzoos.surrogate import fitted
from zoo.runtime.launch import launch

SIZES = ((150, 300), (500, 2187))
NOISE, FEATURES = 1e-6, 10_000


def milliseconds(work: Callable[[], Any], least: float) -> float:
    """Median of calls that take so many seconds in all, one or more."""
    work()
    spent: list[float] = []
    while not spent or sum(spent) < least:
        begin = time.perf_counter()
        work()
        spent.append(time.perf_counter() - begin)
    return 1e3 * float(np.median(spent))


def public(x: Any, y: Any, ell: float) -> Any:
    """Scikit-learn's Gaussian process, its hyperparameters given."""
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import RBF

    return GaussianProcessRegressor(
        RBF(ell), alpha=NOISE, optimizer=None, normalize_y=True
    ).fit(x, y)  # fmt: skip


def by_differences(x: Any, y: Any, ell: float, at: Any, h: float, at_once: bool) -> Any:
    """Gradient of its mean by forward differences."""
    model = public(x, y, ell)
    points = np.concatenate([at[None], at + h * np.eye(len(at))])
    if at_once:
        values = model.predict(points)
    else:
        values = np.array([model.predict(point[None])[0] for point in points])
    return (values[1:] - values[0]) / h


def bandwidth() -> float:
    """Bytes a second of a sum over an array that no cache holds."""
    array = np.ones(1 << 26)
    return array.nbytes / (1e-3 * milliseconds(array.sum, 1.0))


def step(n: int, d: int, least: float) -> dict[str, Any]:
    """One row: times in milliseconds."""
    random = np.random.default_rng(0)
    x = 0.5 + 0.05 * random.standard_normal((n, d))
    y = ((x - 0.3) ** 2).sum(1)
    at, ell = x[-1] + 0.01, 0.3 * np.sqrt(d)
    kernel = KERNELS["se"]

    def ours() -> Any:
        return fitted(x, y, at, kernel, [ell], [NOISE]).gradient(at)

    made = fitted(x[:-1], y[:-1], at, kernel, [ell], [NOISE])
    shared = features(0, FEATURES, d, kernel)
    weights = random.standard_normal(FEATURES)
    candidates = at + 0.01 * random.uniform(-1, 1, (100, d))
    exact, differed = ours(), by_differences(x, y, ell, at, 1e-6, True)
    row: dict[str, Any] = {
        "n": n,
        "d": d,
        "step": milliseconds(ours, least),
        "grown by a point": milliseconds(lambda: made.extended(x[-1:], y[-1:]).gradient(at), least),
        "correction": milliseconds(lambda: shared.gradient(at, ell, weights), least),
        "100 candidates": milliseconds(
            lambda: fitted(x, y, at, kernel, [ell], [NOISE]).traces(candidates), least
        ),
        "public": milliseconds(lambda: by_differences(x, y, ell, at, 1e-6, False), least),
        "public, one call": milliseconds(lambda: by_differences(x, y, ell, at, 1e-6, True), least),
        "differ by": float(np.linalg.norm(exact - differed) / np.linalg.norm(exact)),
    }
    row["times faster"] = row["public"] / row["step"]
    row["times faster, one call"] = row["public, one call"] / row["step"]
    rate = bandwidth()
    row["step, of its floor"] = row["step"] / (1e3 * x.nbytes / rate)
    row["correction, of its floor"] = row["correction"] / (1e3 * shared.v.nbytes / rate)
    return row


def rounds(workers: int, quick: bool) -> dict[str, Any]:
    """Seconds of a round of FZooS on so many workers; the first ones are not counted."""
    given: dict[str, Any] = {"algorithm": "fzoos", "clients": 4, "dim": 300, "features": 10_000}
    given |= {"rounds": 6, "local_queries": 5, "select": "uncertain"}
    if quick:
        given |= {"dim": 30, "features": 500}
    ends: dict[int, float] = {}  # of rounds

    def listen(now: Any) -> None:
        ends.setdefault(now.step, time.perf_counter())

    with zoo.workers(workers) as crew:
        prepared = study.prepare("fzoos", dict(given), 0)
        launch(prepared, placement=crew.placement, crew=crew, callback=listen)
    first, last = min(ends), max(ends)
    return {"workers": workers, "seconds a round": (ends[last] - ends[first]) / (last - first)}


def main() -> None:
    given = arguments(__doc__)
    sizes = ((40, 30),) if given.quick else SIZES
    with threadpool_limits(1):
        rows = [step(n, d, 0.05 if given.quick else 2.0) for n, d in sizes]
    report("milliseconds of a local step", rows, given.out)
    found = [rounds(workers, given.quick) for workers in (1, 2)]
    report("a round: 4 clients, d = 300, 10,000 features", found, given.out)


if __name__ == "__main__":
    main()
