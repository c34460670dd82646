"""gsd on mixed types: the American Community Survey, 27,253 people, 24 columns, by NIST's schema.

Categories, integers, reals, incomes and nulls; one value above the schema's range is clipped. For
each kind of queries: distance in total variation from the noisy measurements, mean over the query
sets, of independent columns and of the result, beside what noise alone makes of it; the distance of
both from the data on the same queries, which is not private; and memory stated and used.

    python benchmarks/gsd_acs.py --data FOLDER [--quick] [--out FILE.json]

FOLDER has acs_national2019.csv and acs_national2019_schema.json.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from report import arguments, report

from evolve.gsd.curator import read_releases
from evolve.gsd.schema import read_schema
from evolve.gsd.table import read_table

#: Runs the command, and says what memory the process has taken at most.
_MEASURED = """
import resource, sys
from cli.main import main
code = main(sys.argv[1:])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr)
sys.exit(code)
"""

KINDS = {
    "pairs": [],
    "pairs, N' = N": ["--rows", "same"],
    "pairs, adaptive": ["--adaptive"],
    "ranges with AGEP": ["--queries", "ranges", "--target", "AGEP"],
    "500 halfspaces": ["--queries", "halfspaces"],
    "500 prefixes": ["--queries", "prefixes"],
    "2,000 halfspaces, adaptive": [
        *("--queries", "halfspaces", "--count", "2000"),
        *("--adaptive", "--per-round", "10"),
    ],
    "2,000 prefixes, adaptive": [
        *("--queries", "prefixes", "--count", "2000"),
        *("--adaptive", "--per-round", "10"),
    ],
}


def run(table: Path, described: Path, folder: Path, *options: str) -> dict:
    """Result of the command, with its seconds, the memory that it stated and its peak, in MB."""
    command = [
        sys.executable,
        "-c",
        _MEASURED,
        "run",
        "gsd",
        "--data",
        table,
        "--schema",
        described,
    ]
    command += ["--clip", "--json", "--ledger", folder / "ledger", "--out", folder / "out.csv"]
    started = time.perf_counter()
    done = subprocess.run(
        [*command, "--folder", folder / "run", *options], capture_output=True, text=True, check=True
    )
    told = json.loads(done.stdout)
    told["seconds"] = time.perf_counter() - started
    told["stated"] = done.stderr.splitlines()
    told["peak"] = int(done.stderr.split()[-1]) / 1e3
    return told


def true_error(real, codes, folder: Path, sizes) -> float:
    """Mean distance of a table from the data on what was measured after the single columns."""
    from evolve.gsd.queries import Queries

    found = []
    name = json.loads((folder / "config.json").read_text())["run"]
    for release in read_releases(folder, Queries(sizes), name)[1:]:
        queries = release.queries
        gap = queries.counts(codes) / len(codes) - queries.counts(real) / len(real)
        found.append(0.5 * np.add.reduceat(np.abs(gap), queries.offset[:-1]))
    return float(np.concatenate(found).mean())


def independent(made):
    """Rows of independent columns, as in the synthetic table."""
    rng = np.random.default_rng(0)
    return np.stack([rng.permutation(column) for column in made.T], axis=1)


def main() -> None:
    given = arguments(__doc__, data="folder of acs_national2019.csv and its schema")
    if given.data is None:
        sys.exit("--data FOLDER is needed")
    table = given.data / "acs_national2019.csv"
    described = given.data / "acs_national2019_schema.json"
    schema = read_schema(str(described))
    real = read_table(str(table), schema, clip=True)
    sizes = tuple(int(size) for size in schema.sizes)
    kinds = dict(list(KINDS.items())[:1] + list(KINDS.items())[3:6]) if given.quick else KINDS
    rows = []
    for name, options in kinds.items():
        with tempfile.TemporaryDirectory() as at:
            folder = Path(at)
            told = run(table, described, folder, *options)
            made = read_table(str(folder / "out.csv"), schema)
            apart = independent(made)
            kind = next(reversed(told["error"]))
            stated = re.search(
                r"up to ([\d,]+) MB(?:, and ([\d.]+) kB a row)?", str(told["stated"])
            )
            assert stated is not None
            most = float(stated[1].replace(",", "")) + float(stated[2] or 0) * len(made) / 1e3
            rows.append(
                {
                    "queries": name,
                    "sets": told["error"][kind]["sets"],
                    "measured": told["error"][kind]["mean"],
                    "noise alone": told["error"][kind]["noise_floor"],
                    "true": true_error(real, made, folder / "run", sizes),
                    "true, independent": true_error(real, apart, folder / "run", sizes),
                    "seconds": told["seconds"],
                    "MB stated": most,
                    "MB of statistics": told["memory"] / 1e6,
                    "peak MB": told["peak"],
                }
            )
    report("ACS, 24 columns, epsilon 1, N' = 2,000 unless said", rows, given.out)


if __name__ == "__main__":
    main()
