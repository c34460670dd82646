"""What a run folder says of its run."""

from __future__ import annotations

from typing import Any

from zoo.config import build
from zoo.errors import InputError, RunError
from zoo.objectives import registry
from zoo.objectives.load import ProblemConfig, load
from zoo.runtime.folder import CONFIG, RESULT, RunFolder

_PARTS = {"method": str, "problem": dict, "config": dict, "budget": dict, "seed": int}

_FIELDS = ("method", "objective", "dim", "seed", "fun", "x", "nfev", "nit", "message", "seconds")


def read_run(folder: RunFolder) -> dict[str, Any]:
    """Configuration of the run in a folder, with all its parts.

    Raises
    ------
    RunError
        If there is none, or it is damaged.
    """
    stored = folder.config()
    for name, kind in _PARTS.items():
        if not isinstance(stored.get(name), kind):
            raise RunError(f"{folder.path / CONFIG} is damaged: it has no {name!r}")
    return stored


def read_result(folder: RunFolder) -> dict[str, Any] | None:
    """Result of the run in a folder; None while it has none.

    Raises
    ------
    RunError
        If it is damaged.
    """
    result = folder.result()
    missing = [name for name in _FIELDS if result is not None and name not in result]
    if missing:
        raise RunError(f"{folder.path / RESULT} is damaged: it has no {missing[0]!r}")
    return result


def problem_config(stored: dict[str, Any]) -> ProblemConfig | None:
    """Problem of a stored run; None if it was started from Python.

    Raises
    ------
    RunError
        If it is damaged.
    """
    problem = stored["problem"]
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
