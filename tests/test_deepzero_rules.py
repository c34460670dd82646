"""What the update rules make of estimates, and which coordinates are estimated."""

import itertools
import math

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
    small_images,
    supersteps,
)
from scipy import stats

from zoo.deepzero.masks import Masks, cyclic, kept_weights
from zoo.deepzero.net.network import network
from zoo.deepzero.rules import RULES, Rule, rate


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return small_images(tmp_path_factory.mktemp("data"))


# Update rules


def plain_rule(name, theta, gradients, rates, m, decay):
    """The papers' algorithms, coordinate by coordinate."""
    out = []
    for x, gs in zip(theta, gradients.T, strict=True):
        v = s = 0.0
        for t, (g, eta) in enumerate(zip(gs, rates, strict=True), 1):
            if name == "sgd":
                v = m * v + (g + decay * x)
                x = x - eta * v
            elif name == "adam":
                v, s = m * v + (1 - m) * g, 0.999 * s + 0.001 * g**2
                along = (v / (1 - m**t)) / (math.sqrt(s / (1 - 0.999**t)) + 1e-8)
                x = x - eta * (along + decay * x)
            else:
                mixed = m * v + (1 - m) * g
                sign = 1 if mixed > 0 else -1 if mixed < 0 else 0
                x = x - eta * (sign + decay * x)
                v = 0.99 * v + 0.01 * g
        out.append(x)
    return np.array(out)


def some_gradients(steps=40, size=7):
    rng = np.random.default_rng(5)
    gradients = rng.standard_normal((steps, size)) * 10.0 ** rng.integers(-3, 2, size)
    gradients[:, 0] = 0.0  # never estimated
    gradients[::3, 1] = gradients[5:, 2] = 0.0  # now and then; no more
    return rng.standard_normal(size), gradients, rng.uniform(0.001, 0.1, steps)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("name", RULES)
def test_rules_are_those_of_the_papers(name, momentum):
    first, gradients, rates = some_gradients()
    theta, rule = first.copy(), Rule.new(name, momentum, 0.03, len(first))
    for step, (g, eta) in enumerate(zip(gradients, rates, strict=True)):
        given = g.copy()
        rule.update(theta, g, eta, step)
        assert (g == given).all()
        state, rule = rule.state(), Rule.new(name, momentum, 0.03, len(first))
        rule.restore(state)  # all it remembers
    assert close(theta, plain_rule(name, first, gradients, rates, momentum, 0.03), 1e-13)
    assert theta[0] != first[0]  # decays all the same


@pytest.mark.parametrize("name", ["sgd", "adam"])
def test_rules_are_those_of_torch(name):
    torch = pytest.importorskip("torch")
    first, gradients, rates = some_gradients()
    x = torch.tensor(first.copy(), requires_grad=True)
    if name == "sgd":
        optimizer = torch.optim.SGD([x], lr=1.0, momentum=0.9, weight_decay=0.03)
    else:
        optimizer = torch.optim.AdamW([x], lr=1.0, betas=(0.9, 0.999), weight_decay=0.03)
    theta, rule = first.copy(), Rule.new(name, 0.9, 0.03, len(first))
    for step, (g, eta) in enumerate(zip(gradients, rates, strict=True)):
        optimizer.param_groups[0]["lr"] = eta
        x.grad = torch.tensor(g)
        optimizer.step()
        rule.update(theta, g, eta, step)
        assert close(theta, x.detach().numpy(), 1e-13)


def test_rate_warms_up_and_falls_along_half_a_cosine():
    rates = [rate(0.3, step, 100, 20, True) for step in range(100)]
    assert rates[:20] == pytest.approx([0.3 * k / 20 for k in range(1, 21)])
    assert rates[19] == rates[20] == pytest.approx(0.3)
    assert rates[60] == pytest.approx(0.15)
    assert rates[-1] == pytest.approx(0.3 * math.sin(math.pi / 160) ** 2)
    assert all(a > b > 0 for a, b in itertools.pairwise(rates[20:]))
    assert rates == pytest.approx([reference.learning_rate(t, 100, 20, 0.3) for t in range(100)])
    assert rate(0.3, 0, 100, 0, True) == 0.3
    assert {rate(0.3, step, 100, 20, False) for step in range(20, 100)} == {0.3}
    assert rate(0.3, 0, 1, 0, True) == 0.3


@pytest.mark.parametrize(("warmup", "steps"), [(0, 0), (0.5, 2), (1, 3), (3, 6)])
@pytest.mark.parametrize("schedule", ["cosine", "constant"])
def test_a_run_goes_through_its_schedule(warmup, steps, schedule):
    options = {"oracle": "cge", "momentum": 0, "weight_decay": 0, "lr": 0.2, "mu": 0.5}
    loss = lambda p, batch: 2.0 * p.sum()  # noqa: E731
    # 3 steps an epoch, 12 in all; of these at most half warm up
    options |= {"epochs": 4, "batch": 4, "warmup": warmup, "schedule": schedule}
    method = driver_of(black_box(loss, np.zeros(2), **options))
    moved = []
    for message, _ in supersteps(method, 16):
        moved += [message.theta[0]] if message.kind == "gradient" else []
    rates = -np.diff([*moved, method.theta[0]]) / 2.0
    assert method.finished
    wanted = [reference.learning_rate(t, 12, steps, 0.2) for t in range(12)]
    if schedule == "constant":
        wanted[steps:] = [0.2] * (12 - steps)
    assert rates == pytest.approx(wanted, rel=1e-9)


def test_what_a_mask_leaves_out_still_moves(images):
    options = {"sparsity": 0.8, "pruning": "uniform", "shards": 3, "batch": 16, "mu": 0.1}
    job = job_on(images, MLP, **options, lr=0.5, weight_decay=0.01, momentum=0.7, warmup=0)
    net = reference.parse(MLP, images.shape)
    method = driver_of(job)
    masks = Masks(job.network, kept_weights(job.network, job.sparsities), job.seed)
    theta, v = method.theta.copy(), np.zeros(job.size)
    estimated_ever = np.zeros(job.size, bool)
    for step, (message, reports) in enumerate(supersteps(method, 3)):
        assert message.kind == "gradient"
        x, y = batch_of(job, step)
        chosen, g = masks.chosen(step), np.zeros(job.size)
        g[chosen] = reference.naive_cge(net, theta, x, y, 0.1, chosen)
        assert sum(report.queries for report in reports) == masks.size + 1
        assert [report.loss for report in reports] == pytest.approx(
            [reference.loss(net, theta, x, y)] * 3, rel=1e-7
        )
        estimated_ever[chosen] = True
        v = 0.7 * v + g + 0.01 * theta
        theta = theta - reference.learning_rate(step, 50 * 4, 0, 0.5) * v
        assert close(method.theta, theta, 1e-6)
    assert not estimated_ever.all()
    assert (method.theta[~estimated_ever] != job.network.initial(0)[~estimated_ever]).all()


# Masks


def test_masks_keep_so_many_weights_and_all_else():
    net, sparsities = layered()
    kept = kept_weights(net, sparsities)
    assert kept == {"conv1": 54, "conv2": 14, "dense3": 2}
    masks = Masks(net, kept, 7)
    where = {name: np.arange(at.start, at.stop) for name, (at, _) in net.slices().items()}
    for number in (0, 1, 2**40):
        chosen = masks.chosen(number)
        assert (np.diff(chosen) > 0).all()
        assert len(chosen) == masks.size == 54 + 14 + 2 + 4 + 4 + 4 + 4
        for name, own in where.items():
            stage, _, kind = name.partition(".")
            wanted = kept[stage] if kind == "weight" else len(own)
            assert np.isin(own, chosen).sum() == wanted
    none = Masks(net, {"conv1": 0, "conv2": 144, "dense3": 0}, 7)
    assert none.size == len(none.chosen(3)) == 144 + 16


def test_masks_are_a_function_of_seed_and_number():
    net, sparsities = layered()
    kept = kept_weights(net, sparsities)
    forwards = [Masks(net, kept, 7).chosen(number).tolist() for number in range(20)]
    backwards = [Masks(net, kept, 7).chosen(number).tolist() for number in range(19, -1, -1)]
    assert forwards == backwards[::-1]
    assert len({tuple(chosen) for chosen in forwards}) == 20
    assert Masks(net, kept, 8).chosen(0).tolist() != forwards[0]
    net = network("dense 5, relu, dense 5, relu, dense", (5, 1, 1), 5)  # layers of one size
    masks = Masks(net, {"dense1": 9, "dense2": 9, "dense3": 9}, 0)
    chosen = masks.chosen(0)
    within = {tuple(chosen[(at <= chosen) & (chosen < at + 25)] - at) for at in (0, 30, 60)}
    assert [len(of_layer) for of_layer in within] == [9, 9, 9]


def test_masks_are_uniform_over_the_weights_of_a_layer():
    net, sparsities = layered()
    kept, number = kept_weights(net, sparsities), 1500
    counts, together = np.zeros(net.parameters), 0
    masks = Masks(net, kept, 1)
    first, second = net.slices()["conv1.weight"][0].start, net.slices()["conv2.weight"][0].start
    for k in range(number):
        chosen = masks.chosen(k)
        counts[chosen] += 1
        together += np.isin(first + 5, chosen) and np.isin(second + 5, chosen)
    for stage in net.stages:
        own, n = counts[stage.weight : stage.weight + stage.weights], stage.weights
        p = kept[stage.name] / n
        # drawn without replacement: counts are negatively correlated, by 1/(n - 1)
        square = ((own - number * p) ** 2).sum() / (number * p * (1 - p)) * (n - 1) / n
        assert 1e-3 < stats.chi2.sf(square, n - 1) < 1 - 1e-3
    p = kept["conv1"] / 72 * kept["conv2"] / 144  # layers do not depend on each other
    assert abs(together - number * p) < 4 * math.sqrt(number * p * (1 - p))


@pytest.mark.parametrize("every", [0, 2])
def test_a_mask_is_kept_for_a_step_or_for_epochs(images, every):
    options = {"sparsity": 0.7, "pruning": "uniform", "mask_every": every, "batch": 16}
    job = job_on(images, MLP, **options)
    assert job.steps_per_epoch == 4
    seen = [tuple(job.coordinates(step)) for step in range(24)]
    lasts = [len(list(group)) for _, group in itertools.groupby(seen)]
    assert lasts == ([1] * 24 if every == 0 else [8, 8, 8])
    assert len(set(seen)) == len(lasts)


@pytest.mark.parametrize("shards", [1, 2, 3, 8, 700])
@pytest.mark.parametrize(
    "options",
    [
        {"oracle": "cge"},
        {"sparsity": 0.9, "pruning": "uniform"},
        {"oracle": "cyclic", "sparsity": 0.6},
    ],
)
def test_shards_parts_are_disjoint_and_complete(images, options, shards):
    job = job_on(images, CONV, shards=shards, **options)
    for step in range(3):
        whole = job.coordinates(step)
        parts = [job.own(shard, whole) for shard in range(job.shards)]
        assert np.concatenate(parts).tolist() == whole.tolist()
        assert whole.dtype == np.int64
    bounds = job.bounds
    assert len(bounds) == shards + 1
    assert (bounds[0], bounds[-1]) == (0, job.size)
    loads = [job.costs[a:b].sum() for a, b in itertools.pairwise(bounds)]
    assert max(loads) <= job.costs.sum() / shards + job.costs.max()


# Cyclic


@pytest.mark.parametrize(("size", "block"), [(12, 4), (13, 4), (5, 1), (5, 5), (5, 4)])
def test_cyclic_has_every_coordinate_once_a_cycle(size, block):
    steps = -(-size // block)
    cycles = []
    for cycle in range(6):
        parts = [cyclic(size, block, 3, cycle * steps + k) for k in range(steps)]
        assert all((np.diff(part) > 0).all() for part in parts)
        assert [len(part) for part in parts[:-1]] == [block] * (steps - 1)
        assert sorted(np.concatenate(parts)) == list(range(size))
        cycles.append(tuple(tuple(part) for part in parts))
    assert len(set(cycles)) > 1 or block == size  # the order is another one in every cycle
    assert (cyclic(40, 9, 3, 17) == cyclic(40, 9, 3, 17)).all()
    assert (cyclic(40, 9, 3, 17) != cyclic(40, 9, 4, 17)).any()


@pytest.mark.parametrize("central", [False, True])
def test_cyclic_keeps_a_decaying_buffer(central):
    rng = np.random.default_rng(2)
    a = rng.standard_normal((9, 9))
    a, first = a @ a.T, rng.standard_normal(9)
    value = lambda p, batch: 0.5 * p @ a @ p + batch[0].mean()  # noqa: E731
    options = {"oracle": "cyclic", "sparsity": 0.7, "decay": 0.8, "central": central, "mu": 0.1}
    options |= {"lr": 0.01, "weight_decay": 0, "schedule": "constant", "warmup": 0}
    job = black_box(value, first, **options, batch=5, shards=2, epochs=20)
    method = driver_of(job)
    theta, g = first.copy(), np.zeros(9)
    for message, _ in supersteps(method, 15):
        if message.kind == "evaluate":
            continue
        now = job.coordinates(message.step)
        assert len(now) == 3
        g = 0.8 * g
        for i in now:
            e = 0.1 * (np.arange(9) == i)
            l = lambda p: 0.5 * p @ a @ p  # noqa: E731, E741
            ahead, base, back = l(theta + e), l(theta), l(theta - e)
            g[i] = (ahead - back) / 0.2 if central else (ahead - base) / 0.1
        theta = theta - 0.01 * g  # no momentum unless asked for: the buffer remembers
        assert close(method.theta, theta, 1e-10)
    assert (theta != first).all()
