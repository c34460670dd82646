"""Federated runs, for tests."""

import numpy as np

import zoo
from zoo.config import build
from zoo.fzoos import study
from zoo.fzoos.config import FederatedProblem, FZooSConfig
from zoo.fzoos.problems import split
from zoo.runtime.events import PROGRESS

#: Small settings of every algorithm.
KINDS = {
    "shared": {"survey": 6},
    "fzoos": {"survey": 5, "features": 200, "start_points": 3, "window": 30, "features_window": 40},
    "fedzo": {"directions": 4},
    "fedprox": {"directions": 4},
    "scaffold1": {"directions": 4},
    "scaffold2": {"directions": 4},
    "decomfl": {"directions": 4},
    "fedkseed": {"pool": 8},
    "fedcma": {"popsize": 5},
}
SMALL = {"local_steps": 3}


def problem(dim=12, clients=3, heterogeneity=5.0, seed=3, **more):
    """The paper's quadratics, small."""
    given = {"dim": dim, "clients": clients, "heterogeneity": heterogeneity, **more}
    return split(build(FederatedProblem, given), seed)


def job(algorithm, shared=None, seed=1, x0=None, **options):
    """Job of a small run."""
    given = {"algorithm": algorithm, "rounds": 4} | KINDS[algorithm] | options
    if algorithm not in ("shared", "decomfl", "fedcma"):
        given = SMALL | given
    shared = problem() if shared is None else shared
    return study.job_of(shared, build(FZooSConfig, given), seed, x0)


def ran(made, **options):
    """Result and history of a job."""
    from zoo.runtime.launch import launch

    rows = []

    def listen(event):
        if event.kind == PROGRESS:
            rows.extend(event.data["rows"])

    prepared = study.assembled(made, study.describe("fzoos", {}, made, from_python=True))
    result = launch(prepared, listeners=[listen], **options)
    return result, rows


def bowls(count=3, dim=4):
    """Clients with bowls about different points; the mean is lowest at the mean of these."""
    centres = np.linspace(-2.0, 3.0, count)
    return [
        zoo.Client(lambda x, c=c: float(((x - c) ** 2).sum()), bounds=[(-5, 5)] * dim)
        for c in centres
    ], float(centres.mean())
