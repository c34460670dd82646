"""Losses of a batch, and what single parameters and units do to them, against plain NumPy.

The reference computes every loss anew, in double precision; see :mod:`reference_network`.
"""

import functools
from dataclasses import dataclass, replace

import numpy as np
import pytest
import reference_network as reference
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from zoo.deepzero.net import columns as col
from zoo.deepzero.net import engine as engine_module
from zoo.deepzero.net.engine import Engine
from zoo.deepzero.net.loss import change_of_logit, loss_change, softmax
from zoo.deepzero.net.network import Network, network
from zoo.deepzero.net.plan import Plan
from zoo.deepzero.net.tile import CHUNK, rows, sums
from zoo.errors import InputError, Interrupted

MU = 5e-3
NETS = {  # text, shape of an input
    "linear": ("dense 3", (2, 2, 3)),
    "mlp": ("dense 7, relu, dense 6, relu, dense 3", (1, 3, 4)),
    "no activation": ("dense 4, dense 3", (1, 2, 3)),
    "tanh": ("dense 5, tanh, dense 6, bn, tanh, dense 3", (1, 2, 4)),
    "normalized": ("dense 5, bn, relu, dense 4, bn, dense 3", (1, 2, 3)),
    "discrete": ("dense 6, step, dense 5, quantize 4, dense 4, tanh, dense 3", (1, 2, 3)),
    "steps": ("conv 2 bias=no, quantize 3, maxpool, conv 3 stride=2, step, avgpool 2, dense 3",
              (1, 9, 8)),
    "flat": ("conv 3, relu, dense 3", (2, 4, 3)),
    "kernels": ("conv 2 kernel=1, relu, conv 2 kernel=5 bias=no, tanh, dense 3", (2, 3, 5)),
    "strides": ("conv 2 stride=2, relu, conv 2 kernel=5 stride=3 padding=4, relu, dense 3",
                (1, 7, 4)),
    "inside": ("conv 3 padding=0, bn, relu, conv 2 kernel=2 stride=2, dense 3", (1, 5, 6)),
    "maxima": ("conv 3 kernel=2, relu, maxpool 3, conv 2, bn, tanh, maxpool, dense 3", (1, 11, 8)),
    "means": ("conv 2, bn, relu, maxpool, avgpool 3, conv 2, step, avgpool, dense 3", (1, 14, 13)),
    "family": ("conv 3, bn, relu, maxpool, conv 4, bn, relu, maxpool, avgpool, dense 3", (1, 5, 7)),
    "one pixel": ("conv 3 stride=2, relu, conv 4, relu, dense 3", (2, 2, 1)),
    "residual": ("conv 2 bias=no, bn, relu, (conv 2, bn, relu, conv 2 bias=no, bn), relu, "
                 "(conv 4 stride=2, bn, tanh, conv 4 kernel=1), relu, avgpool, dense 3", (1, 5, 4)),
    "from input": ("(conv 4, bn), relu, (conv 4 kernel=1), relu, maxpool, dense 3", (2, 5, 3)),
    "long way": ("conv 2, relu, (conv 2 kernel=1, relu, maxpool, conv 3, relu, "
                 "conv 4 kernel=1 stride=2 bias=no), tanh, (conv 4 kernel=1), dense 4, relu, "
                 "dense 3", (1, 8, 6)),
}  # fmt: skip
SMOOTH = [name for name in NETS if name not in ("discrete", "steps", "means")]
DTYPES = ("float64", "float32")


@dataclass(frozen=True)
class Problem:
    """A network, parameters and a batch that single precision holds exactly."""

    net: Network
    plain: reference.Network
    theta: np.ndarray
    x: np.ndarray
    y: np.ndarray

    def on(self, dtype, **options):
        """Engine after a pass."""
        engine = Engine(self.net, len(self.x), dtype, **options)
        engine.load(self.x, self.y)
        engine.base(self.theta)
        return engine

    def derivatives(self, dtype, mu=MU, central=False):
        """Of all parameters."""
        return self.on(dtype).derivatives(np.arange(self.net.parameters), mu, central)

    def naive(self, mu=MU, central=False):
        """Derivatives as of :func:`reference.naive_cge`, with one loss at theta for all of them."""

        def losses(step):
            ends = self.theta + step * np.eye(self.net.parameters)
            return np.array([reference.loss(self.plain, end, self.x, self.y) for end in ends])

        if central:
            return (losses(mu) - losses(-mu)) / (2.0 * mu)
        return (losses(mu) - reference.loss(self.plain, self.theta, self.x, self.y)) / mu

    def gradient(self):
        return reference.gradient(self.plain, self.theta, self.x, self.y)[0]


def single(values):
    return values.astype(np.float32).astype(np.float64)


def problem(text, shape, count=5, seed=0, classes=3):
    net, plain = network(text, shape, classes), reference.parse(text, shape)
    rng = np.random.default_rng([seed, count])
    theta = reference.initial(plain, seed) + 0.3 * rng.standard_normal(plain.count)
    x = rng.standard_normal((count, *shape))
    return Problem(net, plain, single(theta), single(x), rng.integers(0, classes, count))


@functools.cache
def known(name, mu=MU, central=False):
    """Problem of a network of the list, and its derivatives one by one."""
    given = problem(*NETS[name])
    return given, given.naive(mu, central)


def assert_close(found, expected, tolerance):
    """Single precision errs by the size of the whole gradient, double by the largest number."""
    np.testing.assert_array_equal(np.isfinite(found), True)
    error, size = found - expected, expected
    if tolerance >= 1e-6:
        error, size = np.linalg.norm(error), np.linalg.norm(size)
    assert np.abs(error).max() <= tolerance * max(np.abs(size).max(), 1e-6)


def statistics(net, moments, count):
    """Moments of an engine in the reference's order, variances with n - 1."""
    parts, at = [], 0
    for stage in net.stages:
        if stage.gamma >= 0:
            n = count * stage.height_conv * stage.width_conv
            mean, variance = moments[at : at + stage.channels].T
            parts += [mean, variance * n / max(n - 1, 1)]
        at += stage.channels
    return np.concatenate([[], *parts])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", NETS)
def test_passes(name, dtype):
    near = {"rel": 1e-10, "abs": 1e-10} if dtype == "float64" else {"rel": 2e-5, "abs": 2e-5}
    whole = problem(*NETS[name], count=33)
    net, plain, theta = whole.net, whole.plain, whole.theta
    rng = np.random.default_rng(1)
    channels = sum(stage.channels for stage in net.stages)
    running = np.stack([rng.normal(size=channels), rng.uniform(0.5, 2.0, channels)], 1)
    engine = Engine(net, 33, dtype)
    for count in (33, 1, 17, 16, 15, 2):  # what a larger batch has left does not matter
        x, y = whole.x[:count], whole.y[:count]
        engine.load(x, y)
        logits, expected = reference.forward(plain, theta, x)
        assert engine.base(theta) == pytest.approx(reference.cross_entropy(logits, y), **near)
        found = statistics(net, engine.moments, count)
        np.testing.assert_allclose(found, expected, near["rel"], near["abs"])
        other = single(theta * 1.25)
        assert engine.loss(other) == pytest.approx(reference.loss(plain, other, x, y), **near)
        total, right = engine.evaluate(theta, running)
        vector = statistics(net, running, 1 << 40)
        logits, _ = reference.forward(plain, theta, x, vector)
        assert total / count == pytest.approx(reference.cross_entropy(logits, y), **near)
        assert right == (logits.argmax(axis=1) == y).sum()


@pytest.mark.parametrize("dtype", DTYPES)
def test_of_classes_that_tie_the_first_one_is_the_answer(dtype):
    given = problem("dense 3", (1, 1, 2), count=60)
    engine = Engine(given.net, 60, dtype)
    engine.load(given.x, given.y)
    for bias in ([0, 0, 0], [-1, 2, 2], [3, 3, 1], [0, 1, 0]):
        theta = np.concatenate([np.zeros(6), bias])
        right = engine.evaluate(theta, np.zeros((3, 2)))[1]
        assert right == (given.y == np.argmax(bias)).sum()


@pytest.mark.parametrize("central", [False, True])
@pytest.mark.parametrize("name", NETS)
def test_coordinates(name, central):
    given, expected = known(name, MU, central)
    assert_close(given.derivatives("float64", MU, central), expected, 1e-9)
    assert_close(given.derivatives("float32", MU, central), expected, 1e-5)


@pytest.mark.parametrize("count", [1, 16, 33])
@pytest.mark.parametrize("name", ["mlp", "family", "from input"])
def test_coordinates_of_other_batches(name, count):
    given = problem(*NETS[name], count=count)
    expected = given.naive()
    assert_close(given.derivatives("float64"), expected, 1e-8)
    assert_close(given.derivatives("float32"), expected, 2e-5)


@pytest.mark.parametrize("mu", [0.1, 1.0, -0.3])
@pytest.mark.parametrize("name", ["mlp", "tanh", "discrete", "maxima", "one pixel", "residual"])
def test_large_changes(name, mu):
    given, expected = known(name, mu)
    assert_close(given.derivatives("float64", mu), expected, 5e-7)  # the series errs by 1e-7
    assert_close(given.derivatives("float32", mu), expected, 1e-5)


@pytest.mark.parametrize("mu", [1e-6, 1e-9])
@pytest.mark.parametrize("name", SMOOTH)
def test_tiny_changes_in_single_precision(name, mu):
    given = problem(*NETS[name])
    assert_close(given.derivatives("float32", mu), given.gradient(), 1e-5)


def test_plain_differences_in_single_precision_would_not_do():
    given = problem(*NETS["mlp"])
    engine, mu = given.on("float32"), 1e-6
    base = engine.base(given.theta)
    steps = mu * np.eye(given.net.parameters)
    plain = np.array([(engine.loss(given.theta + step) - base) / mu for step in steps])
    expected = given.gradient()
    assert np.linalg.norm(plain - expected) > 0.01 * np.linalg.norm(expected)


@pytest.mark.parametrize("name", SMOOTH)
def test_coordinates_tend_to_the_gradient(name):
    given = problem(*NETS[name])
    assert_close(given.derivatives("float64", 1e-6, True), given.gradient(), 1e-9)


def part(given, name):
    """View of a parameter array."""
    where, shape = given.net.slices()[name]
    return given.theta[where].reshape(shape)


def dead(given):
    part(given, "dense1.bias")[:3] = -100.0


def zero_inputs(given):
    given.x[:, :, :2] = 0.0
    given.x[1] = 0.0


def equal_weights(given):
    weight = part(given, "dense3.weight")
    weight[:, 0], weight[:, 1], weight[:, 2] = 0.0, 0.7, [1e-30, 0.0, -1e-30]


def certain(given):
    bias = part(given, "dense3.bias")
    part(given, "dense3.weight")[:] *= 0.01
    bias[:] = 50.0, -50.0, 0.0
    given.y[:] = [0, 1, 2, 0, 0]


def constant_channels(given):
    part(given, "conv1.weight")[:3] = 0.0
    part(given, "conv2.weight")[1] = 0.0


def constant_images(given):
    given.x[:] = given.x[:, :1, :1, :1]


def few_values(given):
    given.x[:] = np.rint(given.x)
    for name in ("conv1.weight", "conv2.weight"):
        part(given, name)[:] = np.rint(2 * part(given, name)) / 2


def gone(given):
    part(given, "conv1.weight")[:] = 0.0
    part(given, "conv1.bias")[:] = 0.0
    part(given, "conv1.beta")[:] = -1.0


EDGES = {
    "dead units": ("mlp", dead),
    "zero inputs": ("mlp", zero_inputs),
    "zero images": ("family", zero_inputs),
    "equal weights": ("mlp", equal_weights),
    "certain classes": ("mlp", certain),
    "constant channels": ("family", constant_channels),
    "constant images": ("family", constant_images),
    "duplicated maxima": ("maxima", few_values),
    "duplicated maxima under zero": ("family", few_values),
    "a layer that is dead": ("family", gone),
}


@pytest.mark.parametrize("mu", [MU, 0.5])
@pytest.mark.parametrize("edge", EDGES)
def test_edges(edge, mu):
    name, change = EDGES[edge]
    given = problem(*NETS[name])
    change(given)
    given = replace(given, theta=single(given.theta))
    expected = given.naive(mu, True)
    assert_close(given.derivatives("float64", mu, True), expected, 5e-7)
    assert_close(given.derivatives("float32", mu, True), expected, 3e-5)


def small(text, theta, x, y):
    """Problem with one input and three classes."""
    net, plain = network(text, (1, 1, 1), 3), reference.parse(text, (1, 1, 1))
    x = np.reshape(x, (-1, 1, 1, 1)).astype(float)
    return Problem(net, plain, single(np.array(theta, float)), single(x), np.array(y))


@pytest.mark.parametrize("dtype", DTYPES)
def test_from_one_end_of_tanh_to_the_other(dtype):
    last = [1.0, 0.5, -0.5, 0.0, 0.0, 0.0]
    for x, bias in (([30.0, 10.0], 1.0), ([-12.0, 16.0], 5.0), ([8.0, 0.1], -4.0)):
        given = small("dense 1, tanh, dense 3", [-1.0, bias, *last], x, [0, 1])
        for mu in (1.0, -2.0):
            assert_close(given.derivatives(dtype, mu), given.naive(mu), 1e-6)


@pytest.mark.parametrize("size", [1.0, 1e2, 1e3, 1e5])
def test_a_channel_that_becomes_constant(size):
    rng = np.random.default_rng(4)
    for count in range(2, 40):
        x, y = size * rng.standard_normal(count), rng.integers(0, 3, count)
        theta = [-0.125, 0.2, 1.0, 0.1, 1.0, 0.5, -0.5, 0.0, 0.0, 0.0]
        given = small("dense 1, bn, dense 3", theta, x, y)
        weight = [engine.derivatives(np.arange(1), 0.125) for engine in map(given.on, DTYPES)]
        args = given.plain, given.theta, given.x, given.y, 0.125, [0]
        expected = reference.naive_cge(*args)
        np.testing.assert_allclose(weight[0], expected, 1e-4)  # a variance of 1e-17 above 1e-5
        if size == 1.0:
            np.testing.assert_allclose(weight[1], expected, 1e-4)
        assert np.all(np.isfinite(weight[1]))


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_certain_class_that_loses_its_logit_has_a_derivative(dtype):
    given = small("dense 3", [50.0, 0.0, 0.0, 0.0, 0.0, 0.0], [45.0, 1.0], [0, 1])
    assert np.all(np.isfinite(given.derivatives(dtype, 1.0, True)))


def every_unit(net):
    return np.array([(k, c) for k, stage in enumerate(net.stages) for c in range(stage.channels)])


def of_unit(net, g, k, c):
    """Part of a gradient that a probe gives: the weights of a channel, and its bias."""
    stage = net.stages[k]
    first = stage.weight + c * stage.fan_in
    bias = [g[stage.bias + c]] if stage.bias >= 0 else []
    return np.concatenate([g[first : first + stage.fan_in], bias])


PROBED = [name for name in SMOOTH if "bn" not in NETS[name][0]]


@pytest.mark.parametrize("name", PROBED)
def test_probes_tend_to_the_gradient(name):
    given = problem(*NETS[name], count=17)
    units = np.random.default_rng(2).permutation(every_unit(given.net))
    for g in (given.gradient(), given.derivatives("float64", 1e-7)):
        expected = np.concatenate([of_unit(given.net, g, k, c) for k, c in units])
        assert_close(given.on("float64").probes(units, 1e-7), expected, 5e-7)
        assert_close(given.on("float32").probes(units, 1e-7), expected, 1e-5)


@pytest.mark.parametrize("dtype", DTYPES)
def test_probes_of_pixels_that_tie_count_once(dtype):
    given = problem("conv 3 kernel=1, relu, maxpool 2, conv 2, tanh, dense 3", (2, 5, 7))
    part(given, "conv1.bias")[:] = 0.5
    given.x[:, 0] = np.rint(given.x[:, 0])
    given.x[:, 1, 1:] = 0.25  # a background
    expected = given.gradient()
    every = np.concatenate([of_unit(given.net, expected, k, c) for k, c in every_unit(given.net)])
    assert_close(given.on(dtype).probes(every_unit(given.net), 1e-7), every, 1e-5)


def probed(given, k, c, mu):
    """Weights' and bias's derivatives from every pixel of a unit, moved for all samples at once."""
    layers, count = given.plain.layers, len(given.x)
    at = [j for j, layer in enumerate(layers) if layer.kind in ("dense", "conv")][k]
    layer, nothing = layers[at], np.zeros(0)

    def through(layers, features):
        return reference.through(layers, given.theta, features, None, nothing)[0]

    def losses(z):
        logits = through(layers[at + 1 :], z).reshape(count, -1)
        return np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(count), given.y]

    inputs = through(layers[:at], given.x)
    z, p, s, size = through([layer], inputs), layer.padding, layer.stride, layer.kernel
    padded = np.pad(inputs, ((0, 0), (0, 0), (p, p), (p, p)))
    weights, bias = 0.0, 0.0
    for i, j in np.ndindex(layer.shape[1:]):
        moved = z.copy()
        moved[:, c, i, j] += mu
        delta = (losses(moved) - losses(z)) / (mu * count)
        seen = padded[:, :, i * s : i * s + size, j * s : j * s + size]
        seen = inputs if layer.kind == "dense" else seen
        weights, bias = weights + np.tensordot(delta, seen, 1).ravel(), bias + delta.sum()
    return np.append(weights, [bias] if layer.bias else [])


@pytest.mark.parametrize("mu", [MU, 0.4])
@pytest.mark.parametrize("name", ["mlp", "discrete", "steps", "kernels", "strides", "one pixel"])
def test_probes_by_their_formula(name, mu):
    given = problem(*NETS[name], count=17)
    units = every_unit(given.net)
    expected = np.concatenate([probed(given, k, c, mu) for k, c in units])
    assert_close(given.on("float64").probes(units, mu), expected, 1e-9)
    assert_close(given.on("float32").probes(units, mu), expected, 1e-5)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["mlp", "tanh", "residual"])
def test_bits_do_not_depend_on_pieces_or_threads(name, dtype, monkeypatch):
    given = problem(*NETS[name], count=17)
    d = given.net.parameters
    whole = given.derivatives(dtype)
    units = every_unit(given.net) if "bn" not in NETS[name][0] else None
    probes = given.on(dtype).probes(units, MU) if units is not None else None
    monkeypatch.setattr(engine_module, "_PIECE", 1e4)
    for threads in (1, 3):
        engine = given.on(dtype, threads=threads)
        np.testing.assert_array_equal(engine.derivatives(np.arange(d), MU), whole)
        for first in (0, 1):
            some = np.arange(first, d, 3)
            np.testing.assert_array_equal(engine.derivatives(some, MU), whole[some])
        cuts = np.sort(np.random.default_rng(threads).integers(0, d, 9))
        split = [engine.derivatives(p, MU) for p in np.split(np.arange(d), cuts)]
        np.testing.assert_array_equal(np.concatenate(split), whole)
        if units is not None:
            np.testing.assert_array_equal(engine.probes(units, MU), probes)


@pytest.mark.parametrize("dtype", DTYPES)
def test_estimates_leave_no_trace(dtype):
    given = problem(*NETS["residual"])
    engine, every = given.on(dtype), np.arange(given.net.parameters)
    theta, moments = given.theta.copy(), engine.moments.copy()
    first = engine.derivatives(every, MU)
    engine.derivatives(every, 1.0, True)
    engine.loss(given.theta + 1.0)  # changes still start from the base
    np.testing.assert_array_equal(engine.derivatives(every, MU), first)
    np.testing.assert_array_equal(engine.moments, moments)
    np.testing.assert_array_equal(given.theta, theta)
    other = Engine(given.net, 40, dtype)  # nor does what was there before
    larger = problem(*NETS["residual"], count=40, seed=9)
    for batch in (larger, given):
        other.load(batch.x, batch.y)
        other.base(batch.theta)
        other.loss(batch.theta)
    np.testing.assert_array_equal(other.derivatives(every, MU), first)
    assert other.loss(given.theta) == other.base(given.theta)


@pytest.mark.parametrize("threads", [1, 2])
def test_a_cancelled_estimate_is_given_up(threads, monkeypatch):
    monkeypatch.setattr(engine_module, "_PIECE", 1e3)
    looks = []

    def cancelled():
        looks.append(1)
        return len(looks) > 5

    given = problem(*NETS["mlp"])
    engine = given.on("float64", threads=threads, cancelled=cancelled)
    with pytest.raises(Interrupted):
        engine.derivatives(np.arange(given.net.parameters), MU)


def test_no_coordinates_have_no_derivatives():
    assert problem(*NETS["linear"]).on("float64").derivatives(np.arange(0), MU).shape == (0,)


ACTIVATIONS = st.sampled_from(["", "relu", "tanh", "step", "quantize 3"])
POOLS = st.sampled_from(["", "", "maxpool", "maxpool 3", "avgpool", "avgpool 2"])
NORMS = st.sampled_from(["", "bn"])


@st.composite
def convolutions(draw, channels=None):
    kernel = draw(st.sampled_from([1, 2, 3, 5]))
    padding = draw(st.integers(0, kernel - 1))
    stride = draw(st.integers(1, 3))
    bias = draw(st.sampled_from(["", " bias=no"]))
    channels = channels or draw(st.integers(1, 4))
    return f"conv {channels} kernel={kernel} stride={stride} padding={padding}{bias}"


@st.composite
def residuals(draw):
    stride = draw(st.sampled_from(["", " stride=2"]))
    channels = draw(st.integers(2, 4))
    kernel = draw(st.sampled_from([1, 3]))
    first = f"conv {channels} kernel={kernel}{stride}"
    words = [first, draw(NORMS)]
    if draw(st.booleans()):
        words += [draw(ACTIVATIONS), f"conv {channels} kernel={kernel} bias=no", draw(NORMS)]
    return "(" + ", ".join(word for word in words if word) + ")"


@st.composite
def networks(draw):
    words = []
    for _ in range(draw(st.integers(0, 3))):
        kind = draw(st.sampled_from(["dense", "conv", "conv", "block", "block"]))
        if kind == "block":
            words.append(draw(residuals()))
        elif kind == "conv":
            words += [draw(convolutions()), draw(NORMS)]
        else:
            words += [f"dense {draw(st.integers(1, 6))}", draw(NORMS)]
        words += [draw(ACTIVATIONS), draw(POOLS)]
    return ", ".join(word for word in [*words, "dense 3"] if word)


@settings(max_examples=150, deadline=None)
@given(
    networks(),
    st.tuples(st.integers(1, 2), st.integers(1, 6), st.integers(1, 6)),
    st.sampled_from([2, 3, 7, 18]),
    st.integers(0, 9),
    st.booleans(),
)
def test_coordinates_of_any_network(text, shape, count, seed, central):
    try:
        plain = reference.parse(text, shape)
    except ValueError:
        with pytest.raises(InputError):
            network(text, shape, 3)
        return
    assume(plain.count <= 150)
    given = problem(text, shape, count, seed)
    engine = given.on("float64")
    loss = reference.loss(plain, given.theta, given.x, given.y)
    assert engine.base(given.theta) == pytest.approx(loss, rel=1e-9)
    found = engine.derivatives(np.arange(plain.count), MU, central)
    expected = given.naive(MU, central)
    error = np.abs(found - expected).max()
    assert error <= 1e-6 * max(np.abs(expected).max(), 1e-3)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", [1e-8, 1e-6, 1e-4, 1e-2, 0.2, 0.3, 1.0, 3.9, 4.1, 10.0, 50.0, 1e3])
@pytest.mark.parametrize("spread", [1.0, 40.0])
def test_change_of_the_loss(spread, size, dtype):
    classes, count = 5, 37
    plan = Plan(network("dense 5", (1, 1, 1), classes), count, dtype)
    cache, scratch = plan.cache(), plan.scratch()
    rng, at = np.random.default_rng(3), plan.table[-1, col.OUT_AT]
    a = (spread * rng.standard_normal((classes, count))).astype(dtype)
    t = (size * rng.uniform(-1, 1, (classes, count))).astype(dtype)
    cache.y[:] = rng.integers(0, classes, count)
    cache.hot[:, :count] = cache.y == np.arange(classes)[:, None]
    cache.a[at : at + classes, :count] = a
    softmax(cache.a, at, cache, scratch.mass, count)
    scratch.dz[:classes, :count] = t
    given = at, cache.a, cache.p, cache.hot, cache.whole, scratch.mass, count
    loss_change(scratch.dz, *given)
    before, moved = a.astype(np.longdouble), t.astype(np.longdouble)
    expected = whole(before + moved) - whole(before) - moved[cache.y, np.arange(count)]
    near = 1e-6 * size if dtype == "float32" else 1e-14 * size + 1e-14 * (size > 4) * spread
    near += 1e-18 * spread  # of the numbers that it is compared with
    assert np.abs(scratch.mass[0, :count] - expected).max() <= near

    for c in range(classes):  # one logit alone
        scratch.dz[0, :count] = t[c]
        change_of_logit(scratch.dz, c, *given)
        alone = before.copy()
        alone[c] += moved[c]
        expected = whole(alone) - whole(before) - moved[c] * (cache.y == c)
        assert np.abs(scratch.mass[0, :count] - expected).max() <= near


def whole(a):
    """Logarithm of the sum of the exponentials."""
    return a.max(axis=0) + np.log(np.exp(a - a.max(axis=0)).sum(axis=0))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("scale", [30.0, 1e4])
@pytest.mark.parametrize("mu", [5e-3, 1.0, 1e3])
@pytest.mark.parametrize("text", ["dense 3", "dense 4, relu, dense 3"])
def test_logits_that_move_far(text, mu, scale, dtype):
    net = network(text, (6, 1, 1), 3)
    rng = np.random.default_rng(0)
    x, y = (scale * rng.standard_normal((9, 6, 1, 1))).astype(np.float32), rng.integers(0, 3, 9)
    theta = net.initial(1).astype(np.float32).astype(np.float64)
    engine = Engine(net, 9, dtype)
    engine.load(x, y)
    engine.base(theta)
    found = engine.derivatives(np.arange(net.parameters), mu)
    plain = reference.naive_cge(
        reference.parse(text, (6, 1, 1)), theta, x.astype(float), y, mu, np.arange(net.parameters)
    )
    near = 1e-4 if dtype == "float32" else 1e-7  # the series leaves terms out
    assert np.abs(found - plain).max() <= near * np.abs(plain).max()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("channels", range(1, 14))
def test_sums_of_rows(channels, dtype):
    rng = np.random.default_rng(channels)
    chunk, taps, step = CHUNK // np.dtype(dtype).itemsize, 5, 3
    for samples in (1, chunk - 1, chunk, chunk + 1, 2 * chunk, 2 * chunk + 3):
        x = rows(9, samples, dtype)
        x[:] = rng.standard_normal(x.shape)
        out = rows(2 + step * channels, samples, dtype)
        w = rng.standard_normal(4 + channels * 8).astype(dtype)
        start = rng.standard_normal(2 + channels).astype(dtype)
        source, tap = rng.permutation(9)[:taps], rng.permutation(8)[:taps]
        sums(out, 1, step, channels, x, source, tap, taps, w, 4, 8, start, 2, samples)
        weights = w[4:].reshape(channels, 8)[:, tap].astype(float)
        expected = weights @ x[source, :samples].astype(float) + start[2:, None]
        found = out[1 : 1 + step * channels : step, :samples]
        near = 1e-14 if dtype == "float64" else 3e-6
        np.testing.assert_allclose(found, expected, rtol=0, atol=near * 10)
        assert not out[[0, 2, 3, -1]].any()  # rows in between are not touched
