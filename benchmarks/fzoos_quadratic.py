"""Federated quadratics (FZooS, section 6.1): queries of all clients until the gap is small.

d = 300, N = 5 clients, T = 10 local steps, R = 50 rounds; the gap F(x) - F* begins at about 3.3.
"paper": FZooS with the paper's settings (one length scale, gamma = 1/t, queries chosen by their
uncertainty, each client its own), its iterates projected; "paper, gamma 1": the same with the whole
correction. All others with the defaults of zoo, but those that need few queries a round have more
rounds; "step 1/L": decomfl with the step that the known curvature asks for. The yardstick sees the
same functions: forward differences along all coordinates with one Barzilai-Borwein step a round.

Harder: with the condition number 100, rotated, noise of 1e-3 in every value (where differences are
ten times as long, and the paper's process knows of the noise), and two of the five clients in a
round, one after another and all together.

    python benchmarks/fzoos_quadratic.py [--quick] [--out FILE.json] [--seeds 3]
        [--cells 0.5,5,50] [--algorithms paper,shared,...] [--harder 1] [--ablation 1]
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from multiprocessing import get_context
from typing import Any

import numpy as np
from report import arguments, report

GAPS = (1.0, 0.3, 0.1, 0.03, 0.01)
PAPER = {
    "algorithm": "fzoos",
    "kernel": "se",
    "length_scale": 1.0,
    "gp_noise": 1e-6,
    "gamma": "1/t",
    "window": 150,
    "features_window": 500,
    "local_queries": 5,
    "survey": 50,
    "select": "uncertain",
}
SETTINGS: dict[str, dict[str, Any]] = {
    "shared": {"algorithm": "shared"},
    "paper": PAPER,
    "paper, gamma 1": PAPER | {"gamma": "1"},
    "fzoos": {"algorithm": "fzoos"},
    "fedzo": {"algorithm": "fedzo"},
    "fedprox": {"algorithm": "fedprox"},
    "scaffold1": {"algorithm": "scaffold1"},
    "scaffold2": {"algorithm": "scaffold2"},
    "decomfl": {"algorithm": "decomfl", "rounds": 500},
    "decomfl, step 1/L": {"algorithm": "decomfl", "rounds": 500},  # and lr
    "fedkseed": {"algorithm": "fedkseed", "rounds": 500},
    "fedkseed, K = 256": {"algorithm": "fedkseed", "rounds": 500, "pool": 256},
    "fedcma": {"algorithm": "fedcma", "rounds": 500},
}
ABLATION: dict[str, dict[str, Any]] = {
    "shared": {"algorithm": "shared"},
    "shared, 25 a round": {"algorithm": "shared", "survey": 25, "rounds": 100},
    "shared, 100 a round": {"algorithm": "shared", "survey": 100, "rounds": 25},
    "shared, common curvature": {"algorithm": "shared", "curvature": "common"},
    "shared, no curvature": {"algorithm": "shared", "curvature": "none"},
    "shared, window 150": {"algorithm": "shared", "window": 150},
    "fzoos": {"algorithm": "fzoos"},
    "fzoos, own random points": {"algorithm": "fzoos", "select": "random"},
    "fzoos, own uncertain points": {"algorithm": "fzoos", "select": "uncertain"},
    "fzoos, gamma 1/t": {"algorithm": "fzoos", "gamma": "1/t"},
    "fzoos, gamma 0": {"algorithm": "fzoos", "gamma": "0"},
    "fzoos, 5 local queries": {"algorithm": "fzoos", "local_queries": 5},
    "fzoos, window 150": {"algorithm": "fzoos", "window": 150},
    "fzoos, 1,000 features": {"algorithm": "fzoos", "features": 1000},
    "fzoos, squared exponential": {"algorithm": "fzoos", "kernel": "se"},
    "fzoos, length scale 1": {"algorithm": "fzoos", "length_scale": 1.0},
}
HARDER: dict[str, dict[str, Any]] = {
    "condition 100": {"condition": 100.0},
    "condition 100, rotated": {"condition": 100.0, "rotate": True},
    "noise 1e-3": {"noise": 1e-3},
    "participation 0.4": {"participation": 0.4},
    "all of these": {"condition": 100.0, "rotate": True, "noise": 1e-3, "participation": 0.4},
}
YARDSTICK = "all coordinates"
#: With noise: longer differences, of 0.1, and the paper's process is told of it.
NOISY: dict[str, dict[str, Any]] = {
    name: {"step": 0.1}
    for name, setting in SETTINGS.items()
    if setting["algorithm"] not in ("shared", "fzoos", "fedcma")
} | {name: {"gp_noise": 1e-4} for name in ("paper", "paper, gamma 1")}


def history(values: dict[str, Any], seed: int) -> list[dict[str, Any]]:
    """Rows of a run: queries, gap and bytes after each round."""
    from zoo.fzoos import study
    from zoo.runtime.events import PROGRESS, Event
    from zoo.runtime.launch import launch

    rows: list[dict[str, Any]] = []

    def listen(event: Event) -> None:
        if event.kind == PROGRESS:
            rows.extend(event.data["rows"])

    launch(study.prepare("fzoos", dict(values), seed), threads=1, listeners=[listen])
    return rows


def all_coordinates(
    problem: Any, seed: int, rounds: int, participation: float
) -> Iterator[dict[str, Any]]:
    """Forward differences by coordinates of every client, and Barzilai and Borwein's step."""
    from zoo.fzoos.config import FZooSConfig
    from zoo.fzoos.job import Job

    d, clients = len(problem.lower), problem.clients
    width = problem.upper - problem.lower
    x, queries, up, step = Job(problem, FZooSConfig(), seed).start, 0, 0, 0.0
    last: tuple[Any, Any] | None = None
    random = np.random.default_rng(seed)
    h = 1e-4 if problem.noise == 0.0 else 0.05
    taking_part = round(participation * len(clients))
    for k in range(rounds):
        points = np.clip(x + np.concatenate([np.zeros((1, d)), h * np.eye(d)]), 0.0, 1.0)
        moves = (points - x)[1:].diagonal()
        gradient = np.zeros(d)
        for i in random.choice(len(clients), taking_part, replace=False):
            values = clients[i].objective.evaluate(problem.lower + points * width)
            values = values + problem.noise * random.standard_normal(len(values))
            slopes = np.divide(values[1:] - values[0], moves, out=np.zeros(d), where=moves != 0.0)
            gradient += slopes / taking_part
        queries += (d + 1) * taking_part
        up += 8 * d * taking_part
        if last is not None:
            moved, changed = x - last[0], gradient - last[1]
            across = float(moved @ changed)
            if across > 0.0:
                step = float(moved @ moved) / across
        else:
            step = 0.1 / np.abs(gradient).max()
        last = x, gradient
        x = np.clip(x - step * gradient, 0.0, 1.0)
        gap = float(problem.whole((problem.lower + x * width)[None])[0]) - problem.minimum
        yield {"round": k + 1, "queries": queries, "gap": gap, "bytes_up": up, "bytes_down": up}


def one(asked: tuple[str, dict[str, Any], dict[str, Any], int]) -> list[dict[str, Any]]:
    """Rows of a setting, or a yardstick."""
    name, setting, values, seed = asked
    if name != YARDSTICK:
        return history(values | setting, seed)
    from zoo.config import build, options_of
    from zoo.fzoos.config import FederatedProblem
    from zoo.fzoos.problems import split

    own = {key: value for key, value in values.items() if key in options_of(FederatedProblem)}
    problem = split(build(FederatedProblem, own), seed)
    return list(all_coordinates(problem, seed, 40, float(values.get("participation", 1.0))))


def reached(rows: list[dict[str, Any]], gap: float, what: str = "queries") -> float | None:
    """Queries after which the gap is less."""
    return next((row[what] for row in rows if row["gap"] < gap), None)


def median(found: list[float | None]) -> float | None:
    """Median, None standing for never."""
    held = [np.inf if value is None else value for value in found]
    middle = statistics.median(held)
    return None if np.isinf(middle) else middle


def table(
    title: str,
    settings: dict[str, dict[str, Any]],
    values: dict[str, Any],
    seeds: int,
    out: Any,
) -> None:
    """Run the settings, side by side, and report them."""
    asked = [(name, setting, values, seed) for name, setting in settings.items()
             for seed in range(seeds)]  # fmt: skip
    with get_context("spawn").Pool() as pool:
        found = pool.map(one, asked, chunksize=1)
    rows = []
    for k, name in enumerate(settings):
        runs = found[k * seeds : (k + 1) * seeds]
        row: dict[str, Any] = {"algorithm": name}
        for gap in GAPS:
            row[f"{gap:g}"] = median([reached(run, gap) for run in runs])
        row["rounds to 0.1"] = median([reached(run, 0.1, "round") for run in runs])
        row["last gap"] = statistics.median(run[-1]["gap"] for run in runs)
        row["queries"] = statistics.median(run[-1]["queries"] for run in runs)
        for way in ("up", "down"):
            rates = [run[-1][f"bytes_{way}"] / len(run) / 1000 for run in runs]
            row[f"kB {way} a round"] = statistics.median(rates)
        rows.append(row)
    report(f"{title}: queries to a gap, median of {seeds} seeds", rows, out)


def main() -> None:
    given = arguments(
        __doc__,
        seeds="runs of each",
        cells="heterogeneity C, several with commas",
        algorithms="which, with semicolons",
        harder="the harder problems, too",
        ablation="settings of zoo's own, one after another",
    )
    seeds = int(str(given.seeds or 3))
    cells = [float(text) for text in str(given.cells or "0.5,5,50").split(",")]
    dim = 20 if given.quick else 300
    values: dict[str, Any] = {"objective": "quadratic", "dim": dim, "clients": 5}
    settings = ABLATION if given.ablation else SETTINGS | {YARDSTICK: {}}
    if "decomfl, step 1/L" in settings:  # second derivatives in the unit box are 80/d at most
        settings["decomfl, step 1/L"]["lr"] = dim / 80.0
    if given.algorithms is not None:
        names = str(given.algorithms).split(";")
        settings = {name: settings[name] for name in names}
    if given.quick:
        seeds, cells = 1, [5.0]
        settings = {name: setting | {"rounds": 5} for name, setting in settings.items()}
    for cell in cells:
        table(f"C = {cell:g}", settings, values | {"heterogeneity": cell}, seeds, given.out)
    if given.harder:
        for name, more in HARDER.items():
            kept = settings
            if "noise" in more:
                kept = {key: value | NOISY.get(key, {}) for key, value in settings.items()}
            table(f"C = 5, {name}", kept, values | {"heterogeneity": 5.0} | more, seeds, given.out)


if __name__ == "__main__":
    main()
