"""Federated optimization in Python: of any functions, each of which one client alone evaluates."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from zoo.config import build
from zoo.errors import InputError
from zoo.fzoos import study
from zoo.fzoos.client import Client
from zoo.fzoos.config import FZooSConfig
from zoo.fzoos.job import Job
from zoo.fzoos.problems import federation
from zoo.optimize import as_seed, split_placement, warn
from zoo.runtime.events import Listener
from zoo.runtime.folder import RunFolder
from zoo.runtime.launch import begun, launch, optimize_result, taken_up


def federate(
    clients: Sequence[Client],
    method: str = "shared",
    *,
    bounds: Any = None,
    x0: Any = None,
    seed: int = 0,
    folder: Any = None,
    threads: int | None = None,
    workers: Any = None,
    callback: Callable[[Any], Any] | None = None,
    listeners: Sequence[Listener] = (warn,),
    **options: Any,
) -> Any:
    """Minimize the weighted mean of functions, each of which one client alone can evaluate.

    Parameters
    ----------
    clients : sequence of Client
    method : str
        ``algorithm`` of :class:`zoo.fzoos.config.FZooSConfig`: shared, fzoos, fedzo, fedprox,
        scaffold1, scaffold2, decomfl, fedkseed, fedcma.
    bounds : optional
        Of all clients, if they have none; see :func:`zoo.minimize`.
    x0 : (d,) array, optional
        First iterate; by default uniform in the box.
    seed : int
        The run is a function of the arguments and this, wherever the clients are, as long as none
        of them is late.
    folder : path, optional
        Run folder, for :func:`resume`. It holds what clients remember.
    threads, workers, callback, listeners
        See :func:`zoo.minimize`; with workers, clients are spread over them.
    **options
        Of :class:`zoo.fzoos.config.FZooSConfig`, such as ``rounds``, ``participation``,
        ``min_clients``, ``round_timeout``, ``on_dropout``, and where workers are.

    Returns
    -------
    scipy.optimize.OptimizeResult
        x, fun (as the clients told it), rounds, queries, queries_each (in the order of the
        clients, sorted by their names if they have any), bytes_up, bytes_down, for fzoos raised
        (surrogates whose noise had to be more than was asked for, to have a Cholesky factor), and
        the common fields.

    Raises
    ------
    InputError
        If an argument cannot be used.
    RunError
        If nobody answers, or with ``on_dropout="fail"`` somebody does not.

    Examples
    --------
    >>> import zoo
    >>> clients = [zoo.Client(lambda x, c=c: ((x - c) ** 2).sum()) for c in (-1.0, 0.0, 4.0)]
    >>> result = zoo.federate(clients, bounds=[(-5, 5)] * 4, rounds=10, survey=4, seed=1)
    >>> [round(float(x), 2) for x in result.x]
    [1.0, 1.0, 1.0, 1.0]
    """
    placement, crew, options = split_placement(workers, options)
    placement.check(threads)
    job = _job(clients, bounds, x0, as_seed(seed), {"algorithm": method} | options)
    described = study.describe("fzoos", {}, job, from_python=True)
    prepared = study.assembled(job, described)
    return begun(
        prepared,
        folder,
        threads=threads,
        placement=placement,
        crew=crew,
        callback=callback,
        listeners=listeners,
    )


def resume(
    folder: Any,
    clients: Sequence[Client],
    *,
    bounds: Any = None,
    x0: Any = None,
    threads: int | None = None,
    workers: Any = None,
    callback: Callable[[Any], Any] | None = None,
    listeners: Sequence[Listener] = (warn,),
    **options: Any,
) -> Any:
    """Continue a run of :func:`federate`, to what it would have come to.

    Parameters
    ----------
    folder : path
    clients, bounds, x0
        As they were given to :func:`federate`; the other options are in the folder.
    threads, workers, callback, listeners, **options
        See :func:`zoo.resume`.

    Raises
    ------
    InputError
        If the clients are others.
    RunError
        If the folder holds no such run, or a damaged one.
    """
    placement, crew, options = split_placement(workers, options)
    if options:
        raise InputError(f"unknown parameter {next(iter(options))!r}: a run keeps its own")
    kept = RunFolder(folder)
    stored = kept.config()
    if stored.get("method") != "fzoos":
        raise InputError(f"{folder} is a run of {stored.get('method')}, not of fzoos")
    _, config, seed = study.stored_config(stored | {"problem": {}}, kept)
    job = _job(clients, bounds, x0, seed, vars(config))
    study.check_same(stored, job, kept)
    prepared = study.assembled(job, stored)
    done = kept.result()
    if done is not None:
        return optimize_result(done)
    snapshot = taken_up(kept)
    return launch(
        prepared,
        threads=threads,
        placement=placement,
        crew=crew,
        callback=callback,
        listeners=listeners,
        folder=kept,
        snapshot=snapshot,
    )


def _job(clients: Any, bounds: Any, x0: Any, seed: int, options: dict[str, Any]) -> Job:
    config = build(FZooSConfig, options)
    problem = federation(clients, bounds)
    start = None
    if x0 is not None:
        try:
            start = np.asarray(x0, np.float64)
        except (TypeError, ValueError):
            start = np.empty(0)
        lower, upper = problem.lower, problem.upper
        if start.shape != lower.shape or not np.all((lower <= start) & (start <= upper)):
            raise InputError(f"x0 must be {len(lower)} numbers within the bounds")
        start = (start - lower) / (upper - lower)
    return study.job_of(problem, config, seed, start)
