"""The reference is right: by hand, by loops, by finite differences and, if it is there, PyTorch."""

from pathlib import Path

import numpy as np
import pytest
import reference_network as reference

MLP = "dense 32, relu, dense 10"
CNN = "conv 18, bn, relu, maxpool, conv 18, bn, relu, maxpool, avgpool, dense 10"
RESNET = """conv 16 bias=no, bn, relu
(conv 16 bias=no, bn, relu, conv 16 bias=no, bn), relu
(conv 32 stride=2 bias=no, bn, relu, conv 32 bias=no, bn), relu, avgpool, dense 10"""
MIXED = """Conv 3 kernel=2 stride=2 padding=1, TANH, (BatchNorm, relu, maxpool), avgpool 2,
(conv 4 kernel=1 bias=no, (tanh, conv 9 kernel=1)), maxpool 1, dense 6, bn, relu, dense 5"""
NETS = {  # text, shape of an example
    "mlp": (MLP, (1, 8, 8)),
    "cnn": (CNN, (3, 9, 8)),
    "resnet": (RESNET, (2, 7, 8)),
    "mixed": (MIXED, (2, 15, 14)),
}
BENCHMARKS = str(Path(__file__).parents[1] / "benchmarks")


def problem(name, count=6):
    """Network with no parameter at a special value, and a batch."""
    text, shape = NETS[name]
    network = reference.parse(text, shape)
    rng = np.random.default_rng(5)
    params = reference.initial(network, 1) + 0.1 * rng.standard_normal(network.count)
    x = rng.standard_normal((count, *shape))
    return network, params, x, rng.integers(0, 5, count)


def output(text, x, params=()):
    """Features that the layers give, with their shape."""
    network = reference.parse(text, x.shape[1:])
    y, _ = reference.forward(network, np.array(params, dtype=float), x)
    return y.reshape(len(x), *network.shape)


def partial_derivatives(network, params, x, y, coordinates, h=1e-6):
    """Central differences, by the whole formula anew."""
    out = []
    for i in coordinates:
        e = np.zeros(len(params))
        e[i] = h
        ends = [reference.forward(network, params + s * e, x)[0] for s in (1, -1)]
        up, down = (
            np.mean([np.log(np.exp(z).sum()) - z[label] for z, label in zip(end, y, strict=True)])
            for end in ends
        )
        out.append((up - down) / (2 * h))
    return np.array(out)


@pytest.mark.parametrize(
    ("name", "count", "shape"),
    [
        ("mlp", 64 * 32 + 32 + 32 * 10 + 10, (10, 1, 1)),
        ("cnn", 3 * 162 + 18 + 36 + 18 * 162 + 18 + 36 + 190, (10, 1, 1)),
        ("resnet", 288 + 32 + 2 * (2304 + 32) + (4608 + 64) + (9216 + 64) + 330, (10, 1, 1)),
        ("mixed", 24 + 3 + 6 + 12 + 36 + 9 + (9 * 4 + 1) * 6 + 12 + 35, (5, 1, 1)),
    ],
)
def test_counts_and_shapes(name, count, shape):
    network = reference.parse(*NETS[name])
    assert (reference.parameter_count(network), network.shape) == (count, shape)
    layers = [layer for layer in reference.every(network.layers) if layer.count]
    assert [layer.first for layer in layers] == [
        sum(before.count for before in layers[:k]) for k in range(len(layers))
    ]
    assert sum(layer.count for layer in layers) == count


def test_text_is_read_in_any_case_and_layout():
    plain = reference.parse(RESNET, (3, 8, 8))
    assert plain == reference.parse(RESNET.upper().replace(", ", "\n,"), (3, 8, 8))
    assert plain == reference.parse(RESNET.replace("bn", "batchnorm"), (3, 8, 8))
    assert reference.parse("conv 4", (3, 8, 8)) == reference.parse(
        "conv 4 kernel=3 stride=1 padding=1 bias=yes", (3, 8, 8)
    )
    assert reference.parse("conv 4 kernel=2", (3, 8, 8)) == reference.parse(
        "conv 4 kernel=2 padding=1", (3, 8, 8)
    )


@pytest.mark.parametrize(
    "text",
    [
        *("", "()", "(relu", "relu)", "gelu", "dense", "dense 0", "dense 3 4", "relu 2"),
        *(
            "conv 3 bias=2",
            "conv 3 color=2",
            "dense 3 kernel=1",
            "conv 3 stride=0",
            "conv 3 kernel=9 padding=0",
        ),
        *("maxpool 9", "(conv 3 padding=0)", "(conv 1)", "dense x", "dense 3 relu"),
    ],
)
def test_wrong_text_is_refused(text):
    with pytest.raises(ValueError, match=r"."):
        reference.parse(text, (2, 8, 8))


def test_initial_parameters():
    network = reference.parse("conv 50 kernel=5, bn, relu, dense 40", (10, 6, 6))
    params = reference.initial(network, 3)
    conv, bias, gamma, beta, dense, last = np.split(
        params, np.cumsum([12500, 50, 50, 50, 50 * 36 * 40])
    )
    assert abs(conv.std() - np.sqrt(2 / 250)) < 0.02 * np.sqrt(2 / 250)
    assert abs(dense.std() - np.sqrt(2 / 1800)) < 0.02 * np.sqrt(2 / 1800)
    assert np.all(gamma == 1)
    assert not bias.any()
    assert not beta.any()
    assert not last.any()
    assert np.array_equal(params, reference.initial(network, 3))
    assert not np.array_equal(params, reference.initial(network, 4))
    assert np.array_equal(
        reference.initial_running(network), np.concatenate([np.zeros(50), np.ones(50)])
    )


def test_dense_by_hand():
    x = np.arange(12.0).reshape(1, 3, 2, 2)
    weight = np.array([np.arange(12.0), np.ones(12)])
    y = output("dense 2", x, [*weight.ravel(), 0.5, -1.0])
    assert y.ravel().tolist() == [506.5, 65.0]


@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "bias"),
    [(3, 1, 1, True), (3, 2, 1, False), (2, 1, 0, True), (1, 2, 0, True), (4, 3, 2, False)],
)
def test_conv_by_loops(kernel, stride, padding, bias):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, 3, 7, 6))
    weight, offset = rng.standard_normal((4, 3, kernel, kernel)), rng.standard_normal(4)
    text = f"conv 4 kernel={kernel} stride={stride} padding={padding}"
    params = [*weight.ravel(), *offset] if bias else weight.ravel()
    y = output(text if bias else text + " bias=no", x, params)
    for n, c, i, j in np.ndindex(y.shape):
        total = offset[c] if bias else 0.0
        for d, a, b in np.ndindex(3, kernel, kernel):
            row, column = i * stride + a - padding, j * stride + b - padding
            if 0 <= row < 7 and 0 <= column < 6:
                total += weight[c, d, a, b] * x[n, d, row, column]
        assert abs(y[n, c, i, j] - total) < 1e-12
    assert y.shape[2:] == tuple((side + 2 * padding - kernel) // stride + 1 for side in (7, 6))


def test_pools_and_activations_by_hand():
    x = np.array([[[[1.0, 2, 9], [4, 3, 9], [9, 9, 9]], [[-1, -2, 0], [-4, -3, 0], [0, 0, 0]]]])
    assert output("maxpool", x).ravel().tolist() == [4, -1]
    assert output("avgpool 2", x).ravel().tolist() == [2.5, -2.5]
    assert output("maxpool 3", x).ravel().tolist() == [9, 0]
    assert output("avgpool", x).ravel().tolist() == [55 / 9, -10 / 9]
    u = np.array([-0.5, 0.0, 0.125, 0.375, 0.4, 0.7, 1.0, 1.6]).reshape(1, 1, 1, 8)
    assert output("relu", u).ravel().tolist() == [0, 0, 0.125, 0.375, 0.4, 0.7, 1, 1.6]
    assert output("step", u).ravel().tolist() == [0, 0, 1, 1, 1, 1, 1, 1]
    assert output("quantize 4", u).ravel().tolist() == [0, 0, 0, 0.5, 0.5, 0.75, 1, 1]
    assert output("tanh", u).ravel().tolist() == np.tanh(u).ravel().tolist()


def test_batchnorm_and_its_statistics_by_hand():
    rng = np.random.default_rng(1)
    x = 3 + 2 * rng.standard_normal((4, 2, 3, 5))
    network = reference.parse("bn", (2, 3, 5))
    params = np.array([2.0, 0.5, -1.0, 4.0])
    y, statistics = reference.forward(network, params, x)
    y = y.reshape(x.shape)
    for c, (gamma, beta) in enumerate([(2.0, -1.0), (0.5, 4.0)]):
        values = x[:, c].ravel().tolist()
        mean = sum(values) / 60
        squares = sum((v - mean) ** 2 for v in values)
        expected = [gamma * (v - mean) / np.sqrt(squares / 60 + 1e-5) + beta for v in values]
        np.testing.assert_allclose(y[:, c].ravel(), expected, rtol=1e-12)
        np.testing.assert_allclose(statistics[[c, 2 + c]], [mean, squares / 59], rtol=1e-12)
    running = reference.averaged(reference.initial_running(network), statistics)
    np.testing.assert_allclose(running, 0.9 * np.array([0, 0, 1, 1]) + 0.1 * statistics)
    one, _ = reference.forward(network, params, x[:1], running)
    expected = (x[0, 1] - running[1]) / np.sqrt(running[3] + 1e-5) * 0.5 + 4.0
    np.testing.assert_allclose(one.reshape(2, 3, 5)[1], expected, rtol=1e-12)


def test_shortcut_by_hand():
    x = np.random.default_rng(2).standard_normal((2, 3, 5, 4))
    np.testing.assert_array_equal(output("(tanh)", x), np.tanh(x) + x)
    nothing = np.zeros(8 * 3 * 9)
    y = output("(conv 8 stride=2 bias=no)", x, nothing)  # five new channels: two before
    assert y.shape == (2, 8, 3, 2)
    np.testing.assert_array_equal(y[:, 2:5], x[:, :, ::2, ::2])
    assert not y[:, :2].any()
    assert not y[:, 5:].any()
    np.testing.assert_array_equal(output("(avgpool)", x)[..., 0, 0], x.mean((2, 3)) + x[..., 0, 0])
    y = output("(conv 3 stride=2 bias=no, conv 3 stride=2 bias=no)", x, np.zeros(162))
    np.testing.assert_array_equal(y, x[:, :, ::4, ::4])


def test_loss_is_stable_and_right():
    assert reference.cross_entropy(np.zeros((3, 4)), np.array([0, 1, 3])) == pytest.approx(
        np.log(4)
    )
    assert reference.cross_entropy(np.array([[1e4, 0.0]]), np.array([1])) == 1e4
    assert reference.cross_entropy(np.array([[1e4, 0.0]]), np.array([0])) == 0
    z, y = np.array([[1.0, 2.0], [3.0, -1.0]]), np.array([1, 1])
    p = np.exp(z[[0, 1], y]) / np.exp(z).sum(axis=1)
    assert reference.cross_entropy(z, y) == pytest.approx(-np.mean(np.log(p)))


@pytest.mark.parametrize("name", NETS)
def test_backprop_against_finite_differences(name):
    network, params, x, y = problem(name)
    g, statistics = reference.gradient(network, params, x, y)
    np.testing.assert_array_equal(statistics, reference.forward(network, params, x)[1])
    coordinates = np.unique(  # the ends of every layer, and some others
        [layer.first + k for layer in reference.every(network.layers) for k in (-1, 0)]
        + np.random.default_rng(0).integers(0, network.count, 80).tolist()
    )
    coordinates = coordinates[coordinates >= 0] % network.count
    differences = partial_derivatives(network, params, x, y, coordinates)
    np.testing.assert_allclose(g[coordinates], differences, rtol=2e-5, atol=2e-8)
    assert np.mean(np.abs(differences) > 1e-6) > 0.5


def test_slopes_at_kinks():
    x, none = np.zeros((1, 1, 2, 2)), np.zeros(0)
    for text, expected in (("relu", [0, 0, 0, 0]), ("maxpool", [3, 0, 0, 0])):
        network = reference.parse(text, (1, 2, 2))
        y, back = reference.through(network.layers, none, x, None, none)
        assert back(np.full(y.shape, 3.0), none).ravel().tolist() == expected


def test_no_gradient_through_step_and_quantize():
    rng = np.random.default_rng(3)
    x, y = rng.standard_normal((5, 1, 3, 3)), rng.integers(0, 3, 5)
    for layer in ("step", "quantize 4"):
        network = reference.parse(f"dense 7, {layer}, dense 3", (1, 3, 3))
        params = reference.initial(network, 0)
        g, _ = reference.gradient(network, params, x, y)
        assert not g[:70].any()
        np.testing.assert_allclose(
            g[70:], partial_derivatives(network, params, x, y, range(70, 94)), atol=1e-8
        )


def test_estimates_by_differences():
    network, params, x, y = problem("cnn")
    g, _ = reference.gradient(network, params, x, y)
    at = [900, 3, network.count - 1, 3]
    e = np.eye(network.count)[at]
    ahead = [reference.loss(network, params + 0.1 * u, x, y) for u in e]
    expected = (np.array(ahead) - reference.loss(network, params, x, y)) / 0.1
    np.testing.assert_allclose(
        reference.naive_cge(network, params, x, y, 0.1, at), expected, rtol=1e-9
    )
    for central, mu, tolerance in ((False, 1e-6, 1e-5), (True, 1e-5, 1e-8)):
        estimate = reference.naive_cge(network, params, x, y, mu, at, central)
        np.testing.assert_allclose(estimate, g[at], atol=tolerance)
    directions = np.random.default_rng(0).standard_normal((3, network.count))
    estimate = reference.naive_rge(network, params, x, y, 1e-6, directions, central=True)
    np.testing.assert_allclose(
        estimate, sum((g @ u) * u for u in directions) / 3, rtol=1e-4, atol=1e-6
    )
    by_rge = reference.naive_rge(network, params, x, y, 0.1, e[:3])
    np.testing.assert_allclose(3 * by_rge[at[:3]], expected[:3], rtol=1e-9)


def test_learning_rates_and_batches():
    rates = [reference.learning_rate(t, 10, 2, 0.4) for t in range(10)]
    assert rates[:3] == [0.2, 0.4, 0.4]
    np.testing.assert_allclose(rates[6], 0.2)
    np.testing.assert_allclose(rates[9], 0.2 * (1 + np.cos(7 * np.pi / 8)))
    drawn = list(reference.batches(11, 3, 2, 7))
    assert [len(rows) for rows in drawn] == [3] * 6
    for epoch in (drawn[:3], drawn[3:]):
        assert len(set(np.concatenate(epoch)) & set(range(11))) == 9
    assert np.any(np.concatenate(drawn[:3]) != np.concatenate(drawn[3:]))


def test_two_iterations_of_sgd_by_hand():
    network, _, x, y = problem("cnn", 8)
    params, running = reference.train_first_order(
        CNN, x, y, 0.3, momentum=0.8, weight_decay=0.01, epochs=1, batch=4, seed=2
    )
    first, second = reference.batches(8, 4, 1, 2)
    theta = reference.initial(network, 2)
    g, one = reference.gradient(network, theta, x[first], y[first])
    v = g + 0.01 * theta
    theta = theta - 0.3 * v
    g, two = reference.gradient(network, theta, x[second], y[second])
    theta = theta - 0.15 * (0.8 * v + g + 0.01 * theta)
    np.testing.assert_allclose(params, theta, rtol=1e-12)
    start = reference.initial_running(network)
    np.testing.assert_allclose(running, 0.81 * start + 0.09 * one + 0.1 * two, rtol=1e-12)


def digits():
    """Training and held-out images and labels: 1,347 and 450."""
    data = pytest.importorskip("sklearn.datasets").load_digits()
    order = np.random.default_rng(0).permutation(len(data.target))
    x, y = data.images[order, None] / 16.0, data.target[order]
    return x[:-450], y[:-450], x[-450:], y[-450:]


def test_digits_are_learnt():
    x, y, held_x, held_y = digits()
    params, running = reference.train_first_order(MLP, x, y, 0.3, epochs=30)
    network = reference.parse(MLP, (1, 8, 8))
    assert reference.accuracy(network, params, held_x, held_y, running) > 0.96
    text = "conv 8, bn, relu, maxpool, conv 16, bn, relu, maxpool, dense 10"
    params, running = reference.train_first_order(text, x, y, 0.1, epochs=4, warmup=1)
    network = reference.parse(text, (1, 8, 8))
    assert reference.accuracy(network, params, held_x, held_y, running) > 0.95


@pytest.fixture
def rival(monkeypatch):
    """Networks in PyTorch."""
    torch = pytest.importorskip("torch")
    monkeypatch.syspath_prepend(BENCHMARKS)
    import deepzero_torch

    threads = torch.get_num_threads()
    yield deepzero_torch
    torch.set_num_threads(threads)


STAIRS = ("conv 4, step, (quantize 3, conv 4), relu, conv 6 padding=0", (2, 5, 6))


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("name", [*NETS, "stairs"])
def test_torch_agrees(rival, name, channels_last, monkeypatch):
    monkeypatch.setitem(NETS, "stairs", STAIRS)
    network, params, x, y = problem(name)
    text, shape = NETS[name]
    net = rival.build(text, shape, params, True, channels_last)
    np.testing.assert_array_equal(rival.flat(net), params)
    xs, ys = rival.batch_of(net, x, y)
    logits, statistics = reference.forward(network, params, x)
    np.testing.assert_allclose(rival.logits_of(net, xs).detach(), logits, atol=1e-11)
    g, _ = reference.gradient(network, params, x, y)
    np.testing.assert_allclose(rival.gradient(net, xs, ys), g, atol=1e-11)
    import torch

    running = torch.tensor(reference.initial_running(network))
    rival.logits_of(rival.in_mode(net, running, True), xs)
    averaged = reference.averaged(reference.initial_running(network), statistics)
    np.testing.assert_allclose(running, averaged, atol=1e-12)
    evaluated = rival.logits_of(rival.in_mode(net, running, False), xs).detach()
    expected, _ = reference.forward(network, params, x, averaged)
    np.testing.assert_allclose(evaluated, expected, atol=1e-11)


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("name", [*NETS, "stairs"])
def test_differences_by_torch_agree(rival, name, channels_last, monkeypatch):
    monkeypatch.setitem(NETS, "stairs", STAIRS)
    network, params, x, y = problem(name, 120 if name == "mlp" else 6)
    coordinates = np.random.default_rng(0).permutation(network.count)[:150]
    coordinates[:3] = [network.count - 1, 0, coordinates[5]]
    expected = reference.naive_cge(network, params, x, y, 1e-3, coordinates)
    net = rival.build(*NETS[name], params, True, channels_last)
    for estimate in (rival.reuse_cge, rival.naive_cge):
        found = estimate(net, *rival.batch_of(net, x, y), 1e-3, coordinates)
        np.testing.assert_allclose(found, expected, atol=1e-9)
    np.testing.assert_array_equal(rival.flat(net), params)
    net = rival.build(*NETS[name], params, False, channels_last)
    found = rival.reuse_cge(net, *rival.batch_of(net, x, y), 1e-3, coordinates)
    np.testing.assert_allclose(found, expected, atol=2e-3)
    np.testing.assert_array_equal(rival.flat(net), params.astype(np.float32))


def test_torch_trains_as_the_reference(rival):
    _, _, x, y = problem("cnn", 30)
    options = {"epochs": 3, "batch": 8, "warmup": 1, "seed": 4}
    expected = reference.train_first_order(CNN, x, y, 0.1, **options)
    found = rival.train_first_order(CNN, x, y, 0.1, **options, double=True)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-9)


def test_differences_by_numpy_reuse_agree(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    import deepzero_reuse

    text = "dense 20, relu, dense 12, tanh, dense 6"
    network = reference.parse(text, (1, 4, 4))
    params = reference.initial(network, 0)
    rng = np.random.default_rng(1)
    x, y = rng.standard_normal((16, 1, 4, 4)), rng.integers(0, 6, 16)
    coordinates = rng.permutation(network.count)
    expected = reference.naive_cge(network, params, x, y, 1e-2, coordinates)
    found = deepzero_reuse.reuse_cge(text, params, x, y, 1e-2, coordinates)
    np.testing.assert_allclose(found, expected, atol=1e-4)
    with pytest.raises(ValueError, match="dense networks"):
        deepzero_reuse.reuse_cge("bn", np.ones(2), x, y, 1e-2, [0])
