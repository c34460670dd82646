"""A synthetic table beside the real one: lines for people, and fields of a JSON object."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from cli.summary import number
from cli.table import columns
from evolve.gsd.evaluate import MOST_CELLS, RULE, Comparison, width_of
from evolve.gsd.learning import Learning
from evolve.gsd.schema import Schema

#: What is said before anything else.
NOTE = "computed from the real data: not private, not for release"

_WHAT = {1: "column", 2: "pair", 3: "triple"}
_MEASURES = {"auc": "area under ROC", "macro_f1": "macro F1"}


def fields(compared: Sequence[Comparison], schema: Schema) -> dict[str, Any]:
    """Distances as plain values."""
    marginals = {}
    for way in compared:
        values = {
            name: {
                "tvd_mean": of.mean,
                "tvd_max": of.max,
                "cell_mean": of.cell_mean,
                "cell_max": of.cell_max,
            }
            for name, of in (("synthetic", way.synthetic), ("sample", way.sample))
        }
        marginals[f"{way.ways}-way"] = {
            "marginals": len(way.synthetic.sets),
            "left_out": way.synthetic.left_out,
            **values,
            "worst": _worst(way, schema),
        }
    rule = f"in 2- and 3-way marginals {RULE}, nulls apart; those of more than {MOST_CELLS:,} cells"
    return {"marginals": marginals, "merged": _merged(schema), "rule": f"{rule} are left out"}


def lines(compared: Sequence[Comparison], schema: Schema, rows: int) -> list[str]:
    """Distances in a few lines, beside those of a sample of so many rows."""
    cells, notes = [], []
    for way in compared:
        near, sample = way.synthetic, way.sample
        values = (near.mean, near.max, sample.mean, sample.max, near.cell_mean, near.cell_max)
        cells.append([f"{way.ways}-way", f"{len(near.sets):,}", *map(_short, values)])
        worst = _worst(way, schema)
        if worst is not None and worst["tvd"] > 0:
            distance, usual = _short(worst["tvd"]), _short(worst["sample_tvd"])
            named = ", ".join(worst["columns"])
            notes.append(f"worst {_WHAT[way.ways]}: {named}: {distance} (sample {usual})")
        if near.left_out:
            notes.append(
                f"left out: {near.left_out:,} {_WHAT[way.ways]}s of more than {MOST_CELLS:,} cells"
            )
    if _merged(schema):
        notes.append(f"in pairs and triples {RULE}: {', '.join(_merged(schema))}")
    heads = ["marginals", "number", "mean", "max", "sample mean", "max", "cell mean", "max"]
    said = [
        *columns(cells, heads=heads, right=True),
        f"sample: {rows:,} rows drawn from the real table, with replacement",
        *notes,
    ]
    return ["total-variation distance, and difference of a cell:", *(f"  {line}" for line in said)]


def learning_fields(learning: Learning | None, why: str) -> dict[str, Any]:
    """Scores as plain values; or why there are none."""
    if learning is None:
        return {"skipped": why}
    made = asdict(learning)
    for score in made["scores"]:
        score[learning.measure] = score.pop("second")
    return made


def learning_lines(learning: Learning | None, why: str) -> list[str]:
    """Scores in a few lines; or why there are none."""
    if learning is None:
        return [f"learning: skipped: {why}"]
    rows = [
        [f"{score.model}, {score.trained_on}", _short(score.accuracy), _short(score.second)]
        for score in learning.scores
    ]
    rows.append(["commonest label", _short(learning.majority), "-"])
    heads = ["model, trained on", "accuracy", _MEASURES[learning.measure]]
    said = columns(rows, heads=heads)
    if not learning.held_out:
        said.append("the synthetic table may be made from the tested rows too: see --test")
    return [
        f"learning {learning.target} from the other columns: {learning.real_rows:,} real or "
        f"{learning.synthetic_rows:,} synthetic rows, tested on {learning.test_rows:,} real rows:",
        *(f"  {line}" for line in said),
    ]


def _worst(way: Comparison, schema: Schema) -> dict[str, Any] | None:
    """The marginal that is farthest, and the sample's distance there; None without any."""
    if not way.synthetic.sets:
        return None
    at = int(way.synthetic.tvd.argmax())
    return {
        "columns": [schema.names[j] for j in way.synthetic.sets[at]],
        "tvd": float(way.synthetic.tvd[at]),
        "sample_tvd": float(way.sample.tvd[at]),
    }


def _merged(schema: Schema) -> list[str]:
    return [column.name for column in schema.columns if width_of(column) > 1]


def _short(value: float) -> str:
    return f"{value:.4f}" if value == 0 or value >= 0.001 else number(float(f"{value:.2g}"))
