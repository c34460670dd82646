"""In which directions and coordinates shards estimate, and what it costs."""

import itertools
import json
import math
import time
import types
from dataclasses import replace

import numpy as np
import pytest
import reference_network as reference
from deepzero_jobs import (
    CONV,
    MLP,
    batch_of,
    black_box,
    close,
    driver_of,
    job_on,
    layered,
    refused,
    small_images,
    supersteps,
)
from scipy import stats

from zoo.deepzero import grasp, weights
from zoo.deepzero.blackbox import BlackBox, dealt, gathered
from zoo.deepzero.data.batches import crop_and_flip
from zoo.deepzero.data.dataset import load
from zoo.deepzero.directions import DISTRIBUTIONS, direction, estimate
from zoo.deepzero.estimate import estimated, queries_of
from zoo.deepzero.masks import kept_weights
from zoo.deepzero.method import DeepZero
from zoo.deepzero.net.engine import Engine
from zoo.deepzero.rules import Rule
from zoo.deepzero.shard import SCORING, Task, scored_rows
from zoo.deepzero.train import train
from zoo.errors import InputError, Interrupted, RunError


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return small_images(tmp_path_factory.mktemp("data"))


# Directions


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
def test_directions_have_the_identity_as_covariance(distribution):
    d, n = 5, 6000
    u = np.array([direction(distribution, d, 1, 2, number) for number in range(n)])
    assert np.abs(u.mean(axis=0)).max() < 5 / math.sqrt(n)
    assert np.abs(u.T @ u / n - np.eye(d)).max() < 5 * math.sqrt(2 / n)
    fourth = {"gaussian": 3, "sphere": 3 * d / (d + 2), "rademacher": 1}[distribution]
    assert (u**4).mean() == pytest.approx(fourth, rel=0.06)
    if distribution == "sphere":
        assert np.linalg.norm(u, axis=1) == pytest.approx(math.sqrt(d))
    elif distribution == "rademacher":
        assert (np.abs(u) == 1).all()
    else:
        assert stats.kstest(u.ravel(), "norm").pvalue > 1e-3


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
def test_directions_are_a_function_of_seed_step_and_number(distribution):
    where = [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (0, SCORING, 0), (2**63, 9, 4)]
    drawn = [direction(distribution, 90, *at) for at in where]
    again = [direction(distribution, 90, *at) for at in reversed(where)][::-1]
    assert (np.array(drawn) == np.array(again)).all()
    if distribution != "rademacher":
        assert len(np.unique(drawn)) == 6 * 90
    assert np.abs(np.corrcoef(drawn) - np.eye(6)).max() < 0.45


def test_es_and_rge_are_their_formulas():
    rng = np.random.default_rng(0)
    theta, us = rng.standard_normal(4), rng.standard_normal((6, 4))
    loss = lambda p: float(np.exp(p).sum() + p[0] * p[1])  # noqa: E731
    base, mu = loss(theta), 0.3
    rge = sum((loss(theta + mu * u) - base) / mu * u for u in us)
    es = sum((loss(theta + mu * u) - loss(theta - mu * u)) / (2 * mu) * u for u in us)
    for start, wanted in ((base, rge), (None, es)):
        found = estimate(loss, theta, start, mu, us.__getitem__, 0, 6)
        assert close(found, wanted, 1e-12)
        parts = [
            estimate(loss, theta, start, mu, us.__getitem__, *at) for at in ((0, 2), (2, 2), (2, 6))
        ]
        assert close(sum(parts), wanted, 1e-12)


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
def test_estimates_of_a_quadratic_converge_to_its_gradient_and_scores_to_grasp(distribution):
    rng, q, mu = np.random.default_rng(4), 3000, 0.05
    hessian = np.diag([1.0, 2.0, 0.5, 3.0]) + 0.3
    centre, theta = rng.standard_normal((2, 4))
    loss = lambda p: 0.5 * (p - centre) @ hessian @ (p - centre)  # noqa: E731
    gradient = hessian @ (theta - centre)
    along = [direction(distribution, 4, 0, 0, number) for number in range(q)].__getitem__
    error = lambda found, true: np.linalg.norm(found - true) / np.linalg.norm(true)  # noqa: E731
    assert error(estimate(loss, theta, None, mu, along, 0, q) / q, gradient) < 0.1
    before = estimate(loss, theta, loss(theta), mu, along, 0, q) / q
    assert error(before, gradient) < 0.1
    ahead = theta + mu * before
    after = estimate(loss, ahead, loss(ahead), mu, along, 0, q) / q
    scores = grasp.scores(theta, before, after, mu)
    assert error(scores, -theta * (hessian @ gradient)) < 0.2


@pytest.mark.parametrize("shards", [1, 3, 9])
@pytest.mark.parametrize("oracle", ["rge", "es"])
@pytest.mark.parametrize("model", [MLP, CONV])
def test_shards_share_the_directions(images, model, oracle, shards):
    options = {"distribution": "sphere", "directions": 8, "mu": 0.05, "batch": 16}
    job = job_on(images, model, seed=5, oracle=oracle, shards=shards, **options)
    method, net = driver_of(job), reference.parse(model, images.shape)
    method.rule = Rule.new("sgd", 0.0, 0.0, job.size)
    antithetic = oracle == "es"
    count = 4 if antithetic else 8
    for step, (message, reports) in enumerate(supersteps(method, 2)):
        x, y = batch_of(job, step)
        us = [direction("sphere", job.size, 5, step, i) for i in range(count)]
        wanted = reference.naive_rge(net, message.theta, x, y, 0.05, np.array(us), antithetic)
        eta = reference.learning_rate(step, 200, 12, count / (count + job.size))
        assert close((message.theta - method.theta) / eta, wanted, 1e-7)
        bases = 0 if antithetic and model == MLP else 1  # batch norm wants the moments
        assert sum(report.queries for report in reports) == 8 + bases
        losses = [reference.loss(net, message.theta, x, y)]
        if not bases:  # the mean of what it has
            ends = [message.theta + s * 0.05 * u for u in us for s in (1, -1)]
            losses = [reference.loss(net, end, x, y) for end in ends]
        assert method.progress().best == pytest.approx(np.mean(losses), rel=1e-9)


# GraSP


def test_grasp_scores_digits_by_its_formula():
    data = load("digits")
    options = {"sparsity": 0.9, "shards": 3, "lr": 0.2, "warmup": 0, "weight_decay": 0.01}
    job = job_on(data, "mlp", seed=2, **options)
    method, net = driver_of(job), reference.parse("dense 32, relu, dense 10", data.shape)
    theta, mu = method.theta.copy(), 5e-3
    rows = scored_rows(job)
    assert np.bincount(data.y_train[rows]).tolist() == [25] * 10
    x, y = data.batch("train", rows)
    us = np.array([direction("gaussian", job.size, 2, SCORING, i) for i in range(192)])
    before = reference.naive_rge(net, theta, x.astype(np.float64), y, mu, us)
    ahead = theta + mu * before
    after = reference.naive_rge(net, ahead, x.astype(np.float64), y, mu, us)
    scores = -theta * (after - before) / mu

    (one, first), (two, second), (three, third) = supersteps(method, 3)
    assert [one.kind, two.kind, three.kind] == ["score", "score", "gradient"]
    assert (one.theta == theta).all()
    assert (three.theta == theta).all()
    assert close(two.theta - theta, mu * before, 1e-9)
    sums = [sum(report.values for report in reports) / 192 for reports in (first, second)]
    assert close(grasp.scores(theta, *sums, mu), scores, 1e-6)
    assert [sum(r.queries for r in reports) for reports in (first, second)] == [193, 193]

    sizes = {"dense1": 64 * 32, "dense2": 320}
    where = {name: at for name, (at, _) in job.network.slices().items()}
    layers = [(abs(s), name) for name in sizes for s in scores[where[f"{name}.weight"]]]
    kept = [name for _, name in sorted(layers, reverse=True)[: round(0.1 * 2368)]]
    shares = method.result()["sparsities"]
    assert shares == pytest.approx({name: 1 - kept.count(name) / sizes[name] for name in sizes})
    # One mask of those sizes; the model stays dense, and decays where nothing was estimated.
    chosen = method.job.coordinates(0)
    assert len(chosen) == len(kept) + 42 == sum(len(report.values) for report in third)
    out = np.setdiff1d(np.arange(job.size), chosen)
    assert method.theta[out] == pytest.approx(theta[out] * (1 - 0.2 * 0.01), rel=1e-12)
    moved = method.theta[chosen] != theta[chosen] * (1 - 0.2 * 0.01)
    assert moved.mean() > 0.7  # not those of blank pixels


def test_grasp_in_single_precision_finds_the_same_shares():
    found = []
    for precision in ("single", "double"):
        job = job_on(load("digits"), "mlp", sparsity=0.9, precision=precision)
        method = driver_of(job)
        list(supersteps(method, 2))
        found.append(method.job.sparsities)
    assert found[0] == pytest.approx(found[1], abs=0.01)


def test_grasp_scores_by_all_of_a_small_class(images):
    job = job_on(images, MLP, sparsity=0.5, grasp_samples=15)
    assert (scored_rows(job) == np.arange(60)).all()
    job = job_on(images, MLP, sparsity=0.5, grasp_samples=99, batch=8)
    assert (scored_rows(job) == np.arange(60)).all()
    some = [scored_rows(job_on(images, MLP, s, sparsity=0.5, grasp_samples=3)) for s in (0, 0, 1)]
    assert (some[0] == some[1]).all()
    assert (some[0] != some[2]).any()
    method = driver_of(job)  # whose batches are smaller than what it scores by
    assert [m.kind for m, _ in supersteps(method, 3)] == ["score", "score", "gradient"]


@pytest.mark.parametrize("rule", ["absolute", "signed"])
@pytest.mark.parametrize("sparsity", [0.0, 0.1, 0.5, 0.93, 0.9999])
def test_grasp_keeps_exactly_so_many_weights(rule, sparsity):
    net, _ = layered()
    scores = np.random.default_rng(1).standard_normal(net.parameters) * 2 + 1
    ranks = []
    for name, (at, _) in net.slices().items():
        if name.endswith(".weight"):
            ranks += [(s, name.partition(".")[0]) for s in scores[at]]
    ranks.sort(key=lambda pair: -abs(pair[0]) if rule == "absolute" else pair[0])
    wanted = [name for _, name in ranks[: round((1 - sparsity) * len(ranks))]]
    shares = grasp.ratios(net, scores, sparsity, rule)
    assert kept_weights(net, shares) == {s.name: wanted.count(s.name) for s in net.stages}
    assert grasp.uniform(net, sparsity) == dict.fromkeys(shares, sparsity)


def test_grasp_and_its_rule_reach_the_run(images):
    shares = {}
    for rule in ("absolute", "signed"):
        job = job_on(images, CONV, sparsity=0.8, grasp=rule, grasp_directions=30, mu=0.05)
        method = driver_of(job)
        sums = [sum(r.values for r in reports) / 30 for _, reports in supersteps(method, 2)]
        scores = grasp.scores(job.network.initial(0), *sums, 0.05)
        assert method.job.sparsities == grasp.ratios(job.network, scores, 0.8, rule)
        shares[rule] = method.job.sparsities
        back = DeepZero(job, method.theta)
        back.restore(method.state())
        assert back.job.sparsities == shares[rule]
        assert back.message(1).kind == "gradient"
    assert shares["absolute"] != shares["signed"]


def test_shares_of_layers_are_read(images, tmp_path):
    net, sparsities = layered()
    path = tmp_path / "shares.json"
    path.write_text(json.dumps(sparsities | {"conv1": 1, "conv2": 0}))
    assert grasp.read_ratios(str(path), net) == {"conv1": 1.0, "conv2": 0.0, "dense3": 0.995}
    job = job_on(images, "mlp", sparsity=0.5, pruning="uniform")
    assert job.sparsities == {"dense1": 0.5, "dense2": 0.5}
    path.write_text('{"dense1": 0.25, "dense2": 0}')
    job = job_on(images, "mlp", sparsity=0.5, pruning=str(path))
    assert job.sparsities == {"dense1": 0.25, "dense2": 0.0}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "pruning must be grasp, uniform, or a JSON file: cannot read"),
        (b"{", "is not JSON"),
        (b"\xff\xfe", "is not JSON"),
        (b"[0.5]", "must hold a share for each of conv1, conv2, dense3"),
        (b'{"conv1": 0.5, "conv2": 0.5}', "must hold a share for each of conv1, conv2, dense3"),
        (b'{"conv1": 0, "conv2": 0, "dense3": 0, "x": 0}', "must hold a share for each of"),
        (b'{"conv1": true, "conv2": 0, "dense3": 0}', "conv1 must be a number from 0 to 1"),
        (b'{"conv1": "0.5", "conv2": 0, "dense3": 0}', "conv1 must be a number from 0 to 1"),
        (b'{"conv1": 0, "conv2": -0.1, "dense3": 0}', "conv2 must be a number from 0 to 1"),
        (b'{"conv1": 0, "conv2": 0, "dense3": 1.1}', "dense3 must be a number from 0 to 1"),
        (b'{"conv1": NaN, "conv2": 0, "dense3": 0}', "conv1 must be a number from 0 to 1"),
    ],
)
def test_shares_that_cannot_be_used_are_refused(tmp_path, content, said):
    path = tmp_path / "shares.json"
    if content is not None:
        path.write_bytes(content)
    with refused(said):
        grasp.read_ratios(str(path), layered()[0])


# Black boxes


def test_parameters_are_dealt_and_gathered():
    template = {"w": np.arange(6.0).reshape(2, 3), "b": np.float32(6), "n": [[7], [8], [9]]}
    theta = gathered(template)
    assert theta.dtype == np.float64
    assert theta.tolist() == list(range(10))
    found = dealt(theta, template)
    assert {name: part.tolist() for name, part in found.items()} == {
        name: np.asarray(part).tolist() for name, part in template.items()
    }
    found["w"][:] = 0
    assert theta.tolist() == list(range(10))
    for one in (np.arange(4).reshape(2, 2), [1.0, 2.0], 3.0):
        theta = gathered(one)
        alone = dealt(theta, one)
        assert alone.shape == np.shape(one)
        assert (alone == one).all()
        alone += 1
        assert theta.tolist() == np.ravel(one).tolist()
    assert gathered(np.ones(2)).tolist() == [1, 1]


@pytest.mark.parametrize(
    "template",
    [
        {}, [], np.empty(0), [1.0, math.nan], {"w": math.inf}, "abc", {"w": np.array(["1"])},
        [[1], [2, 3]], None, np.ones(2) * 1j, {"w": {"v": 1.0}}, {"a": 1.0, "b": "2"}, [[], 1j],
    ],
)  # fmt: skip
def test_parameters_that_are_no_numbers_are_refused(template):
    with pytest.raises(InputError, match=r"^parameters must be") as caught:
        gathered(template)
    assert "\n" not in str(caught.value)


def test_names_of_parameters_are_words():
    with refused("names of parameters must be words, got 1"):
        gathered({"a": 1.0, 1: 2.0})


@pytest.mark.parametrize("central", [False, True])
def test_differences_of_a_black_box(central):
    seen = []

    def loss(params, batch):
        seen.append(params["a"].tolist() + params["b"].ravel().tolist())
        value = float((params["a"] ** 3).sum() + params["a"][0] * params["b"][1, 0] * batch[0][1])
        params["a"][:] = 9.0  # its own copy
        return value

    theta = np.array([0.1, 0.2, 0.3, 0.7])
    box = BlackBox(loss, {"a": np.zeros(2), "b": np.zeros((2, 1))})
    box.load(np.array([5.0, 2.0]))
    assert box.base(theta) == pytest.approx(0.001 + 0.008 + 0.14)
    found = box.derivatives(np.array([0, 3]), 0.1, central)
    ahead = [(0.2**3 - 0.1**3) / 0.1 + 0.7 * 2, 0.1 * 2]
    back = [(0.1**3 - 0.0) / 0.1 + 0.7 * 2, 0.1 * 2]
    wanted = [(a + b) / 2 for a, b in zip(ahead, back, strict=True)] if central else ahead
    assert found == pytest.approx(wanted)
    assert theta.tolist() == [0.1, 0.2, 0.3, 0.7]
    assert len(seen) == (5 if central else 3)
    for asked in seen[1:]:  # all but one coordinate are as they were, to the bit
        assert sum(a != b for a, b in zip(asked, theta, strict=True)) == 1
    seen.clear()
    box.derivatives(np.arange(4), 0.1)
    box.derivatives(np.arange(4), 0.1)
    assert seen[:4] == seen[4:]


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("much", "the loss must be a number, got 'much'"),
        ("0.5", "the loss must be a number, got '0.5'"),
        (None, "the loss must be a number, got None"),
        (np.ones(3), "the loss must be a number, got array([1., 1., 1.])"),
        (math.nan, "the loss must be finite at the first parameters, got nan"),
        (math.inf, "the loss must be finite at the first parameters, got inf"),
    ],
)
def test_losses_that_are_no_numbers_are_refused(value, said):
    seen = []
    with refused(said):
        black_box(lambda p, batch: seen.append(len(batch[0])) or value, np.ones(2), batch=4)
    assert seen == [4]


def test_black_boxes_that_fail():
    with refused("the loss raised ZeroDivisionError: division by zero"):
        black_box(lambda p, batch: 1 / 0, np.ones(2))
    values = iter([1.0, 1.0, "much"])  # good at first
    method = driver_of(black_box(lambda p, batch: next(values), np.ones(2)))
    with pytest.raises(RunError, match="the loss must be a number, got 'much'"):
        list(supersteps(method, 1))
    values = iter([1.0, 1.0, math.nan])
    method = driver_of(black_box(lambda p, batch: next(values, 2.0), np.ones(2)))
    with pytest.raises(RunError, match="the loss is not finite at the first parameters"):
        list(supersteps(method, 1))
    box = BlackBox(lambda p, batch: 1.0, np.ones(2), cancelled=lambda: True)
    with pytest.raises(Interrupted):
        box.loss(np.ones(2))


@pytest.mark.parametrize("form", [dict, types.MappingProxyType])
def test_parameters_of_any_name_are_trained_and_kept(form, tmp_path):
    first = {"file": np.ones(2), "allow_pickle": np.ones((1, 3)), "a/b.npy": np.float64(2)}
    loss = lambda p, batch: sum(float((a**2).sum()) for a in p.values())  # noqa: E731
    run = tmp_path / "run"
    result = train(loss, (np.arange(4),), params=form(first), epochs=3, folder=run, threads=1)
    assert result.parameters == 6
    read = weights.of_black_box(str(run / "weights.npz"))
    assert set(read) == set(first) == set(result.params)
    for name, array in first.items():
        assert read[name].shape == np.shape(array)
        assert (read[name] == result.params[name]).all()
        assert (read[name] != array).all()


def test_a_stopped_run_keeps_the_loss_of_its_last_epoch():
    loss = lambda p, batch: float((p**2).sum())  # noqa: E731
    method = driver_of(black_box(loss, np.ones(3), oracle="cge", batch=5, epochs=9))
    assert [m.kind for m, _ in supersteps(method, 3)] == ["gradient", "gradient", "evaluate"]
    before = method.result()["train_loss"]
    method.stop("seconds")
    assert [m.kind for m, _ in supersteps(method, 1)] == ["evaluate"]
    assert method.finished
    assert method.result()["train_loss"] == before > 1
    assert method.result()["status"] == "seconds"


# Jobs


@pytest.mark.parametrize("shards", [1, 3, 20])
@pytest.mark.parametrize(
    "model",
    [MLP, "conv 3 kernel=2 stride=2 padding=0 bias=no, tanh, conv 2, tanh, maxpool, dense 4"],
)
def test_node_probes_answer_in_the_order_of_the_job(images, model, shards):
    job = job_on(images, model, oracle="node", mu=1e-6, shards=shards, batch=16)
    net, method = reference.parse(model, images.shape), driver_of(job)
    coordinates = job.coordinates(0)
    assert sorted(coordinates) == list(range(job.size))
    ((message, reports),) = supersteps(method, 1)
    found = np.empty(job.size)
    found[coordinates] = np.concatenate([report.values for report in reports])
    gradient, _ = reference.gradient(net, message.theta, *batch_of(job, 0))
    assert close(found, gradient, 1e-4)
    bounds = job.bounds
    assert (bounds[0], bounds[-1], len(bounds)) == (0, len(job.units), shards + 1)
    assert sum(r.queries for r in reports) == 1 + job.probes[job.units[:, 0]].sum()


def test_the_number_of_shards_belongs_to_the_job():
    digits = load("digits")
    assert job_on(digits, "mlp").shards == 1
    assert job_on(digits, "mlp", shards=5).shards == 5
    wide = "dense 256, relu, dense 128, relu, dense"
    assert job_on(digits, wide).shards == 8
    assert black_box(lambda p, batch: 0.0, np.ones(3)).shards == 1
    # What GraSP will find is not known when shards are built.
    wide, options = "dense 128, relu, dense 32, relu, dense", {"batch": 512, "sparsity": 0.9}
    for sparsity in (0.05, 0.5, 0.9, 0.99):
        job = job_on(digits, wide, **(options | {"sparsity": sparsity}), grasp_directions=2)
        method = driver_of(job)
        kinds = [message.kind for message, _ in supersteps(method, 3)]
        assert kinds == ["score", "score", "gradient"]
        assert method.shards == job.shards


def test_a_job_knows_its_sizes(images):
    job = job_on(images, CONV, batch=32, sparsity=0.5, grasp_samples=20)
    assert (job.steps_per_epoch, job.samples, job.normalized) == (2, 60, True)  # all there are
    assert job.size == reference.parse(CONV, images.shape).count
    job = job_on(images, MLP, batch=512)
    assert (job.steps_per_epoch, job.samples, job.normalized) == (1, 60, False)
    job = black_box(lambda p, batch: 0.0, {"a": np.ones((2, 3)), "b": 1.0}, batch=4)
    assert (job.size, job.steps_per_epoch, job.samples) == (7, 3, 4)
    assert job.coordinates(9).tolist() == list(range(7))


@pytest.mark.parametrize("oracle", ["cge", "rge", "es"])
def test_shards_of_a_process_share_a_pass(images, monkeypatch, oracle):
    passes, base = [], Engine.base
    monkeypatch.setattr(Engine, "base", lambda *given: passes.append(0) or base(*given))
    kinds, options = ["gradient", "evaluate", "gradient"], {}
    if oracle == "cge":
        kinds, options = [*kinds, "score"], {"sparsity": 0.5, "grasp_directions": 5}
    job = job_on(images, CONV, oracle=oracle, shards=3, batch=16, **options)
    theta, method = job.network.initial(0), driver_of(job)
    shards = [method.shard(index) for index in range(3)]
    moments = method.moments + 0.1
    for step, kind in enumerate(kinds):
        task = Task(kind, step, theta + 0.01 * step, moments)
        passes.clear()
        together = [shards[index].step(task) for index in (1, 0, 2)]
        assert len(passes) == (kind != "evaluate")
        for index, shared in zip((1, 0, 2), together, strict=True):
            alone = driver_of(job).shard(index).step(replace(task))
            assert (shared.loss, shared.right) == (alone.loss, alone.right)
            assert shared.values.tolist() == alone.values.tolist()
            assert shared.queries == alone.queries
            assert (shared.moments is None) == (index > 0 or kind != "gradient")
    # The base is one query, whichever shard comes first.
    queries = [shard.step(Task("gradient", 0, theta)).queries for shard in shards[::-1]]
    d, q = job.size, job.config.directions
    assert sum(queries) == {"cge": d, "rge": q, "es": q}[oracle] + 1


# Data in training and in the test


def test_images_are_varied_in_training_alone(images):
    text = "conv 3, batchnorm, relu, dense 4"
    net, options = reference.parse(text, images.shape), {"batch": 16, "shards": 2}
    plain = job_on(images, text, sparsity=0.5, **options)
    varied = job_on(images, text, sparsity=0.5, augment=True, **options)
    theta, moments = plain.network.initial(0), np.tile([0.0, 1.0], (7, 1))
    moments[:3] = [[0.1, 0.5], [0.2, 1.5], [-0.3, 2.0]]
    answers = {}
    for job in (plain, varied):
        shards = [driver_of(job).shard(index) for index in range(2)]
        for kind in ("gradient", "score", "evaluate"):
            task = Task(kind, 3, theta, moments if kind == "evaluate" else None)
            answers[kind, job.augment] = [shard.step(task) for shard in shards]
    for kind in ("score", "evaluate"):
        for a, b in zip(answers[kind, False], answers[kind, True], strict=True):
            assert (a.loss, a.right, a.values.tolist()) == (b.loss, b.right, b.values.tolist())
    x, y = batch_of(varied, 3)
    turned = crop_and_flip(x.astype(np.float32), 0, 3).astype(np.float64)
    for augment, seen in ((False, x), (True, turned)):
        for report in answers["gradient", augment]:
            assert report.loss == pytest.approx(reference.loss(net, theta, seen, y), rel=1e-9)
    assert answers["gradient", False][0].loss != answers["gradient", True][0].loss
    x, y = images.batch("test", np.arange(21))
    running = moments[:3].T.ravel()
    logits, _ = reference.forward(net, theta, x.astype(np.float64), running)
    reports = answers["evaluate", True]
    assert sum(report.right for report in reports) == (logits.argmax(axis=1) == y).sum()
    loss = reference.cross_entropy(logits, y)
    assert sum(report.loss for report in reports) == pytest.approx(21 * loss, rel=1e-9)


# Estimates of cost

PLAIN, NORMALIZED = "dense 5, relu, dense", "conv 2, batchnorm, relu, dense"
ORACLES = [
    {"oracle": "cge"},
    {"oracle": "cge", "central": True},
    {"sparsity": 0.77, "pruning": "uniform"},
    {"sparsity": 0.77, "pruning": "shares.json"},
    {"sparsity": 0.77, "grasp_directions": 7, "central": True},
    {"oracle": "cyclic", "sparsity": 0.63},
    {"oracle": "cyclic", "sparsity": 0.63, "central": True},
    {"oracle": "rge", "directions": 5},
    {"oracle": "es", "directions": 6},
]


@pytest.mark.parametrize("shards", [1, 5])
@pytest.mark.parametrize(
    ("model", "options"),
    [*itertools.product((PLAIN, NORMALIZED), ORACLES), (PLAIN, {"oracle": "node"})],
    ids=str,
)
def test_queries_are_foretold(images, tmp_path, monkeypatch, model, options, shards):
    monkeypatch.chdir(tmp_path)
    names = [f"{word.split()[0]}{k}" for k, word in enumerate((model, "dense"), 1)]
    (tmp_path / "shares.json").write_text(json.dumps({names[0]: 0.3, names[1]: 0.01}))
    options = {**options, "epochs": 3, "batch": 22, "shards": shards, "precision": "single"}
    told = queries_of(job_on(images, model, **options))
    assert train(model, images, threads=1, **options).queries == told


@pytest.mark.parametrize("shards", [1, 5])
@pytest.mark.parametrize(
    "options",
    [
        {"oracle": "cge"},
        {"oracle": "cge", "central": True},
        {"oracle": "cyclic", "sparsity": 0.7},
        {"directions": 3},
        {"oracle": "es", "directions": 4},
    ],
)
def test_queries_of_a_black_box_are_its_calls(options, shards):
    calls = []

    def loss(p, batch):
        calls.append(len(batch[0]))
        return float((p**2).sum())

    options = {**options, "epochs": 3, "batch": 4, "shards": shards}
    told = queries_of(black_box(loss, np.ones(11), **options))
    assert calls == [4]  # the first loss is tried
    calls.clear()
    result = train(loss, (np.arange(10),), params=np.ones(11), threads=1, **options)
    assert len(calls) - 1 == result.queries == told
    assert sorted(set(calls)) == [2, 4]
    job = black_box(loss, np.ones(11), **options)
    calls.clear()
    cost = estimated(job)
    assert (cost.queries, cost.steps, cost.seconds) == (told, 9, None)
    assert not calls


@pytest.mark.parametrize(
    "options",
    [{"oracle": "cge"}, {"oracle": "node"}, {"oracle": "rge"}, {"oracle": "es"}, {"sparsity": 0.9}],
    ids=str,
)
def test_seconds_are_foretold_within_a_factor_of_4(options):
    data = load("digits")
    job = job_on(data, "mlp", epochs=5, precision="single", **options)
    for _ in range(6):  # the machine may be at something else meanwhile: not all of its time counts
        told, before = estimated(job), time.process_time()
        result = train("mlp", data, epochs=5, threads=1, **options)
        took = time.process_time() - before
        assert (told.steps, told.queries) == (result.steps, result.queries)
        if 0.25 < told.seconds / took < 4:
            return
    pytest.fail(f"{told.seconds:.3g} s foretold, {took:.3g} s taken")
