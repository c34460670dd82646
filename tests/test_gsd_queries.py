"""What is asked of a table: marginals, thresholds, functions, and which a configuration means."""

import itertools
import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import njit
from scipy import stats

from evolve.gsd.columns import category, integer, real
from evolve.gsd.config import GSDConfig
from evolve.gsd.genome import Table
from evolve.gsd.marginals import Marginal, every, plain, views_of
from evolve.gsd.queries import Function, Queries
from evolve.gsd.schema import Schema
from evolve.gsd.thresholds import UNIT, Family, none
from evolve.gsd.workload import design_of
from zoo.errors import InputError

# The last code of columns 1 and 3 is a null.
SIZES = (4, 31, 3, 13, 200)
NUMBERS = (0, 30, 0, 12, 200)  # codes that are numbers in order; 0: categories
VALUES = np.tile(np.arange(200.0), (5, 1))


@njit
def band(x):
    return x[1] // 10.0 if x[3] < 12.0 else -1.0


def random_codes(rng, n):
    codes = [(rng.random(n) ** 2 * size).astype(np.int16) for size in SIZES]
    return np.stack(codes, axis=1)


def marginals():
    halves = np.append(np.arange(30) // 15, 2)
    quarters = np.arange(200) // 50
    same = [np.arange(size) for size in SIZES]
    return (
        plain([1], SIZES),
        plain([4, 0], SIZES),
        plain([0, 2, 3], SIZES),
        Marginal((1, 4), (halves, quarters)),
        Marginal((1, 2, 4), (same[1], same[2], quarters)),
        Marginal((1, 2), (halves, np.array([1, 0, 1]))),
    )


def queries():
    thresholds = Family("halfspaces", SIZES, NUMBERS, 1).block(0, 6)
    thresholds = thresholds.joined(Family("prefixes", SIZES, NUMBERS, 1).block(0, 6))
    return Queries(SIZES, marginals(), thresholds, (Function(band, 3),), VALUES)


# Marginals


def test_marginals_are_histograms():
    codes = random_codes(np.random.default_rng(1), 9000)  # more than one block of rows
    asked = Queries(SIZES, marginals())
    for marginal, found in zip(
        asked.marginals, np.split(asked.counts(codes), asked.offset[1:-1]), strict=True
    ):
        points = [bins[codes[:, j]] for j, bins in zip(*of(marginal), strict=True)]
        edges = [np.arange(count + 1) - 0.5 for count in marginal.shape]
        expected = np.histogramdd(np.stack(points, axis=1), edges)[0]
        np.testing.assert_array_equal(found.reshape(marginal.shape), expected)
        assert found.sum() == 9000


def of(marginal):
    return marginal.columns, marginal.bins


def test_a_marginal_by_hand():
    codes = np.array([[0, 1], [2, 1], [2, 1], [1, 0]], np.int16)
    two = Marginal((0, 1), (np.array([0, 0, 1]), np.array([0, 1])))
    assert Queries((3, 2), (two,)).counts(codes).tolist() == [1, 1, 0, 2]
    assert plain([1, 0], (3, 2)).columns == (0, 1)
    assert (two.shape, two.cells) == ((2, 2), 4)


def test_marginals_share_their_views():
    views = views_of(marginals(), SIZES)
    assert views.columns.tolist() == [0, 1, 1, 2, 2, 3, 4, 4]
    assert views.cells == views.offset[-1] == sum(m.cells for m in marginals())
    assert (views.strides[0] > 0).sum() == 1
    assert views.strides[2].tolist() == [39, 13, 1]
    assert views_of((), SIZES).cells == 0


def test_every_set_of_columns():
    assert every(4, 2) == [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)]
    assert every(4, 2, 2) == [(0, 2), (1, 2), (2, 3)]
    assert every(3, 3) == [(0, 1, 2)]
    for d, k in itertools.product(range(1, 9), range(1, 5)):
        assert len(set(every(d, k))) == len(every(d, k)) == math.comb(d, k)
        assert len(every(d, k, 0)) == math.comb(d - 1, k - 1)


@given(st.integers(0, 2**32))
@settings(max_examples=60, deadline=None)
def test_a_row_is_in_one_cell_of_a_set_at_most(seed):
    rng = np.random.default_rng(seed)
    codes, asked = random_codes(rng, 6), QUERIES
    fewer = asked.counts(codes[:5])
    added = np.split(asked.counts(codes) - fewer, asked.offset[1:-1])
    replaced = np.split(asked.counts(codes[1:]) - fewer, asked.offset[1:-1])
    for one, other in zip(added, replaced, strict=True):
        assert sorted(one)[-1] in (0, 1)
        assert np.abs(one).sum() == (one**2).sum() <= 1
        assert (other**2).sum() <= 2
        assert abs(other.sum()) <= 1
    for part in added[: len(asked.marginals)]:
        assert part.sum() == 1  # of a marginal, in one exactly


QUERIES = queries()


def test_some_of_the_sets():
    codes = random_codes(np.random.default_rng(2), 300)
    asked = Queries(SIZES, marginals(), QUERIES.thresholds)
    parts = np.split(asked.counts(codes), asked.offset[1:-1])
    for which in ([0], [5, 2], [1, 3, 8, 6, 17], [9, 16]):
        some = asked.take(np.array(which))
        np.testing.assert_array_equal(some.counts(codes), np.concatenate([parts[k] for k in which]))
        assert len(some.offset) == len(which) + 1
        assert some.thresholds.score.flags.c_contiguous  # or kernels are compiled once more


def test_queries_survive_being_arrays():
    codes = random_codes(np.random.default_rng(3), 300)
    bare = Queries(SIZES, functions=QUERIES.functions, values=VALUES)
    for asked in (QUERIES, Queries(SIZES, marginals()), Queries(SIZES, (), QUERIES.thresholds)):
        again = bare.like(asked.arrays())
        np.testing.assert_array_equal(again.offset, asked.offset)
        np.testing.assert_array_equal(again.counts(codes), asked.counts(codes))
        assert len(again.functions) == len(asked.functions)
        for one, other in zip(again.marginals, asked.marginals, strict=True):
            assert (one.columns, one.shape) == (other.columns, other.shape)
        twice = bare.like(again.arrays()).arrays()
        for name, array in asked.arrays().items():
            np.testing.assert_array_equal(twice[name], array)


def test_functions_count_rows_in_their_cells_and_others_nowhere():
    codes = np.array([[0, v, 0, null, 0] for v, null in ((3, 1), (17, 2), (12, 12), (30, 0))])
    asked = Queries(SIZES, functions=(Function(band, 3), Function(band, 2)), values=VALUES)
    assert asked.counts(codes.astype(np.int16)).tolist() == [1, 1, 0, 1, 1]


# Thresholds


def scores(thresholds, j):
    base = np.cumsum([0, *SIZES])
    return thresholds.score[base[j] : base[j + 1]]


def test_halfspaces_are_those_of_the_definition():
    thresholds = Family("halfspaces", SIZES, NUMBERS, 4).block(2, 3000)
    rng = np.random.default_rng(1)
    codes = random_codes(rng, 200)
    numbers, sums, slopes = (1, 3, 4), np.zeros((200, 3000)), []
    for j, (size, count) in enumerate(zip(SIZES, NUMBERS, strict=True)):
        score = scores(thresholds, j) * UNIT
        if j not in numbers:
            assert not score.any()
            continue
        x = np.linspace(-1, 1, 2 * count + 1)[1::2]  # the middles of count bins of [-1, 1]
        w = x @ score[:count] / (x @ x)
        np.testing.assert_allclose(score[:count], np.outer(x, w), atol=UNIT)
        position = np.append(x, 0.0)[:size] if size > count else x  # a null is in the middle
        sums += position[codes[:, j], None] * w
        slopes.append(w * math.sqrt(3))
    assert stats.kstest(np.concatenate(slopes), "norm").pvalue > 1e-3
    assert stats.kstest(thresholds.bound * UNIT * 2, "norm").pvalue > 1e-3
    assert abs(np.corrcoef([*slopes, thresholds.bound])[np.triu_indices(4, 1)]).max() < 0.08
    assert_counts(thresholds.take(np.arange(40)), codes, (sums > thresholds.bound * UNIT)[:, :40])


def test_prefixes_are_those_of_the_definition():
    thresholds = Family("prefixes", SIZES, NUMBERS, 4).block(2, 3000)
    codes = random_codes(np.random.default_rng(1), 200)
    inside, conditions = np.ones((200, 3000), bool), []
    for j in (1, 3, 4):
        score, count = scores(thresholds, j), NUMBERS[j]
        passes = score[:count] == 0
        below = passes.sum(axis=0)  # codes below t
        assert (passes == (np.arange(count)[:, None] < below)).all()
        used = below < count if j == 4 else score[-1] < 0
        if j != 4:
            assert (score[count, used] == -1).all()  # a null meets no condition
            assert (score[:, ~used] == 0).all()
        t = below[used] / count
        assert t.min() > 0
        assert stats.kstest(t - 0.5 / count, "uniform").statistic < 0.5 / count + 0.045
        inside &= np.where(used, codes[:, j, None] < np.where(used, below, 0), True)
        conditions.append(used)
    conditions = np.array(conditions)
    assert (conditions.sum(axis=0) <= 2).all()
    assert (conditions.sum(axis=0) == 2).mean() > 0.98  # a t may be above all codes of column 4
    assert stats.chisquare((~conditions).sum(axis=1)).pvalue > 1e-4 / 2
    assert_counts(thresholds.take(np.arange(40)), codes, inside[:, :40])


def assert_counts(thresholds, codes, inside):
    """Rows inside, by the codes of the column that each threshold is counted by."""
    expected = []
    for t, by in enumerate(thresholds.by):
        assert by in (0, 2)  # the categories
        expected.append(np.bincount(codes[inside[:, t], by], minlength=SIZES[by]))
    np.testing.assert_array_equal(thresholds.counts(codes, SIZES), np.concatenate(expected))
    assert 0 < inside.mean() < 1
    assert set(thresholds.by) == {0, 2}


def test_families_are_the_same_for_everybody():
    def block(seed=1, number=0, kind="prefixes", count=9):
        return Family(kind, SIZES, NUMBERS, seed).block(number, count)

    np.testing.assert_array_equal(block().score, block().score)
    for other in (block(seed=2), block(number=1), block(kind="halfspaces")):
        assert not np.array_equal(block().score, other.score)
    numeric = Family("prefixes", (30, 12), (30, 12), 0).block(0, 5)
    assert numeric.by.tolist() == [-1] * 5
    assert numeric.cells.tolist() == [1] * 5
    one = Family("prefixes", (30,), (30,), 0).block(0, 50)
    assert len(np.unique((one.score == 0).sum(axis=0))) > 10  # of one column


def test_no_thresholds():
    assert len(none(SIZES)) == 0
    assert none(SIZES).counts(np.zeros((3, 5), np.int16), SIZES).shape == (0,)


# What a configuration asks for


SCHEMA = Schema(
    (
        integer("age", 0, 99, null=""),
        category("sex", ("f", "m")),
        integer("kids", 0, 4),
        real("pay", 0, 1, bins=1),
        category("region", ("n", "s", "w"), null="?"),
    )
)


def asked(**values):
    return design_of(GSDConfig(**values), SCHEMA)


def test_marginals_of_a_configuration():
    design = asked(marginals=2)
    assert design.sets == every(5, 2)
    assert design.fixed is None
    assert design.sizes == (101, 2, 5, 1, 4)
    assert list(design.apart) == [True, False, False, False, True]
    assert list(design.ordered) == [True, False, True, True, False]
    assert asked(marginals=3, target="kids").sets == every(5, 3, 2)
    assert asked(marginals=1).sets == []  # single columns are measured anyhow
    with pytest.raises(InputError, match="no column 'kid': did you mean 'kids'"):
        asked(target="kid")
    with pytest.raises(InputError, match="marginals must be <= 2, the columns"):
        design_of(GSDConfig(marginals=3), Schema(SCHEMA.columns[:2]))


def test_ranges_are_levels_of_a_tree():
    design = asked(queries="ranges", marginals=1, depth=3)
    shapes = [(m.columns[0], m.shape[0]) for m in design.fixed.marginals]
    assert shapes == [(0, 3), (0, 5), (0, 9), (2, 2), (2, 4), (3, 1)]  # 5 numbers: no 8 ranges
    for marginal in design.fixed.marginals[:3]:
        bins, count = marginal.bins[0], marginal.shape[0] - 1
        assert bins[100] == count  # the null
        np.testing.assert_array_equal(np.unique(bins), np.arange(count + 1))
        assert (np.diff(bins) >= 0).all()
        sizes = np.bincount(bins)[:count]
        assert sizes.max() - sizes.min() <= 1
    fine, coarse = (design.fixed.marginals[k].bins[0] for k in (2, 1))
    for part in range(8):  # a range of one level is half of one of the level above
        assert set(coarse[fine == part]) == {part // 2}


def test_ranges_of_pairs():
    design = asked(queries="ranges", marginals=2, depth=2)
    made = [(m.columns, m.shape) for m in design.fixed.marginals]
    assert [shape for columns, shape in made if columns == (0, 1)] == [(3, 2), (5, 2)]
    both = [shape for columns, shape in made if columns == (0, 2)]
    assert sorted(both) == [(3, 2), (3, 4), (5, 2), (5, 4)]
    assert (1, 4) not in {columns for columns, _ in made}  # two categories have no ranges
    few = asked(queries="ranges", marginals=2, target="sex", depth=1)
    assert {m.columns for m in few.fixed.marginals} == {(0, 1), (1, 2), (1, 3)}


def test_thresholds_of_a_configuration():
    for kind in ("halfspaces", "prefixes"):
        thresholds = asked(queries=kind, count=20).fixed.thresholds
        again = asked(queries=kind, count=20).fixed.thresholds
        assert len(thresholds) == 20
        np.testing.assert_array_equal(thresholds.score, again.score)
        assert set(thresholds.by) <= {1, 4}
    labels = Schema((SCHEMA.columns[1], SCHEMA.columns[4]))
    for kind in ("halfspaces", "prefixes", "ranges"):
        with pytest.raises(InputError, match=f"{kind} are for numbers"):
            design_of(GSDConfig(queries=kind), labels)
    two = Schema((*labels.columns, SCHEMA.columns[0]))
    with pytest.raises(InputError, match="no ranges"):
        design_of(GSDConfig(queries="ranges", marginals=1, target="sex"), two)


def test_a_workload_file(tmp_path):
    path = tmp_path / "workload.json"
    path.write_text(json.dumps([["pay", "age"], ["sex", "kids", "region"], ["sex"]]))
    assert asked(workload=str(path)).sets == [(0, 3), (1, 2, 4)]
    ranges = asked(workload=str(path), queries="ranges", depth=1).fixed.marginals
    assert [m.columns for m in ranges] == [(0, 3), (1, 2, 4)]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[[", "is no JSON"),
        ("{}", "must be a list of lists of columns"),
        ("[]", "must be a list of lists of columns"),
        ('["age"]', "must be a list of lists of columns"),
        ("[[]]", "must be a list of lists of columns"),
        ('[["agee"]]', "no column 'agee': did you mean 'age'"),
        ('[["age", "age"]]', "has a column twice"),
        ('[["age", "sex"], ["sex", "age"]]', "is there twice"),
        ("[[1, 2]]", "must be a list of lists of columns"),
        ("[[null]]", "must be a list of lists of columns"),
        ('[[["age"]]]', "must be a list of lists of columns"),
    ],
)
def test_workload_files_that_are_refused(text, reason, tmp_path):
    path = tmp_path / "workload.json"
    path.write_text(text)
    with pytest.raises(InputError, match=reason) as refused:
        asked(workload=str(path))
    assert str(path) in str(refused.value)


def test_a_workload_file_that_is_not_there(tmp_path):
    with pytest.raises(InputError, match=r"cannot read .*: No such file"):
        asked(workload=str(tmp_path / "none.json"))


FUNCTIONS = """
from numba import njit

@njit
def rich(x):
    return 0.0 if x[3] > 0.25 else -1.0

@njit
def parent(x):
    return x[1] if x[0] > 50.0 else 2  # NaN, of a null, is not above

@njit
def texts(x):
    return "age"

def plain(x):
    return 0.0

good = [(rich, 1), (parent, 2)]
empty = []
alone = rich
python = [(plain, 1)]
cells = [(rich, 0)]
real = [(rich, 1.5)]
yes = [(rich, True)]
triple = [(rich, 1, 2)]
wrong = [(texts, 1)]
"""


def test_functions_of_a_file_are_given_values(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(FUNCTIONS)
    design = asked(queries="functions", functions=f"{path}:good")
    codes = np.array([[10, 0, 0, 0, 0], [60, 0, 0, 0, 0], [99, 1, 0, 0, 0], [100, 1, 0, 0, 0]])
    assert design.fixed.counts(codes.astype(np.int16)).tolist() == [4, 1, 1]
    values = design.bare.values
    assert values[0, :101].tolist()[:100] == list(range(100))  # the middle of an integer's bin
    assert math.isnan(values[0, 100])
    assert values[3, 0] == 0.5
    assert values[4, :3].tolist() == [0, 1, 2]
    assert asked(marginals=1).bare.functions == ()


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("", "names no function|add :NAME"),
        (":nothing", "has no function 'nothing'"),
        (":empty", "must be a list of"),
        (":alone", "must be a list of"),
        (":python", "must be a list of"),
        (":cells", "must be a list of"),
        (":real", "must be a list of"),
        (":yes", "must be a list of"),
        (":triple", "must be a list of"),
        (":wrong", "does not compile to float"),
    ],
)
def test_files_of_functions_that_are_refused(name, reason, tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(FUNCTIONS)
    with pytest.raises(InputError, match=reason):
        asked(queries="functions", functions=f"{path}{name}")
    with pytest.raises(InputError, match="does not exist"):
        asked(queries="functions", functions=f"{tmp_path}/none.py{name or ':x'}")


@njit
def particular(x):
    if x[0] == 1.0:
        raise ValueError("no way")
    return 1.0 / (x[0] - 2.0) + 2.0  # a division by zero at 2


def test_a_function_that_fails_counts_the_row_nowhere():
    values = np.arange(4.0)[None]
    queries = Queries((4,), functions=(Function(particular, 4),), values=values)
    codes = np.array([[0], [1], [2], [3], [3]])
    np.testing.assert_array_equal(queries.counts(codes), [0, 1, 0, 2])
    table = Table(codes, queries, [1.0], np.arange(4), np.zeros(4))
    np.testing.assert_array_equal(table.genome.residual, [0, 1, 0, 2])
