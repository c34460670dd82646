"""The methods by name: import paths only, so that nothing is imported before it is needed."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from zoo.errors import InputError

#: Study of the methods that minimize a function.
MINIMIZATION = "zoo.minimization"

_MINIMIZATION = {
    "Problem": "zoo.objectives.load:ProblemConfig",
    "Budget (the first limit reached ends the run)": "zoo.runtime.budget:Budget",
}


@dataclass(frozen=True)
class MethodEntry:
    """Where a method is, and what its runs do unless told otherwise.

    Attributes
    ----------
    summary : str
    config : str
        "module:class" of the config dataclass.
    method : str
        "module:class" of the driver's side.
    budget : mapping
        Defaults of the budget.
    inputs : mapping
        Title in the help -> "module:class" of dataclasses of what else a command takes.
    study : str
        Module that prepares runs for commands, with ``prepare``, ``reopen`` and ``lines``: see
        :mod:`zoo.minimization`.
    example : str
        Options for an example in the help.
    result : tuple of str
        Fields that a result must have.
    """

    summary: str
    config: str
    method: str
    budget: Mapping[str, Any] = field(default_factory=dict)
    inputs: Mapping[str, str] = field(default_factory=lambda: _MINIMIZATION)
    study: str = MINIMIZATION
    example: str = "--objective ackley --dim 10 --seed 1 --out RUN"
    result: tuple[str, ...] = ("objective", "dim", "fun", "x", "nfev", "nit")

    def config_class(self) -> Any:
        """Import the config dataclass (light)."""
        return _imported(self.config)

    def method_class(self) -> Any:
        """Import the method (compiled code)."""
        return _imported(self.method)

    def input_classes(self) -> dict[str, Any]:
        """Import the dataclasses of the inputs, by title (light)."""
        return {title: _imported(path) for title, path in self.inputs.items()}

    def study_module(self) -> Any:
        """Import the module that prepares runs."""
        return importlib.import_module(self.study)


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
    "deepzero": MethodEntry(
        "DeepZero: networks trained by forward passes alone, coordinate by coordinate",
        "zoo.deepzero.config:DeepZeroConfig",
        "zoo.deepzero.method:DeepZero",
        inputs={"Network and data": "zoo.deepzero.config:NetworkConfig"},
        study="zoo.deepzero.study",
        example="--model mlp --data digits --oracle node --seed 1",
        result=("test_accuracy", "train_loss", "queries", "steps", "parameters", "oracle"),
    ),
    "fzoos": MethodEntry(
        "FZooS: clients who share a problem and not their values, by surrogates of what they query",
        "zoo.fzoos.config:FZooSConfig",
        "zoo.fzoos.method:Federation",
        inputs={"Clients": "zoo.fzoos.config:FederatedProblem"},
        study="zoo.fzoos.study",
        example="--objective quadratic --dim 100 --clients 5 --heterogeneity 5 --rounds 20",
        result=("objective", "fun", "rounds", "queries", "bytes_up", "bytes_down"),
    ),
    "gsd": MethodEntry(
        "Private-GSD: a differentially private synthetic table by a genetic algorithm",
        "evolve.gsd.config:GSDConfig",
        "evolve.gsd.method:GSD",
        inputs={"Table": "evolve.gsd.config:TableConfig"},
        study="evolve.gsd.study",
        example="--data people.csv --schema people.json --epsilon 1 --out synthetic.csv",
        result=("epsilon", "delta", "rho", "rho_spent", "error", "rows", "out"),
    ),
    "autonumerics": MethodEntry(
        "AutoNumerics-Zero: programs of few operations that compute a function, from scratch",
        "evolve.search.config:SearchConfig",
        "evolve.search.method:Islands",
        inputs={"Target": "evolve.autonumerics.config:TargetConfig"},
        study="evolve.autonumerics.study",
        example="--target exp2 --max-ops 7 --minutes 0.5",
        result=("target", "front", "fits", "candidates"),
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
