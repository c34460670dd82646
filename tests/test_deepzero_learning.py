"""What runs of DeepZero ask for and learn: queries, accuracy, a plain loop beside them."""

import json
import math
import re

import numpy as np
import pytest
import reference_network as reference
from commands import called
from deepzero_runs import BOX, KINDS, NORMED, deepzero, entered, few, flat, held

from zoo.deepzero.data.batches import batch_rows
from zoo.deepzero.data.dataset import load
from zoo.deepzero.shard import DeepZeroShard
from zoo.deepzero.train import train
from zoo.runtime.folder import RunFolder


@pytest.fixture
def here(tmp_path, monkeypatch):
    return entered(tmp_path, monkeypatch)


#: Options, and the queries of each step.
QUERIES = {
    "": [2411] * 4,  # 64 * 32 + 32 + 32 * 10 + 10, and the base
    "--central": [4821] * 4,
    "--shards 3": [2411] * 4,  # one base for all of them
    "--oracle node": [43] * 4,
    "--oracle node --shards 4": [43] * 4,
    "--oracle rge": [25] * 4,
    "--oracle rge --directions 7 --shards 2": [8] * 4,
    "--oracle es": [24] * 4,
    "--oracle es --directions 6 --shards 4": [6] * 4,
    "--oracle cyclic --sparsity 0.3": [1688, 724] * 2,  # round(0.7 * 2410), and the rest
    "--oracle cyclic --sparsity 0.3 --central": [3375, 1447] * 2,
    "--sparsity 0.8": [2 * 193, *[43 + round(0.2 * 2368)] * 4],
    "--sparsity 0.8 --grasp-directions 5 --shards 3": [2 * 6, *[43 + 474] * 4],
    "--sparsity 0.87 --pruning uniform": [43 + round(0.13 * 2048) + round(0.13 * 320)] * 4,
    "--sparsity 0.2 --pruning shares.json": [43 + round(0.4 * 2048) + round(0.9 * 320)] * 4,
    "conv": [1 + 2 * 9 + 2 + 2 * 16 * 10 + 10] * 4,
    "conv --oracle node": [1 + 2 * 64 + 10] * 4,
    "norm --oracle es --shards 3": [25] * 4,
    "box --directions 5": [6] * 4,
    "box --directions 5 --shards 2": [7] * 4,  # of black boxes each has its own
    "box --oracle cge --central": [1301] * 4,
}


@pytest.mark.parametrize("given", QUERIES)
def test_queries_are_counted(given, here, monkeypatch, capsys):
    words = {"conv": "--model conv.txt", "norm": "--model normed.txt", "box": BOX}
    arguments = " ".join(words.get(word, word) for word in given.split()).split()
    said = []
    step = DeepZeroShard.step

    def listening(self, message):
        report = step(self, message)
        said.append((message.kind, self.index, report.queries))
        return report

    monkeypatch.setattr(DeepZeroShard, "step", listening)
    arguments += ["--epochs", "2", "--batch", "700", "--threads", "1", "--json"]
    code, out, err = called(capsys, "run", "deepzero", *arguments)
    assert code == 0
    wanted = QUERIES[given]
    assert json.loads(out)["queries"] == sum(wanted)
    assert f" steps, {sum(wanted):,} queries" in err
    shards = 1 + max(index for _, index, _ in said)
    each = [sum(q for *_, q in said[i : i + shards]) for i in range(0, len(said), shards)]
    steps = [q for q, (kind, *_) in zip(each, said[::shards], strict=True) if kind != "evaluate"]
    if "193" in str(wanted[0]) or len(wanted) > 4:
        steps[:2] = [sum(steps[:2])]
    assert steps == wanted


def test_the_queries_of_a_black_box_are_its_calls(here):
    x, y = np.random.default_rng(0).standard_normal((2, 50))
    calls = []

    def loss(params, batch):
        calls.append(len(batch[0]))
        return float(np.mean((params[0] + params[1] * batch[0] - batch[1]) ** 2))

    for options, queries in (
        ({"directions": 7}, 8),
        ({"oracle": "es", "directions": 6, "shards": 2}, 6),
        ({"oracle": "cge"}, 3),
        ({"oracle": "cge", "central": True, "shards": 4}, 8),
    ):
        calls.clear()
        result = train(loss, (x, y), params=np.zeros(2), epochs=3, batch=20, **options)
        assert calls.pop(0) == 20  # it is tried once before the start
        assert len(calls) == result.queries == 9 * queries
        assert calls.count(10) == 3 * queries  # the last batch of an epoch
        calls.clear()
        test = (x[:30], y[:30])
        train(loss, (x, y), params=np.zeros(2), epochs=3, batch=20, test=test, **options)
        assert sum(calls[1:]) == 3 * queries * 50 + 3 * 30


def of_reference(text, data):
    return reference.parse(re.sub("dense *$", f"dense {len(data.classes)}", text), data.shape)


@pytest.mark.parametrize(
    ("given", "text", "least"),
    [
        ("--epochs 5 --batch 32", "dense 32, relu, dense", 0.95),
        ("--epochs 5 --batch 32 --sparsity 0.5", "dense 32, relu, dense", 0.95),
        ("--epochs 10 --batch 32 --oracle cyclic --sparsity 0.5", "dense 32, relu, dense", 0.9),
        ("--epochs 10 --batch 64 --oracle node", "dense 32, relu, dense", 0.96),
        ("--epochs 20 --oracle rge --directions 100", "dense 32, relu, dense", 0.9),
        ("--epochs 20 --oracle es --directions 100", "dense 32, relu, dense", 0.87),
        ("--epochs 5 --batch 32 --rule adam --lr 0.01", "dense 32, relu, dense", 0.93),
        ("--epochs 5 --batch 32 --rule lion --lr 0.002", "dense 32, relu, dense", 0.85),
        ("--epochs 5 --batch 64 --model norm", "conv 6, bn, relu, maxpool, dense", 0.9),
        ("--epochs 5 --batch 32 --oracle node --mu 0.3 --model step", "dense 16, step, dense", 0.8),
    ],
)
def test_networks_learn(given, text, least, here, capsys):
    given = [text if word in ("norm", "step") else word for word in given.split()]
    result = deepzero(capsys, *given, "--weights", "made.npz")
    assert result["test_accuracy"] >= least
    data = load("digits")
    params, running = flat(held("made.npz"))
    net = of_reference(text, data)
    x, y = data.batch("test", np.arange(data.count("test")))
    close = 0.5 / len(y)
    accuracy = reference.accuracy(net, params, x, y, running)
    assert result["test_accuracy"] == pytest.approx(accuracy, abs=close)
    loss = reference.loss(net, params, x, y, running)
    assert result["test_loss"] == pytest.approx(loss, rel=1e-4)
    assert result["parameters"] == net.count == len(params)
    assert result["test"] == len(y)


def test_a_black_box_learns(here, capsys):
    given = ["--epochs", "30", "--directions", "60", "--lr", "0.1"]
    result = deepzero(capsys, *BOX.split(), *given, "--weights", "made.npz")
    made, data = held("made.npz"), load("digits")
    x, y = data.batch("test", np.arange(data.count("test")))
    z = x.reshape(len(x), -1) @ made["w"] + made["b"]
    assert np.mean(z.argmax(axis=1) == y) > 0.85
    assert result["test_accuracy"] is None
    assert result["test_loss"] == pytest.approx(reference.cross_entropy(z, y), rel=1e-9)


def a_step(rule, theta, g, memory, eta, momentum, decay, t):
    """Update of parameters by a rule, from its paper."""
    if rule == "sgd":
        memory["v"] = momentum * memory["v"] + g + decay * theta
        return theta - eta * memory["v"]
    if rule == "lion":
        c = momentum * memory["v"] + (1 - momentum) * g
        memory["v"] = 0.99 * memory["v"] + 0.01 * g
        return theta - eta * (np.sign(c) + decay * theta)
    memory["v"] = momentum * memory["v"] + (1 - momentum) * g
    memory["s"] = 0.999 * memory["s"] + 0.001 * g**2
    first, second = memory["v"] / (1 - momentum**t), memory["s"] / (1 - 0.999**t)
    return theta - eta * (first / (np.sqrt(second) + 1e-8) + decay * theta)


@pytest.mark.parametrize(
    ("text", "given"),
    [
        ("dense 6, relu, dense", "--oracle node --mu 1e-7"),
        ("dense 6, relu, dense", "--central --mu 1e-6 --momentum 0.5 --weight-decay 0.1"),
        ("dense 6, tanh, dense", "--oracle node --mu 1e-7 --rule adam --lr 0.01"),
        ("dense 6, tanh, dense", "--central --mu 1e-6 --rule lion --lr 0.003 --weight-decay 0.2"),
        ("dense 6, relu, dense", "--oracle node --mu 1e-7 --schedule constant --warmup 0"),
        ("dense 6, relu, dense", "--oracle node --mu 1e-7 --warmup 0.5"),
        ("dense 6, relu, dense", "--oracle node --mu 1e-7 --warmup 100"),
        (NORMED.replace("relu", "tanh"), "--central --mu 1e-6 --shards 2 --batch 450"),
    ],
)
def test_training_is_that_of_a_plain_loop(text, given, here, capsys):
    data = load("digits")
    net = of_reference(text, data)
    said = dict(re.findall(r"--(\S+) ([^-]\S*)", given))
    batch, epochs, seed = int(said.get("batch", 300)), 3, 4
    mine = ["--model", text, "--precision", "double", "--seed", str(seed)]
    mine += ["--epochs", str(epochs), *given.split()]
    mine += [] if "batch" in said else ["--batch", str(batch)]
    deepzero(capsys, *mine, "--epochs", "1", "--lr", "1e-300", "--weights", "begin.npz")
    theta, running = flat(held("begin.npz"))
    if running is not None:
        running = reference.initial_running(net)
    each = -(-data.count("train") // batch)
    total, warmup = epochs * each, round(float(said.get("warmup", 3)) * each)
    warmup = min(warmup, total // 2)
    memory = {"v": np.zeros_like(theta), "s": np.zeros_like(theta)}
    for t in range(total):
        rows = batch_rows(data.count("train"), batch, seed, t)
        g, statistics = reference.gradient(net, theta, *data.batch("train", rows))
        eta = float(said.get("lr", 0.1))
        if "schedule" not in said:
            eta = reference.learning_rate(t, total, warmup, eta)
        momentum, decay = float(said.get("momentum", 0.9)), float(said.get("weight-decay", 5e-4))
        rule = said.get("rule", "sgd")
        theta = a_step(rule, theta, g, memory, eta, momentum, decay, t + 1)
        if running is not None:
            running = reference.averaged(running, statistics)
    deepzero(capsys, *mine, "--weights", "made.npz")
    made, moments = flat(held("made.npz"))
    np.testing.assert_allclose(made, theta, rtol=0, atol=1e-6)
    assert np.abs(made - flat(held("begin.npz"))[0]).max() > 0.01
    if running is not None:
        np.testing.assert_allclose(moments, running, rtol=1e-5, atol=1e-6)


def test_the_history_is_of_the_epochs(here, capsys):
    result = deepzero(capsys, *KINDS["node"], "--out", "run")
    rows = RunFolder("run").history()
    assert [row["step"] for row in rows] == [5, 10, 15]
    assert [row["queries"] for row in rows] == [5 * 19, 10 * 19, 15 * 19]
    last = {"best": "train_loss", "test_loss": "test_loss", "test_accuracy": "test_accuracy"}
    assert {name: rows[-1][name] for name in last} == {k: result[v] for k, v in last.items()}
    assert rows[0]["best"] > rows[-1]["best"] == result["fun"]


@pytest.mark.parametrize("shards", ["1", "3", "4"])
def test_the_training_loss_of_es_is_the_mean_of_its_pairs(shards, here, capsys):
    given = ["--oracle", "es", "--directions", "4", "--shards", shards, "--mu", "1e-6"]
    given += ["--epochs", "1", "--batch", "1347", "--precision", "double", "--lr", "1e-12"]
    result = deepzero(capsys, *given)
    base = deepzero(capsys, *given[:-2], "--oracle", "node", "--directions", "24", "--lr", "1e-12")
    assert result["train_loss"] == pytest.approx(base["train_loss"], rel=1e-4)


def test_batches_larger_than_the_data_and_last_ones_of_one(here, capsys):
    few(here)
    for model in ("dense 3, relu, dense", "dense 3, bn, relu, dense"):
        for batch in (1, 13, 39, 40, 64, 60_000):  # 40 samples: the last batch of 39 is one
            for oracle in ("cge", "rge", "es"):
                result = train(model, "few.npz", batch=batch, epochs=2, oracle=oracle)
                assert result.steps == 2 * -(-40 // batch)
                assert math.isfinite(result.train_loss)
                assert math.isfinite(result.test_loss)
                moments = [a for name, a in result.params.items() if name.endswith("variance")]
                assert all(np.isfinite(a).all() and (a >= 0).all() for a in moments)
                assert (here / "few.npz").exists()


def test_the_test_part_is_evaluated_in_any_pieces(here):
    few(here)
    data = load("few.npz")
    results = [
        train("mlp", data, hidden=4, epochs=1, oracle="node", batch=40, shards=shards, lr=1e-300)
        for shards in (1, 7, 61)
    ]
    x, y = data.batch("test", np.arange(60))
    net = reference.parse("dense 4, relu, dense 2", data.shape)
    for result in results:
        params, _ = flat(result.params)
        assert result.test_accuracy == reference.accuracy(net, params, x, y)
        assert result.test_loss == pytest.approx(reference.loss(net, params, x, y), rel=1e-5)


def test_more_shards_than_work(here, capsys):
    few(here)
    small = ["--data", "few.npz", "--hidden", "2", "--epochs", "2", "--precision", "double"]
    for given in ("", "--oracle node", "--oracle rge", "--oracle es", "--oracle cyclic"):
        one, many = (
            deepzero(capsys, *small, *given.split(), "--shards", shards) for shards in ("1", "30")
        )
        assert many["train_loss"] == pytest.approx(one["train_loss"], rel=1e-9)
