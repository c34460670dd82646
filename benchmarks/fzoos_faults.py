"""What absent clients cost: the gap on the paper's quadratics after R rounds, by fault.

d = 100, five clients, C = 5. "late": one client does not answer in ten rounds from its 300th query
on (it hangs, and is given up after a second in each), and comes back; "dies": its process ends at
each query from then on; "NaN": so are its values; "participation 0.4": two of five take part in a
round. Beside the gap, the rounds in which somebody was absent, and the seconds of the longest round
but the first.

    python benchmarks/fzoos_faults.py [--quick] [--out FILE.json]
"""

from __future__ import annotations

import os
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from report import arguments, report

import zoo
from zoo.config import build
from zoo.fzoos.config import FederatedProblem
from zoo.fzoos.problems import Part, split

FIRST = 300
ALGORITHMS = ("shared", "fzoos", "scaffold2", "decomfl")


@dataclass
class Faulty:
    """A client's function, of many points, that fails from some query on, so many times.

    Queries and failures are counted in files, for the process that counts may be killed.
    """

    part: Part
    kind: str
    counted: str
    times: int

    def __call__(self, x: Any) -> Any:
        """Values (m,) at points (m, d)."""
        if counted(f"{self.counted}-queries", len(x)) < FIRST:
            return self.part.evaluate(x)
        if counted(f"{self.counted}-failures", 1) > self.times:
            return self.part.evaluate(x)
        if self.kind == "late":
            time.sleep(3600.0)
        if self.kind == "dies":
            os._exit(1)
        return np.full(len(x), np.nan)


def counted(path: str, more: int) -> int:
    """Length of a file, when so many bytes have been added."""
    with open(path, "ab") as file:
        file.write(b"." * more)
        return file.tell()


def run(algorithm: str, fault: str, on_dropout: str, dim: int, rounds: int) -> dict[str, Any]:
    """One row."""
    values = {"dim": dim, "clients": 5, "heterogeneity": 5.0}
    problem = split(build(FederatedProblem, values), 0)
    box = np.stack([problem.lower, problem.upper], 1)
    rows: list[dict[str, Any]] = []
    times: list[float] = []  # at which rounds ended

    def listen(event: Any) -> None:
        if event.data.get("rows"):
            rows.extend(event.data["rows"])
            times.append(time.perf_counter())

    with tempfile.TemporaryDirectory() as folder:
        clients = [zoo.Client(client.objective, bounds=box) for client in problem.clients]
        options: dict[str, Any] = {"rounds": rounds, "seed": 0, "on_dropout": on_dropout}
        if fault in ("late", "dies", "NaN"):
            often = 10 if fault == "late" else 10**9
            part = problem.clients[0].objective
            faulty = Faulty(part, fault, str(Path(folder) / "count"), often)
            clients[0] = zoo.Client(faulty, bounds=box, batched=True)
            options["round_timeout"] = 1.0
        elif fault != "none":
            options["participation"] = 0.4
        result = zoo.federate(clients, algorithm, listeners=[listen], **options)
    assert problem.whole is not None
    assert problem.minimum is not None
    return {
        "algorithm": algorithm,
        "fault": fault,
        "on_dropout": on_dropout,
        "gap": float(problem.whole(result.x[None])[0]) - problem.minimum,
        "rounds": result.rounds,
        "somebody absent": sum("absent" in row for row in rows),
        "queries": result.queries,
        "longest, s": float(np.diff(times).max(initial=0.0)),
    }


def main() -> None:
    given = arguments(__doc__)
    dim, rounds = (10, 12) if given.quick else (100, 30)
    algorithms = ALGORITHMS[:1] if given.quick else ALGORITHMS
    rows = []
    for algorithm in algorithms:
        for fault in ("none", "late", "dies", "NaN", "participation 0.4"):
            rows.append(run(algorithm, fault, "skip", dim, rounds))
        if algorithm in ("fzoos", "scaffold2"):
            rows.append(run(algorithm, "dies", "stale", dim, rounds))
    report("gaps with absent clients", rows, given.out)


if __name__ == "__main__":
    main()
