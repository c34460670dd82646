"""The methods by name: import paths only, so that nothing is imported before it is needed."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from zoo.errors import InputError


@dataclass(frozen=True)
class MethodEntry:
    """Where a method is, and what its runs do unless told otherwise."""

    summary: str
    config: str  # "module:class" of the config dataclass
    method: str  # "module:class" of the driver's side
    budget: Mapping[str, Any] = field(default_factory=dict)

    def config_class(self) -> Any:
        """Import the config dataclass (light)."""
        return _imported(self.config)

    def method_class(self) -> Any:
        """Import the method (compiled code)."""
        return _imported(self.method)


def _imported(path: str) -> Any:
    module, _, name = path.partition(":")
    return getattr(importlib.import_module(module), name)


METHODS: dict[str, MethodEntry] = {
    "cbo": MethodEntry(
        "consensus-based optimization: particles drift to a weighted mean and explore about it",
        "zoo.cbo.config:CBOConfig",
        "zoo.cbo.method:CBO",
        {"steps": 10_000},
    ),
    "cma": MethodEntry(
        "CMA-ES: a normal distribution adapts its mean, covariance and step size, with restarts",
        "zoo.cma.config:CMAConfig",
        "zoo.cma.method:CMA",
        {"steps": 10_000},
    ),
}


def get(name: str) -> MethodEntry:
    """Method by name.

    Raises
    ------
    InputError
        If there is none of that name.
    """
    if name not in METHODS:
        near = difflib.get_close_matches(name, METHODS, 1)
        hint = f": did you mean {near[0]!r}?" if near else f"; known are {', '.join(METHODS)}"
        raise InputError(f"unknown method {name!r}{hint}")
    return METHODS[name]
