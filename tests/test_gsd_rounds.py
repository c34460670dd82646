"""The rounds of a run: what is measured and fitted, when it ends, and going on from a state."""

import hashlib
import io
import math
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from evolve.gsd.columns import category, integer
from evolve.gsd.config import GSDConfig
from evolve.gsd.curator import Curator
from evolve.gsd.design import allotted
from evolve.gsd.ledger import Ledger
from evolve.gsd.marginals import every
from evolve.gsd.method import GSD
from evolve.gsd.rounds import rounds
from evolve.gsd.schema import Schema
from evolve.gsd.workload import design_of
from zoo.errors import RunError

SCHEMA = Schema(
    (
        integer("age", 0, 11, null=""),
        category("sex", ("f", "m")),
        category("work", tuple("abcde")),
        category("region", ("n", "s", "w")),
    )
)


def people(n=3000):
    rng = np.random.default_rng(0)
    age = (12 * rng.random(n) ** 1.5).astype(int)
    sex = rng.random(n) < 0.3 + 0.03 * age
    work = np.minimum(4, age // 3 + (rng.random(n) < 0.5))
    region = rng.integers(0, 3, n)
    age = np.where(rng.random(n) < 0.1, 12, age)
    return np.stack([age, sex, work, region], axis=1).astype(np.int32)


def exact(releases=(), **values):
    """A run without noise."""
    values = {"epsilon": math.inf, "rows": "same", "shards": 3, "batch": 2000} | values
    config = GSDConfig(**values)
    curator = Curator(people, math.inf, config.neighbours, releases=list(releases))
    return GSD(curator, config, design_of(config, SCHEMA), 7)


def go_on(method, shards, steps=3000):
    """Supersteps, as a host would make them; no run of these needs as many."""
    while steps and not method.finished:
        message = method.message(1)
        method.merge([shard.step(message) for shard in shards])
        steps -= 1
    return method


def to_the_end(method):
    go_on(method, shards_of(method))
    assert method.finished
    return method


def shards_of(method):
    return [method.shard(index) for index in range(method.shards)]


def distances(method, queries):
    """Total variation of each query set between the table and the people."""
    gap = queries.counts(method.codes) / len(method.codes) - queries.counts(people()) / 3000
    return np.array([0.5 * np.abs(g).sum() for g in np.split(gap, queries.offset[1:-1])])


@pytest.mark.parametrize("values", [{}, {"adaptive": True, "rounds": 9}, {"shards": 1}])
def test_as_many_rows_as_people_fit_exact_answers(values):
    method = to_the_end(exact(**values))
    assert method.size == 3000
    queries = method.curator.releases[-1].queries
    assert len(method.curator.releases) == (7 if values.get("adaptive") else 2)
    result = method.result()
    pairs = result["error"]["marginals"]
    assert pairs["sets"] == 6
    assert pairs["max"] < 0.01
    assert distances(method, queries).max() <= pairs["max"] + 1e-12
    assert (result["status"], result["success"]) == ("converged", True)
    assert result["fun"] == method.progress().best
    assert result["rows"] == 3000
    assert result["rho_spent"] == 0.0


@pytest.mark.parametrize(
    "values",
    [
        {"queries": "ranges", "marginals": 2, "depth": 3},
        {"queries": "prefixes", "count": 40},
        {"queries": "halfspaces", "count": 40, "adaptive": True, "rounds": 4, "per_round": 10},
    ],
)
def test_other_queries_are_fitted_as_they_were_measured(values):
    method = to_the_end(exact(**values))
    for release in method.curator.releases:
        assert distances(method, release.queries).max() < 0.01
    assert len(method.curator.releases) == (5 if values.get("adaptive") else 2)


def test_adaptive_rounds_choose_what_fits_worst():
    method = exact(adaptive=True, rounds=3, per_round=2, marginals=2)
    config, design, curator = method.config, method.design, method.curator
    stages = rounds(curator, config, design)
    rng = np.random.default_rng(3)
    targets, taken, number = next(stages), [], 0
    assert len(curator.releases) == 1  # the single columns
    assert not targets.last
    while True:
        number += 1
        codes = np.stack([rng.integers(0, size, 200) for size in SCHEMA.sizes], axis=1)
        # Every column is its own estimate in one bin a code: the coarse queries are the plain ones.
        gaps = []
        for columns in design.sets:
            shape = [SCHEMA.sizes[j] for j in columns]
            both = [
                np.histogramdd(c[:, columns], [np.arange(k + 1) for k in shape])[0] / len(c) * 3000
                for c in (codes.astype(float), people().astype(float))
            ]
            gaps.append(np.abs(both[0] - both[1]).sum())
        try:
            targets = stages.send(codes.astype(np.int16))
        except StopIteration:
            break
        release = curator.releases[number]
        left = [k for k in np.argsort(-np.array(gaps)) if k not in taken]
        assert release.chosen.tolist() == left[:2]
        assert [m.columns for m in release.queries.marginals] == [
            design.sets[k] for k in release.chosen
        ]
        taken += left[:2]
        assert targets.last == (number == 3)
        assert sum(len(m.columns) == 2 for m in targets.queries.marginals) == 2 * number
    assert number - 1 == 3
    assert sorted(taken) == list(range(6))


@pytest.mark.parametrize(
    ("wanted", "per_round", "made"), [(50, 1, 6), (50, 4, 2), (2, 1, 2), (1, 6, 1), (3, 50, 1)]
)
def test_number_of_rounds(wanted, per_round, made):
    method = exact(adaptive=True, rounds=wanted, per_round=per_round, sweeps=1.0, rows="40")
    to_the_end(method)
    releases = method.curator.releases[1:]
    chosen = np.concatenate([release.chosen for release in releases])
    assert len(releases) == made == method.result()["rounds"] - 1
    assert len(set(chosen)) == len(chosen) == min(6, made * per_round)


def test_the_first_table_has_independent_columns_as_they_were_measured():
    method = exact(rows="30000", marginals=1)
    first = method.message(1).begin.codes
    assert first.shape == (30000, 4)
    for j, size in enumerate(SCHEMA.sizes):
        wanted = np.bincount(people()[:, j], minlength=size) * 10.0
        assert stats.chisquare(np.bincount(first[:, j], minlength=size), wanted).pvalue > 1e-3
    for i, j in every(4, 2):
        pairs = np.histogram2d(first[:, i], first[:, j], SCHEMA.sizes[[i, j]])[0]
        assert stats.chi2_contingency(pairs).pvalue > 1e-3
    other = exact(rows="30000", marginals=1)
    other.seed = 8
    assert not np.array_equal(other.message(1).begin.codes, first)


def test_single_columns_alone():
    method = to_the_end(exact(marginals=1))
    assert len(method.curator.releases) == 1
    assert distances(method, method.curator.releases[0].queries).max() == 0.0
    assert method.result()["fun"] == 0.0


@pytest.mark.parametrize("tolerance", [0.0, 0.01])
def test_a_search_that_gets_nowhere_ends(tolerance):
    method = exact(marginals=2, rows="7", tolerance=tolerance, sweeps=2.0, batch=200)
    go_on(method, shards_of(method), 3000)
    assert method.result()["status"] == "converged"
    assert method.result()["fun"] > 0.0


def test_limits_of_candidates_and_time():
    method = to_the_end(exact(candidates=30_000))
    result = method.result()
    assert (result["status"], result["success"]) == ("candidates", False)
    assert 30_000 <= result["candidates"] < 30_000 + 3 * 2000
    method = exact()
    shards = shards_of(method)
    go_on(method, shards, 2)
    method.stop("seconds")
    result = go_on(method, shards).result()
    assert (result["status"], result["success"], result["generations"]) == ("seconds", False, 3)


def stored(state):
    """A state as a file gives it back."""
    buffer = io.BytesIO()
    np.savez(buffer, **state)
    buffer.seek(0)
    with np.load(buffer, allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


def bits(method):
    result = method.result()
    table = hashlib.sha256(method.codes.tobytes()).hexdigest()  # a short thing to compare
    return table, result["fun"], result["candidates"], result["generations"]


@pytest.mark.parametrize("values", [{}, {"adaptive": True, "rounds": 3, "sweeps": 3.0}])
def test_runs_go_on_from_any_generation_to_the_same_bits(values):
    whole = exact(**values)
    shards = shards_of(whole)
    states = []
    while not whole.finished:
        states.append([whole.state(), *(shard.state() for shard in shards)])
        states[-1] = [stored(state) for state in states[-1]], len(whole.curator.releases)
        go_on(whole, shards, 1)
    expected, releases = bits(whole), whole.curator.releases
    starts = {release: at for at, (_, release) in enumerate(states)}  # last ones of each round
    chosen = {0, 1, 2, len(states) // 2, len(states) - 1, *starts.values()}
    chosen |= {at + 1 for at in starts.values() if at + 1 < len(states)}
    for at in sorted(chosen):
        (first, *others), made = states[at]
        method = exact(releases[:made], **values)
        method.restore(first)
        again = shards_of(method)
        for shard, state in zip(again, others, strict=True):
            shard.restore(state)
        assert bits(go_on(method, again)) == expected
        assert len(method.curator.releases) == len(releases)
    full = exact(releases, **values)  # measured already, to the end: nothing is measured again
    assert bits(to_the_end(full)) == expected
    assert all(a is b for a, b in zip(full.curator.releases, releases, strict=True))


@pytest.mark.parametrize("kept", [0, 1, 2])
def test_lost_measurements_are_not_made_again(kept):
    method = exact(adaptive=True, rounds=3, sweeps=2.0)
    shards = shards_of(method)
    while len(method.curator.releases) < 4:
        go_on(method, shards, 1)
    other = exact(method.curator.releases[:kept], adaptive=True, rounds=3, sweeps=2.0)
    with pytest.raises(RunError, match="measurements of this run are missing"):
        other.restore(method.state())
    assert len(other.curator.releases) == kept


def test_workers_get_no_table_of_people():
    method = exact()
    message = method.message(1)
    sent = pickle.loads(pickle.dumps(method))
    assert sent.curator is sent.design is None
    one, other = (m.shard(1).step(message) for m in (method, sent))
    np.testing.assert_array_equal(one.edits, other.edits)
    assert len(one.edits) > 0


# Noise


def noisy(path, **values):
    config = GSDConfig(**{"epsilon": 3.0, "delta": 1e-4, "batch": 4000} | values)
    ledger = Ledger.open(
        str(path / "l"), config.epsilon, config.delta, config.neighbours, "people", private=False
    )
    curator = Curator(lambda: people(5000), ledger.rho, config.neighbours, ledger, "run", None, 5)
    return GSD(curator, config, design_of(config, SCHEMA), 7)


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"adaptive": True, "rounds": 4},
        {"below_noise": 0.3},
        {"queries": "prefixes"},
    ],
)
def test_a_search_ends_at_the_noise(values, tmp_path):
    method = to_the_end(noisy(tmp_path, **values))
    result = method.result()
    assert method.curator.spent == pytest.approx(method.curator.budget, rel=1e-6)
    assert method.curator.spent <= method.curator.budget
    assert method.design.people != 5000
    sigma = method.curator.releases[0].sigma
    assert method.design.people == pytest.approx(5000, abs=4 * sigma * math.sqrt(13))
    for error in result["error"].values():
        assert 0 < error["noise_floor"] < 0.1
        assert error["mean"] < 2.5 * error["noise_floor"]
    level = np.mean(method._round.table.squares() / method._round.targets.noise)
    assert (result["status"] == "noise") == (level <= 1.0)
    if "below_noise" in values:
        assert result["status"] == "noise"


# Bins


@given(st.lists(st.integers(1, 500), min_size=1, max_size=4), st.floats(0, 1e9))
def test_cells_are_allotted_to_columns(sizes, most):
    bins = allotted(sizes, most)
    for count, size in zip(bins, sizes, strict=True):
        assert min(size, 2) <= count <= size
    if most >= 2 ** len(sizes):
        assert math.prod(bins) <= most * (1 + 1e-9)
    free = [b for b, size in zip(bins, sizes, strict=True) if b < size]
    assert not free or max(bins) <= max(free) + max(free)  # about equally many
    assert allotted(sizes, math.inf) == sizes


def test_small_columns_leave_their_cells_to_others():
    assert allotted([100, 100], 100.0) == [10, 10]
    assert allotted([2, 100], 100.0) == [2, 50]
    assert allotted([100, 5, 100], 500.0) == [10, 5, 10]
    assert allotted([100, 100], 0.1) == [2, 2]
