"""What each part of the search for programs is worth: 2^x, the same CPU time without it.

Every search has so many seconds of one core; some run side by side. "random": programs are built by
chance, none from a better one. "no functional hash": only the same program, in canonical form, is
dropped, not what computes the same. "CMA-ES": constants by pycma as in the paper (population 128,
sigma 0.1 relative to the start, largest error at 1,024 points, ends after 100 generations without
progress), its points evaluated by our interpreter. "straight": Levenberg and Marquardt's steps
without their bend. "no lead": no start is led from the parent to the target. "no pairs", "no
squares", "no fractions": without the changes that put in two operations, or a square, or continue a
fraction. "one island": of as many elites as four have.

Digits are those of the search, of least-squares constants, medians over seeds of the best program
of at most so many operations.

    python benchmarks/autonumerics_ablation.py [--quick] [--out FILE.json]
        [--seconds 120] [--seeds 4]
"""

from __future__ import annotations

import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from hashlib import blake2b
from typing import Any

import numpy as np
from report import arguments, report

from evolve.autonumerics import levenberg, numerics, variation
from evolve.autonumerics.grid import grid_of
from evolve.autonumerics.interpreter import evaluate
from evolve.autonumerics.numerics import Numerics
from evolve.autonumerics.programs import ADD, DIV, MUL, SUB, Program
from evolve.autonumerics.targets import TARGETS
from evolve.search.config import SearchConfig
from evolve.search.method import Islands

TARGET, MOST = "exp2", 10


class ByChance(Numerics):
    """Programs from nothing, by so many changes of the smallest one."""

    def vary(self, genome: Program, random: np.random.Generator) -> Program:
        """So many changes, by chance."""
        made = self.seeds()[0]
        for _ in range(1 + int(random.integers(2 * self.most))):
            made = super().vary(made, random)
        return made


class Unhashed(Numerics):
    """Told apart by the text."""

    def key(self, genome: Program) -> int:
        """Hash of the text."""
        return int.from_bytes(blake2b(genome.text().encode(), digest_size=8).digest())


class ByCMA(Numerics):
    """Constants by CMA-ES, from the parent's ones."""

    points = grid_of(TARGETS[TARGET], 1024)

    def _fitted(self, genome: Program, least: float, random: np.random.Generator) -> Program:
        import cma

        given = genome.constants
        if len(given) < 2:  # pycma wants two
            return super()._fitted(genome, least, random)
        start = np.where(np.isfinite(given), given, variation.fresh(random, len(given)))

        def worst(factors: Any) -> float:
            values = evaluate(genome.with_constants(start * factors), self.points.x)
            error = float(np.abs((values - self.points.truth) * self.points.weights).max())
            return math.log10(error) if 0.0 < error < math.inf else 300.0

        options = {"popsize": 128, "seed": 1 + int(random.integers(2**31)), "verbose": -9,
                   "maxiter": 10_000, "tolstagnation": 100}  # fmt: skip
        found = cma.CMAEvolutionStrategy(np.ones(len(given)), 0.1, options)
        found.optimize(worst)
        return genome.with_constants(start * np.asarray(found.result.xbest))


def _straight() -> None:
    levenberg._BEND = 0.0  # before anything is compiled, in a cache of its own


def _not_led() -> None:
    numerics._LEAD = 0.0


def _without(change: Any) -> Callable[[], None]:
    def apply() -> None:
        changes = variation._CHANGES
        variation._CHANGES = tuple(variation._insert if c is change else c for c in changes)

    return apply


def _as_it_is() -> None:
    pass


FOUR, ONE = {"islands": 4, "elites": 12}, {"islands": 1, "elites": 48, "batch": 2000}

#: Domain, islands, and what is done before the search.
VARIANTS: dict[str, tuple[type[Numerics], dict[str, int], Callable[[], None]]] = {
    "all": (Numerics, FOUR, _as_it_is),
    "random": (ByChance, FOUR, _as_it_is),
    "no functional hash": (Unhashed, FOUR, _as_it_is),
    "CMA-ES": (ByCMA, FOUR | {"batch": 1}, _as_it_is),
    "straight": (Numerics, FOUR, _straight),
    "no lead": (Numerics, FOUR, _not_led),
    "no pairs": (Numerics, FOUR, _without(variation._extend)),
    "no squares": (Numerics, FOUR, _without(variation._square)),
    "no fractions": (Numerics, FOUR, _without(variation._continue)),
    "one island": (Numerics, ONE, _as_it_is),
}


def search(name: str, seed: int, seconds: float) -> dict[str, Any]:
    """One search: what it did, and digits by operations."""
    kind, islands, prepare = VARIANTS[name]
    prepare()
    target = TARGETS[TARGET]
    nodes, grid = grid_of(target, levenberg.NODES, ends=False), grid_of(target)
    domain = kind(nodes, grid, (ADD, SUB, MUL, DIV), MOST)
    method = Islands(domain, SearchConfig(**islands), seed)
    shards = [method.shard(i) for i in range(method.shards)]
    Numerics.assess(domain, domain.seeds()[0], -1.0, np.random.default_rng(0))  # compiles
    begin = time.process_time()
    while time.process_time() - begin < seconds:
        message = method.message(1)
        method.merge([shard.step(message) for shard in shards])
    spent = time.process_time() - begin
    told = method.result()
    front = {entry.cost: entry.score for entry in method.front()}
    return {
        "seconds": spent,
        "fits": told["fits"],
        "candidates": told["candidates"],
        "front": front,
    }


def one(name: str, seed: int, seconds: float) -> dict[str, Any]:
    """The same in a process of its own."""
    with tempfile.TemporaryDirectory() as cache:
        own = {"NUMBA_CACHE_DIR": cache} if name == "straight" else {}
        command = [sys.executable, __file__, "--one", json.dumps([name, seed, seconds])]
        done = subprocess.run(
            command, env=os.environ | own, capture_output=True, text=True, check=True
        )
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def main() -> None:
    given = arguments(
        __doc__, seconds="of CPU, of each search", seeds="searches", one="(of this script itself)"
    )
    if given.one is not None:
        np.seterr(all="ignore")
        print(json.dumps(search(*json.loads(str(given.one)))))
        return
    seconds, seeds = float(str(given.seconds or 120)), int(str(given.seeds or 4))
    if given.quick:
        seconds, seeds = 3.0, 1
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        waiting = {
            name: [pool.submit(one, name, seed, seconds) for seed in range(seeds)]
            for name in VARIANTS
        }
    rows = []
    for name, searches in waiting.items():
        told = [each.result() for each in searches]
        longest = max(each["seconds"] for each in told)
        row: dict[str, Any] = {"search": name, "seconds, most": longest}
        for key in ("fits", "candidates"):
            row[key] = int(statistics.median(each[key] for each in told))
        for ops in (3, 5, 7, 8, 9, 10):
            reached = [max(v for k, v in each["front"].items() if int(k) <= ops) for each in told]
            row[f"{ops} ops"] = statistics.median(reached)
        row["best of 10"] = max(max(each["front"].values()) for each in told)
        rows.append(row)
    report(f"{TARGET}: {seeds} searches of {seconds:g} s of one core", rows, given.out)


if __name__ == "__main__":
    main()
