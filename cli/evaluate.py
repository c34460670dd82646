"""zoo evaluate: how near a synthetic table is to the real one. Not private."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from zoo.errors import InputError

if TYPE_CHECKING:
    from evolve.gsd.columns import Codes
    from evolve.gsd.learning import Learning
    from evolve.gsd.schema import Schema


@click.command(short_help="Compare a synthetic table with the real one: not private.")
@click.argument("real", metavar="REAL")
@click.argument("synthetic", metavar="SYNTHETIC")
@click.option("--schema", metavar="FILE.json", help="Columns of both tables; it must be given.")
@click.option(
    "--target",
    metavar="COLUMN",
    help="Category that models learn to predict.  [default the last one of 2 to 20 labels]",
)
@click.option(
    "--test",
    metavar="FILE",
    help="Real rows to test the models on, from which SYNTHETIC was not made.  [default a third "
    "of REAL]",
)
@click.option("--clip", is_flag=True, help="Move values outside of the schema into it.")
@click.option("--no-learning", is_flag=True, help="Compare marginals only.")
@click.option("--plot", metavar="FILE.png", help="Draw it; not private either.")
@click.option("--json", is_flag=True, help="Print one JSON object.")
def evaluate(
    real: str,
    synthetic: str,
    schema: str | None,
    target: str | None,
    test: str | None,
    clip: bool,
    no_learning: bool,
    plot: str | None,
    json: bool,
) -> None:
    """Compare the table SYNTHETIC with the table REAL that it stands for.

    The true errors: total-variation distances of the marginals of one, two and three columns,
    beside those of a sample of the real table of as many rows; and what models that learn from
    either table are worth on real rows. NOT PRIVATE: every number is computed from the real data.
    CSV or Parquet.
    """
    from cli import comparison
    from cli.summary import print_json
    from evolve.gsd.evaluate import compare
    from evolve.gsd.learning import target_column
    from evolve.gsd.schema import read_schema
    from evolve.gsd.table import read_table

    if schema is None:
        raise click.UsageError("--schema FILE.json is missing: the columns of both tables")
    if no_learning and (target or test):
        raise click.UsageError(f"--no-learning goes without --{'target' if target else 'test'}")
    _check(plot, not no_learning)
    columns = read_schema(schema)
    if target is not None:
        target_column(columns, target)
    tested = None if test is None else read_table(test, columns, clip)
    first, second = (read_table(path, columns, clip) for path in (real, synthetic))
    compared = compare(first, second, columns)
    learning, why = None, "not asked for"
    if not no_learning:
        learning, why = _learning(first, second, columns, target, tested)
    rows = (len(first), len(second))
    if json:
        print_json(
            {
                "private": False,
                "note": comparison.NOTE,
                "real": real,
                "synthetic": synthetic,
                "rows": dict(zip(("real", "synthetic"), rows, strict=True)),
                **comparison.fields(compared, columns),
                "learning": comparison.learning_fields(learning, why),
            }
        )
    else:
        title = f"{synthetic}, {rows[1]:,} rows, beside {real}, {rows[0]:,} rows"
        said = comparison.lines(compared, columns, rows[1])
        taught = comparison.learning_lines(learning, why)
        print("\n".join([comparison.NOTE, "", title, *said, "", *taught]))
    if plot is not None:
        from cli.comparison_plot import draw

        title = f"{synthetic} beside {real}\n{comparison.NOTE}"
        draw(plot, title, columns, first, second, compared, learning)


def _check(plot: str | None, learning: bool) -> None:
    """Refuse what could not be done, before anything is read."""
    from evolve.gsd.files import check_output
    from evolve.gsd.learning import library
    from zoo.runtime.folder import CONFIG

    if learning:
        library()
    if plot is None:
        return
    from cli.comparison_plot import blank

    if Path(plot).suffix.lower() != ".png":
        raise InputError(f"--plot must be a file FILE.png, got {plot!r}")
    check_output(plot, (".png",))
    folder = Path(plot).parent.resolve()
    if (folder / CONFIG).exists():
        raise InputError(
            f"cannot write {plot}: {folder} is a run folder (it has a {CONFIG}), and the picture "
            "is not private; choose another folder"
        )
    blank()


def _learning(
    real: Codes, synthetic: Codes, schema: Schema, target: str | None, test: Codes | None
) -> tuple[Learning | None, str]:
    """What was learnt; or None, and why: a target that nobody named may be unfit."""
    from evolve.gsd.learning import train_on_synthetic

    try:
        return train_on_synthetic(real, synthetic, schema, target, test), ""
    except InputError as error:
        if target is not None:
            raise
        return None, str(error)
