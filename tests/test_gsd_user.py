"""Private-GSD for people who hold data: what they are told, what is refused, and in Python."""

from pathlib import Path

import numpy as np
import pytest
from test_gsd_run import DATA, FEW, RHO, called, gsd, here, interrupted, ran, refused

import zoo
from evolve.gsd import study
from evolve.gsd.synthesize import resume, synthesize
from evolve.gsd.table import read_table

__all__ = ["here"]  # a fixture


# What the curator must know


def test_columns_that_the_schema_lacks_are_named(here, capsys):
    lines = Path("people.csv").read_text().splitlines()
    wider = [f"{line},{'id' if n == 0 else n}" for n, line in enumerate(lines)]
    (here / "wider.csv").write_text("\n".join(wider) + "\n")
    given = ["--data", "wider.csv", *DATA[2:], "--out", "made.csv"]
    code, _, err = called(capsys, "run", "gsd", *given)
    assert code == 0
    assert "left out, for the schema does not have them: id\n" in err
    assert "id" not in Path("made.csv").read_text().splitlines()[0].split(",")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("--out made.xlsx", "must end with .csv or .parquet"),
        ("--depth 3", "depth is for ranges, not marginals"),
        ("--count 9", "count is for halfspaces and prefixes, not marginals"),
        ("--rounds 5", "rounds goes with adaptive"),
        ("--epsilon 1e9", "epsilon must be at most 1e+06, or inf"),
    ],
)
def test_options_that_would_mean_nothing(options, words, here, capsys):
    assert words in refused(capsys, "run", "gsd", *DATA, *options.split())
    assert not list(here.glob("*.ledger"))


def test_identifiers_are_not_inferred(here, capsys):
    rows = "\n".join(f"{'fm'[n % 2]},patient {n}" for n in range(400))
    (here / "ids.csv").write_text(f"sex,name\n{rows}\n")
    err = refused(capsys, "run", "gsd", "--data", "ids.csv", "--infer-schema")
    assert "column 'name': 400 different texts in 400 rows" in err
    assert "patient" not in err


def test_a_file_that_came_meanwhile_is_kept(here, monkeypatch, capsys):
    interrupted(capsys, monkeypatch, 2, *DATA, *FEW, "--out", "cut.csv")
    (here / "cut.csv").write_text("mine")
    result = ran(capsys, "resume", "cut.run")
    assert (here / "cut.csv").read_text() == "mine"
    assert result["out"] != str(here / "cut.csv")
    assert len(Path(result["out"]).read_text().splitlines()) == 301


def test_noise_that_outweighs_the_data_is_said(here, capsys):
    code, out, err = called(capsys, "run", "gsd", *DATA, "--epsilon", "1e-4", "--out", "a.csv")
    assert (code, "beware" in out) == (0, True)
    Path("people.csv.ledger").unlink()
    code, out, err = called(capsys, "run", "gsd", *DATA, "--epsilon", "100", "--out", "b.csv")
    assert (code, "beware" in out) == (0, False)
    assert "epsilon 100 protects nobody to speak of" in err


def test_a_table_is_no_function_to_be_minimized(here, capsys):
    gsd(capsys, "--out", "made.csv")
    for wrong in (
        lambda: zoo.minimize(lambda x: 0.0, [(0, 1)], method="gsd"),
        lambda: zoo.Optimizer([(0, 1)], method="gsd"),
    ):
        with pytest.raises(zoo.InputError, match="gsd minimizes no function"):
            wrong()


# In Python


def test_a_run_in_python_is_kept_and_continued(here, monkeypatch):
    schema = study.read_schema("people.json")
    codes = read_table("people.csv", schema)
    with pytest.raises(zoo.InputError, match="a ledger is needed"):
        synthesize(codes, schema, rows="50")
    with pytest.raises(zoo.InputError, match="rows of 4 codes"):
        synthesize(codes[:, :2], schema, ledger="ledger")
    with pytest.raises(zoo.InputError, match="whole numbers from 0"):
        synthesize(codes - 1, schema, ledger="ledger")
    assert not Path("ledger").exists()
    result = synthesize(codes, schema, ledger="ledger", folder="kept", rows="50", adaptive=True)
    assert result.codes.shape == (50, 4)
    assert result.rho_spent == pytest.approx(RHO, abs=1e-9)
    again = resume("kept")  # has ended
    np.testing.assert_array_equal(again.codes, result.codes)
    with pytest.raises(zoo.InputError, match="the budget is spent"):
        synthesize(codes, schema, ledger="ledger")
    with pytest.raises(zoo.RunError, match="already holds a run"):
        synthesize(codes, schema, ledger="other", folder="kept")
    assert not Path("other").exists()

    def stopped(progress):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        synthesize(
            codes, schema, ledger="two", folder="cut", rows="50", adaptive=True, callback=stopped
        )
    with pytest.raises(zoo.InputError, match="the table is needed"):
        resume("cut")
    with pytest.raises(zoo.InputError, match="whole numbers from 0"):
        resume("cut", codes + 1000)
    done = resume("cut", codes)
    assert done.rho_spent == pytest.approx(RHO, abs=1e-9)
