"""What can be asked for, models by name, and weights in files."""

import math
import types

import numpy as np
import pytest
import reference_network as reference
from deepzero_jobs import CONV, MLP, black_box, job_on, layered, refused

from zoo.config import build
from zoo.deepzero import grasp, weights
from zoo.deepzero.config import DeepZeroConfig, NetworkConfig
from zoo.deepzero.data.dataset import load
from zoo.deepzero.net.models import layers_of
from zoo.deepzero.net.network import network
from zoo.deepzero.train import resume, train

# What can be asked for


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"oracle": "sgd"}, "oracle must be cge | cyclic | node | rge | es, got 'sgd'"),
        ({"oracle": "cg"}, "did you mean 'cge'?"),
        ({"mu": 0}, "mu must be > 0"),
        ({"mu": math.inf}, "mu must be finite"),
        ({"sparsity": 1.0}, "sparsity must be >= 0 and < 1, got 1: nothing is left"),
        ({"sparsity": 1.5}, "sparsity must be >= 0 and < 1"),
        ({"sparsity": -0.1}, "sparsity must be >= 0"),
        ({"sparsity": math.nan}, "sparsity must be a number"),
        ({"oracle": "rge", "sparsity": 0.5}, "sparsity is for cge and cyclic, not rge"),
        ({"oracle": "es", "central": True}, "central is for cge and cyclic, not es"),
        ({"oracle": "node", "decay": 0.5}, "decay is for cyclic, not node"),
        ({"oracle": "cge", "directions": 3}, "directions is for rge and es, not cge"),
        ({"oracle": "cge", "distribution": "sphere"}, "distribution is for rge and es, not cge"),
        ({"oracle": "cyclic", "sparsity": 0.5, "mask_every": 5}, "mask_every is for cge, not cyc"),
        ({"oracle": "cyclic", "sparsity": 0.5, "pruning": "uniform"}, "pruning is for cge, not"),
        ({"oracle": "es", "directions": 5}, "directions must be even for es, got 5"),
        ({"pruning": "uniform"}, "pruning goes with sparsity"),
        ({"mask_every": 5}, "mask_every goes with sparsity"),
        ({"grasp": "signed"}, "grasp goes with sparsity"),
        ({"grasp_directions": 5}, "grasp_directions goes with sparsity"),
        ({"grasp_samples": 5}, "grasp_samples goes with sparsity"),
        ({"grasp": "sign", "sparsity": 0.5}, "grasp must be absolute | signed, got 'sign'"),
        ({"decay": 1.1}, "decay must be >= 0 and <= 1"),
        ({"directions": 0}, "directions must be >= 1"),
        ({"distribution": "normal"}, "distribution must be gaussian | sphere | rademacher"),
        ({"rule": "adamw"}, "rule must be sgd | adam | lion, got 'adamw' (did you mean 'adam'?)"),
        ({"lr": 0}, "lr must be > 0"),
        ({"momentum": 1.0}, "momentum must be >= 0 and <= 0.9999"),
        ({"weight_decay": -1}, "weight_decay must be >= 0"),
        ({"schedule": "linear"}, "schedule must be cosine | constant"),
        ({"warmup": -1}, "warmup must be >= 0"),
        ({"epochs": 0}, "epochs must be >= 1"),
        ({"batch": 0}, "batch must be >= 1 and <= 65536"),
        ({"batch": 2.5}, "batch must be a whole number"),
        ({"precision": "half"}, "precision must be single | double"),
        ({"shards": 0}, "shards must be >= 1"),
        ({"seconds": 0}, "seconds must be > 0"),
        ({"sparcity": 0.5}, "unknown parameter 'sparcity': did you mean 'sparsity'?"),
    ],
)
def test_options_that_cannot_be_used_are_refused(options, said):
    with refused(said):
        build(DeepZeroConfig, options)


@pytest.mark.parametrize(
    ("options", "oracle", "lr", "momentum"),
    [
        ({}, "cge", 0.1, 0.9),
        ({"oracle": "node"}, "node", 0.1, 0.9),
        ({"oracle": "cyclic"}, "cyclic", 0.1, 0.0),
        ({"oracle": "cyclic", "momentum": 0.5}, "cyclic", 0.1, 0.5),
        ({"oracle": "cyclic", "rule": "adam"}, "cyclic", 1e-3, 0.9),
        ({"oracle": "rge"}, "rge", 24 / 1024, 0.9),
        ({"oracle": "rge", "directions": 1}, "rge", 1 / 1001, 0.9),
        ({"oracle": "rge", "directions": 125}, "rge", 0.1, 0.9),
        ({"oracle": "es"}, "es", 12 / 1012, 0.9),
        ({"oracle": "es", "directions": 2}, "es", 1 / 1001, 0.9),
        ({"oracle": "es", "rule": "lion"}, "es", 1e-4, 0.9),
        ({"oracle": "rge", "rule": "adam"}, "rge", 1e-3, 0.9),
        ({"oracle": "rge", "lr": 0.5}, "rge", 0.5, 0.9),
        ({"rule": "adam", "lr": 0.5, "momentum": 0}, "cge", 0.5, 0.0),
    ],
)
def test_defaults_depend_on_the_oracle_and_the_rule(options, oracle, lr, momentum):
    config = build(DeepZeroConfig, options).completed(black_box=False, size=1000)
    assert (config.oracle, config.lr, config.momentum) == (oracle, pytest.approx(lr), momentum)
    assert config.completed(black_box=False, size=1000) == config


def test_black_boxes_have_defaults_of_their_own():
    config = DeepZeroConfig().completed(black_box=True, size=376)
    assert (config.oracle, config.lr, config.momentum) == ("rge", 0.06, 0.9)
    assert black_box(lambda p, batch: 0.0, {"w": np.ones((47, 8))}).config == config
    with refused("oracle node looks into a network"):
        DeepZeroConfig(oracle="node").completed(black_box=True, size=376)
    with refused("central is for cge and cyclic, not rge"):
        DeepZeroConfig(central=True).completed(black_box=True, size=376)


def test_options_that_do_not_fit_what_is_trained_are_refused():
    with refused("directions is for rge and es, not cge"):
        DeepZeroConfig(directions=3).completed(black_box=False, size=376)
    with refused("pruning is for networks"):
        black_box(print, np.ones(2), sparsity=0.5, pruning="uniform")
    with refused("a black box has no layers to be sparse in: sparsity goes with cyclic"):
        black_box(print, np.ones(2), sparsity=0.5)
    with refused("node probes need losses of single samples, and batch normalization couples them"):
        job_on(load("digits"), "conv 4, batchnorm, relu, dense", oracle="node")
    with refused("augment is for images"):
        features = types.SimpleNamespace(shape=(5, 1, 1), classes=("a", "b"))
        job_on(features, "mlp", augment=True)


# Models by name


@pytest.mark.parametrize(
    ("config", "shape", "count"),
    [
        ({"hidden": "6, 5"}, (4, 1, 1), 30 + 35 + 60),
        ({"model": "cnn", "depth": 1, "width": 4}, (1, 8, 8), 4 * 9 + 4 + 8 + 50),
        ({"model": " resnet20 "}, (3, 32, 32), 269_722),
        ({"model": "dense 3, relu, dense"}, (2, 1, 1), 9 + 40),
        ({"model": "dense"}, (2, 1, 1), 30),
    ],
)
def test_models_are_as_large_as_asked_for(config, shape, count):
    text = layers_of(build(NetworkConfig, config))
    assert network(text, shape, 10).parameters == count


def test_resnet20_has_19_convolutions():
    plain = reference.parse(layers_of(NetworkConfig(model="resnet20")) + " 10", (3, 32, 32))
    convolutions = [layer for layer in reference.every(plain.layers) if layer.kind == "conv"]
    assert [layer.size for layer in convolutions] == [16] * 7 + [32] * 6 + [64] * 6
    assert [i for i, layer in enumerate(convolutions) if layer.stride == 2] == [7, 13]


def test_models_are_read_from_files(tmp_path, monkeypatch):
    (tmp_path / "layers").write_text("conv 3 # few\nrelu\n\ndense\n")
    text = layers_of(NetworkConfig(model=str(tmp_path / "layers")))
    assert network(text, (1, 4, 4), 10).parameters == 30 + 490
    monkeypatch.setenv("HOME", str(tmp_path))
    assert layers_of(NetworkConfig(model="~/layers")) == text


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"model": "resnet"}, "unknown model 'resnet': did you mean 'resnet20'?"),
        ({"model": "vgg"}, "unknown model 'vgg': known are mlp, cnn, resnet20"),
        ({"model": "mlp\0"}, "unknown model"),
        ({"hidden": "0"}, "hidden must be whole numbers >= 1, such as 256,128, got '0'"),
        ({"hidden": "12,"}, "hidden must be whole numbers"),
        ({"hidden": "1.5"}, "hidden must be whole numbers"),
        ({"hidden": "70000"}, "hidden must be whole numbers"),
        ({"hidden": "5", "model": "cnn"}, "hidden is for the mlp, not for cnn"),
        ({"depth": 3}, "depth is for the cnn, not for mlp"),
        ({"width": 3, "model": "resnet20"}, "width is for the cnn, not for resnet20"),
        ({"depth": 17, "model": "cnn"}, "depth must be >= 1 and <= 16"),
        ({"width": 0, "model": "cnn"}, "width must be >= 1"),
    ],
)
def test_models_that_cannot_be_made_are_refused(config, said):
    with refused(said):
        layers_of(build(NetworkConfig, config))


def test_a_file_that_is_no_text_is_no_model(tmp_path):
    (tmp_path / "layers").write_bytes(b"\xff\xfe\x00")
    with refused("unknown model"):
        layers_of(NetworkConfig(model=str(tmp_path / "layers")))
    with refused("Is a directory"):
        layers_of(NetworkConfig(model=str(tmp_path)))


def test_a_file_of_an_unknown_user_is_refused():
    with refused("cannot read ~nobody-of-that-name/x.json"):
        grasp.read_ratios("~nobody-of-that-name/x.json", layered()[0])
    with refused("cannot read ~nobody-of-that-name/x.npz"):
        weights.read("~nobody-of-that-name/x.npz")
    with refused("unknown model '~nobody-of-that-name'"):
        layers_of(NetworkConfig(model="~nobody-of-that-name"))


# Weights in files

RESIDUAL = "conv 3 bias=no, bn, relu, (conv 6 stride=2, relu, conv 6, bn), relu, avgpool, dense 4"


@pytest.mark.parametrize("text", [MLP, CONV, RESIDUAL])
def test_weights_come_back_from_a_file(tmp_path, text):
    net, rng = network(text, (2, 5, 5), 4), np.random.default_rng(0)
    theta = rng.standard_normal(net.parameters)
    moments = np.tile([0.0, 1.0], (sum(stage.channels for stage in net.stages), 1))
    owners = np.repeat([s.gamma >= 0 for s in net.stages], [s.channels for s in net.stages])
    moments[owners] = rng.uniform(1, 2, (owners.sum(), 2))
    arrays = weights.named(net, theta, moments)
    path = tmp_path / "weights.npz"
    weights.write(path, arrays)
    found, running = weights.of_network(str(path), net)
    assert (found == theta).all()
    assert (running == moments).all()
    with np.load(path) as file:
        assert sorted(file.files) == sorted(arrays)
        at, plain = 0, reference.parse(text, (2, 5, 5))
        layers = [layer for layer in reference.every(plain.layers) if layer.count]
        for layer in layers:
            at += layer.kind != "batchnorm"
            own = next(s.name for k, s in enumerate(net.stages, 1) if k == at)
            names = ("gamma", "beta") if layer.kind == "batchnorm" else ("weight", "bias")
            for name, part in zip(names, reference.parts(layer, theta), strict=True):
                if part.size:
                    assert (file[f"{own}.{name}"] == part).all()
        assert file["layers"] == text
    assert not list(tmp_path.glob("*.tmp*"))


def test_weights_that_do_not_fit_are_refused(tmp_path):
    net = network(CONV, (2, 5, 5), 4)
    good = weights.named(net, net.initial(0), np.ones((12, 2)))
    path = tmp_path / "weights.npz"
    name, shape = "conv2.weight", (4, 4, 3, 3)
    for array, said in (
        (None, f"{path} is of another network: conv2.weight is missing, and must be {shape}"),
        (np.ones((4, 4)), f"conv2.weight is of shape (4, 4), and must be {shape}"),
        (np.full(shape, "a"), f"{path}: conv2.weight must be finite numbers"),
        (np.full(shape, 1j), f"{path}: conv2.weight must be finite numbers"),
        (np.full(shape, math.nan), f"{path}: conv2.weight must be finite numbers"),
    ):
        arrays = {k: v for k, v in good.items() if k != name}
        weights.write(path, arrays if array is None else arrays | {name: array})
        with refused(said):
            weights.of_network(str(path), net)
    for array, said in (
        (np.ones(3), "conv1.variance is of shape (3,), and must be (4,)"),
        (np.full(4, -1.0), f"{path}: conv1.variance must be >= 0"),
        (np.full(4, math.inf), f"{path}: conv1.variance must be finite numbers"),
    ):
        weights.write(path, good | {"conv1.variance": array})
        with refused(said):
            weights.of_network(str(path), net)
    weights.write(path, good)
    with refused("is of another network: dense1."):
        weights.of_network(str(path), network(MLP, (2, 5, 5), 4))
    weights.write(path, good | {"dense4.weight": np.ones((4, 4))})
    with refused("is of another network: this one has no dense4.weight"):
        weights.of_network(str(path), net)


def test_the_text_of_a_network_is_in_the_file_only(tmp_path):
    data, names = load("digits"), {"dense1.weight", "dense1.bias"}
    result = train("dense", data, oracle="node", epochs=1, folder=tmp_path / "run", threads=1)
    again = resume(tmp_path / "run", "dense", data)
    assert set(result.params) == set(again.params) == names
    held = weights.read(str(tmp_path / "run" / "weights.npz"))
    assert set(held) == {"layers"} | names
    for name in names:
        assert result.params[name].tolist() == again.params[name].tolist() == held[name].tolist()
    own = {"layers": np.ones(2)}  # a word like others, to a black box
    result = train(lambda p, batch: 0.0, (np.arange(4),), params=own, epochs=1, threads=1)
    assert set(result.params) == {"layers"}


def test_files_that_hold_no_weights_are_refused(tmp_path):
    path = tmp_path / "weights.npz"
    with refused(f"cannot read {path}: No such file"):
        weights.read(str(path))
    with refused(f"cannot read {tmp_path}: Is a directory"):
        weights.read(str(tmp_path))
    weights.write(path, {"w": np.arange(1000.0)})
    whole = path.read_bytes()
    np.save(tmp_path / "one.npy", np.ones(3))
    np.savez(tmp_path / "object.npz", w=np.array([{}, None]))
    damaged = [b"", b"text", (tmp_path / "one.npy").read_bytes(), whole[:-30]]
    damaged += [(tmp_path / "object.npz").read_bytes(), whole[:900] + b"?" + whole[901:]]
    for content in damaged:
        path.write_bytes(content)
        with refused("is not an .npz file of arrays") as caught:
            weights.read(str(path))
        assert "\n" not in str(caught.value)
        assert "unsafe" not in str(caught.value)
