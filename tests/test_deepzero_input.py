"""What DeepZero refuses: one line, and nothing lost."""

import json
import re
import shutil
import sys
import warnings

import numpy as np
import pytest
from commands import called, left_behind, ran, refused
from deepzero_runs import (
    KINDS,
    LOSSES,
    again,
    deepzero,
    entered,
    few,
    furnish,
    held,
    interrupted,
    outcome,
)

from zoo.runtime.folder import RunFolder


@pytest.fixture
def here(tmp_path, monkeypatch):
    return entered(tmp_path, monkeypatch)


@pytest.fixture(scope="module")
def bad(tmp_path_factory):
    """A folder with much that is wrong."""
    folder = tmp_path_factory.mktemp("bad")
    furnish(folder)
    few(folder)
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((30, 4)), np.arange(30) % 3
    arrays = {
        "nothing": {"x": x[:0], "y": y[:0]},
        "lengths": {"x": x, "y": y[:20]},
        "words": {"x": x, "y": np.array(["a", "b", "c"] * 10)},
        "negative": {"x": x, "y": y - 1},
        "halves": {"x": x, "y": y / 2},
        "gap": {"x": x, "y": 2 * y},
        "one class": {"x": x, "y": 0 * y},
        "infinite": {"x": x * np.inf, "y": y},
        "shapes": {"x_train": x, "y_train": y, "x_test": x[:, :3], "y_test": y},
        "names": {"images": x, "labels": y},
        "mlp": {"dense1.weight": np.zeros((5, 64)), "dense1.bias": np.zeros(5)}
        | {"dense2.weight": np.zeros((10, 5)), "dense2.bias": np.zeros(10)},
        "empty box": {},
        "nan box": {"w": np.full((64, 10), np.nan), "b": np.zeros(10)},
        "word box": {"w": np.array(["a"]), "b": np.zeros(10)},
        "small box": {"w": np.zeros((3, 10)), "b": np.zeros(10)},
    }
    mlp = arrays["mlp"]
    arrays["more"] = mlp | {"dense3.weight": np.zeros((10, 10)), "dense3.bias": np.zeros(10)}
    arrays["nan"] = mlp | {"dense1.bias": np.full(5, np.nan)}
    arrays["text"] = mlp | {"dense1.bias": np.array(list("abcde"))}
    arrays["norm"] = {"conv1.weight": np.zeros((1, 1, 3, 3)), "conv1.bias": np.zeros(1)}
    arrays["norm"] |= {"conv1.gamma": np.ones(1), "conv1.beta": np.zeros(1)}
    arrays["norm"] |= {"conv1.mean": np.zeros(1), "conv1.variance": -np.ones(1)}
    arrays["norm"] |= {"dense2.weight": np.zeros((10, 1)), "dense2.bias": np.zeros(10)}
    for name, content in arrays.items():
        np.savez(folder / f"{name.replace(' ', '_')}.npz", **content)
    with (folder / "array.npz").open("wb") as file:  # no archive
        np.save(file, np.zeros(3))
    whole = (folder / "mlp.npz").read_bytes()
    (folder / "cut.npz").write_bytes(whole[: len(whole) // 2])
    (folder / "flipped.npz").write_bytes(whole.replace(b"\0" * 99, b"\1" * 99))
    for name, text in {
        "wrong.txt": "dense 5, rely, dense",
        "wide.txt": "dense 4, relu, dense 3",
        "norm.txt": "conv 1, bn, relu, avgpool, dense",
        "old/config.json": "{}",
        "folder/file": "",
        "list.json": "[]",
        "some.json": '{"dense1": 0.5}',
        "large.json": '{"dense1": 0.5, "dense2": 1.5}',
        "flag.json": '{"dense1": 0.5, "dense2": true}',
        "broken.json": "{",
        "syntax.py": "def loss(:\n",
        "fails.py": "1 / 0\n",
    }.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    return folder


MINE = "--init start.npz --model mine.py"


BAD = [
    ("--sparsity 0.9999", "nothing is left of the weights: a smaller sparsity"),
    ("--sparsity 0.9999 --pruning uniform", "nothing is left of the weights"),
    ("--sparsity 1", "sparsity must be >= 0 and < 1, got 1"),
    ("--sparsity 1.5", "sparsity must be >= 0 and < 1, got 1.5"),
    ("--sparsity nan", "sparsity must be a number"),
    ("--sparsity -0.1", "sparsity must be >= 0"),
    ("--mu 0", "mu must be > 0, got 0"),
    ("--mu inf", "mu must be finite"),
    ("--lr 0", "lr must be > 0"),
    ("--momentum 1", "momentum must be >= 0 and <= 0.9999"),
    ("--weight-decay -1", "weight_decay must be >= 0"),
    ("--epochs 0", "epochs must be >= 1"),
    ("--epochs x", "--epochs"),
    ("--batch 0", "batch must be >= 1"),
    ("--batch 65537", "batch must be >= 1 and <= 65536"),
    ("--shards 0", "shards must be >= 1"),
    ("--seconds 0", "seconds must be > 0"),
    ("--seed -1", "seed must be"),
    ("--threads 0", "threads must be >= 1"),
    ("--oracle nod", "did you mean 'node'?"),
    ("--rule sdg", "did you mean 'sgd'?"),
    ("--orcale node", "did you mean --oracle?"),
    ("--oracle node --model cnn", "batch normalization couples them"),
    ("--oracle node --sparsity 0.5", "sparsity is for cge and cyclic, not node"),
    ("--oracle rge --central", "central is for cge and cyclic, not rge"),
    ("--directions 5", "directions is for rge and es, not cge"),
    ("--oracle cyclic --pruning uniform --sparsity 0.5", "pruning is for cge, not cyclic"),
    ("--decay 0.5", "decay is for cyclic, not cge"),
    ("--oracle es --directions 7", "directions must be even for es, got 7"),
    ("--pruning uniform", "pruning goes with sparsity"),
    ("--mask-every 5", "mask_every goes with sparsity"),
    ("--grasp signed", "grasp goes with sparsity"),
    ("--hidden 5 --model cnn", "hidden is for the mlp, not for cnn"),
    ("--depth 3", "depth is for the cnn, not for mlp"),
    ("--hidden 0", "hidden must be whole numbers >= 1"),
    ("--hidden 3,x", "hidden must be whole numbers >= 1"),
    ("--model cnn --depth 4", "maxpool 2 does not fit into 18 channels of 1 x 1"),
    ("--model mpl", "unknown model 'mpl': did you mean 'mlp'?"),
    ("--model none.txt", "as a file: No such file or directory"),
    ("--model folder", "as a file: Is a directory"),
    ("--model few.npz", "it is not text"),
    ("--model wrong.txt", "unknown layer 'rely': did you mean 'relu'?"),
    ("--model dense,(relu", "is not closed"),
    ("--model relu,dense", "a network begins with conv or dense"),
    ("--model dense,relu", "the last layer of a network must be 'dense'"),
    ("--model conv-4,dense", "unknown layer"),
    ("--model dense_7,dense_3", "unknown layer"),
    ("--model wide.txt", "the last layer has 3 outputs, but there are 10 classes"),
    ("--data none.npz", "no data set or file 'none.npz'"),
    ("--data digit", "did you mean 'digits'?"),
    ("--data folder", "has no images in folders of classes"),
    ("--data mine.py", "cannot tell what"),
    ("--data mnist --data-folder nowhere", "there is no folder"),
    ("--data nothing.npz", "there are no samples"),
    ("--data lengths.npz", "there are 30 samples, but 20 labels"),
    ("--data words.npz", "labels must be whole numbers from 0 on, got <U1"),
    ("--data negative.npz", "labels must be whole numbers from 0 on, got -1"),
    ("--data halves.npz", "labels must be whole numbers from 0 on, got 0.5"),
    ("--data gap.npz", "numbers from 0 on without gaps"),
    ("--data one_class.npz", "two classes or more"),
    ("--data infinite.npz", "x must be finite"),
    ("--data shapes.npz", "samples must be of one shape"),
    ("--data names.npz", "accepted are x_train"),
    ("--data array.npz", "is no .npz file"),
    ("--data few.npz --model cnn", "does not fit"),
    ("--data few.npz --augment", "augment is for images"),
    ("--data-folder x --data few.npz --init none.npz", "cannot read"),
    ("--init none.npz", "none.npz: No such file or directory"),
    ("--init folder", "Is a directory"),
    ("--init mine.py", "is not an .npz file of arrays"),
    ("--init array.npz", "is not an .npz file of arrays"),
    ("--init cut.npz", "is not an .npz file of arrays"),
    ("--init flipped.npz --hidden 5", "is not an .npz file of arrays"),
    ("--init mlp.npz", "dense1.bias is of shape (5,), and must be (32,)"),
    ("--init mlp.npz --model cnn", "conv1.bias is missing"),
    ("--init more.npz --hidden 5", "this one has no dense3.weight"),
    ("--init nan.npz --hidden 5", "dense1.bias must be finite numbers"),
    ("--init text.npz --hidden 5", "dense1.bias must be finite numbers"),
    ("--init norm.npz --model norm.txt", "conv1.variance must be >= 0"),
    ("--init start.npz", "dense1.bias is missing"),
    ("--weights start.npz", "start.npz is there already"),
    ("--weights folder", "folder is there already"),
    ("--weights nowhere/made.npz", "there is no folder"),
    ("--sparsity 0.5 --pruning none.json", "cannot read none.json: No such file"),
    ("--sparsity 0.5 --pruning folder", "cannot read folder: Is a directory"),
    ("--sparsity 0.5 --pruning unifrm", "pruning must be grasp, uniform, or a JSON file"),
    ("--sparsity 0.5 --pruning broken.json", "broken.json is not JSON"),
    ("--sparsity 0.5 --pruning few.npz", "few.npz is not JSON"),
    ("--sparsity 0.5 --pruning list.json", "must hold a share for each of dense1, dense2"),
    ("--sparsity 0.5 --pruning some.json", "must hold a share for each of dense1, dense2"),
    ("--sparsity 0.5 --pruning large.json", "dense2 must be a number from 0 to 1, got 1.5"),
    ("--sparsity 0.5 --pruning flag.json", "dense2 must be a number from 0 to 1, got True"),
    ("--model mine.py:loss", "a black box needs its first parameters: --init FILE.npz"),
    (f"{MINE}:none", "has no function 'none'"),
    (f"{MINE}:number", "is not a function loss(params, batch)"),
    ("--init start.npz --model none.py:loss", "model file"),
    ("--init start.npz --model syntax.py:loss", "syntax.py:1: "),
    ("--init start.npz --model fails.py:loss", "ZeroDivisionError"),
    (f"{MINE}:raises", "the loss raised ZeroDivisionError: division by zero"),
    (f"{MINE}:text", "the loss must be a number, got '0.5'"),
    (f"{MINE}:word", "the loss must be a number, got 'low'"),
    (f"{MINE}:nothing", "the loss must be a number, got None"),
    (f"{MINE}:array", "the loss must be a number, got array([0., 0., 0.])"),
    (f"{MINE}:nan", "the loss must be finite at the first parameters, got nan"),
    ("--init small_box.npz --model mine.py:loss", "the loss raised ValueError"),
    ("--init nan_box.npz --model mine.py:loss", "parameters must be finite numbers"),
    ("--init word_box.npz --model mine.py:loss", "parameters must be"),
    ("--init empty_box.npz --model mine.py:loss", "parameters must be"),
    ("--init none.npz --model mine.py:loss", "cannot read"),
    (f"{MINE}:loss --oracle node", "for black boxes there are rge, es, cge, cyclic"),
    (f"{MINE}:loss --sparsity 0.5", "sparsity goes with cyclic"),
    (f"{MINE}:loss --oracle cge --sparsity 0.5 --pruning uniform", "is for networks"),
    (f"{MINE}:loss --hidden 5", "hidden is for networks"),
    (f"{MINE}:loss --augment", "augment is for networks"),
    ("--out old", "old already holds a run"),
    ("--out start.npz", "cannot write start.npz"),
]


@pytest.mark.parametrize(("given", "words"), BAD, ids=[given for given, _ in BAD])
def test_bad_input(given, words, bad, monkeypatch, capsys):
    monkeypatch.chdir(bad)
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = {path: path.stat().st_mtime_ns for path in bad.rglob("*")}
    arguments = given.split()
    arguments += [] if "--out" in arguments else ["--out", "made"]
    assert words in refused(capsys, "run", "deepzero", *arguments)
    assert left_behind(bad, before) == []
    changed = [path for path in before if path.stat().st_mtime_ns != before[path]]
    assert [path for path in changed if path.is_file()] == []


FAR = "--model mine.py:far --init start.npz"


@pytest.mark.parametrize(
    "given", ["", "--oracle node", "--oracle es", "--oracle cyclic --precision double", FAR]
)
def test_a_loss_that_is_not_finite_any_more(given, here, capsys):
    for rate in ("1e+09", "1e+200"):
        arguments = [*given.split(), "--lr", rate, "--out", rate, "--quiet", "--json"]
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            code, out, err = called(capsys, "run", "deepzero", *arguments)
        assert (code, out) == (1, "")
        pattern = rf"zoo: the loss is not finite any more at step \d+ \(lr {re.escape(rate)}, .*\n"
        assert re.fullmatch(pattern, err)
        assert "a smaller lr may help" in err
        assert "continues it" not in err  # it would come there again
        assert (here / rate / "config.json").exists()
        assert RunFolder(rate).result() is None


def test_a_last_step_that_goes_too_far(here, capsys):
    far = ["--lr", "1e38", "--warmup", "0", "--epochs", "1", "--batch", "65536", "--quiet"]
    for given in ("--oracle rge --directions 1", "--oracle cge", "--oracle node"):
        weights = ["--weights", "made.npz"]
        code, out, err = called(capsys, "run", "deepzero", *far, *given.split(), *weights)
        assert (code, out) == (1, "")
        assert err.startswith("zoo: the loss is not finite any more at step 1 (lr 1e+38, ")
        assert not (here / "made.npz").exists()


def test_first_parameters_that_are_too_large(here, capsys):
    deepzero(capsys, "--hidden", "3", "--epochs", "1", "--weights", "first.npz")
    arrays = {k: a * 1e37 if a.dtype.kind == "f" else a for k, a in held("first.npz").items()}
    np.savez("first.npz", **arrays)
    for given in ("--oracle cge", "--oracle node", "--oracle rge"):
        arguments = ["--hidden", "3", "--init", "first.npz", *given.split(), "--quiet"]
        code, out, err = called(capsys, "run", "deepzero", *arguments)
        assert (code, out) == (1, "")
        words = "the loss is not finite at the first parameters, or near them (mu 0.005)"
        assert err == f"zoo: {words}\n"


def test_shares_of_a_file(here, capsys):
    given = ["--sparsity", "0.9", "--pruning", "shares.json", "--epochs", "1"]
    result = deepzero(capsys, *given, "--out", "whole")
    assert result["sparsity"] == pytest.approx((0.6 * 2048 + 0.1 * 320) / 2368, abs=1e-3)
    begun = str(again(here / "whole", here / "cut"))
    (here / "shares.json").write_text(json.dumps({"dense1": 0.6, "dense2": 0.2}))
    assert "the shares are not those that" in refused(capsys, "resume", begun)
    (here / "shares.json").write_text(json.dumps({"dense1": 1, "dense2": 1}))
    refusal = refused(capsys, "run", "deepzero", *given)
    assert "nothing is left of the weights" in refusal


def test_a_black_box_that_fails_later(here, capsys):
    given = ["--model", "mine.py:late", "--init", "start.npz", "--out", "run", "--quiet"]
    code, out, err = called(capsys, "run", "deepzero", *given)
    assert (code, out) == (1, "")
    assert err == (
        "zoo: the loss raised ZeroDivisionError: division by zero; 'zoo resume run' continues it\n"
    )
    assert (here / "run" / "config.json").exists()


def test_resumed_with_other_data(here, monkeypatch, capsys):
    few(here)
    given = ["--data", "few.npz", "--oracle", "node", "--hidden", "4", "--batch", "9"]
    interrupted(capsys, monkeypatch, 3, *given, "--out", "cut")
    whole = held("few.npz")
    for change in (
        {"x_train": whole["x_train"] + 1},
        {"y_test": whole["y_test"][::-1]},
        {"x_train": whole["x_train"][:30], "y_train": whole["y_train"][:30]},
    ):
        np.savez("few.npz", **whole | change)
        assert "the data are not those that cut" in refused(capsys, "resume", "cut")
    (here / "few.npz").unlink()
    assert "no data set or file" in refused(capsys, "resume", "cut")
    np.savez("few.npz", **whole)
    (here / "elsewhere").mkdir()
    monkeypatch.chdir(here / "elsewhere")
    assert ran(capsys, "resume", "../cut")["status"] == "epochs"


def test_resumed_from_other_first_parameters(here, capsys):
    small = ["--hidden", "3", "--epochs", "1", "--oracle", "node"]
    deepzero(capsys, *small, "--weights", "first.npz")
    for kind, given, file in (
        ("network", [*small, "--init", "first.npz"], "first.npz"),
        ("box", KINDS["black box"], "start.npz"),
    ):
        deepzero(capsys, *given, "--out", kind)
        begun = str(again(here / kind, here / f"again {kind}"))
        kept = held(file)
        name = next(name for name, array in kept.items() if array.dtype.kind == "f")
        np.savez(file, **kept | {name: kept[name] + 1})
        assert "the first parameters are not those" in refused(capsys, "resume", begun)
        np.savez(file, **kept)
        ran(capsys, "resume", begun)
        assert outcome(here / f"again {kind}") == outcome(here / kind)


def test_resumed_from_another_folder(here, monkeypatch, capsys):
    first = ["--init", "first.npz", "--weights", "made.npz"]
    kinds = {kind: KINDS[kind] for kind in ("file", "node", "black box")}
    deepzero(capsys, *KINDS["file"], "--weights", "first.npz")
    for kind, given in (kinds | {"init": [*KINDS["file"], *first]}).items():
        deepzero(capsys, *given, "--out", kind)
        again(here / kind, here / f"again {kind}")
    (here / "elsewhere").mkdir()
    monkeypatch.chdir(here / "elsewhere")
    for kind in (*kinds, "init"):
        ran(capsys, "resume", f"../again {kind}")
        assert outcome(here / f"again {kind}") == outcome(here / kind)
    assert list((here / "elsewhere").iterdir()) == []


def test_resumed_with_another_black_box(here, monkeypatch, capsys):
    interrupted(capsys, monkeypatch, 3, *KINDS["black box"], "--out", "cut")
    deepzero(capsys, *KINDS["black box"], "--out", "whole")
    (here / "mine.py").write_text(LOSSES + "# a word more")
    code, _, err = called(capsys, "resume", "cut")
    assert (code, err) == (
        0,
        "zoo: warning: the black box's file has changed since the run was started\n",
    )
    assert outcome(here / "cut") == outcome(here / "whole")
    (here / "mine.py").unlink()
    shutil.rmtree("cut")
    assert "does not exist" in refused(capsys, "resume", str(again(here / "whole", here / "cut")))


def test_damaged_runs(here, monkeypatch, capsys):
    interrupted(capsys, monkeypatch, 3, *KINDS["node"], "--out", "cut")
    assert "--objective is for runs" in refused(capsys, "resume", "cut", "--objective", "ackley")
    whole = json.loads((here / "cut" / "config.json").read_text())
    for change, words in (
        ({"seed": -5}, "seed must be"),
        ({"problem": {}}, "the data are not those"),
        ({"problem": {"nothing": 4}}, "unknown parameter 'nothing'"),
        ({"config": {"mu": "q"}}, "mu must be a number"),
        ({"config": {"nothing": 4}}, "unknown parameter 'nothing'"),
        ({"data": None}, "the data are not those"),
    ):
        config = whole | change
        if "problem" in change and not change["problem"]:
            config["problem"] = whole["problem"] | {"data": "few.npz"}
            few(here)
        (here / "cut" / "config.json").write_text(json.dumps(config))
        assert words in refused(capsys, "resume", "cut")
    (here / "cut" / "config.json").write_text(json.dumps(whole))
    ran(capsys, "resume", "cut")
