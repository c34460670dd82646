"""Runs of Private-GSD, as commands start and continue them; see :mod:`zoo.minimization`."""

from __future__ import annotations

import math
import os
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from evolve.gsd.config import GSDConfig, TableConfig
from evolve.gsd.curator import Curator, Release, read_releases
from evolve.gsd.design import Design
from evolve.gsd.example import example_codes, example_schema
from evolve.gsd.files import check_output, names_in
from evolve.gsd.infer import infer_schema
from evolve.gsd.ledger import Ledger
from evolve.gsd.memory import stated_memory
from evolve.gsd.method import GSD
from evolve.gsd.noise import opendp
from evolve.gsd.privacy import check_budget
from evolve.gsd.schema import Schema, read_schema, schema_of
from evolve.gsd.table import read_table, write_table
from evolve.gsd.workload import design_of
from zoo.config import build, taken
from zoo.errors import InputError, RunError
from zoo.optimize import as_seed, numbers, words
from zoo.runtime.folder import CONFIG, RunFolder
from zoo.runtime.launch import Prepared

#: Epsilon above which there is little privacy.
_MUCH = 20.0
#: Mean distance of noise from zero, in total variation, above which it outweighs the data.
_OUTWEIGHED = 0.5
#: Codes of a column, at most: they are held in 16 bits.
_MOST_CODES = 2**15 - 1


@dataclass(frozen=True)
class Given:
    """What a run is made of."""

    tables: TableConfig
    config: GSDConfig
    schema: Schema
    design: Design
    seed: int
    run: str
    folder: Path | None
    name: str


def prepare(name: str, values: dict[str, Any], seed: int) -> Prepared:
    """Prepare a run; see :func:`zoo.minimization.prepare`.

    All that can be wrong with what was given is found before any budget is spent.
    """
    tables = taken(TableConfig, values)
    config = build(GSDConfig, values)
    where, colon, what = (config.functions or "").rpartition(":")
    if where.endswith(".py") or os.sep in where:
        config = replace(config, functions=f"{_absolute(where)}{colon}{what}")
    config = replace(config, workload=_absolute(config.workload))
    schema = _schema(tables)
    check_output(tables.out)
    if Path(tables.out).exists():
        raise InputError(f"{tables.out} is there already: choose another name with --out")
    folder = Path(tables.folder or Path(tables.out).with_suffix(".run"))
    check_new(folder)
    design = design_of(config, schema)
    located = replace(
        tables,
        data=_absolute(tables.data),
        schema=_absolute(tables.schema),
        ledger=_absolute(tables.ledger or f"{tables.data or tables.out}.ledger"),
        out=os.path.abspath(os.path.expanduser(tables.out)),
    )
    name_of = Path(tables.data).name if tables.data else "example"
    given = Given(located, config, schema, design, seed, uuid.uuid4().hex, folder, name_of)
    codes = _table(given)()
    check_rows(config, len(codes))
    described = describe(name, given)
    note = stated_memory(config, design, len(codes))
    warnings = _warnings(given, len(codes))
    if tables.data is not None:
        left_out = [name for name in names_in(tables.data) if name not in schema.names]
        if left_out:
            warnings.append(f"left out, for the schema does not have them: {', '.join(left_out)}")
    made = assembled(given, lambda: codes, described, [])
    return replace(made, folder=str(folder), warnings=warnings, notes=[note])


def reopen(stored: Mapping[str, Any], folder: RunFolder, objective: str | None) -> Prepared:
    """Prepare a stored run again; see :func:`zoo.minimization.reopen`.

    The data are read only if something is left to be measured.
    """
    if objective is not None:
        raise InputError("--objective is for runs that minimize one; this one synthesizes a table")
    given = stored_given(stored, folder)
    if stored.get("from_python"):
        raise InputError(
            f"{folder.path} was started from Python: resume of evolve.gsd.synthesize continues it"
        )
    releases = read_releases(folder.path, given.design.bare, given.run)
    made = assembled(given, _table(given), stored, releases)
    return replace(made, warnings=_warnings(given, None))


def describe(name: str, given: Given, from_python: bool = False) -> dict[str, Any]:
    """Content of the run folder's config.json."""
    return {
        "method": name,
        "problem": asdict(given.tables),
        "schema": given.schema.describe()["schema"],
        "config": words(given.config),
        "budget": {},
        "seed": given.seed,
        "run": given.run,
        "data": given.name,
        "from_python": from_python,
    }


def check_new(folder: Path) -> None:
    """Refuse a folder that has a run in it, or measurements of one."""
    RunFolder(folder).check_free()
    if (folder.exists() and not folder.is_dir()) or any(folder.glob("measurement*.npz")):
        raise InputError(f"{folder} is there already: choose another run folder with folder")


def stored_given(
    stored: Mapping[str, Any],
    folder: RunFolder,
    functions: Sequence[tuple[Callable[..., float], int]] = (),
) -> Given:
    """What the run of a folder is made of; ``functions`` are those given in Python.

    Raises
    ------
    RunError
        If its config.json is damaged.
    """
    try:
        config = build(GSDConfig, numbers(GSDConfig, stored["config"]))
        schema = schema_of({"schema": stored["schema"]})
        tables = build(TableConfig, stored["problem"])
    except (KeyError, TypeError, AttributeError, InputError) as error:
        raise RunError(f"{folder.path / CONFIG} is damaged: {error}") from error
    design = design_of(config, schema, functions)
    ledger = tables.ledger
    if config.epsilon < math.inf and ledger is None:
        raise RunError(f"{folder.path / CONFIG} is damaged: it has no ledger")
    if config.epsilon < math.inf and not Path(str(ledger)).exists():
        raise InputError(f"{ledger} is not there: it says what this run has spent")
    try:
        return Given(
            tables=tables,
            config=config,
            schema=schema,
            design=design,
            seed=as_seed(stored["seed"]),
            run=str(stored["run"]),
            folder=folder.path,
            name=str(stored["data"]),
        )
    except (KeyError, TypeError, AttributeError, InputError) as error:
        raise RunError(f"{folder.path / CONFIG} is damaged: {error}") from error


def lines(result: Mapping[str, Any]) -> tuple[str, list[tuple[str, str]]]:
    """Title, and rows of a label and a text, that tell of a result."""
    if result["epsilon"] in (math.inf, None):  # JSON has no infinity
        spent, budget = "no noise", "epsilon inf"
    else:
        spent = f"rho {result['rho_spent']:.6g} of {result['rho']:.6g}"
        budget = f"epsilon {result['epsilon']:g}, delta {result['delta']:g}, {result['neighbours']}"
    rows = [("budget", f"{budget}; spent {spent}")]
    if not result["private"]:
        rows.append(("NOT PRIVATE", "; ".join(result["not_private"])))
    for name, error in result["error"].items():
        rows.append(
            (
                name,
                f"{error['mean']:.4g} from the noisy counts in total variation, at most "
                f"{error['max']:.4g}; noise alone: {error['noise_floor']:.4g}",
            )
        )
    if min(error["noise_floor"] for error in result["error"].values()) > _OUTWEIGHED:
        rows.append(
            (
                "beware",
                "the noise outweighs the data: a larger epsilon, or fewer or narrower columns",
            )
        )
    seconds = float(result["seconds"])
    rate = f", {result['candidates'] / seconds:.3g} candidates/s" if seconds > 0 else ""
    rows.append(
        (
            "work",
            f"{result['candidates']:,} candidates, {result['generations']:,} generations, "
            f"{seconds:.3g} s{rate}",
        )
    )
    if result.get("out"):
        gone = "" if Path(result["out"]).exists() else ", which is not there any more"
        rows.append(("table", f"{result['rows']:,} rows in {result['out']}{gone}"))
        if result["private"]:
            rows.append(("release", "table and run folder hold nothing but what noise covers"))
    return f"{result['data']}: gsd, seed {result['seed']}", rows


def assembled(
    given: Given,
    table: Callable[[], Any],
    described: Mapping[str, Any],
    releases: list[Release],
) -> Prepared:
    """Bring all together; of the table nothing but its noisy counts is used from here on.

    Raises
    ------
    InputError
        If the ledger is another one, or a run that has not measured anything wants more than is
        left on it.
    """
    tables, config, schema, design = given.tables, given.config, given.schema, given.design
    ledger, budget = None, math.inf
    if config.epsilon < math.inf:
        opendp()  # is it there?
        assert tables.ledger is not None
        ledger = Ledger.open(
            tables.ledger,
            config.epsilon,
            config.delta,
            config.neighbours,
            data=given.name,
            private=tables.insecure_noise_seed is None,
        )
        budget = config.share * ledger.rho
    curator = Curator(
        table,
        budget,
        config.neighbours,
        ledger,
        given.run,
        given.folder,
        tables.insecure_noise_seed,
        releases,
    )
    if ledger is not None and any(release.sigma == 0.0 for release in releases):
        raise RunError(f"{given.folder} has measurements without noise: they are of another run")
    paid = math.fsum(release.cost for release in releases)
    if ledger is not None and curator.spent < paid * (1 - 1e-12):
        raise RunError(
            f"{tables.ledger} has less charges of this run, rho {curator.spent:.6g}, than its "
            f"measurements cost, {paid:.6g}: it is not the ledger that paid for them"
        )
    if ledger is not None and curator.spent == 0.0 and budget > ledger.remaining * (1 + 1e-12):
        share = ledger.remaining / ledger.rho
        use = f"share={share:.6g} would use it" if share > 1e-9 else "nothing may be measured"
        raise InputError(
            f"the budget is spent: this run wants rho {budget:.6g}, and of {ledger.rho:.6g} "
            f"{ledger.remaining:.6g} is left on {tables.ledger} ({use})"
        )
    method = GSD(curator, config, design, given.seed)
    head = {
        "method": "gsd",
        "data": given.name,
        "epsilon": config.epsilon,
        "delta": config.delta,
        "neighbours": config.neighbours,
        "rho": ledger.rho if ledger is not None else math.inf,
        "private": not _not_private(given),
        "not_private": _not_private(given),
        "ledger": tables.ledger if ledger is not None else None,
    }

    def complete(fields: dict[str, Any], folder: Path | None) -> dict[str, Any]:
        codes = method.codes.astype(np.int32)
        return fields | {"out": _written(tables.out, schema, codes, given)}

    return Prepared(method, head, described, given.seed, seconds=config.seconds, complete=complete)


def _written(out: str, schema: Schema, codes: npt.NDArray[np.int32], given: Given) -> str:
    """Write the table; under another name if a file has come there meanwhile, which is kept."""
    path = Path(out)
    if path.exists():
        path = path.with_stem(f"{path.stem}-{given.run[:8]}")
        write_table(str(path), schema, codes, given.seed)
        if path.read_bytes() != Path(out).read_bytes():
            return str(path)
        path.unlink()  # a crash had come between it and the result
        return out
    write_table(out, schema, codes, given.seed)
    return out


def _schema(tables: TableConfig) -> Schema:
    if tables.data is None:
        if tables.schema is not None:
            raise InputError("schema goes with data: give --data FILE.csv")
        return example_schema()
    if tables.infer_schema:
        if tables.schema is not None:
            raise InputError("schema and infer_schema are two ways to say what is in the data")
        schema = infer_schema(tables.data)
    elif tables.schema is None:
        raise InputError(
            "a schema is needed: schema = a JSON file that says what may be in the data; it is not "
            "taken from them, for that would give them away (infer_schema does it nevertheless)"
        )
    else:
        schema = read_schema(tables.schema)
    check_sizes(schema)
    return schema


def checked_codes(table: Any, schema: Schema) -> npt.NDArray[np.int32]:
    """Codes of a table that was given in Python.

    Raises
    ------
    InputError
        If they are not the schema's.
    """
    codes = np.asarray(table)
    if codes.ndim != 2 or codes.shape[1] != len(schema.columns) or not len(codes):
        raise InputError(f"table must be rows of {len(schema.columns)} codes, got {codes.shape}")
    if codes.dtype.kind not in "iu" or (codes < 0).any() or (codes >= schema.sizes).any():
        raise InputError("table must be whole numbers from 0 to the sizes of the schema's columns")
    return codes.astype(np.int32)


def check_sizes(schema: Schema) -> None:
    """Refuse columns with more codes than the search can hold."""
    for column in schema.columns:
        if column.size > _MOST_CODES:
            raise InputError(
                f"column {column.name!r} has {column.size:,} codes, at most {_MOST_CODES:,} are"
            )


def _table(given: Given) -> Callable[[], Any]:
    tables = given.tables
    if tables.data is None:
        return example_codes
    path = tables.data
    return lambda: read_table(path, given.schema, tables.clip)


def check_rows(config: GSDConfig, rows: int) -> None:
    """Refuse a delta that means nothing. This tells that rows > 1 / delta, and nothing else."""
    if config.epsilon == math.inf:
        return
    if config.neighbours == "replace-one":
        check_budget(config.epsilon, config.delta, rows)
    elif config.delta * rows > 1.0:
        raise InputError(
            f"delta must be at most 1 / rows, got {config.delta:g}: with it, publishing a row at "
            "random would be allowed"
        )


def _not_private(given: Given) -> list[str]:
    """Why the result is not private; empty if it is."""
    reasons = []
    if given.config.epsilon == math.inf:
        reasons.append("epsilon is infinite: there is no noise")
    if given.tables.insecure_noise_seed is not None:
        reasons.append("the noise comes from a known seed")
    if given.tables.infer_schema:
        reasons.append("the schema was taken from the data, and no budget pays for that")
    return reasons


def _warnings(given: Given, rows: int | None) -> list[str]:
    warnings = [f"not private: {reason}" for reason in _not_private(given)]
    if _MUCH < given.config.epsilon < math.inf:
        warnings.append(f"epsilon {given.config.epsilon:g} protects nobody to speak of")
    if (
        rows is not None
        and given.config.neighbours == "replace-one"
        and given.config.epsilon < math.inf
    ):
        text = check_budget(given.config.epsilon, given.config.delta, rows)
        warnings += [] if text is None else [text]
    return warnings


def _absolute(path: str | None) -> str | None:
    return None if path is None else os.path.abspath(os.path.expanduser(path))
