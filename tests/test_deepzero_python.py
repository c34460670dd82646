"""Training in Python: what it refuses to mix up, and what it does by default."""

from dataclasses import replace

import numpy as np
import pytest

from zoo.deepzero.data.dataset import load
from zoo.deepzero.train import resume, train
from zoo.errors import InputError


def square(params, batch):
    return 0.5 * float(np.mean((params - 100.0) ** 2))


def test_a_run_is_not_resumed_with_another_model(tmp_path):
    net = "dense 4, relu, dense"
    train(net, "digits", epochs=1, batch=512, folder=tmp_path / "net")
    for other in ("dense 4, tanh, dense", "cnn"):
        with pytest.raises(InputError, match="the parameters are not those"):
            resume(tmp_path / "net", other)
    assert resume(tmp_path / "net", net).steps == 3
    data = (np.zeros((8, 1)),)
    train(square, data, params=np.zeros(3), epochs=1, folder=tmp_path / "box")
    with pytest.raises(InputError, match="the parameters are not those"):
        resume(tmp_path / "box", square, data, params=np.zeros(4))


@pytest.mark.parametrize("part", ["train", "test"])
def test_data_sets_of_ones_own_are_checked(part):
    data = load("digits")
    x, y = getattr(data, f"x_{part}"), getattr(data, f"y_{part}")
    for wrong in (y + 99, y - 1, y[:-1], y.astype(float), y[:0]):
        with pytest.raises(InputError, match=f"y_{part} must be whole numbers from 0 to 9"):
            replace(data, **{f"y_{part}": wrong})
    with pytest.raises(InputError, match=f"y_{part} must be .* one or more"):
        replace(data, **{f"x_{part}": x[:0], f"y_{part}": y[:0]})
    with pytest.raises(InputError, match=r"samples \(N, C, H, W\)"):
        replace(data, **{f"x_{part}": x[:, 0]})


def test_nothing_pulls_at_the_parameters_of_a_black_box():
    options = {"oracle": "cge", "epochs": 200, "batch": 4, "schedule": "constant"}
    result = train(square, (np.zeros((8, 1)),), params=np.zeros(3), **options)
    assert result.params == pytest.approx(100.0, abs=0.1)
    decayed = train(square, (np.zeros((8, 1)),), params=np.zeros(3), weight_decay=0.1, **options)
    assert (decayed.params < 90.0).all()


def test_cyclic_takes_a_tenth_of_the_coordinates_by_default():
    result = train("mlp", "digits", oracle="cyclic", epochs=1, batch=512)
    assert result.sparsity == 0.9
    assert result.queries == 3 * (1 + 241)
