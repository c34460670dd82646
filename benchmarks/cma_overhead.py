"""Time of a CMA-ES generation of zoo.minimize against plain pycma on the same work.

Work: the ellipsoid of condition 1e6 as a Python function of one point, in a box, from its middle,
no restarts, no tolerances that would end it. pycma is its bare loop of ask, stop and tell with the
same options, bounds included, and writes and prints nothing. Whole runs of both in turn, five
times; medians. The ratio is zoo's time to pycma's.

    python benchmarks/cma_overhead.py [--quick] [--out FILE.json]
"""

from __future__ import annotations

import os
import statistics
import time

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import cma
import numpy as np
from report import arguments, report

import zoo

DIMENSIONS = (10, 100)
NEVER = {"tolfun": 0.0, "tolfunhist": 0.0, "tolx": 0.0, "tolstagnation": 0, "maxiter": 10**9}


def ellipsoid(d):
    scales = np.logspace(0, 6, d)
    return lambda x: float((x - 0.4) ** 2 @ scales)


def plain(function, d, generations, seed):
    normals = np.random.default_rng(seed)
    options = NEVER | {
        "bounds": [[0.0] * d, [1.0] * d],
        "randn": lambda *shape: normals.standard_normal(shape),
        "seed": np.nan,
        "verbose": -9,
        "verb_log": 0,
        "signals_filename": "",
    }
    strategy = cma.CMAEvolutionStrategy(np.full(d, 0.5), 0.2, options)
    for _ in range(generations):
        candidates = strategy.ask()
        strategy.tell(candidates, [function(x) for x in candidates])
        assert not strategy.stop(), strategy.stop()


def by_zoo(function, d, generations, seed):
    result = zoo.minimize(
        function,
        [(0.0, 1.0)] * d,
        method="cma",
        x0=np.full(d, 0.5),
        restarts="none",
        steps=generations,
        seed=seed,
        **NEVER,
    )
    assert result.nit == generations


def timed(work, *given):
    started = time.perf_counter()
    work(*given)
    return time.perf_counter() - started


def measure(d, generations, times):
    function = ellipsoid(d)
    for work in (plain, by_zoo):
        work(function, d, 5, 0)
    pairs = [
        (
            timed(plain, function, d, generations, seed),
            timed(by_zoo, function, d, generations, seed),
        )
        for seed in range(times)
    ]
    pycma, ours = (
        1e3 * statistics.median(column) / generations for column in zip(*pairs, strict=True)
    )
    return {
        "d": d,
        "generations": generations,
        "pycma ms": pycma,
        "zoo ms": ours,
        "ratio": ours / pycma,
    }


def main():
    given = arguments(__doc__)
    generations, times = (60, 3) if given.quick else (300, 5)
    rows = [measure(d, generations, times) for d in DIMENSIONS]
    report("CMA-ES: time of a generation", rows, given.out)


if __name__ == "__main__":
    main()
