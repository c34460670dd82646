"""Networks and black boxes trained in Python."""

import math
import re
import sys
from dataclasses import replace

import numpy as np
import pytest
import reference_network as reference
from commands import called, refused
from deepzero_runs import (
    FIRST,
    X,
    Y,
    entered,
    few,
    held,
    squares,
    stop_after,
    told_of,
)

from zoo.deepzero.data.dataset import load
from zoo.deepzero.train import Arrays, resume, train
from zoo.errors import InputError, RunError
from zoo.runtime import loop
from zoo.runtime.folder import RunFolder


@pytest.fixture
def here(tmp_path, monkeypatch):
    return entered(tmp_path, monkeypatch)


def test_networks_in_python(here):
    data = load("digits")
    one = train("mlp", oracle="node", epochs=10, seed=3, batch=64)
    assert one.test_accuracy > 0.95
    assert (one.method, one.model, one.data, one.seed) == ("deepzero", "mlp", "digits", 3)
    shapes = {"dense1.weight": (32, 64), "dense1.bias": (32,), "dense2.weight": (10, 32)}
    assert {name: one.params[name].shape for name in shapes} == shapes
    other = train("dense 32, relu, dense", data, oracle="node", epochs=10, seed=3, batch=64)
    np.testing.assert_array_equal(one.params["dense1.weight"], other.params["dense1.weight"])
    wide = train("mlp", data, hidden=5, epochs=1, sparsity=0.5, weights=str(here / "made.npz"))
    assert wide.parameters == 64 * 5 + 5 + 5 * 10 + 10
    begun = train("mlp", data, hidden=5, epochs=1, init=str(here / "made.npz"), lr=1e-300)
    np.testing.assert_array_equal(begun.params["dense2.weight"], wide.params["dense2.weight"])


@pytest.mark.parametrize("oracle", ["rge", "es", "cge", "cyclic"])
def test_black_boxes_in_python(oracle, here):
    options = {"oracle": oracle, "epochs": 60, "batch": 30, "lr": 0.05, "weight_decay": 0.0}
    result = train(squares, (X, Y), params=FIRST, test=(X[:20], Y[:20]), **options)
    assert result.params["slope"] == pytest.approx([1, -2, 0.5], abs=0.02)
    assert result.params["offset"].shape == ()
    assert result.params["offset"] == pytest.approx(0.3, abs=0.02)
    rest = squares(result.params, (X[:20], Y[:20]))
    assert result.test_loss == pytest.approx(rest, rel=1e-9)
    assert result.test_accuracy is None
    assert (result.oracle, result.parameters, result.model) == (oracle, 4, "squares")
    alone = train(
        lambda params, batch: squares({"slope": params[:3], "offset": params[3]}, batch),
        Arrays((X, Y), name="mine"),
        params=np.zeros(4),
        **options,
    )
    assert alone.params.shape == (4,)
    assert alone.data == "mine"
    assert alone.test_loss is None
    np.testing.assert_array_equal(alone.params[:3], result.params["slope"])
    assert np.all(FIRST["slope"] == 0)


def test_a_black_box_on_a_data_set(here):
    def loss(params, batch):
        assert batch[0].shape[1:] == (1, 8, 8)
        return reference.cross_entropy(batch[0].reshape(-1, 64) @ params, batch[1])

    result = train(loss, params=np.zeros((64, 10)), epochs=2, directions=8)
    assert result.params.shape == (64, 10)
    assert result.train_loss < math.log(10)


class Parts(dict):
    """A mapping with an order of its own."""


def test_forms_of_parameters(here):
    from types import MappingProxyType

    options = {"epochs": 2, "batch": 45, "seed": 1}
    one = train(squares, (X, Y), params=FIRST, **options)
    for form in (MappingProxyType(FIRST), Parts(FIRST)):
        other = train(squares, (X, Y), params=form, **options)
        np.testing.assert_array_equal(one.params["slope"], other.params["slope"])
        assert other.parameters == 4
    names = {"file": np.zeros(3), "self/args": np.zeros(())}

    def renamed(params, batch):
        return squares(dict(zip(FIRST, params.values(), strict=True)), batch)

    kept = train(renamed, (X, Y), params=names, folder=here / "run", **options)
    np.testing.assert_array_equal(held(here / "run" / "weights.npz")["file"], one.params["slope"])
    assert kept.params.keys() == names.keys()


def stop_at(step, seen=None):
    def callback(progress):
        if seen is not None:
            seen.append(progress)
        return progress.step >= step

    return callback


@pytest.mark.parametrize("raising", [False, True])
def test_callbacks(raising, here, monkeypatch):
    monkeypatch.setattr(loop, "_TELLING", 0.0)
    seen = []

    def callback(progress):
        seen.append(progress)
        if progress.step == 4 and raising:
            raise StopIteration
        return progress.step == 4

    options = {"epochs": 3, "batch": 30, "schedule": "constant", "warmup": 0.0}
    result = train(squares, (X, Y), params=FIRST, callback=callback, **options)
    assert (result.status, result.steps, result.queries) == ("stopped", 4, 100)
    assert [progress.step for progress in seen] == [1, 2, 3, 3, 4, 4]
    assert [progress.evaluations for progress in seen][-1] == 100
    assert (seen[0].unit, seen[0].value, seen[0].of) == ("queries", "loss", 9)
    assert result.train_loss == seen[-1].best  # of the one step of its epoch


def test_stopped_between_two_epochs(here, monkeypatch):
    monkeypatch.setattr(loop, "_TELLING", 0.0)
    options = {"schedule": "constant", "warmup": 0.0, "batch": 30, "test": (X[:9], Y[:9])}
    one = train(squares, (X, Y), params=FIRST, epochs=1, **options)
    told = []

    def callback(progress):
        told.append(progress.step)
        return told.count(3) == 2  # the epoch has been evaluated

    out = here / "run"
    many = train(squares, (X, Y), params=FIRST, epochs=9, callback=callback, folder=out, **options)
    assert (many.status, many.steps) == ("stopped", 3)
    for name in ("train_loss", "fun", "test_loss", "queries"):
        assert many[name] == one[name], name
    assert [row["step"] for row in RunFolder(out).history()] == [3]
    again = resume(out, squares, (X, Y), params=FIRST, test=(X[:9], Y[:9]))
    assert told_of(again) == told_of(many)


@pytest.mark.parametrize("model", ["dict", "array", "mlp", "cnn"])
def test_resumed_in_python(model, here, monkeypatch):
    monkeypatch.setattr(loop, "_TELLING", 0.0)
    boxes = {
        "dict": {"model": squares, "params": FIRST},
        "array": {"model": lambda p, b: squares({"slope": p[:3], "offset": p[3]}, b)}
        | {"params": np.zeros(4)},
    }
    network = {"model": model, "data": load("digits")}
    given = {"data": (X, Y), "test": (X[:9], Y[:9]), **boxes[model]} if model in boxes else network
    options = {"epochs": 2, "batch": 30 if model in boxes else 500, "seed": 2**64 - 1}
    options |= {"hidden": 6} if model == "mlp" else {}
    options |= {"width": 3, "depth": 1, "augment": True} if model == "cnn" else {}
    whole = train(**given, **options)
    for step in (1, 3, 5):
        out = here / f"cut{step}"
        with pytest.raises(KeyboardInterrupt):
            train(**given, **options, folder=out, callback=stop_after(step))
        with pytest.raises(RunError, match="already holds a run"):
            train(**given, **options, folder=out)
        assert told_of(resume(out, **given)) == told_of(whole)
        assert told_of(resume(out, **given)) == told_of(whole)  # only told again


def test_what_a_resume_in_python_is_to_be_given(here, capsys, monkeypatch):
    monkeypatch.setattr(loop, "_TELLING", 0.0)
    out = here / "run"
    with pytest.raises(KeyboardInterrupt):
        train(squares, (X, Y), params=FIRST, epochs=9, folder=out, callback=stop_after(2))
    for data, test in (((X + 1, Y), None), ((X, Y), (X, Y)), ((X[:50], Y[:50]), None)):
        with pytest.raises(InputError, match="the data are not those"):
            resume(out, squares, data, params=FIRST, test=test)
    with pytest.raises(InputError, match="unknown parameter 'epochs': a run keeps its own"):
        resume(out, squares, (X, Y), params=FIRST, epochs=3)
    with pytest.raises(RunError, match="holds no run"):
        resume(here / "none", squares, (X, Y), params=FIRST)
    assert "zoo.deepzero.train.resume continues it" in refused(capsys, "resume", str(out))
    code, text, _ = called(capsys, "show", str(out))
    assert code == 0
    assert "model squares" in text
    resume(out, squares, (X, Y), params=FIRST)


ERRORS = [
    (("mlp", (X, Y)), {}, "a network needs a data set"),
    (("mlp", "digits"), {"params": FIRST}, "params are for black boxes"),
    (("mlp", "digits"), {"epoch": 3}, "did you mean 'epochs'?"),
    (("mlp", "digits"), {"epochs": 0}, "epochs must be >= 1"),
    (("mlp", "digits"), {"epochs": "3"}, "epochs must be a whole number"),
    (("mlp", "digits"), {"seed": -1}, "seed must be"),
    (("mlp", "digits"), {"threads": 0}, "threads must be"),
    (("mlp", "digit"), {}, "did you mean 'digits'?"),
    (("mlp", "digits"), {"weights": __file__}, "is there already"),
    (("mlp", "digits"), {"weights": f"{__file__}/made.npz"}, "there is no folder"),
    (("mpl", "digits"), {}, "did you mean 'mlp'?"),
    ((squares, (X, Y)), {}, "a black box needs its first parameters"),
    ((squares, (X, Y)), {"params": FIRST, "hidden": 3}, "hidden is for networks"),
    ((squares, (X, Y)), {"params": FIRST, "sparsity": 0.5}, "sparsity goes with cyclic"),
    ((squares, (X, Y)), {"params": FIRST, "oracle": "node"}, "for black boxes there are"),
    ((squares, (X, Y)), {"params": {"slope": "x", "offset": 0.0}}, "parameters must be"),
    ((squares, (X, Y)), {"params": {0: np.zeros(3)}}, "names of parameters must be words, got 0"),
    ((squares, (X, Y)), {"params": {}}, "parameters must be"),
    ((squares, (X, Y)), {"params": {"slope": np.zeros(3)}}, "the loss raised KeyError: 'offset'"),
    ((squares, (X, Y)), {"params": np.inf}, "parameters must be finite"),
    ((squares, (X, Y)), {"params": FIRST, "test": (X,)}, "as many arrays as data"),
    ((squares, (X, Y[:5])), {"params": FIRST}, "of equal length"),
    ((squares, Arrays((X, Y[:7]))), {"params": FIRST}, "data must be arrays of numbers, of equal"),
    ((squares, Arrays((X, Y), (X,))), {"params": FIRST}, "test must have as many arrays"),
    ((squares, Arrays((X, Y))), {"params": FIRST, "test": (X, Y)}, "test goes with arrays"),
    (("mlp", "digits"), {"test": (X, Y)}, "test goes with arrays as data"),
    ((squares, (X[:0], Y[:0])), {"params": FIRST}, "of equal length >= 1"),
    ((squares, {"x": X}), {"params": FIRST}, "data must be a tuple of arrays, got dict"),
    ((squares, 3.0), {"params": FIRST}, "data must be a tuple of arrays, got float"),
    ((squares, ()), {"params": FIRST}, "data must be a tuple of arrays"),
    ((squares, ([[1], [2, 3]], [1, 2])), {"params": FIRST}, "data must be arrays of numbers"),
    ((lambda p, b: sys.exit(0), (X, Y)), {"params": FIRST}, "the loss raised SystemExit: 0"),
    ((lambda p, b: None, (X, Y)), {"params": FIRST}, "the loss must be a number, got None"),
    ((lambda p, b: np.nan, (X, Y)), {"params": FIRST}, "must be finite at the first parameters"),
    ((lambda p, b: "1", (X, Y)), {"params": FIRST}, "the loss must be a number, got '1'"),
]


@pytest.mark.parametrize(("given", "options", "words"), ERRORS, ids=[e[2] for e in ERRORS])
def test_errors_in_python(given, options, words, here):
    with pytest.raises(InputError, match=re.escape(words)):
        train(*given, **options, folder=here / "run")
    assert not (here / "run").exists()


def test_a_loss_may_fail_on_the_way(here):
    calls = []

    def loss(params, batch):
        calls.append(params)
        if len(calls) == 90:
            raise OSError("no more")
        return squares(params, batch)

    with pytest.raises(RunError, match="the loss raised OSError: no more") as caught:
        train(loss, (X, Y), params=FIRST, folder=here / "run")
    assert isinstance(caught.value.__cause__, OSError)
    result = resume(here / "run", loss, (X, Y), params=FIRST)
    assert told_of(result)[1] == told_of(train(squares, (X, Y), params=FIRST))[1]


def test_parameters_and_batches_are_the_functions_own(here):
    def careless(params, batch):
        found = squares(params, batch)
        for array in params.values():
            array += 1.0
        return found

    options = {"epochs": 2, "seed": 1}
    one, other = (train(loss, (X, Y), params=FIRST, **options) for loss in (squares, careless))
    assert told_of(one)[1] == told_of(other)[1]

    def writes(params, batch):  # others would see it
        batch[0][:] *= 0.9
        return squares(params, batch)

    with pytest.raises(InputError, match=r"the loss raised ValueError: .*read-only"):
        train(writes, (X.copy(), Y), params=FIRST, **options)


def test_files_are_wanted_no_longer_than_they_are_needed(here, monkeypatch):
    monkeypatch.setattr(loop, "_TELLING", 0.0)
    options = {"epochs": 2, "hidden": 4, "batch": 300}
    train("mlp", epochs=1, hidden=4, weights="first.npz")
    whole = train("mlp", init="first.npz", **options)
    with pytest.raises(KeyboardInterrupt):
        train("mlp", init="first.npz", folder=here / "cut", callback=stop_after(3), **options)
    again = train("mlp", init="first.npz", folder=here / "done", **options)
    (here / "elsewhere").mkdir()
    monkeypatch.chdir(here / "elsewhere")
    (here / "first.npz").unlink()
    assert told_of(resume(here / "cut", "mlp"))[1] == told_of(whole)[1]
    assert told_of(resume(here / "done", "mlp"))[1] == told_of(again)[1]


def test_a_black_box_with_files(here):
    few(here)

    def loss(params, batch):
        x, y = batch
        return float(np.mean((x.reshape(len(x), -1) @ params - y) ** 2))

    options = {"params": np.zeros(4), "epochs": 1, "data_folder": ".", "weights": "made.npz"}
    result = train(loss, "few.npz", folder=here / "run", **options)
    np.testing.assert_array_equal(held("made.npz")["params"], result.params)
    assert resume(here / "run", loss, "few.npz", params=np.zeros(4)).steps == result.steps


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
