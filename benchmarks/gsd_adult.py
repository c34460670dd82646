"""Quality of gsd on Adult: distances in total variation from the data, by marginal.

48,842 rows of 14 columns as codes; N' as many as in the data, unless said otherwise; neighbours
add/remove; delta 1e-9; noise from the operating system. 2-way: mean and maximum over the 91 pairs;
3-way: mean over the 324 triples of at most 100,000 cells. Seconds are of the whole command but for
compiling, on all cores.

--mst PYTHON and --aim PYTHON run these methods of dpmm beside it (see gsd_dpmm.py), on the same
table, with one seed; AIM takes ten minutes.

    python benchmarks/gsd_adult.py --data FOLDER [--mst PYTHON] [--aim PYTHON] [--quick]
        [--out FILE.json]

FOLDER has adult_discretized.csv and adult_discretized_domain.json of private-pgm.
"""

from __future__ import annotations

import contextlib
import io
import json
import math
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from report import arguments, report

from cli.main import main as zoo
from evolve.gsd.evaluate import distances
from evolve.gsd.schema import Schema, read_schema
from evolve.gsd.table import read_table

NINE = (
    *("workclass", "education-num", "marital-status", "occupation", "relationship", "race"),
    *("sex", "native-country", "income>50K"),
)


def synthetic(table: Path, schema: Schema, folder: Path, seed: int, *options: str):
    """Codes of a synthetic table, the seconds that it took, and what the command printed."""
    described = folder / "schema.json"
    described.write_text(json.dumps(schema.describe()))
    out = folder / "synthetic.csv"
    command = ["run", "gsd", "--data", str(table), "--schema", str(described), "--json"]
    command += ["--quiet", "--seed", str(seed), "--out", str(out), *options]
    command += ["--ledger", str(folder / "ledger")]
    printed = io.StringIO()
    started = time.perf_counter()
    with contextlib.redirect_stdout(printed):
        code = zoo(command)
    seconds = time.perf_counter() - started
    if code:
        sys.exit(code)
    return read_table(str(out), schema), seconds, json.loads(printed.getvalue())


def errors(real, made, schema: Schema) -> dict[str, float]:
    sizes = schema.sizes
    one, two, three = (distances(real, made, sizes, k) for k in (1, 2, 3))
    return {
        "1-way": one.mean,
        "2-way": two.mean,
        "2-way max": two.max,
        "3-way": three.mean,
        "cell": two.cell_mean,
        "cell max": two.cell_max,
    }


def row(name: str, table: Path, real, schema: Schema, seeds, *options: str) -> dict:
    """Mean over seeds, and the worst of them."""
    found = []
    for seed in seeds:
        with tempfile.TemporaryDirectory() as folder:
            made, seconds, told = synthetic(table, schema, Path(folder), seed, *options)
        one = errors(real, made, schema) | {"seconds": seconds, "candidates": told["candidates"]}
        found.append(one)
    mean = {key: float(np.mean([one[key] for one in found])) for key in found[0]}
    worst = {f"worst {key}": max(one[key] for one in found) for key in ("2-way", "2-way max")}
    return {"method": name, "seeds": len(found), **mean, **worst}


def rival(python: Path, kind: str, table: Path, domain: Path, real, schema: Schema) -> dict:
    script = Path(__file__).with_name("gsd_dpmm.py")
    with tempfile.TemporaryDirectory() as folder:
        out = f"{folder}/out.csv"
        command = [python, script, kind, table, domain, "1", "1e-9", "0", out]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        made = read_table(out, schema)
    took = json.loads(done.stdout.splitlines()[-1])
    return {"method": f"dpmm {kind}", "seeds": 1, **errors(real, made, schema), **took}


def main() -> None:
    given = arguments(
        __doc__,
        data="folder of adult_discretized.csv and adult_discretized_domain.json",
        mst="interpreter for gsd_dpmm.py",
        aim="interpreter for gsd_dpmm.py",
    )
    if given.data is None:
        sys.exit("--data FOLDER is needed")
    table, domain = (given.data / f"adult_discretized{end}" for end in (".csv", "_domain.json"))
    schema = read_schema(str(domain))
    real = read_table(str(table), schema)
    nine = Schema(tuple(schema.column(name) for name in NINE))
    real_nine = read_table(str(table), nine)
    seeds = range(1 if given.quick else 3)
    same = ("--rows", "same")
    row("compiles", table, real, schema, [0], "--candidates", "1000")

    rows = [
        row("gsd", table, real, schema, seeds, *same),
        row("gsd, N' = 2,000", table, real, schema, seeds),
        row("gsd, replace-one", table, real, schema, seeds, *same, "--neighbours", "replace-one"),
        row("gsd, adaptive", table, real, schema, seeds, *same, "--adaptive"),
    ]
    for kind, python in (("mst", given.mst), ("aim", given.aim)):
        if python is not None:
            rows.append(rival(python, kind, table, domain, real, schema))
    report("Adult, 14 columns, epsilon 1", rows, given.out)
    rows = [row("gsd", table, real_nine, nine, seeds, *same)]
    report("Adult, 9 columns, epsilon 1", rows, given.out)
    rows = [
        row(f"N' = {n}", table, real, schema, seeds[:1], "--epsilon", "inf", "--rows", n)
        for n in ("2000", "same")
    ]
    report("Adult, 14 columns, no noise", rows, given.out)
    rows = []
    for epsilon in (1.0,) if given.quick else (0.07, 0.23, 0.52, 1.0, 3.0, 10.0):
        for kind in ((), ("--adaptive",)):
            name = f"epsilon {epsilon:g}{', adaptive' if kind else ''}"
            options = (*same, *kind, "--epsilon", str(epsilon))
            rows.append(row(name, table, real, schema, seeds[:1], *options))
    report("Adult, 14 columns, by epsilon", rows, given.out)
    assert math.isfinite(rows[0]["2-way"])


if __name__ == "__main__":
    main()
