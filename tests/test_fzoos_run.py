"""Federated optimization: algorithms beside their references, counts, traffic, absent clients."""

import itertools
import math
import os
import time
from collections import Counter

import numpy as np
import pytest
from fzoos_runs import KINDS, bowls, job, problem, ran
from reference_fzoos import PlainClient, fzoos, pooled, scalars, stepping

import zoo
from zoo.errors import InputError, RunError
from zoo.fzoos.directions import ALL, SHARED, generator
from zoo.fzoos.exchange import Report
from zoo.fzoos.features import features
from zoo.fzoos.kernels import KERNELS
from zoo.fzoos.method import Federation
from zoo.fzoos.problems import federation
from zoo.fzoos.shard import ClientShard

FUNCTIONS = sorted(KINDS)


def functions_of(shared):
    """Clients' functions over the unit box."""
    width = shared.upper - shared.lower
    return [
        lambda u, c=client: float(c.objective.evaluate((shared.lower + u * width)[None])[0])
        for client in shared.clients
    ]


def iterates(made):
    """Iterates (unit box) after each round."""
    found = []

    class Watched(Federation):
        def _record(self, participants):
            super()._record(participants)
            found.append(self.server.x.copy())

    method = Watched(made)
    shards = [method.shard(i) for i in range(method.shards)]
    while not method.finished:
        message = method.message(1)
        method.merge([shard.step(message) for shard in shards])
    return found


@pytest.mark.parametrize("algorithm", ["fedzo", "fedprox", "scaffold1", "scaffold2"])
def test_finite_differences_are_those_of_the_reference(algorithm):
    shared = problem()
    made = job(algorithm, shared, rounds=4)
    gamma = 0.01 if algorithm == "fedprox" else 0.0
    expected = stepping(
        algorithm, functions_of(shared), made.start, 4, 3, 4, 0.01, 0.01, gamma, made.seed
    )
    np.testing.assert_allclose(iterates(made), expected, atol=1e-9)
    assert not np.array_equal(expected[0], expected[-1])


@pytest.mark.parametrize("distribution", ["orthonormal", "gaussian"])
@pytest.mark.parametrize("steps", [1, 3])
def test_scalars_are_those_of_the_reference(distribution, steps):
    shared = problem()
    given = {"local_steps": steps, "distribution": distribution, "lr": 0.3, "rounds": 3}
    made = job("decomfl", shared, **given)
    normal = distribution == "gaussian"
    expected = scalars(functions_of(shared), made.start, 3, steps, 4, 0.01, 0.3, 1, normal)
    np.testing.assert_allclose(iterates(made), expected, atol=1e-9)


@pytest.mark.parametrize("count", [8, 40])  # directions of the pool: less and more than d
def test_sums_along_a_pool_are_those_of_the_reference(count):
    shared = problem()
    made = job("fedkseed", shared, pool=count, lr=0.5, rounds=3)
    expected = pooled(functions_of(shared), made.start, 3, 3, count, 0.01, 0.5, 1)
    np.testing.assert_allclose(iterates(made), expected, atol=1e-9)


@pytest.mark.parametrize("kernel", ["se", "matern"])
@pytest.mark.parametrize("gamma", ["1/t", "1", "0.5"])
def test_fzoos_is_that_of_the_reference(kernel, gamma):
    """Of weights of their own, and with clients who are away for a round, or for long."""
    base = problem(clients=4, dim=6)
    box = np.stack([base.lower, base.upper], 1)
    shares = np.array([1.0, 2.0, 3.0, 4.0]) / 10.0
    members = [
        zoo.Client(client.objective, weight=w, bounds=box)
        for client, w in zip(base.clients, shares, strict=True)
    ]
    shared = federation(members)
    away = {2: (1,), 3: (3,), 4: (0, 3), 5: (3,), 6: (3,)}
    given = {"kernel": kernel, "gamma": gamma, "length_scale": 0.7, "gp_noise": 1e-6}
    given |= {"survey": 4, "start_points": 3, "rounds": 8, "max_age": 2, "window": 500}
    made = job("fzoos", shared, features_window=500, **given)
    drawn = features(1, 200, 6, KERNELS[kernel])
    v = drawn.v[:, :6].astype(float)
    plain = [PlainClient(f, kernel, 0.7, 1e-6, v, drawn.b) for f in functions_of(shared)]
    expected = fzoos(
        plain, shares, made.start, 8, 3, gamma if gamma == "1/t" else float(gamma), 4, 3, 1, away, 2
    )
    method, found = Federation(made), []
    shards = [method.shard(i) for i in range(4)]
    while not method.finished:
        message, now = method.message(1), method._round
        out = away.get(now, ())
        reports = [
            Report(None, 0, "away") if i in out else shard.step(message)
            for i, shard in enumerate(shards)
        ]
        method.merge(reports)
        if method._round > now:
            found.append(method.server.x.copy())
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert len({x.tobytes() for x in found}) > 4


def test_candidates_are_those_of_pycma_on_the_mean():
    import cma

    shared = problem()
    made = job("fedcma", shared, rounds=6)
    functions = functions_of(shared)
    random = generator(1, ALL, SHARED, 0)
    options = {"bounds": [0, 1], "popsize": 5, "seed": np.nan, "verbose": -9}
    options["randn"] = lambda *shape: random.standard_normal(shape)
    strategy = cma.CMAEvolutionStrategy(made.start, 0.2, options)
    expected = []
    for _ in range(7):
        expected.append(np.array(strategy.result.xfavorite))
        asked = strategy.ask()
        strategy.tell(asked, [sum(f(x) for f in functions) / 3 for x in asked])
    np.testing.assert_allclose(iterates(made), expected, atol=1e-9)


@pytest.mark.parametrize("algorithm", ["shared", "decomfl", "fedcma"])
def test_what_clients_differ_by_cancels_out(algorithm):
    """The parts sum to zero over the clients: the iterates do not depend on them."""
    runs = [
        iterates(job(algorithm, problem(heterogeneity=c), rounds=8)) for c in (0.0, 0.5, 5.0, 50.0)
    ]
    tolerance = 1e-5 if algorithm == "shared" else 1e-9  # it solves for its steps
    for found in runs[1:]:
        np.testing.assert_allclose(found, runs[0], atol=tolerance)


@pytest.mark.parametrize("algorithm", FUNCTIONS)
def test_gaps_close(algorithm):
    _, rows = ran(job(algorithm, problem(heterogeneity=0.5), rounds=25))
    gaps = [row["gap"] for row in rows]
    assert gaps[-1] < 0.5 * gaps[0]
    if algorithm not in ("decomfl", "fedkseed", "fedcma"):  # their steps are taken on trust
        assert all(after <= before + 1e-12 for before, after in itertools.pairwise(gaps))


def test_one_client_needs_no_others():
    """Of one client the correction is zero: gamma does not matter (ZoRD)."""
    alone = problem(clients=1)
    first = iterates(job("fzoos", alone, gamma="1"))
    np.testing.assert_array_equal(first, iterates(job("fzoos", alone, gamma="0")))


def test_clients_that_are_alike_need_no_correction():
    alike = problem(heterogeneity=0.0)
    first = iterates(job("fzoos", alike, gamma="1"))
    np.testing.assert_allclose(first, iterates(job("fzoos", alike, gamma="0")), atol=1e-12)


def test_the_correction_is_the_others_surrogates():
    different = problem(heterogeneity=5.0)
    with_it, without = (
        iterates(job("fzoos", different)),
        iterates(job("fzoos", different, gamma="0")),
    )
    np.testing.assert_array_equal(with_it[0], without[0])
    assert not np.allclose(with_it[-1], without[-1])


class Counting:
    """A function that counts."""

    concurrent = False
    last_error = ""

    def __init__(self, centre):
        self.centre, self.asked, self.failures = centre, [], Counter()

    def evaluate(self, x, cancelled=None):
        self.asked.extend(x.copy())
        return ((x - self.centre) ** 2).sum(1)


@pytest.mark.parametrize(
    ("algorithm", "options", "start", "each"),
    [
        ("shared", {"survey": 6}, 7, 7),
        ("fzoos", {"survey": 5, "start_points": 3}, 4, 3 + 1 + 5),
        ("fzoos", {"survey": 5, "start_points": 3, "local_queries": 2}, 4, 3 + 2 * 2 + 1 + 5),
        ("fzoos", {"survey": 5, "start_points": 3, "select": "uncertain"}, 4, 3 + 1 + 5),
        ("fedzo", {"directions": 4}, 1, 3 * 5),  # the iterate is known from the survey
        ("fedprox", {"directions": 4}, 1, 3 * 5),
        ("scaffold1", {"directions": 4}, 5, 3 * 5 + 4),
        ("scaffold2", {"directions": 4}, 1, 3 * 5),
        ("decomfl", {"directions": 4}, 5, 5),
        ("decomfl", {"directions": 4, "local_steps": 3}, 15, 15),
        ("fedkseed", {}, 1 + 3 * 2, 1 + 3 * 2),
        ("fedcma", {"popsize": 5}, 6, 6),
    ],
)
def test_queries_are_counted_once(algorithm, options, start, each):
    counting = [Counting(0.0), Counting(1.0)]
    clients = [zoo.Client(one, bounds=[(-1.0, 3.0)] * 5) for one in counting]
    made = job(algorithm, federation(clients), rounds=3, **options)
    result, rows = ran(made, threads=1)
    for asked, told in zip(counting, result.queries_each, strict=True):
        assert len(asked.asked) == told == start + 3 * each
        assert all((x >= -1.0).all() and (x <= 3.0).all() for x in asked.asked)
    assert [row["queries"] for row in rows] == [2 * (start + k * each) for k in range(4)]
    assert result.queries == rows[-1]["queries"]


#: Arrays that may travel, and their sizes: d coordinates, M features, e queries, Q directions.
TRAVELS = {
    "shared": ({"x": 12, "how": 3}, {"values": 7}),
    "fzoos": (
        {"x": 12, "from": 12, "weights": 400, "scales": 2, "scale": 1, "of": 3},
        {"step": 12, "value": 1, "weights": 200, "scale": 2, "raised": 1},
    ),
    "fedzo": ({"x": 12}, {"step": 12, "value": 1}),
    "fedprox": ({"x": 12}, {"step": 12, "value": 1}),
    "scaffold1": ({"x": 12, "control": 12, "of": 3}, {"step": 12, "value": 1, "control": 12}),
    "scaffold2": ({"x": 12, "control": 12, "of": 3}, {"step": 12, "value": 1, "control": 12}),
    "decomfl": (
        {"eta": 1, "made": 1, "x": 12, "scalars": 4, "moves": 2},
        {"value": 1, "scalars": 4},
    ),
    "fedkseed": ({"eta": 1, "sums": 8}, {"value": 1, "numbers": 3, "scalars": 3}),
    "fedcma": ({"points": 6 * 12}, {"values": 6}),
}


@pytest.mark.parametrize("algorithm", FUNCTIONS)
def test_nothing_else_travels(algorithm, monkeypatch):
    """Every message and every answer: iterates, weights or scalars, and counts."""
    sent, answered = [], []
    step = ClientShard.step

    def watched(self, message):
        report = step(self, message)
        sent.append(message)
        answered.append(report)
        return report

    monkeypatch.setattr(ClientShard, "step", watched)
    result, _ = ran(job(algorithm), threads=1)
    down, up = TRAVELS[algorithm]
    for message in sent:
        assert set(vars(message)) == {"task", "clients"}
        assert set(vars(message.task)) == {"kind", "round", "arrays"}
        assert all(a.size <= down[name] for name, a in message.task.arrays.items())
    for report in answered:
        assert set(vars(report)) == {"arrays", "queries", "reason"}
        assert all(a.size <= up[name] for name, a in report.arrays.items())
    clients = len(result.queries_each)
    bytes_up = sum(a.nbytes for report in answered for a in report.arrays.values())
    bytes_down = sum(a.nbytes for message in sent for a in message.task.arrays.values())
    assert result.bytes_up == bytes_up
    assert result.bytes_down == bytes_down
    assert len(sent) % clients == 0


def test_a_client_that_was_away_catches_up_by_scalars():
    given = {"rounds": 12, "participation": 0.4, "lr": 0.5}
    method = Federation(job("decomfl", problem(dim=40, clients=5), **given))
    shards = [method.shard(i) for i in range(5)]
    whole = 0
    while not method.finished:
        message = method.message(1)
        reports = [shard.step(message) for shard in shards]
        for client in message.clients:
            np.testing.assert_array_equal(shards[client]._local._x, method.server._next)
        whole += "x" in message.task.arrays
        method.merge(reports)
    assert whole == 0  # what they missed was less than the iterate


def test_weights_and_those_who_take_part():
    clients, _ = bowls(4)
    weighted = [
        zoo.Client(client.objective, weight=w, bounds=client.bounds)
        for client, w in zip(clients, (1, 2, 3, 4), strict=True)
    ]
    centres = np.linspace(-2.0, 3.0, 4)
    result = zoo.federate(weighted, rounds=15, survey=4, seed=1)
    np.testing.assert_allclose(result.x, centres @ [0.1, 0.2, 0.3, 0.4], atol=1e-2)


@pytest.mark.parametrize("algorithm", FUNCTIONS)
def test_two_of_five_in_a_round(algorithm):
    """Who takes part is drawn anew; the others are asked nothing, and the mean is still found."""
    given = {"participation": 0.4, "rounds": 30}
    result, rows = ran(job(algorithm, problem(clients=5, heterogeneity=0.5), **given))
    assert all(row["participants"] == 2 for row in rows)
    assert "absent" not in rows[-1]
    assert min(result.queries_each) > 0
    assert len(set(result.queries_each)) > 1
    assert min(row["gap"] for row in rows) < 0.5 * rows[0]["gap"]


def named(order):
    held, _ = bowls(3)
    clients = [
        zoo.Client(client.objective, bounds=client.bounds, name=name)
        for client, name in zip(held, "abc", strict=True)
    ]
    return [clients[i] for i in order]


@pytest.mark.parametrize("algorithm", ["fzoos", "scaffold2"])
def test_the_order_of_named_clients_does_not_matter(algorithm):
    given = {"rounds": 3, "local_steps": 3, "seed": 4, "participation": 0.7}
    if algorithm == "fzoos":
        given |= {"features": 100, "survey": 4}
    first = zoo.federate(named([0, 1, 2]), algorithm, **given)
    other = zoo.federate(named([2, 0, 1]), algorithm, **given)
    np.testing.assert_array_equal(first.x, other.x)
    assert first.queries_each == other.queries_each


def test_noise_is_the_clients_own_and_of_the_seed():
    noisy = problem(noise=0.1)
    first, again = ran(job("fedzo", noisy))[0], ran(job("fedzo", noisy))[0]
    np.testing.assert_array_equal(first.x, again.x)
    assert not np.array_equal(first.x, ran(job("fedzo", noisy, seed=2))[0].x)
    assert not np.array_equal(first.x, ran(job("fedzo", problem()))[0].x)


@pytest.mark.parametrize("algorithm", FUNCTIONS)
def test_a_client_without_values_is_absent(algorithm):
    """One of three returns NaN: the others go on, and its queries are in its ledger."""
    clients, _ = bowls(3)
    broken = [*clients[:2], zoo.Client(lambda x: math.nan, bounds=[(-5, 5)] * 4)]
    options = {"rounds": 6} | KINDS[algorithm]
    rows = []

    def listen(event):
        rows.extend(event.data.get("rows", ()))

    result = zoo.federate(broken, algorithm, seed=1, listeners=[listen], **options)
    assert result.status == "rounds"
    assert result.queries_each[2] > 0
    assert all(set(row["absent"]) == {"2"} for row in rows)
    assert "finite" in rows[0]["absent"]["2"]
    assert rows[-1]["fun"] < rows[0]["fun"]


def test_a_client_that_raises():
    clients, _ = bowls(3)

    def failing(x):
        raise ValueError("no data today")

    broken = [*clients[:2], zoo.Client(failing, bounds=[(-5, 5)] * 4, name="")]
    result = zoo.federate(broken, rounds=5, survey=4, seed=1)
    np.testing.assert_allclose(result.x, 0.25 * (-2 - 2 + 0.5 + 0.5), atol=0.5)
    with pytest.raises(RunError, match=r"client 2: .*no data today.* on_dropout is fail"):
        zoo.federate(broken, rounds=5, survey=4, seed=1, on_dropout="fail")
    with pytest.raises(RunError, match="too few clients answer at the first iterate: client 2"):
        zoo.federate(broken, rounds=5, survey=4, seed=1, min_clients=3)


def hangs(x):
    time.sleep(3600.0)


def dies(x):
    os._exit(3)


@pytest.mark.parametrize(("broken", "why"), [(hangs, "no answer within 1 s"), (dies, "finite")])
@pytest.mark.parametrize("algorithm", ["shared", "scaffold2"])
def test_a_client_that_hangs_or_dies_is_waited_for_no_longer(algorithm, broken, why):
    clients, _ = bowls(3)
    rows = []

    def listen(event):
        rows.extend(event.data.get("rows", ()))

    started = time.monotonic()
    result = zoo.federate(
        [*clients[:2], zoo.Client(broken, bounds=[(-5, 5)] * 4)], algorithm,
        rounds=3, seed=1, round_timeout=1.0, listeners=[listen], **KINDS[algorithm],
    )  # fmt: skip
    assert time.monotonic() - started < 20
    assert result.status == "rounds"
    assert all(why in row["absent"]["2"] for row in rows)
    assert rows[-1]["fun"] < rows[0]["fun"]


class Sometimes:
    """Returns NaN from one query on, for so many."""

    def __init__(self, first, last):
        self.first, self.last, self.asked = first, last, 0

    def __call__(self, x):
        self.asked += 1
        return math.nan if self.first <= self.asked < self.last else float(((x + 2) ** 2).sum())


def test_the_last_steps_of_an_absent_client_stand_in():
    """The client at -2 leaves; the others alone go to 1, and its steps pull them back."""
    found = {}
    for on_dropout in ("skip", "stale"):
        clients = [zoo.Client(lambda x, c=c: float(((x - c) ** 2).sum())) for c in (0, 2)]
        rows = []

        def listen(event, rows=rows):
            rows.extend(event.data.get("rows", ()))

        result = zoo.federate(
            [*clients, zoo.Client(Sometimes(40, 10**9))], "fedzo",
            bounds=[(-5, 5)] * 4, x0=[0.0] * 4, rounds=8, seed=2, local_steps=3, directions=4,
            guard=False, eta=0.02, threads=1,
            on_dropout=on_dropout, listeners=[listen],
        )  # fmt: skip
        assert 2 <= sum("absent" in row for row in rows) < 8
        found[on_dropout] = result.x.mean()
    assert found["stale"] < found["skip"] - 0.05


def test_too_few_for_long_end_the_run():
    clients, _ = bowls(2)
    leaving = Sometimes(30, 10**9)
    result = zoo.federate(
        [clients[0], zoo.Client(leaving, bounds=[(-5, 5)] * 4)],
        rounds=50, survey=4, seed=1, min_clients=2, threads=1,
    )  # fmt: skip
    assert (result.status, result.success) == ("deserted", False)
    assert result.rounds < 20


def test_budgets_and_targets():
    shared = problem()
    few = ran(job("shared", shared, queries=60, rounds=50))[0]
    assert few.status == "queries"
    assert 60 <= few.queries < 60 + 3 * 7
    near = ran(job("shared", shared, target=1.0, rounds=50))[0]
    assert (near.status, near.success) == ("target", True)
    assert near.fun <= 1.0


def test_a_first_iterate_can_be_given():
    clients, centre = bowls(3)
    result = zoo.federate(clients, rounds=1, survey=4, seed=1, x0=[centre] * 4)
    np.testing.assert_allclose(result.x, [centre] * 4, atol=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"clients": []}, "one or more"),
        ({"clients": 3}, "must be a list of zoo.Client"),
        ({"clients": [lambda x: 0.0]}, "must be a list of zoo.Client"),
        ({"method": "fedavg"}, "algorithm must be"),
        ({"rounds": 0}, "rounds must be >= 1"),
        ({"participation": 1.5}, "participation must be"),
        ({"gamma": "half"}, "gamma is for|gamma must be"),
        ({"min_clients": 9}, "min_clients"),
        ({"x0": [9.0] * 4}, "x0 must be 4 numbers"),
        ({"bounds": [(-1, 1)] * 3}, "same bounds"),
        ({"local_step": 3}, "unknown parameter 'local_step': did you mean 'local_steps'"),
        ({"directions": 3}, "directions is for"),
    ],
)
def test_input_that_cannot_be_used(options, message):
    clients, _ = bowls(3)
    given = {"clients": clients, "rounds": 2} | options
    with pytest.raises(InputError, match=message):
        zoo.federate(given.pop("clients"), given.pop("method", "shared"), **given)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: zoo.Client(), "objective, or load"),
        (lambda: zoo.Client(lambda x: 0.0, weight=0), "weight must be a number > 0"),
        (lambda: zoo.Client(3), "must be callable"),
        (lambda: zoo.Client(load=3), "load must be a function"),
        (lambda: zoo.federate([zoo.Client(lambda x: 0.0)]), "bounds are needed"),
        (
            lambda: zoo.federate([zoo.Client(lambda x: 0.0, name="a", bounds=[(0, 1)])] * 2),
            "different names",
        ),
    ],
)
def test_clients_that_cannot_be_used(make, message):
    with pytest.raises(InputError, match=message):
        make()


def test_data_is_loaded_where_the_client_is():
    loaded = []

    def load():
        loaded.append(1)
        return lambda x: float(((x - 1.0) ** 2).sum())

    clients = [zoo.Client(load=load, bounds=[(-5, 5)] * 3) for _ in range(2)]
    result = zoo.federate(clients, rounds=10, survey=3, seed=1, threads=1)
    np.testing.assert_allclose(result.x, 1.0, atol=1e-2)
    assert len(loaded) == 2


@pytest.mark.parametrize("algorithm", FUNCTIONS)
def test_fun_is_that_of_x(algorithm):
    shared = problem()
    functions = functions_of(shared)
    result, _ = ran(job(algorithm, shared, rounds=6))
    at = (result.x - shared.lower) / (shared.upper - shared.lower)
    assert result.fun == pytest.approx(sum(f(at) for f in functions) / 3, rel=1e-12)
    assert result.gap == pytest.approx(result.fun - shared.minimum, rel=1e-12)


def leaving(centre, last, box=(-5.0, 5.0), dim=4):
    """A client with a bowl, that has no values after so many queries."""
    asked = 0

    def bowl(x):
        nonlocal asked
        asked += 1
        return float(((x - centre) ** 2).sum()) if asked <= last else math.nan

    return zoo.Client(bowl, bounds=[box] * dim)


@pytest.mark.parametrize(("max_age", "expected"), [(2, -0.5), (1000, 1.0)])
def test_what_a_client_has_sent_ages(max_age, expected):
    """Two stay, at -2 and 1; the third, at 4, leaves: it counts until its surveys are too old."""
    clients = [leaving(-2.0, 1e9), leaving(1.0, 1e9), leaving(4.0, 100)]
    result = zoo.federate(clients, rounds=25, survey=6, max_age=max_age, seed=1, threads=1)
    np.testing.assert_allclose(result.x, expected, atol=0.02)


def test_a_client_of_whom_nothing_is_remembered():
    """Its last values have left the memory before it is too old."""
    clients = [leaving(-2.0, 1e9), leaving(1.0, 1e9), leaving(4.0, 10)]
    result = zoo.federate(clients, rounds=12, survey=8, memory=20, window=20, seed=1, threads=1)
    np.testing.assert_allclose(result.x, -0.5, atol=0.05)


@pytest.mark.parametrize("height", [0.05, 0.5])
def test_functions_that_are_constant_in_pieces(height):
    """Points are surveyed as far away as the steps need, though moves become short."""
    centres = np.linspace(-1.0, 1.0, 3)

    def stairs(x, c):
        return height * math.floor(float(((x - c) ** 2).sum()) / height)

    clients = [zoo.Client(lambda x, c=c: stairs(x, c), bounds=[(-3, 3)] * 5) for c in centres]
    result = zoo.federate(clients, rounds=40, survey=10, seed=2, x0=np.full(5, 2.5), threads=1)
    assert float((result.x**2).sum()) < 4.0 * height


def test_a_run_that_begins_on_a_plateau():
    def pit(x, c):
        return -max(0.0, 9.0 - float(((x - c) ** 2).sum()))

    clients = [zoo.Client(lambda x, c=c: pit(x, c), bounds=[(-8, 8)] * 2) for c in (-0.5, 0.5)]
    result = zoo.federate(clients, rounds=60, survey=8, seed=1, x0=[6.0, 6.0], threads=1)
    assert result.fun == pytest.approx(-8.5, abs=1e-3)
    np.testing.assert_allclose(result.x, 0.0, atol=0.05)


def test_steps_are_judged_by_those_who_took_them():
    """Two of five in a round, whose values are far apart: the step is not taken for a bad one."""
    shared = problem(dim=60, clients=5, heterogeneity=5.0)
    given = {"participation": 0.4, "rounds": 120, "directions": 10}
    _, rows = ran(job("decomfl", shared, **given))
    assert rows[-1]["gap"] < 0.3 * rows[0]["gap"]


def test_a_huge_value_is_none():
    clients = [leaving(0.0, 1e9), zoo.Client(lambda x: 1e200, bounds=[(-5, 5)] * 4)]
    for algorithm in ("shared", "fzoos", "fedzo"):
        result = zoo.federate(clients, algorithm, rounds=3, seed=1, threads=1)
        assert np.isfinite(result.x).all()
        assert result.fun < 50.0


def test_told_to_stop_nobody_is_asked():
    asked = []

    def stop(now):
        asked.append(now.evaluations)
        return now.step >= 2

    clients, _ = bowls(3)
    result = zoo.federate(clients, "fedzo", rounds=50, seed=1, threads=1, callback=stop)
    assert result.status == "stopped"
    assert result.queries == asked[-1]
    assert result.rounds <= 3


def test_settings_that_are_defaults_elsewhere_are_heeded():
    assert job("decomfl", local_steps=10).config.local_steps == 10
    assert job("decomfl").config.local_steps == 1
    assert job("fedprox", gamma="1").config.gamma == "1"
    assert job("fedprox").config.gamma == "0.01"


@pytest.mark.parametrize("participation", [1.0, 0.5])
def test_steps_that_stand_in_are_of_those_who_were_asked(participation):
    """With on_dropout stale nothing changes while everybody who is asked answers."""
    given = {"participation": participation, "rounds": 8}
    shared = problem(clients=4)
    first = iterates(job("fedzo", shared, on_dropout="stale", **given))
    np.testing.assert_array_equal(first, iterates(job("fedzo", shared, **given)))


def test_noise_that_had_to_be_raised_is_counted():
    """Points so close that, for this length scale, they are one."""
    given = {"gp_noise": 0.0, "length_scale": 100.0, "kernel": "se"}
    assert ran(job("fzoos", **given))[0].raised > 0
    assert ran(job("fzoos", gp_noise=1e-6, length_scale=0.5))[0].raised == 0


def test_controls_of_the_iterate_are_not_too_old_while_it_is_kept():
    """Rounds that are taken back bring no new controls, and those of the iterate stay in use."""
    given = {"max_age": 0, "rounds": 8, "eta": 1.0}  # steps so long that most are taken back
    method = Federation(job("scaffold1", problem(heterogeneity=5.0), **given))
    shards = [method.shard(i) for i in range(3)]
    taken = [0]  # rounds whose iterates were taken
    while not method.finished:
        message, x = method.message(1), method.server.x
        if message.task.kind == "steps":
            np.testing.assert_array_equal(message.task.arrays["of"], taken[-1])
        method.merge([shard.step(message) for shard in shards])
        if message.task.kind == "survey" and not np.array_equal(method.server.x, x):
            taken.append(message.task.round)
    assert len(taken) < 5


@pytest.mark.parametrize("place", [None, 3, "CPU"])
def test_places_are_names(place):
    with pytest.raises(InputError, match="place must be the name"):
        zoo.Client(lambda x: 0.0, place=place)
