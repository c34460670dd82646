"""Runs of minimizing methods, as commands start and continue them.

Every ``study`` of :class:`zoo.methods.MethodEntry` is a module like this one: ``prepare`` makes a
run of what a command was given, ``reopen`` makes it of a run folder, ``lines`` tells of its result.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

from zoo import methods
from zoo.config import build, taken
from zoo.errors import InputError, RunError
from zoo.objectives import registry
from zoo.objectives.load import ProblemConfig, load, located, source_digest
from zoo.runtime.folder import CONFIG, RunFolder
from zoo.runtime.launch import Prepared


def prepare(name: str, values: dict[str, Any], seed: int) -> Prepared:
    """Prepare a run of a method.

    Parameters
    ----------
    name : str
        Of the method.
    values : dict
        Of the problem, the budget and the method, by name.
    seed : int

    Raises
    ------
    InputError
        If they cannot be used.
    """
    from zoo import optimize

    problem_config = located(taken(ProblemConfig, values))
    config, budget = optimize.split_options(name, values)
    problem = load(problem_config)
    described = optimize.describe(name, asdict(problem_config), config, budget, seed)
    described |= {"source": source_digest(problem_config.objective)}
    return optimize.prepare(problem, name, config, budget, seed, described=described)


def reopen(stored: Mapping[str, Any], folder: RunFolder, objective: str | None) -> Prepared:
    """Prepare a stored run again; ``objective`` is where its file is now, if it has moved.

    Raises
    ------
    RunError
        If its configuration is damaged.
    InputError
        If its objective is not to be found.
    """
    from zoo import optimize

    problem_config = stored_problem(stored)
    if problem_config is None:
        raise InputError(
            f"{folder.path} was started from Python: zoo.resume({str(folder.path)!r}, function, "
            "bounds) continues it there"
        )
    if objective is not None:
        if None in (source_digest(problem_config.objective), source_digest(objective)):
            raise InputError("--objective is for FILE.py:NAME that has been moved, to FILE.py:NAME")
        problem_config = located(replace(problem_config, objective=objective))
    name, config, budget, seed = optimize.restored(stored, folder)
    problem = load(problem_config)
    warnings = []
    if stored.get("source") not in (None, source_digest(problem_config.objective)):
        warnings.append(
            "the objective's file, or one that it imports, has changed since the run was started"
        )
    made = optimize.prepare(problem, name, config, budget, seed)
    return replace(made, warnings=warnings)


def stored_problem(stored: Mapping[str, Any]) -> ProblemConfig | None:
    """Problem of a stored run; None if it has none that a command could load.

    Raises
    ------
    RunError
        If it is damaged.
    """
    problem = stored["problem"]
    if methods.get(stored["method"]).study != methods.MINIMIZATION:
        return None
    if not (problem.get("objective") or problem.get("command")):
        return None
    try:
        return build(ProblemConfig, problem)
    except (InputError, TypeError) as error:
        raise RunError(f"{CONFIG} is damaged: {error}") from error


def known_minimum(config: ProblemConfig | None) -> float | None:
    """Known minimum of a test function; None for anything else."""
    if config is None or config.objective is None or ":" in config.objective:
        return None
    try:
        if (config.shift, config.rotate, config.bounds) == (None, None, None):
            function = registry.get(config.objective)
            return function.minimum(config.dim or function.default_dim)
        return load(config).minimum
    except InputError:
        return None
