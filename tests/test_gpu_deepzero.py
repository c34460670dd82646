"""Networks on a GPU beside those of the CPU, which are tested against plain NumPy."""

import os

import numpy as np
import pytest
from commands import ran, some_of
from test_deepzero_gradients import MU, NETS, problem, single

from zoo.deepzero.net.engine import Engine

gpu = pytest.mark.gpu
SIMULATED = os.environ.get("NUMBA_ENABLE_CUDASIM") == "1"
COUNT = 5
#: Coordinates, or units, of each stage that are looked at: the simulator is slow.
FEW = 2


#: Networks whose first stages have whole convolutions after them.
LONG = {
    "residual": NETS["residual"],
    "long way": NETS["long way"],
    "pools": ("conv 2, bn, relu, maxpool, conv 3, bn, relu, avgpool 2, conv 2 kernel=2 bias=no, "
              "tanh, (conv 3 kernel=1, bn, conv 3 kernel=1), quantize 4, maxpool, dense 3",
              (1, 8, 9)),
}  # fmt: skip


def engines(name, dtype, count=COUNT, **options):
    """Problem, and both engines after a pass."""
    from zoo.deepzero.net.device.engine import DeviceEngine

    given = problem(*LONG.get(name, NETS.get(name)), count=count)
    here = Engine(given.net, count, dtype)
    there = DeviceEngine(given.net, count, dtype, **options)
    for engine in (here, there):
        engine.load(given.x, given.y)
        engine.base(given.theta)
    return given, here, there


def some_coordinates(net):
    """Of the weights of each stage, and of what else it has."""
    rng = np.random.default_rng(0)
    chosen = set()
    for stage in net.stages:
        weights = stage.weight + rng.permutation(stage.weights)
        others = rng.permutation(np.arange(stage.weight + stage.weights, stage.end))
        chosen |= {*weights[:FEW].tolist(), *others[:FEW].tolist()}
    return np.array(sorted(chosen))


@gpu
@pytest.mark.parametrize("name", ["linear", "tanh", "family", "residual"])
def test_passes(name):
    given, here, there = engines(name, "float64")
    near = {"rtol": 1e-11, "atol": 1e-11}
    for engine in (here, there):
        engine.load(given.x[:3], given.y[:3])
    # What a larger batch has left does not matter.
    np.testing.assert_allclose(there.base(given.theta), here.base(given.theta), **near)
    np.testing.assert_allclose(there.moments, here.moments, **near)
    other, moments = single(given.theta * 1.25), here.moments + 0.1
    np.testing.assert_allclose(there.loss(other), here.loss(other), **near)
    expected, found = (engine.evaluate(given.theta, moments) for engine in (here, there))
    np.testing.assert_allclose(found[0], expected[0], **near)
    assert found[1] == expected[1]


@gpu
@pytest.mark.parametrize("name", some_of(NETS))
def test_derivatives(name):
    given, here, there = engines(name, "float64")
    chosen = some_coordinates(given.net)
    for central in (False, True) if name in ("mlp", "family") else (False,):
        expected, found = (e.derivatives(chosen, MU, central) for e in (here, there))
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-10 * np.abs(expected).max())


@gpu
@pytest.mark.parametrize("name", some_of(["tanh", "linear", "discrete", "residual", "maxima"]))
def test_derivatives_in_single_precision(name):
    given, here, there = engines(name, "float32")
    chosen = some_coordinates(given.net)
    expected, found = (engine.derivatives(chosen, MU) for engine in (here, there))
    np.testing.assert_allclose(found, expected, rtol=0, atol=3e-4 * np.abs(expected).max())


@gpu
@pytest.mark.parametrize("name", LONG)
def test_stacked_changes(name, monkeypatch):
    from zoo.deepzero.net.device.stacked import Stacked

    if not SIMULATED:
        pytest.importorskip("torch")
    made = []
    monkeypatch.setattr(Stacked, "at_once", lambda self, k, n: made.append(k) or 3)
    given, here, there = engines(name, "float64", 3, stacked=True)
    chosen = some_coordinates(given.net)
    for central in (False, True) if name == "pools" else (False,):
        expected, found = (e.derivatives(chosen, MU, central) for e in (here, there))
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-10 * np.abs(expected).max())
    assert set(made) == set(range(len(given.net.stages) - 3))
    np.testing.assert_array_equal(there.derivatives(chosen, MU, central), found)


@gpu
def test_stacked_changes_in_single_precision():
    if not SIMULATED:
        pytest.importorskip("torch")
    given, here, there = engines("residual", "float32", 3, stacked=True)
    chosen = some_coordinates(given.net)
    expected, found = (engine.derivatives(chosen, MU) for engine in (here, there))
    # TF32 rounds factors to 2^-11 of them.
    np.testing.assert_allclose(found, expected, rtol=0, atol=5e-3 * np.abs(expected).max())


@gpu
@pytest.mark.parametrize("mu", some_of([200.0, 0.3]))
def test_changes_of_any_size(mu):
    for dtype, tolerance in (("float64", 1e-10), ("float32", 3e-4)):
        given, here, there = engines("family", dtype)
        chosen = some_coordinates(given.net)[::3]
        expected, found = (engine.derivatives(chosen, mu) for engine in (here, there))
        size = np.abs(expected).max()
        np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * size)


@gpu
@pytest.mark.parametrize("name", some_of(["maxima", "tanh"]))
def test_probes(name):
    given, here, there = engines(name, "float64", 3)
    units = [(k, s.channels - 1) for k, s in enumerate(given.net.stages)]
    units = np.array([(0, 0), units[-1]], np.int64)
    expected, found = (engine.probes(units, MU) for engine in (here, there))
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-10)


@gpu
def test_dead_units_and_the_same_bits_again():
    given, here, there = engines("mlp", "float32")
    first = given.net.stages[0]
    theta = given.theta.copy()
    theta[first.bias] = -1e3  # unit 0 is dead
    for engine in (here, there):
        engine.base(theta)
    of_it = np.array([first.weight, first.weight + 1, first.bias])
    np.testing.assert_array_equal(there.derivatives(of_it, MU), 0.0)
    chosen = some_coordinates(given.net)
    found = there.derivatives(chosen, MU)
    np.testing.assert_array_equal(there.derivatives(chosen, MU), found)
    # Whatever the launch has besides.
    np.testing.assert_array_equal(there.derivatives(chosen[3:], MU), found[3:])


@gpu
@pytest.mark.parametrize(
    "oracle", [("--sparsity", "0.5", "--grasp-directions", "2"), ("--oracle", "rge")]
)
def test_a_run_as_people_start_it(oracle, capsys, tmp_path):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(10, 1, 2, 3)), np.arange(10) % 2
    np.savez(tmp_path / "few.npz", x_train=x[:6], y_train=y[:6], x_test=x[6:], y_test=y[6:])
    given = ["--data", str(tmp_path / "few.npz"), "--model", "dense 3, relu, dense", *oracle]
    given += ["--epochs", "2", "--batch", "4", "--precision", "double", "--grasp-samples", "2"]
    if "rge" in oracle:
        given = [*given[:-2], "--directions", "4"]
    found, expected = (
        ran(capsys, "run", "deepzero", *given, "--device", device) for device in ("cuda", "cpu")
    )
    assert found["queries"] == expected["queries"]
    for name in ("train_loss", "test_loss", "test_accuracy"):
        assert found[name] == pytest.approx(expected[name], rel=1e-7)
