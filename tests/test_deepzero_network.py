"""Networks in words: what they turn into, what is refused, and what their work is counted at."""

import math
from itertools import pairwise

import numpy as np
import pytest
import reference_network as reference

from zoo.deepzero.config import NetworkConfig
from zoo.deepzero.net.cost import (
    blocks,
    change_costs,
    forward_flops,
    stage_of,
    unit_costs,
)
from zoo.deepzero.net.layers import Layer, Residual, parse
from zoo.deepzero.net.models import layers_of
from zoo.deepzero.net.network import network
from zoo.errors import InputError

RESNET = """conv 4 bias=no, bn, relu, (conv 4 bias=no, bn, relu, conv 4 bias=no, bn), relu
(conv 9 stride=2 bias=no, bn, relu, conv 9 bias=no, bn), relu, avgpool, dense 5"""
NETS = {  # text, shape of an input
    "mlp": ("dense 7, relu, dense 6, bn, tanh, dense 5", (2, 3, 4)),
    "cnn": ("conv 3, bn, relu, maxpool, conv 4 kernel=1, relu, maxpool 3, dense 5", (2, 13, 9)),
    "strides": ("conv 3 kernel=5 stride=3 padding=4, conv 2 stride=2 bias=no, dense 5", (2, 9, 6)),
    "pools": ("conv 3 kernel=2, step, maxpool 3, avgpool 2, conv 2, tanh, dense 5", (1, 15, 9)),
    "resnet": (RESNET, (3, 7, 8)),
    "shortcut": ("(conv 4 kernel=1), relu, (conv 4, maxpool, conv 5), avgpool, dense 5", (1, 8, 6)),
}
LAST = "the last layer of a network must be 'dense', for its outputs are classes"
LATER = ": its shortcut can subsample, and add channels, no more"
ORDER = (
    ": after conv or dense come, if at all, batchnorm, the end of a residual block, an activation, "
    "maxpool, avgpool"
)
WHOLE = "must be a whole number from 1 to 65536"
ONLY_CONV = "only conv takes kernel, stride, padding, bias=no"


def built(name):
    text, shape = NETS[name]
    return network(text, shape, 5), reference.parse(text, shape)


def message_of(call, *args):
    with pytest.raises(InputError) as caught:
        call(*args)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_layers_in_words():
    text = """
        Conv 18 KERNEL=5  stride=2 padding=0 bias=no  # the first one, (sic), relu
        bn, relu, (conv 4 bias=yes, batchnorm), quantize 4

        maxpool,avgpool 3,fc"""
    options = {"kernel": 5, "stride": 2, "padding": 0, "bias": 0}
    block = Residual((Layer("conv", 4, {"bias": 1}), Layer("batchnorm")))
    assert parse(text) == (
        *(Layer("conv", 18, options), Layer("batchnorm"), Layer("relu"), block),
        *(Layer("quantize", 4), Layer("maxpool"), Layer("avgpool", 3), Layer("dense")),
    )
    assert parse("linear 3") == parse("dense 3") == (Layer("dense", 3),)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "a network has at least one layer, such as 'dense'"),
        (" , \n # dense", "a network has at least one layer, such as 'dense'"),
        ("dens 3", "unknown layer 'dens': did you mean 'dense'?"),
        ("convolution 3", "unknown layer 'convolution': "),
        ("blub", "unknown layer 'blub': known are dense, conv, batchnorm, relu, tanh, step, "),
        ("relu 3", "relu takes no number, got 'relu 3'"),
        ("bn 2", "batchnorm takes no number, got 'bn 2'"),
        ("conv", "conv needs a number of channels, such as 'conv 16'"),
        ("conv kernel=3", "conv needs a number of channels, such as 'conv 16'"),
        ("quantize", "quantize needs a number of levels, such as 'quantize 16'"),
        ("dense 0", f"'0' in 'dense 0' {WHOLE}"),
        ("dense -3", f"'-3' in 'dense -3' {WHOLE}"),
        ("conv 2.5", f"'2.5' in 'conv 2.5' {WHOLE}"),
        ("dense 65537", f"'65537' in 'dense 65537' {WHOLE}"),
        ("maxpool two", f"'two' in 'maxpool two' {WHOLE}"),
        ("conv 4 kernel=0", f"'0' in 'conv 4 kernel=0' {WHOLE}"),
        ("conv 4 stride=x", f"'x' in 'conv 4 stride=x' {WHOLE}"),
        ("conv 4 kernel", f"'' in 'conv 4 kernel' {WHOLE}"),
        ("conv 4 padding=-1", "'-1' in 'conv 4 padding=-1' must be a whole number from 0 to 65536"),
        ("conv 4 bias=1", "bias must be yes or no, got 'conv 4 bias=1'"),
        ("conv 4 dilation=2", f"'dilation=2' in 'conv 4 dilation=2': {ONLY_CONV}"),
        ("dense 4 bias=no", f"'bias=no' in 'dense 4 bias=no': {ONLY_CONV}"),
        ("dense 32 relu", f"'relu' in 'dense 32 relu': {ONLY_CONV}"),
        ("(conv 4, (conv 4))", "a residual block cannot be inside another one: ( ... ( ... ) )"),
        ("(conv 4", "a residual block is not closed: ) is missing"),
        ("conv 4), dense", "a residual block is ( and ) around one layer or more"),
        ("(), dense", "a residual block is ( and ) around one layer or more"),
    ],
)
def test_words_that_are_refused(text, message):
    assert message_of(parse, text).startswith(message)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("relu, dense", "a network begins with conv or dense, not with relu"),
        ("bn, dense", "a network begins with conv or dense, not with batchnorm"),
        ("dense 4, relu", LAST),
        ("conv 3, avgpool", LAST),
        ("dense, bn", LAST),
        ("(conv 3, avgpool, conv 3)", LAST),
        ("dense 4", "the last layer has 4 outputs, but there are 3 classes"),
        ("conv 3, relu, bn, dense", f"batchnorm cannot follow activation{ORDER}"),
        ("conv 3, relu, tanh, dense", f"tanh cannot follow activation{ORDER}"),
        ("conv 3, maxpool, relu, dense", f"relu cannot follow maxpool{ORDER}"),
        ("conv 3, avgpool 2, maxpool, dense", f"maxpool cannot follow avgpool{ORDER}"),
        ("(conv 3), bn, dense", f"batchnorm cannot follow shortcut{ORDER}"),
        ("conv 3 padding=3, dense", "conv1: padding must be less than kernel, got 3, 3"),
        ("dense 4, conv 3 kernel=1 padding=1, dense", "conv2: padding must be less than kernel, "),
        ("conv 3 kernel=6 padding=0, dense",
         "conv1: a kernel of 6 does not fit into 2 channels of 5 x 7"),
        ("conv 3, maxpool 6, dense", "maxpool 6 does not fit into 3 channels of 5 x 7"),
        ("conv 3, maxpool 3, avgpool 2, dense", "avgpool 2 does not fit into 3 channels of 1 x 2"),
        ("(dense 4), dense", "a residual block begins with conv"),
        ("(conv 3, relu), dense",
         "a residual block ends with conv or batchnorm, not with activation: "
         "what comes after the sum follows the bracket"),
        ("(conv 3, avgpool), dense", "a residual block ends with conv or batchnorm, not with avgp"),
        ("conv 3, (conv 2), dense", "a residual block turns 3 channels of 5 x 7 into 2 channels of "
         f"5 x 7{LATER}"),
        ("(conv 3 padding=0), dense",
         f"a residual block turns 2 channels of 5 x 7 into 3 channels of 3 x 5{LATER}"),
        ("(conv 3 stride=2 padding=0), dense",
         f"a residual block turns 2 channels of 5 x 7 into 3 channels of 2 x 3{LATER}"),
        ("(conv 3, relu, maxpool, conv 3), dense",
         f"a residual block turns 2 channels of 5 x 7 into 3 channels of 2 x 3{LATER}"),
        ("(conv 3, relu, dense 4), dense",
         f"a residual block turns 2 channels of 5 x 7 into 4 channels of 1 x 1{LATER}"),
    ],
)  # fmt: skip
def test_networks_that_are_refused(text, message):
    assert message_of(network, text, (2, 5, 7), 3).startswith(message)


@pytest.mark.parametrize("name", NETS)
def test_shapes_and_layout_are_those_of_the_reference(name):
    net, plain = built(name)
    assert (net.parameters, net.classes, net.shape) == (plain.count, 5, plain.source)
    layers = list(reference.every(plain.layers))
    begins = [k for k, layer in enumerate(layers) if layer.kind in ("dense", "conv")]
    assert len(net.stages) == len(begins)
    slices = net.slices()
    for stage, first, end in zip(net.stages, begins, [*begins[1:], len(layers)], strict=True):
        assert (stage.channels, stage.height_conv, stage.width_conv) == layers[first].shape
        assert stage.shape == layers[end - 1].shape
        own = {layer.kind: layer for layer in layers[first:end]}
        assert (stage.gamma >= 0) == ("batchnorm" in own)
        for layer in layers[first:end]:
            counted = np.arange(plain.count)
            names = ("gamma", "beta") if layer.kind == "batchnorm" else ("weight", "bias")
            arrays = reference.parts(layer, counted) if layer.count else []
            for what, array in zip(names, arrays, strict=False):
                where, shape = slices.pop(f"{stage.name}.{what}", (slice(0, 0), (0,)))
                np.testing.assert_array_equal(counted[where].reshape(shape), array)
    assert not slices


def test_names_and_fields_of_a_stage():
    net = network("conv 4 kernel=5 stride=2 padding=1 bias=no, bn, quantize 7, dense", (3, 9, 8), 2)
    shapes = {name: shape for name, (_, shape) in net.slices().items()}
    assert shapes == {
        "conv1.weight": (4, 3, 5, 5), "conv1.gamma": (4,), "conv1.beta": (4,),
        "dense2.weight": (2, 48), "dense2.bias": (2,),
    }  # fmt: skip
    conv, dense = net.stages
    assert (conv.activation, conv.levels, conv.bias, conv.shape) == (4, 7, -1, (4, 4, 3))
    assert (conv.fan_in, conv.weights, conv.end) == (75, 300, 308)
    assert (dense.kernel_height, dense.kernel_width, dense.end) == (4, 3, 308 + 98)
    assert (net.normalized, network("dense", (1, 2, 2), 2).normalized) == (True, False)


@pytest.mark.parametrize(
    ("block", "shape", "stride", "channel"),
    [
        ("(conv 2)", (2, 5, 5), 1, 0),
        ("(conv 7 kernel=1)", (2, 5, 5), 1, 2),
        ("(conv 2 stride=2)", (2, 5, 8), 2, 0),
        ("(conv 2 stride=2)", (2, 1, 8), 2, 0),
        ("(conv 2 stride=3)", (2, 2, 9), 3, 0),
        ("(conv 2 stride=2, conv 6 stride=2)", (2, 6, 1), 4, 2),
        ("(conv 2, maxpool, conv 2)", (2, 8, 4), 2, 0),
        ("(conv 2, avgpool 3, conv 2)", (2, 3, 6), 3, 0),
        ("(conv 2, avgpool, conv 2)", (2, 3, 4), 4, 0),
    ],
)
def test_shortcuts(block, shape, stride, channel):
    stage = network(f"{block}, relu, dense", shape, 3).stages[-2]
    assert (stage.shortcut, stage.shortcut_stride, stage.shortcut_channel) == (-2, stride, channel)


def test_a_shortcut_begins_before_its_block():
    stages = network("conv 2 stride=2, bn, (conv 2, conv 2), (conv 3), dense", (2, 8, 8), 3).stages
    assert [stage.shortcut for stage in stages] == [-1, -1, 0, 2, -1]
    assert [stage.shortcut_stride for stage in stages] == [1] * 5


@pytest.mark.parametrize(
    ("options", "shape", "count"),
    [
        ({"model": "mlp"}, (1, 8, 8), 2_410),
        ({"model": "mlp", "hidden": "128"}, (1, 28, 28), 101_770),
        ({"model": "mlp", "hidden": "5,4"}, (1, 2, 2), 25 + 24 + 50),
        ({"model": "cnn", "depth": 1}, (3, 32, 32), 730),
        ({"model": "cnn", "depth": 2}, (3, 32, 32), 3_700),
        ({"model": "cnn", "depth": 3}, (3, 32, 32), 6_670),
        ({"model": "cnn", "depth": 4}, (3, 32, 32), 9_640),
        ({"model": "cnn", "depth": 5}, (3, 32, 32), 12_610),
        ({"model": "resnet20"}, (3, 32, 32), 269_722),
        ({"model": "conv 8, relu, maxpool, conv 16, relu, maxpool, dense"}, (1, 8, 8), 1_898),
    ],
)
def test_parameters_of_published_networks(options, shape, count):
    text = layers_of(NetworkConfig(**options))
    net = network(text, shape, 10)
    assert net.parameters == count
    assert reference.parse(text[:-5] + "dense 10", shape).count == count
    assert sum(math.prod(size) for _, size in net.slices().values()) == count


def test_first_parameters():
    net = network("conv 40 kernel=5, bn, relu, dense 60, relu, dense", (5, 4, 4), 50)
    theta = net.initial(3)
    parts = {name: theta[where] for name, (where, _) in net.slices().items()}
    deviations = {"conv1": math.sqrt(2 / 125), "dense2": math.sqrt(2 / 640)}
    for name, expected in (deviations | {"dense3": math.sqrt(1 / 60)}).items():
        weight = parts.pop(f"{name}.weight") / expected  # normal, mean 0, deviation 1
        spread = math.sqrt(1 / len(weight))
        assert abs(weight.mean()) < 4 * spread
        assert abs(weight.std() - 1) < 4 * spread
        assert abs((np.abs(weight) < 0.6745).mean() - 0.5) < 4 * spread
    assert np.all(parts.pop("conv1.gamma") == 1.0)
    assert all(not part.any() for part in parts.values())
    np.testing.assert_array_equal(theta, net.initial(3))
    weights = [net.initial(seed)[:5000] for seed in (3, 4)]
    assert abs(np.corrcoef(weights)[0, 1]) < 0.06


def counted_flops(text, shape):
    """Multiplications and additions of a sample, product by product."""
    total = 0
    for layer in reference.every(reference.parse(text, shape).layers):
        if layer.kind == "dense":
            total += 2 * layer.size * math.prod(layer.source)
        elif layer.kind == "conv":
            p, taps = (layer.padding,) * 2, range(layer.kernel)
            inside = np.pad(np.ones((1, 1, *layer.source[1:])), [(0, 0), (0, 0), p, p])
            seen = sum(reference.pixels(inside, layer, i, j).sum() for i in taps for j in taps)
            total += 2 * layer.size * layer.source[0] * int(seen)
    return total


@pytest.mark.parametrize("name", NETS)
def test_operations_of_a_pass(name):
    assert forward_flops(built(name)[0]) == counted_flops(*NETS[name])


def test_known_operations_of_a_pass():
    assert forward_flops(network("dense 32, relu, dense", (1, 8, 8), 10)) == 2 * (64 * 32 + 320)
    valid = network("conv 6 kernel=5 padding=0, relu, maxpool, dense", (1, 28, 28), 10)
    assert forward_flops(valid) == 2 * (6 * 25 * 24**2 + 6 * 144 * 10)
    resnet = network(layers_of(NetworkConfig(model="resnet20")), (3, 32, 32), 10)
    # With the products by padding, which are left out, the well-known 40.55 M.
    ends = 48 * 94**2, 1536 * 94**2, 512 * 47**2, 5120 * 46**2, 2048 * 23**2, 20480 * 22**2, 640
    assert forward_flops(resnet) == 2 * sum(ends)


def test_a_coordinate_costs_what_it_changes():
    net = network(RESNET, (3, 32, 32), 5)
    costs = change_costs(net)
    # The earlier it is, the more it changes: all layers after it, at least half of a pass here.
    assert np.all(np.diff(costs) < 0)
    assert np.all(costs > 0)
    assert costs[0] > 0.5 * forward_flops(net)
    assert costs[0] > 100 * costs[-1]
    wide = network(RESNET.replace("9", "36"), (3, 32, 32), 5)
    assert np.all(change_costs(wide)[:4] > costs[:4])
    mlp = change_costs(network("dense 500, relu, dense 40, relu, dense", (1, 8, 8), 10))
    alone = change_costs(network("dense 40, relu, dense", (1, 8, 8), 10))
    np.testing.assert_array_equal(mlp[1:], alone)  # what comes before it does not matter
    assert mlp[0] > 10 * mlp[1]


def test_a_probe_has_a_pass_a_pixel():
    net = network("conv 4 stride=2, relu, conv 3, relu, dense", (1, 8, 6), 5)
    pixels, fan_in = np.array([12, 12, 1]), np.array([9, 36, 36])
    assert np.all(unit_costs(net) >= pixels * (change_costs(net) + fan_in))
    assert np.all(unit_costs(net) <= pixels * (change_costs(net) + 4 * fan_in))


@pytest.mark.parametrize("count", [1, 2, 7, 40])
def test_blocks_have_every_item_once_and_equal_costs(count):
    rng = np.random.default_rng(count)
    for costs in (np.ones(40), rng.uniform(1, 9, 55), np.r_[rng.uniform(1, 2, 60), 50.0]):
        bounds = blocks(costs, count)
        assert (len(bounds), bounds[0], bounds[-1]) == (count + 1, 0, len(costs))
        assert np.all(np.diff(bounds) >= 0)
        shares = np.array([costs[a:b].sum() for a, b in pairwise(bounds)])
        assert np.abs(shares - costs.sum() / count).max() <= costs.max()
    assert blocks(np.ones(3), 3).tolist() == [0, 1, 2, 3]


def test_stage_of_a_coordinate():
    net, _ = built("resnet")
    expected = np.concatenate([[k] * (s.end - s.weight) for k, s in enumerate(net.stages)])
    np.testing.assert_array_equal(stage_of(net, np.arange(net.parameters)), expected)
