"""A synthetic table against the real one: distances of marginals, learning, and the command."""

import itertools
import json
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cli.main import main
from evolve.gsd import learning
from evolve.gsd.columns import category, integer, real
from evolve.gsd.evaluate import compare, distances, merged, merged_sizes, width_of
from evolve.gsd.example import example_codes, example_schema
from evolve.gsd.learning import target_column, train_on_synthetic
from evolve.gsd.schema import Schema, schema_of
from evolve.gsd.table import write_table
from zoo.errors import InputError


def table(*rows):
    return np.array(rows, np.int32)


def shuffled(codes, columns, seed=1):
    rng = np.random.default_rng(seed)
    made = codes.copy()
    for j in columns:
        made[:, j] = rng.permutation(made[:, j])
    return made


def slow_shares(codes, sizes, chosen):
    shares = np.zeros([sizes[j] for j in chosen])
    for row in codes:
        shares[tuple(row[j] for j in chosen)] += 1 / len(codes)
    return shares


# distances


def test_two_by_two():
    first = table([0, 0], [0, 0], [1, 1], [1, 0])
    second = table([0, 0], [0, 1], [1, 1], [1, 1])
    sizes = np.array([2, 2])
    one, two = (distances(first, second, sizes, k) for k in (1, 2))
    assert one.sets == ((0,), (1,))
    assert one.tvd.tolist() == [0.0, 0.5]
    assert (one.mean, one.max, one.cell_mean, one.cell_max) == (0.25, 0.5, 0.25, 0.5)
    assert two.sets == ((0, 1),)
    assert two.tvd.tolist() == [0.5]  # (.5 0 / .25 .25) against (.25 .25 / 0 .5)
    assert (two.cell_mean, two.cell_max) == (0.25, 0.25)


@pytest.mark.parametrize("k", [1, 2, 3])
def test_equal_tables_are_at_0_and_disjoint_ones_at_1(k):
    codes = np.random.default_rng(0).integers(0, 3, (50, 4))
    sizes = np.full(4, 6)
    again = distances(codes, np.random.default_rng(1).permutation(codes), sizes, k)
    assert (again.max, again.cell_max) == (0.0, 0.0)
    twice = distances(codes, np.concatenate([codes, codes]), sizes, k)
    assert twice.max < 1e-15  # shares, not numbers of rows
    apart = distances(codes, codes + 3, sizes, k)
    assert np.allclose(apart.tvd, 1.0, atol=1e-15)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 10**6),
    st.lists(st.integers(1, 6), min_size=1, max_size=4),
    st.integers(1, 20),
    st.integers(1, 20),
    st.integers(1, 4),
    st.integers(1, 60),
)
def test_against_the_definition(seed, sizes, n, m, k, most_cells):
    rng = np.random.default_rng(seed)
    first, second = (rng.integers(0, sizes, (rows, len(sizes))) for rows in (n, m))
    found = distances(first, second, np.array(sizes), k, most_cells)
    other_way = distances(second, first, np.array(sizes), k, most_cells)
    assert np.array_equal(found.tvd, other_way.tvd)
    assert found.cell_max == other_way.cell_max or not found.sets
    everything = list(itertools.combinations(range(len(sizes)), k))
    kept = [c for c in everything if k == 1 or np.prod([sizes[j] for j in c]) <= most_cells]
    assert list(found.sets) == kept
    assert found.left_out == len(everything) - len(kept)
    cells = []
    for chosen, tvd in zip(kept, found.tvd, strict=True):
        p, q = (slow_shares(codes, sizes, chosen) for codes in (first, second))
        cells.append(np.abs(p - q).ravel())
        assert tvd == pytest.approx(0.5 * cells[-1].sum(), abs=1e-12)
        assert -1e-12 <= tvd <= 1 + 1e-12
    if kept:
        assert found.cell_mean == pytest.approx(np.concatenate(cells).mean(), abs=1e-12)
        assert found.cell_max == pytest.approx(np.concatenate(cells).max(), abs=1e-12)
        assert found.mean == pytest.approx(found.tvd.mean())
    else:
        assert np.isnan([found.mean, found.max, found.cell_mean, found.cell_max]).all()


def test_bad_tables():
    good = table([0, 1])
    for bad, match in (
        (table([0, 1, 2]), "rows of 2"),
        (np.empty((0, 2), np.int32), "rows of 2"),
        (table([0, 2]), "sizes"),
        (table([-1, 0]), "sizes"),
    ):
        with pytest.raises(InputError, match=match):
            distances(good, bad, np.array([2, 2]), 1)
        with pytest.raises(InputError, match=match):
            distances(bad, good, np.array([2, 2]), 1)
    with pytest.raises(InputError, match="k must be"):
        distances(good, good, np.array([2, 2]), 0)


def test_wide_columns_are_merged_and_nulls_stay_apart():
    schema = Schema(
        (
            integer("stays", 0, 127, null="N"),
            integer("just", 0, 128, null="N"),
            real("wide", 0, 1, null="N"),
            category("labels", [f"l{i}" for i in range(300)]),
        )
    )
    assert schema.sizes.tolist() == [129, 130, 1025, 300]
    assert [width_of(column) for column in schema.columns] == [1, 5, 32, 10]
    assert merged_sizes(schema).tolist() == [129, 27, 33, 30]
    codes = np.stack([np.minimum(np.arange(1025), size - 1) for size in schema.sizes], axis=1)
    made = merged(codes, schema)
    assert np.array_equal(made[:, 0], codes[:, 0])
    assert made[[0, 4, 5, 127, 128, 129, 1000], 1].tolist() == [0, 0, 1, 25, 25, 26, 26]
    assert made[[0, 31, 32, 1023, 1024], 2].tolist() == [0, 0, 1, 31, 32]
    assert made[[9, 10, 299], 3].tolist() == [0, 1, 29]
    for j, size in enumerate(merged_sizes(schema)):
        assert set(made[:, j]) == set(range(size))


def test_compare_example():
    schema, codes = example_schema(), example_codes(4000)
    one, two, three = compare(codes, shuffled(codes, range(8)), schema)
    assert [way.ways for way in (one, two, three)] == [1, 2, 3]
    assert [len(way.synthetic.sets) for way in (one, two, three)] == [8, 28, 54]
    assert [way.synthetic.left_out for way in (one, two, three)] == [0, 0, 2]  # age and hours
    assert one.synthetic.max == 0
    assert two.synthetic.max > 0.2
    assert three.synthetic.mean > two.synthetic.mean > 0
    assert [way.sample.sets == way.synthetic.sets for way in (one, two, three)] == [True] * 3


def test_the_sample_is_as_large_as_the_synthetic_table_and_always_the_same():
    schema = schema_of({"a": 4, "b": 4, "c": 4})
    codes = np.random.default_rng(3).integers(0, 4, (5000, 3)).astype(np.int32)
    small, large, again = (compare(codes, codes[:n], schema) for n in (100, 5000, 5000))
    for way, other, same in zip(small, large, again, strict=True):
        assert way.sample.mean > 3 * other.sample.mean > 0
        assert np.array_equal(other.sample.tvd, same.sample.tvd)
    # E |p_hat - p| = sqrt(2 p (1 - p) / (pi n)) for each of 16 cells
    expected = 0.5 * 16 * np.sqrt(2 * (1 / 16) * (15 / 16) / (np.pi * 5000))
    assert large[1].sample.mean == pytest.approx(expected, rel=0.35)


def test_compare_with_too_few_columns():
    ways = compare(table([0], [1]), table([0], [0]), schema_of({"a": 2}))
    assert ways[0].synthetic.tvd.tolist() == [0.5]
    assert [way.synthetic.sets for way in ways[1:]] == [(), ()]
    assert np.isnan(ways[1].synthetic.mean)


# learning


LABELLED = Schema(
    (
        integer("x", 0, 9, null="N"),
        category("kind", ("a", "b", "c")),
        category("label", ("no", "yes"), null=""),
        integer("noise", 0, 999),
    )
)


def labelled(rows=1500, seed=0):
    """The label is whether x >= 7; of nulls it is no."""
    rng = np.random.default_rng(seed)
    codes = np.stack([rng.integers(0, size, rows) for size in (11, 3, 2, 1000)], axis=1)
    codes[:, 2] = (codes[:, 0] >= 7) & (codes[:, 0] < 10)
    return codes.astype(np.int32)


def test_target_column():
    assert target_column(LABELLED).name == "label"
    assert target_column(LABELLED, "kind").name == "kind"
    assert target_column(schema_of({"a": 20, "b": 21, "c": 1})).name == "a"
    assert target_column(schema_of({"a": 50, "b": 2}), "a").name == "a"
    for sizes, target, match in (
        ({"a": 21, "b": 1}, None, "2 to 20 labels"),
        ({"a": 51, "b": 1}, "a", "2 to 50 labels; 'a' has 51 labels"),
        ({"a": 51, "b": 1}, "b", "'b' has 1 label"),
        ({"a": 2, "b": 2}, "aa", "no column 'aa'"),
        ({"a": 2}, None, "besides"),
    ):
        with pytest.raises(InputError, match=match):
            target_column(schema_of(sizes), target)
    with pytest.raises(InputError, match="integer numbers"):
        target_column(LABELLED, "x")


def test_a_copy_teaches_all_and_a_shuffled_label_nothing():
    pytest.importorskip("sklearn")
    codes = labelled()
    learnt = train_on_synthetic(codes, codes, LABELLED)
    assert (learnt.target, learnt.measure, learnt.held_out) == ("label", "auc", False)
    assert (learnt.real_rows, learnt.synthetic_rows, learnt.test_rows) == (1000, 1500, 500)
    assert learnt.majority == pytest.approx(8 / 11, abs=0.06)
    assert {(s.model, s.trained_on) for s in learnt.scores} == set(
        itertools.product(("gradient boosting", "logistic regression"), ("real", "synthetic"))
    )
    for score in learnt.scores:
        assert score.accuracy > 0.97, score
        assert score.second > 0.99, score
    assert train_on_synthetic(codes, codes, LABELLED) == learnt

    none = train_on_synthetic(codes, shuffled(codes, [2]), LABELLED)
    for score in none.scores:
        if score.trained_on == "real":
            assert score in learnt.scores
        else:
            # only the accuracy: a model ranks by x, upwards or downwards as chance has it
            assert score.accuracy == pytest.approx(none.majority, abs=0.12)


def test_more_labels_and_held_out_rows():
    pytest.importorskip("sklearn")
    codes = labelled(600)
    codes[:, 1] = codes[:, 0] % 3
    learnt = train_on_synthetic(codes, codes, LABELLED, "kind", test=labelled(60, seed=5))
    assert (learnt.measure, learnt.held_out) == ("macro_f1", True)
    assert (learnt.real_rows, learnt.test_rows) == (600, 60)
    assert all(0 <= score.second <= 1 for score in learnt.scores)


def test_rows_without_a_label_are_left_out():
    pytest.importorskip("sklearn")
    codes = labelled(300)
    codes[::3, 2] = 2  # the null
    learnt = train_on_synthetic(codes, codes[::2], LABELLED)
    assert (learnt.real_rows + learnt.test_rows, learnt.synthetic_rows) == (200, 100)
    codes[:, 2] = 2
    for first, second in ((codes, labelled(90)), (labelled(90), codes)):
        with pytest.raises(InputError, match="no rows with a label"):
            train_on_synthetic(first, second, LABELLED)
    codes[:, 2] = 1
    with pytest.raises(InputError, match="only one label"):
        train_on_synthetic(codes, codes, LABELLED)


def test_a_synthetic_table_of_one_label_teaches_it():
    pytest.importorskip("sklearn")
    codes = labelled(300)
    learnt = train_on_synthetic(codes, codes[codes[:, 2] == 0], LABELLED)
    for score in learnt.scores:
        if score.trained_on == "synthetic":
            assert score.accuracy == pytest.approx(learnt.majority)
            assert score.second == 0.5
    tested = codes[codes[:, 2] == 1]
    learnt = train_on_synthetic(codes, codes, LABELLED, test=tested)
    assert all(np.isnan(score.second) for score in learnt.scores)
    assert learnt.majority == 0


def test_learning_survives_odd_columns():
    pytest.importorskip("sklearn")
    schema = Schema(
        (
            category("many", [str(i) for i in range(400)], null=""),
            real("never", 0, 1, null="N"),
            category("one", ("always",)),
            category("label", ("a", "b", "c", "d")),
        )
    )
    rng = np.random.default_rng(0)
    codes = np.stack([rng.integers(0, 401, 400), *np.zeros((2, 400)), rng.integers(0, 3, 400)], 1)
    codes[:, 1] = schema.column("never").bins
    codes[0, 3] = 3  # a label that is there once
    codes = codes.astype(np.int32)
    learnt = train_on_synthetic(codes, codes[:7], schema)
    assert len(learnt.scores) == 4


def test_without_scikit_learn(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(InputError, match=r"zoo-engine\[evaluate\]"):
        learning.library()
    assert main(["evaluate", "a.csv", "b.csv", "--schema", "c.json"]) == 2
    assert "--no-learning" in capsys.readouterr().err


# the command


@pytest.fixture
def people(tmp_path, monkeypatch):
    """Files of a real table, a synthetic one, and their schema, in the current folder."""
    monkeypatch.chdir(tmp_path)
    schema, codes = example_schema(), example_codes(600)
    write_table("real.csv", schema, codes, 0)
    write_table("synthetic.csv", schema, shuffled(codes, range(8))[:500], 1)
    (tmp_path / "schema.json").write_text(json.dumps(schema.describe()))
    return tmp_path


COMMAND = ["evaluate", "real.csv", "synthetic.csv", "--schema", "schema.json"]


def test_command(people, capsys):
    pytest.importorskip("sklearn")
    assert main(COMMAND) == 0
    out, err = capsys.readouterr()
    assert err == ""
    lines = out.splitlines()
    assert lines[0] == "computed from the real data: not private, not for release"
    rows = {line.split()[0]: line.split()[1:] for line in lines if "-way " in line}
    two = compare(
        *(example_codes(600), shuffled(example_codes(600), range(8))[:500]), example_schema()
    )[1]
    assert rows["2-way"][:3] == ["28", f"{two.synthetic.mean:.4f}", f"{two.synthetic.max:.4f}"]
    assert rows["2-way"][3:5] == [f"{two.sample.mean:.4f}", f"{two.sample.max:.4f}"]
    worst = two.synthetic.sets[int(np.argmax(two.synthetic.tvd))]
    assert f"worst pair: {', '.join(example_schema().names[j] for j in worst)}: " in out
    assert "left out: 2 triples of more than 100,000 cells" in out
    assert "at most 32 bins of equal width: income" in out
    assert "learning married from the other columns: 400 real or 500 synthetic rows" in out
    assert "gradient boosting, synthetic" in out


def test_json(people, capsys):
    pytest.importorskip("sklearn")
    assert main([*COMMAND, "--json", "--target", "region", "--test", "synthetic.csv"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["private"] is False
    assert "not private" in said["note"]
    assert said["rows"] == {"real": 600, "synthetic": 500}
    assert said["merged"] == ["income"]
    assert [way["marginals"] for way in said["marginals"].values()] == [8, 28, 54]
    two = said["marginals"]["2-way"]
    assert len(two["worst"]["columns"]) == 2
    assert two["worst"]["tvd"] == two["synthetic"]["tvd_max"] > two["sample"]["tvd_mean"] > 0
    assert said["learning"]["target"] == "region"
    assert said["learning"]["held_out"] is True
    assert set(said["learning"]["scores"][0]) == {"model", "trained_on", "accuracy", "macro_f1"}


def test_no_learning(people, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn", None)  # nor is it needed
    assert main([*COMMAND, "--no-learning"]) == 0
    assert "learning: skipped: not asked for" in capsys.readouterr().out
    assert main([*COMMAND, "--no-learning", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["learning"] == {"skipped": "not asked for"}


def test_one_column_of_numbers(people, capsys):
    pytest.importorskip("matplotlib")
    (people / "schema.json").write_text('{"hours": {"dtype": "int64", "min": 1, "max": 99}}')
    command = [*COMMAND, "--json", "--plot", "one.png"]
    assert main([*command, "--no-learning"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["marginals"]["2-way"]["synthetic"]["tvd_mean"] is None
    assert said["marginals"]["2-way"]["worst"] is None
    assert main([*COMMAND, "--no-learning"]) == 0
    capsys.readouterr()
    pytest.importorskip("sklearn")
    assert main(COMMAND) == 0
    assert "learning: skipped: learning needs a column besides" in capsys.readouterr().out


def test_plot(people, capsys):
    pytest.importorskip("sklearn")
    matplotlib_image = pytest.importorskip("matplotlib.image")
    assert main([*COMMAND, "--plot", "picture.png"]) == 0
    assert capsys.readouterr().err == ""
    assert (people / "picture.png").read_bytes().startswith(b"\x89PNG\r\n")
    assert matplotlib_image.imread(people / "picture.png").std() > 0.05
    assert {p.name for p in people.iterdir()} == {
        *("real.csv", "synthetic.csv", "schema.json", "picture.png")
    }


def test_plot_of_names_that_matplotlib_would_read(people, capsys):
    pytest.importorskip("matplotlib")
    schema = Schema((category("$a_$^{", ("$\\frac$", "漢字")), category("n" * 90, ("x", "y"))))
    codes = np.array([[0, 1], [1, 0], [1, 1]], np.int32)
    (people / "schema.json").write_text(json.dumps(schema.describe()))
    write_table("real.csv", schema, codes, 0)
    write_table("synthetic.csv", schema, codes, 0)
    assert main([*COMMAND, "--no-learning", "--plot", "picture.png"]) == 0
    assert capsys.readouterr().err == ""
    assert (people / "picture.png").stat().st_size > 1000


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--plot", "missing/picture.png"], "there is no folder missing"),
        (["--plot", "runs/picture.png"], "is a run folder"),
        (["--plot", "link/picture.png"], "is a run folder"),
        (["--plot", "picture.pdf"], "FILE.png"),
        (["--plot", ""], "FILE.png"),
    ],
)
def test_refused_pictures(people, capsys, arguments, said):
    pytest.importorskip("matplotlib")
    (people / "runs").mkdir()
    (people / "runs" / "config.json").write_text("{}")
    (people / "link").symlink_to("runs")
    (people / "real.csv").unlink()  # it is refused before anything is read
    assert main([*COMMAND, "--no-learning", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert said in err
    assert err.count("\n") == 1
    assert [p.name for p in (people / "runs").iterdir()] == ["config.json"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nothing.csv", "synthetic.csv", "--schema", "schema.json"], "cannot read nothing.csv"),
        (["real.csv", "nothing.csv", "--schema", "schema.json"], "cannot read nothing.csv"),
        (["real.csv", "synthetic.csv", "--schema", "nothing.json"], "cannot read nothing.json"),
        (["real.csv", "synthetic.csv"], "--schema FILE.json is missing"),
        (["real.csv"], "SYNTHETIC is missing"),
        (["real.csv", "other.csv", "--schema", "schema.json"], "other.csv has no column 'sex'"),
        (
            ["real.csv", "outside.csv", "--schema", "schema.json"],
            "outside.csv, row 1, column 'age'",
        ),
        ([*COMMAND[1:], "--target", "incme"], "did you mean 'income'?"),
        ([*COMMAND[1:], "--target", "income"], "'income' is of real numbers"),
        ([*COMMAND[1:], "--target", "sex", "--no-learning"], "goes without --target"),
        ([*COMMAND[1:], "--test", "nothing.csv"], "cannot read nothing.csv"),
        (["real.csv", "r.csv", "--schema", "one.json", "--target", "sex"], "'sex' has 1 label"),
        (["women.csv", "synthetic.csv", "--schema", "schema.json", "--target", "sex"], "only one"),
    ],
)
def test_errors(people, capsys, arguments, said):
    pytest.importorskip("sklearn")
    (people / "other.csv").write_text("age\n30\n")
    header, *rows = (people / "real.csv").read_text().splitlines()
    (people / "outside.csv").write_text(f"{header}\n999,{rows[0].partition(',')[2]}\n")
    women = [row for row in rows if ",female," in row]
    (people / "women.csv").write_text("\n".join([header, *women]))
    described = example_schema().describe()["schema"]
    described["sex"]["values"] = ["female"]
    (people / "one.json").write_text(json.dumps(described))
    assert main(["evaluate", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert said in err
    assert err.count("\n") == 1


def test_clip(people, capsys):
    text = (people / "synthetic.csv").read_text()
    header, first, rest = text.split("\n", 2)
    (people / "synthetic.csv").write_text(f"{header}\n999,{first.partition(',')[2]}\n{rest}")
    assert main([*COMMAND, "--no-learning"]) == 2
    assert "clip" in capsys.readouterr().err
    assert main([*COMMAND, "--no-learning", "--clip"]) == 0


def test_the_command_is_light_to_ask_about():
    code = (
        "import sys; from cli.main import main; main(['evaluate', '--help']);"
        "print([m for m in ('numpy', 'sklearn', 'matplotlib', 'numba', 'ray') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "NOT PRIVATE" in " ".join(done.stdout.split())
    assert done.stdout.splitlines()[-1] == "[]"
