"""A metric that has no gradient, optimized by clients who keep their data: Adult, by macro F1.

A network of one hidden layer is trained by gradients on the cross-entropy of a small public part;
then its weights are moved within +-0.5 to improve macro F1 (or precision, recall, Jaccard), which
each of seven clients evaluates on rows of its own, their labels skewed by a Dirichlet draw. The
clients' mean is minimized; beside it, the metric of all test rows, which nobody has seen. Everybody
has the same number of queries; columns are the clients' mean after shares of them.

A count has steps: differences of a length of 0.01, the default of those who take them, mostly see
none. For every algorithm that has such a length, or a first standard deviation, the best of three
is taken, by the clients' mean of one run of another seed with a quarter of the queries.

    python benchmarks/fzoos_metric.py --data FOLDER [--quick] [--out FILE.json]
        [--metric f1|precision|recall|jaccard|all] [--seeds 3] [--queries 20000]
        [--algorithms shared,fzoos,...]

FOLDER has adult_discretized.csv and adult_discretized_domain.json of private-pgm.
"""

from __future__ import annotations

import json
import statistics
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from report import arguments, report

CLIENTS, HIDDEN, PUBLIC, TEST = 7, 12, 1000, 16_000
METRICS = ("f1", "precision", "recall", "jaccard")
ALGORITHMS = ("shared", "fzoos", "fedzo", "fedprox", "scaffold1", "scaffold2", "decomfl",
              "fedkseed", "fedcma")  # fmt: skip
#: What is tuned.
_STEPS: list[dict[str, Any]] = [{"step": 0.01}, {"step": 0.1}, {"step": 1.0}]
_SIGMAS: list[dict[str, Any]] = [{"sigma0": 0.2}, {"sigma0": 0.05}, {"sigma0": 0.01}]
TUNED = {"fedcma": _SIGMAS} | dict.fromkeys(
    ("fedzo", "fedprox", "scaffold1", "scaffold2", "decomfl", "fedkseed"), _STEPS
)
#: Categories up to so many become columns of their own; other columns are numbers.
_ONE_HOT = 20


def inputs(folder: Path) -> tuple[Any, Any]:
    """Columns (n, k), standardized, and labels."""
    domain = json.loads((folder / "adult_discretized_domain.json").read_text())
    with (folder / "adult_discretized.csv").open() as file:
        names = file.readline().strip().split(",")
        rows = np.loadtxt(file, np.int64, delimiter=",")
    label = names.index("income>50K")
    columns = []
    for k, name in enumerate(names):
        size = domain[name] if isinstance(domain[name], int) else len(domain[name])
        if k != label and size <= _ONE_HOT:
            columns.append(np.eye(size)[rows[:, k]])
        elif k != label:
            columns.append(rows[:, k : k + 1].astype(float))
    x = np.concatenate(columns, 1)
    x = x[:, x.std(0) > 0.0]
    return (x - x.mean(0)) / x.std(0), rows[:, label]


def dealt(theta: Any, inputs: int) -> tuple[Any, ...]:
    """Weights and biases of the two layers."""
    first = inputs * HIDDEN
    cuts = np.cumsum([first, HIDDEN, HIDDEN])
    w1, b1, w2, b2 = np.split(theta, cuts)
    return w1.reshape(inputs, HIDDEN), b1, w2, b2


def labels(theta: Any, x: Any) -> Any:
    """What the network says."""
    w1, b1, w2, b2 = dealt(theta, x.shape[1])
    return np.maximum(x @ w1 + b1, 0.0) @ w2 + b2 > 0.0


def metric(name: str, said: Any, truth: Any) -> float:
    """Macro average over both labels; what is undefined counts as 0."""
    total = 0.0
    for label in (False, True):
        right = float(np.sum((said == label) & (truth == label)))
        claimed, there = float(np.sum(said == label)), float(np.sum(truth == label))
        below = {"precision": claimed, "recall": there, "jaccard": claimed + there - right,
                 "f1": 0.5 * (claimed + there)}[name]  # fmt: skip
        total += right / below if below else 0.0
    return total / 2.0


@dataclass
class Own:
    """A client's function of the change of the weights."""

    name: str
    x: Any
    y: Any
    theta: Any
    concurrent: bool = field(default=True, init=False)
    failures: Counter[str] = field(default_factory=Counter, init=False)
    last_error: str = field(default="", init=False)

    def evaluate(self, x: Any, cancelled: Callable[[], bool] | None = None) -> Any:
        """1 - metric."""
        found = [1.0 - metric(self.name, labels(self.theta + one, self.x), self.y) for one in x]
        return np.array(found)


def trained(x: Any, y: Any, seed: int) -> Any:
    """Weights after some gradient descent on the cross-entropy, by scikit-learn."""
    from sklearn.neural_network import MLPClassifier

    model = MLPClassifier((HIDDEN,), max_iter=30, random_state=seed)
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(x, y)
    (w1, w2), (b1, b2) = model.coefs_, model.intercepts_
    return np.concatenate([w1.ravel(), b1, w2.ravel(), b2])


def one(asked: tuple[str, str, str, dict[str, Any], int, int]) -> dict[str, Any]:
    """A run."""
    folder, name, algorithm, options, seed, queries = asked
    import zoo

    x, y = inputs(Path(folder))
    truth = y == 1
    random = np.random.default_rng(seed)
    order = random.permutation(len(x))
    public, test, rest = np.split(order, [PUBLIC, PUBLIC + TEST])
    theta = trained(x[public], truth[public], seed)
    parts: list[list[Any]] = [[] for _ in range(CLIENTS)]
    for label in (False, True):
        rows = rest[truth[rest] == label]
        shares = random.dirichlet(np.full(CLIENTS, 0.5))
        cuts = (np.cumsum(shares)[:-1] * len(rows)).astype(int)
        for part, piece in zip(parts, np.split(rows, cuts), strict=True):
            part.append(piece)
    clients = []
    for part in parts:
        mine = np.concatenate(part)
        if len(mine):
            own = Own(name, x[mine], truth[mine], theta)
            clients.append(zoo.Client(own, weight=len(mine), bounds=[(-0.5, 0.5)] * len(theta)))
    before = metric(name, labels(theta, x[test]), truth[test])
    rows_of: list[dict[str, Any]] = []

    def listen(event: Any) -> None:
        rows_of.extend(event.data.get("rows", ()))

    result = zoo.federate(
        clients, algorithm, rounds=100_000, queries=queries, seed=seed, x0=np.zeros(len(theta)),
        threads=1, listeners=[listen], **options,
    )  # fmt: skip
    after = metric(name, labels(theta + result.x, x[test]), truth[test])
    row: dict[str, Any] = {"d": len(theta), "before": 1.0 - rows_of[0]["fun"]}
    for share in (0.1, 0.25, 0.5, 1.0):
        within = [now for now in rows_of if now["queries"] <= share * queries]
        row[f"{share:.0%}"] = 1.0 - (within[-1] if within else rows_of[0])["fun"]
    return row | {
        "test, before": before,
        "test, after": after,
        "queries": result.queries,
        "kB up": result.bytes_up / 1000,
        "kB down": result.bytes_down / 1000,
    }


def main() -> None:
    given = arguments(
        __doc__,
        data="folder of the table",
        metric="which, or all",
        seeds="runs of each",
        queries="of all clients",
        algorithms="which, with commas",
    )
    if given.data is None:
        raise SystemExit("fzoos_metric: --data FOLDER is needed, the folder of the table")
    folder, asked = str(given.data), str(given.metric or "f1")
    seeds, queries = int(str(given.seeds or 3)), int(str(given.queries or 20_000))
    algorithms = list(ALGORITHMS)
    if given.algorithms is not None:
        algorithms = str(given.algorithms).split(",")
    if given.quick:
        seeds, queries, algorithms = 1, 600, ["shared", "decomfl"]
    for name in METRICS if asked == "all" else (asked,):
        choices = [(algorithm, options) for algorithm in algorithms
                   for options in TUNED.get(algorithm, [{}])]  # fmt: skip
        with get_context("spawn").Pool() as pool:
            tried = pool.map(
                one, [(folder, name, *choice, 1000, queries // 4) for choice in choices], 1
            )
            best: dict[str, tuple[float, dict[str, Any]]] = {}
            for (algorithm, options), run in zip(choices, tried, strict=True):
                if algorithm not in best or run["100%"] > best[algorithm][0]:
                    best[algorithm] = run["100%"], options
            work = [(folder, name, algorithm, best[algorithm][1], seed, queries)
                    for algorithm in algorithms for seed in range(seeds)]  # fmt: skip
            found = pool.map(one, work, 1)
        rows = []
        for k, algorithm in enumerate(algorithms):
            runs = found[k * seeds : (k + 1) * seeds]
            means = {key: statistics.mean(run[key] for run in runs) for key in runs[0]}
            told = ", ".join(f"{key} {value}" for key, value in best[algorithm][1].items())
            rows.append({"algorithm": algorithm, "tuned": told} | means)
        report(f"macro {name}, mean of {seeds} seeds, {queries} queries", rows, given.out)


if __name__ == "__main__":
    main()
