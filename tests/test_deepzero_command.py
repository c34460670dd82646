"""`zoo run deepzero`, as users meet it: its options, files and words."""

import json
import math
import re
import shutil

import numpy as np
import pytest
from commands import called, ran, refused, start
from deepzero_runs import BOX, FEW, KINDS, again, deepzero, entered, few, held, interrupted, told

from zoo.config import options_of
from zoo.deepzero import study
from zoo.deepzero.config import DeepZeroConfig, NetworkConfig
from zoo.deepzero.data.dataset import load
from zoo.deepzero.method import DeepZero
from zoo.deepzero.net import engine
from zoo.deepzero.shard import DeepZeroShard
from zoo.runtime.folder import RunFolder
from zoo.runtime.hosts import InlineHost


@pytest.fixture
def here(tmp_path, monkeypatch):
    return entered(tmp_path, monkeypatch)


def test_out_of_the_box(here):
    before = sorted(path.name for path in here.iterdir())
    process = start("run", "deepzero", "--epochs", "3", "--json")
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0
    pattern = r"zoo: 2,410 parameters; 33 steps, 79,563 queries, about [\d.]+ seconds of one core\n"
    assert re.fullmatch(pattern, err)
    assert out.count("\n") == 1
    result = json.loads(out)
    wanted = {"method": "deepzero", "oracle": "cge", "sparsity": 0.0, "seed": 0, "steps": 33}
    wanted |= {"queries": 79563, "parameters": 2410, "data": "digits", "model": "mlp"}
    assert {name: result[name] for name in wanted} == wanted
    assert result.keys() >= {"test_accuracy", "train_loss", "seconds", "test_loss", "epochs"}
    assert sorted(path.name for path in here.iterdir()) == before


def test_for_people(here, capsys, monkeypatch):
    told = []
    step = DeepZeroShard.step
    monkeypatch.setattr(
        DeepZeroShard,
        "step",
        lambda *a: told.append(capsys.readouterr().err) or step(*a),
    )
    given = [*KINDS["grasp"], "--weights", "made.npz"]
    code, out, err = called(capsys, "run", "deepzero", *given)
    assert (code, err) == (0, "")
    assert re.fullmatch(  # said before the start
        r"zoo: 610 parameters; 15 steps, \d,\d{3} queries, about \S+ seconds of one core\n",
        "".join(told),
    )
    assert "".join(told) == told[0]
    title, *rows = out.splitlines()
    assert title == "mlp (610 parameters) on digits: deepzero, seed 0"
    said = dict(re.fullmatch(r"  (\w+) {2,}(.*)", row).groups() for row in rows)
    assert said.keys() == {"accuracy", "loss", "oracle", "work", "weights", "ended"}
    assert re.fullmatch(r"\d+\.\d\d% of 450 test samples", said["accuracy"])
    assert said["oracle"] == "cge, lr 0.1, mu 0.005, sparsity 0.8"
    assert re.match(r"\d,\d{3} queries, 15 steps, 3 epochs, ", said["work"])
    assert said["weights"] == str(here / "made.npz")
    assert said["ended"] == "all epochs are done"
    told.clear()
    assert called(capsys, "run", "deepzero", *KINDS["grasp"], "--quiet")[2] == ""
    assert "".join(told) == ""
    code, out, err = called(capsys, "run", "deepzero", *KINDS["black box"])
    assert out.startswith("mine.py:loss (650 parameters) on digits: deepzero, seed 0\n")
    assert "".join(told) == "zoo: 650 parameters; 15 steps, 105 queries\n"


#: What each option of the network and of the oracle may be given, and with what.
OPTIONS = {
    "model": ("cnn", "--width 3 --depth 1"),
    "hidden": ("9,4", ""),
    "depth": (1, "--model cnn --width 2"),
    "width": (2, "--model cnn --depth 1"),
    "data": ("few.npz", ""),
    "data_folder": (".", "--data digits"),
    "augment": (True, "--model cnn --width 2 --depth 1"),
    "init": ("first.npz", "--hidden 5"),
    "weights": ("made.npz", ""),
    "oracle": ("node", ""),
    "mu": (1e-3, ""),
    "central": (True, ""),
    "sparsity": (0.25, "--pruning uniform"),
    "pruning": ("uniform", "--sparsity 0.5"),
    "mask_every": (5, "--sparsity 0.5 --grasp-directions 2"),
    "grasp": ("signed", "--sparsity 0.5 --grasp-directions 2"),
    "grasp_directions": (3, "--sparsity 0.5"),
    "grasp_samples": (2, "--sparsity 0.5"),
    "decay": (0.5, "--oracle cyclic"),
    "directions": (4, "--oracle rge"),
    "distribution": ("sphere", "--oracle es"),
    "rule": ("adam", ""),
    "lr": (0.2, ""),
    "momentum": (0.0, ""),
    "weight_decay": (0.0, ""),
    "schedule": ("constant", ""),
    "warmup": (0.0, ""),
    "epochs": (2, ""),
    "batch": (65536, ""),
    "precision": ("double", ""),
    "shards": (5, ""),
    "seconds": (60.0, ""),
}


def test_every_option(here, capsys):
    few(here)
    deepzero(capsys, "--hidden", "5", "--epochs", "1", "--weights", "first.npz")
    sections = {**options_of(NetworkConfig), **options_of(DeepZeroConfig)}
    on_a_gpu = {"device", "convolutions"}  # see test_gpu_deepzero.py
    assert OPTIONS.keys() | on_a_gpu == sections.keys()
    code, out, err = called(capsys, "run", "deepzero", "--help")
    assert (code, err) == (0, "")
    assert "For example: zoo run deepzero --model mlp --data digits" in " ".join(out.split())
    usual = called(capsys, "run", "deepzero", "--epochs", "1", "--out", "usual", "--quiet")
    assert usual[0] == 0
    for name, (value, others) in OPTIONS.items():
        option = f"--{name.replace('_', '-')}"
        assert re.search(rf"^ +{option}\b", out, re.MULTILINE), name
        given = [option] if value is True else [option, str(value)]
        epochs = [] if name == "epochs" else ["--epochs", "1"]
        deepzero(capsys, *given, *others.split(), *epochs, "--out", name)
        stored = RunFolder(name).config()
        found = (stored["problem"] | stored["config"])[name]
        if name in ("data", "init", "weights", "data_folder") and value != ".":
            value = str(here / value)
        assert found == value, name
        plain = RunFolder("usual").config()
        assert found != (plain["problem"] | plain["config"])[name], name


def test_options_change_what_is_done(here, capsys):
    sparse, rge = ["--sparsity", "0.5", "--grasp-directions", "4"], ["--oracle", "rge"]
    base = KINDS["cge"]
    pairs = [
        (base, ["--mu", "0.5"]),
        (base, ["--central"]),
        (base, ["--momentum", "0"]),
        (base, ["--weight-decay", "0.1"]),
        (base, ["--schedule", "constant"]),
        (base, ["--warmup", "0"]),
        (base, ["--precision", "double"]),
        ([*base, *sparse], ["--mask-every", "1"]),
        ([*base, *sparse], ["--grasp", "signed"]),
        ([*base, *sparse], ["--grasp-samples", "1"]),
        ([*base, *sparse], ["--grasp-directions", "5"]),
        ([*base, "--oracle", "cyclic", "--sparsity", "0.9"], ["--decay", "0"]),
        ([*base, *rge], ["--distribution", "rademacher"]),
        ([*FEW.split(), "--model", "conv.txt", "--oracle", "node"], ["--augment"]),
    ]
    for given, more in pairs:
        losses = {deepzero(capsys, *given, *extra)["train_loss"] for extra in ([], more)}
        assert len(losses) == 2, more
    many = ["--oracle", "rge", "--hidden", "4", "--data", "few.npz", "--epochs", "1"]
    few(here)
    results = [deepzero(capsys, *many, "--batch", b) for b in ("40", "64", "1000")]
    assert len({result["train_loss"] for result in results}) == 1  # all that there are


def test_a_config_file(here, capsys):
    (here / "run.toml").write_text(
        'seed = 3\nmodel = """\nconv 2, relu, maxpool  # small\ndense\n"""\n'
        '[deepzero]\noracle = "node"\nepochs = 9\nbatch = 300\n[output]\nout = "there"\n'
    )
    result = deepzero(capsys, "--config", "run.toml", "--epochs", "2")
    assert (result["seed"], result["epochs"], result["oracle"]) == (3, 2.0, "node")
    given = ["--model", "conv 2, relu, maxpool, dense", "--oracle", "node", "--batch", "300"]
    other = deepzero(capsys, *given, "--epochs", "2", "--seed", "3")
    assert other["train_loss"] == result["train_loss"]
    assert RunFolder("there").result()["train_loss"] == result["train_loss"]
    assert ran(capsys, "resume", "there") == result
    (here / "bad.toml").write_text("[deepzero]\nepoch = 3\n")
    assert "'epochs'" in refused(capsys, "run", "deepzero", "--config", "bad.toml")


def test_layers_from_a_file(here, monkeypatch, capsys):
    folder = here / "a folder"
    folder.mkdir()
    (folder / "net.txt").write_text("# small\nconv 2, relu\nmaxpool\ndense\n")
    monkeypatch.chdir(folder)
    given = ["--oracle", "node", *FEW.split()]
    file = deepzero(capsys, "--model", "net.txt", *given, "--out", "run")
    words = deepzero(capsys, "--model", "conv 2, relu,maxpool,  dense", *given)
    assert file["train_loss"] == words["train_loss"]
    assert str(held("run/weights.npz")["layers"]) == (folder / "net.txt").read_text()
    monkeypatch.chdir(here)
    assert told(ran(capsys, "resume", str(again(folder / "run", here / "run")))) == told(file)


def test_names_go_before_files(here, capsys):
    for name in ("mlp", "digits"):
        (here / name).mkdir()
        (here / name / "file").write_text("")
        assert deepzero(capsys, *FEW.split(), "--oracle", "node")["data"] == "digits"
        shutil.rmtree(here / name)
        (here / name).write_text("here")
        assert deepzero(capsys, *FEW.split(), "--oracle", "node")["model"] == "mlp"


def test_show_and_resume_of_a_finished_run(here, capsys, monkeypatch):
    from matplotlib.figure import Figure

    drawn = []
    saved = Figure.savefig
    monkeypatch.setattr(
        Figure, "savefig", lambda self, *a, **k: drawn.append(self) or saved(self, *a, **k)
    )
    for kind in ("grasp", "black box"):
        result = deepzero(capsys, *KINDS[kind], "--out", kind)
        before = {path: path.read_bytes() for path in (here / kind).iterdir()}
        assert ran(capsys, "resume", kind) == result
        assert {path: path.read_bytes() for path in (here / kind).iterdir()} == before
        code, out, err = called(capsys, "show", kind, "--plot", f"{kind}.png")
        assert (code, err) == (0, "")
        assert out.startswith(f"{kind}: finished\n")
        assert re.search(r"step +queries +best +test_loss +test_accuracy\n", out)
        assert "all epochs are done" in out
        shown = json.loads(called(capsys, "show", kind, "--json")[1])
        assert shown["result"] == result
        assert [row["step"] for row in shown["history"]] == [5, 10, 15]
        assert (here / f"{kind}.png").read_bytes().startswith(b"\x89PNG")
        figure = drawn.pop()
        (axes,) = figure.axes
        (line,) = axes.lines
        rows = RunFolder(kind).history()
        np.testing.assert_array_equal(line.get_xdata(), [row["queries"] for row in rows])
        np.testing.assert_array_equal(line.get_ydata(), [row["best"] for row in rows])
        assert (axes.get_xlabel(), axes.get_ylabel()) == ("queries", "loss")
        assert figure.get_suptitle() == f"{result['model']}, deepzero"


def test_weights_and_init(here, capsys):
    for kind in ("node", "batch norm", "black box"):
        given = [word for word in KINDS[kind] if word not in ("--init", "start.npz")]
        first = ["--init", "start.npz"] if kind == "black box" else []
        name = f"{kind}.npz"
        one = deepzero(capsys, *given, *first, "--weights", name, "--out", kind)
        assert one["weights"] == str(here / name)
        assert {k: v.tobytes() for k, v in held(name).items()} == {
            k: v.tobytes() for k, v in held(f"{kind}/weights.npz").items()
        }
        still = ["--lr", "1e-300", "--weight-decay", "0", "--epochs", "1"]
        other = deepzero(capsys, *given, "--init", name, *still, "--weights", f"still {name}")
        made, kept = held(name), held(f"still {name}")
        for part, array in made.items():
            if not part.endswith((".mean", ".variance")):  # which go on
                np.testing.assert_array_equal(array, kept[part])
        if kind != "batch norm":
            assert other["test_loss"] == one["test_loss"]
        more = deepzero(capsys, *given, "--init", name, "--seed", "9")
        assert more["train_loss"] < one["train_loss"]
        more = ["--init", name, "--weights", name]
        assert "is there already" in refused(capsys, "run", "deepzero", *given, *more)


def test_weights_of_others(here, capsys):
    """Arrays by the documented names and shapes are enough."""
    rng = np.random.default_rng(1)
    arrays = {"dense1.weight": rng.standard_normal((3, 64)), "dense1.bias": np.arange(3)}
    arrays |= {"dense2.weight": np.ones((10, 3), np.float32), "dense2.bias": np.zeros(10)}
    np.savez("mine.npz", **arrays)
    still = ["--lr", "1e-300", "--epochs", "1", "--hidden", "3", "--weights", "made.npz"]
    deepzero(capsys, "--init", "mine.npz", *still)
    made = held("made.npz")
    assert str(made.pop("layers")) == "dense 3, relu, dense"
    assert made.keys() == arrays.keys()
    for name, array in arrays.items():
        np.testing.assert_allclose(made[name], array, rtol=1e-15, atol=1e-300)


def test_seconds(here, capsys, monkeypatch):
    for given in ("--oracle node", "--model normed.txt --shards 2", BOX):
        given = f"{given} --epochs 1000000 --seconds 0.2 --out run"
        result = deepzero(capsys, *given.split())
        assert result["status"] == "seconds"
        assert result["success"] is False
        assert 0.2 <= result["seconds"] < 2
        assert result["steps"] > 0
        assert math.isfinite(result["train_loss"])
        assert math.isfinite(result["test_loss"])
        assert RunFolder("run").history()[-1]["step"] == result["steps"]
        assert held("run/weights.npz")
        assert ran(capsys, "resume", "run") == result
        shutil.rmtree("run")
    monkeypatch.setattr(engine, "_PIECE", 1e3)  # a step that takes longer than there is
    slow = ["--epochs", "1", "--batch", "1347", "--hidden", "128", "--seconds", "1e-9"]
    result = deepzero(capsys, *slow)
    assert result["steps"] <= 1
    result = deepzero(capsys, "--sparsity", "0.5", "--seconds", "1e-9", "--epochs", "1")
    assert (result["steps"], result["train_loss"]) == (0, None)  # GraSP took it all
    assert 0 <= result["test_accuracy"] <= 1


def test_seconds_are_those_of_all_parts(here, monkeypatch, capsys):
    given = ["--oracle", "node", "--epochs", "1000000", "--seconds", "1"]
    interrupted(capsys, monkeypatch, 3, *given, "--out", "cut", "--snapshot-every", "1e-6")
    spent = RunFolder("cut").snapshot().seconds
    assert 0 < spent < 1
    result = ran(capsys, "resume", "cut")
    assert result["status"] == "seconds"
    assert result["seconds"] < 5


def test_a_run_told_to_stop_and_then_interrupted(here):
    """It stops when it is resumed: told is told."""
    data = load("digits")
    given, config = NetworkConfig(), DeepZeroConfig(oracle="node", epochs=4)
    job = study.job_of(given, config, data, 0)
    method = DeepZero(job, job.network.initial(0))
    host = InlineHost()
    host.start(method, lambda: False, None)
    for _ in range(3):
        method.merge(host.step(method.message(1)))
    method.stop("seconds")
    other = DeepZero(job, job.network.initial(0))
    other.restore(method.state())
    for one in (method, other):
        one.merge(host.step(one.message(1)))
        assert one.finished
    assert method.result() == other.result()
    assert method.result()["status"] == "seconds"
