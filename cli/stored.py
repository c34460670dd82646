"""What a run folder says of its run."""

from __future__ import annotations

from typing import Any

from zoo import methods
from zoo.errors import RunError
from zoo.runtime.folder import CONFIG, RESULT, RunFolder

_PARTS = {"method": str, "problem": dict, "config": dict, "budget": dict, "seed": int}

_FIELDS = ("method", "seed", "message", "seconds")


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
    if result is None:
        return None
    entry = methods.METHODS.get(str(result.get("method")))
    wanted = (*_FIELDS, *(entry.result if entry is not None else ()))
    missing = [name for name in wanted if name not in result]
    if missing:
        raise RunError(f"{folder.path / RESULT} is damaged: it has no {missing[0]!r}")
    return result
