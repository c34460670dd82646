"""Speed of the search of gsd: candidates a second, beside its floor and the public JAX code.

Work: all 91 pairs of Adult as codes, 148,137 cells, without noise; N' = 2,000 rows, and as many as
in the data; half mutations, half crossovers. The first of the phases is from independent columns
on, where many edits are made, the second when few are left to make.

Candidates evaluated are those whose value is not the one that is there already. Their floor is the
slowest of two things done alone: drawing the random numbers, and reading the 26 residuals that one
needs, at random places of an array of that size.

--jax PYTHON runs the public code beside it (see gsd_jax.py), on the same table and two threads.

    python benchmarks/gsd_speed.py --data FOLDER [--jax PYTHON] [--quick] [--out FILE.json]

FOLDER has adult_discretized.csv and adult_discretized_domain.json of private-pgm.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from report import arguments, report

from evolve.gsd.config import GSDConfig
from evolve.gsd.curator import Curator
from evolve.gsd.genome import Table
from evolve.gsd.marginals import every, plain
from evolve.gsd.method import GSD
from evolve.gsd.queries import Queries
from evolve.gsd.schema import read_schema
from evolve.gsd.table import read_table
from evolve.gsd.workload import design_of
from zoo.jit import kernel
from zoo.runtime.hosts import InlineHost, ThreadsHost
from zoo.runtime.loop import run
from zoo.streams import philox

#: Residuals that a candidate needs: two in each pair that has its column.
_READS = 26


@kernel
def draw(count):
    total = np.uint64(0)
    for pair in range(count // 2):
        a, b, c, d = philox(
            np.uint64(pair), np.uint64(1), np.uint64(0), np.uint64(16), np.uint64(1), np.uint64(0)
        )
        total ^= a ^ b ^ c ^ d
    return total


@kernel
def read(residual, places, count):
    total = 0.0
    for i in range(count):
        at = (i * _READS) % (len(places) - _READS)
        for k in range(_READS):
            total += residual[places[at + k]]
    return total


def best_of(times: int, work, *arguments) -> float:
    """Least seconds of a call, after one that compiles."""
    work(*arguments)
    took = []
    for _ in range(times):
        started = time.perf_counter()
        work(*arguments)
        took.append(time.perf_counter() - started)
    return min(took)


def shuffled(codes, rows: int):
    """Rows whose columns are independent, and as in the data."""
    rng = np.random.default_rng(0)
    return np.stack([rng.permutation(column)[:rows] for column in codes.T], axis=1)


def idle(table: Table) -> float:
    """Share of candidates whose value is the one that is there already: nothing is evaluated."""
    share = 0.0
    for column in table.layout.picks:
        size = table.layout.sizes[column]
        p = np.bincount(table.codes[:, column], minlength=size) / len(table.codes)
        share += 0.5 * (1.0 / size + p @ p) / len(table.layout.picks)
    return share


def search_rates(codes, queries, counts, quick: bool) -> list[dict]:
    share = counts / len(codes)
    some = 200_000 if quick else 2_000_000
    rows = []
    for n in (2000, len(codes)):
        table = Table(shuffled(codes, n), queries, np.ones(91), np.arange(len(counts)), share)
        table.search(0, 0, 0, 0, n, 2, 1)
        step = 1
        rates = {}
        for phase, repeats in (("first", 1), ("late", 5)):
            if phase == "late":
                for _ in range(2 if quick else 8):
                    table.search(0, 0, step, 0, n, 2_000_000, 1 << 21)
                    step += 1
            found = []
            for _ in range(repeats):
                started = time.perf_counter()
                table.search(0, 0, step, 0, n, some, 1 << 21)
                found.append(some / (time.perf_counter() - started))
                step += 1
            rates[phase] = float(np.median(found))
        rows.append({"rows": n, "first/s": rates["first"], "late/s": rates["late"]})
        rows[-1]["evaluated/s"] = rates["late"] * (1.0 - idle(table))
    residual = table.genome.residual
    places = np.random.default_rng(0).integers(0, len(residual), 1 << 16)
    floors = [best_of(3, draw, some), best_of(3, read, residual, places, some)]
    for row in rows:
        row["draws alone/s"], row["reads alone/s"] = some / floors[0], some / floors[1]
        row["times floor"] = some / max(floors) / row["evaluated/s"]
    return rows


def exactness(codes, queries, counts, quick: bool) -> list[dict]:
    """Loss kept up by its changes, beside the loss of the table counted anew."""
    edits = 20_000 if quick else 1_000_000
    share = counts / len(codes)
    rng = np.random.default_rng(1)
    table = Table(shuffled(codes, 2000), queries, np.ones(91), np.arange(len(counts)), share)
    made = 0
    while made < edits:
        count = min(100_000, edits - made)
        columns = rng.integers(0, 14, count)
        values = rng.integers(0, np.array(queries.sizes)[columns])
        rows = rng.integers(0, 2000, count)
        rows[1::2], columns[1::2] = rows[::2][: count // 2], columns[::2][: count // 2][::-1]
        values[1::2] = rng.integers(0, np.array(queries.sizes)[columns[1::2]])
        table.redo(np.stack([rows, columns, values, values], axis=1).astype(np.int32))
        made += count
    anew = Table(table.codes, queries, np.ones(91), np.arange(len(counts)), share)
    return [{"edits": made, "loss": table.loss(), "difference": abs(table.loss() - anew.loss())}]


def whole_runs(codes, schema, quick: bool) -> list[dict]:
    rows = []
    for n in ("2000", "same"):
        for threads in (1, 2):
            config = GSDConfig(
                epsilon=np.inf, rows=n, candidates=2_000_000 if quick else 60_000_000, sweeps=1e9
            )
            design = design_of(config, schema)
            method = GSD(Curator(lambda: codes, np.inf, config.neighbours), config, design, 0)
            host = InlineHost() if threads == 1 else ThreadsHost(threads)
            seconds = run(method, host)
            tried = method.progress().evaluations
            rows.append({"rows": n, "threads": threads, "seconds": seconds, "/s": tried / seconds})
    return rows


def main() -> None:
    given = arguments(
        __doc__,
        data="folder of adult_discretized.csv and adult_discretized_domain.json",
        jax="interpreter for gsd_jax.py",
    )
    if given.data is None:
        sys.exit("--data FOLDER is needed")
    files = [given.data / f"adult_discretized{end}" for end in (".csv", "_domain.json")]
    schema = read_schema(str(files[1]))
    codes = read_table(str(files[0]), schema)
    sizes = tuple(int(size) for size in schema.sizes)
    queries = Queries(sizes, tuple(plain(columns, sizes) for columns in every(14, 2)))
    counts = queries.counts(codes)
    found = search_rates(codes, queries, counts, given.quick)
    if given.jax is not None:
        script = Path(__file__).with_name("gsd_jax.py")
        generations = "20" if given.quick else "3000"
        command = [given.jax, script, *files, generations]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        theirs = json.loads(done.stdout.splitlines()[-1])["candidates/s"]
        found[0] |= {"JAX code/s": theirs, "times JAX code": found[0]["late/s"] / theirs}
    report("Candidates a second on one core, 148,137 cells", found, given.out)
    report("Exactness of the loss", exactness(codes, queries, counts, given.quick), given.out)
    report("Whole runs, with merging", whole_runs(codes, schema, given.quick), given.out)


if __name__ == "__main__":
    main()
