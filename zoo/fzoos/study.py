"""Federated runs, as commands start and continue them; see :mod:`zoo.minimization`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, replace
from hashlib import sha256
from typing import Any

from zoo.config import build, taken
from zoo.errors import InputError, RunError
from zoo.fzoos.config import FederatedProblem, FZooSConfig
from zoo.fzoos.job import Job
from zoo.fzoos.method import Federation
from zoo.fzoos.problems import Federated, problem_of
from zoo.objectives.load import source_digest
from zoo.optimize import as_seed, numbers, words
from zoo.runtime.folder import CONFIG, RunFolder
from zoo.runtime.launch import Prepared


def prepare(name: str, values: dict[str, Any], seed: int) -> Prepared:
    """Prepare a run; see :func:`zoo.minimization.prepare`."""
    given = _located(taken(FederatedProblem, values))
    config = build(FZooSConfig, values)
    job = job_of(problem_of(given, seed), config, seed)
    return assembled(job, describe(name, asdict(given), job))


def job_of(problem: Federated, config: FZooSConfig, seed: int, x0: Any = None) -> Job:
    """Job of what a command, or a caller, was given.

    Raises
    ------
    InputError
        If the parts do not fit.
    """
    count = len(problem.clients)
    if config.min_clients > count:
        raise InputError(f"min_clients must be at most the {count} clients, got more")
    return Job(problem, config.completed(), seed, x0)


def describe(
    name: str, problem: Mapping[str, Any], job: Job, from_python: bool = False
) -> dict[str, Any]:
    """Content of the run folder's config.json."""
    return {
        "method": name,
        "problem": dict(problem),
        "config": words(job.config),
        "budget": {},
        "seed": job.seed,
        "clients": len(job.problem.clients),
        "dim": job.dimension,
        "given": _digest(job),
        "source": source_digest(problem.get("objective")),
        "from_python": from_python,
    }


def assembled(job: Job, described: Mapping[str, Any]) -> Prepared:
    """Run of a job."""
    head = {
        "method": "fzoos",
        "objective": job.problem.name,
        "dim": job.dimension,
        "clients": len(job.problem.clients),
    }
    return Prepared(
        Federation(job),
        head,
        described,
        job.seed,
        seconds=job.config.seconds,
        minimum=job.problem.minimum,
    )


def reopen(stored: Mapping[str, Any], folder: RunFolder, objective: str | None) -> Prepared:
    """Prepare a stored run again; see :func:`zoo.minimization.reopen`."""
    if stored.get("from_python"):
        raise InputError(
            f"{folder.path} was started from Python: zoo.fzoos.federate.resume continues it there"
        )
    given, config, seed = stored_config(stored, folder)
    if objective is not None:
        if None in (source_digest(given.objective), source_digest(objective)):
            raise InputError("--objective is for FILE.py:NAME that has been moved, to FILE.py:NAME")
        given = _located(replace(given, objective=objective))
    job = job_of(problem_of(given, seed), config, seed)
    check_same(stored, job, folder)
    made = assembled(job, stored)
    if stored.get("source") in (None, source_digest(given.objective)):
        return made
    return replace(made, warnings=["the clients' file has changed since the run was started"])


def check_same(stored: Mapping[str, Any], job: Job, folder: RunFolder) -> None:
    """Refuse to go on with other clients."""
    for what, now in (("clients", len(job.problem.clients)), ("dim", job.dimension)):
        if stored.get(what) != now:
            raise InputError(f"{folder.path} was started with {what} {stored.get(what)}, not {now}")
    if stored.get("given") != _digest(job):
        raise InputError(f"{folder.path} was started with other bounds, weights or x0")


def _digest(job: Job) -> str:
    """Digest of the numbers that a run is given: bounds, weights, and the first iterate."""
    numbers = (job.problem.lower, job.problem.upper, job.problem.weights, job.start)
    return sha256(b"".join(array.tobytes() for array in numbers)).hexdigest()


def stored_config(
    stored: Mapping[str, Any], folder: RunFolder
) -> tuple[FederatedProblem, FZooSConfig, int]:
    """What a run folder's config.json states.

    Raises
    ------
    RunError
        If it is damaged.
    """
    try:
        given = build(FederatedProblem, stored["problem"])
        config = build(FZooSConfig, numbers(FZooSConfig, stored["config"]))
        return given, config, as_seed(stored["seed"])
    except (KeyError, TypeError, AttributeError, InputError) as error:
        raise RunError(f"{folder.path / CONFIG} is damaged: {error}") from error


def lines(result: Mapping[str, Any]) -> tuple[str, list[tuple[str, str]]]:
    """Title, and rows of a label and a text, that tell of a result."""
    fun = f"{result['fun']:.6g}"
    if result.get("gap") is not None:
        fun += f", {result['gap']:.3g} above the minimum"
    seconds = float(result["seconds"])
    work = (
        f"{result['rounds']:,} rounds, {result['queries']:,} queries of all clients, "
        f"{seconds:.3g} s"
    )
    travelled = f"{_bytes(result['bytes_up'])} up, {_bytes(result['bytes_down'])} down"
    rows = [("fun", fun), ("work", work), ("traffic", travelled)]
    title = (
        f"{result['objective']} (dim {result['dim']}, {result['clients']} clients): "
        f"{result['algorithm']}, seed {result['seed']}"
    )
    return title, rows


def _bytes(count: float) -> str:
    for unit in ("bytes", "kB", "MB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} GB"


def _located(given: FederatedProblem) -> FederatedProblem:
    """Names of files made absolute: a run may be resumed from another folder."""
    where, mark, name = given.objective.rpartition(":")
    if mark and where.endswith(".py"):
        path = os.path.abspath(os.path.expanduser(where))
        return replace(given, objective=f"{path}:{name}")
    return given
