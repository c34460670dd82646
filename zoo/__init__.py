"""zoo: derivative-free and evolutionary optimization on a population runtime.

>>> import zoo
>>> result = zoo.minimize(lambda x: (x**2).sum(), [(-5, 5)] * 4, seed=1, steps=300)

Names are imported when first used, so that ``import zoo`` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zoo.asktell import Optimizer
    from zoo.deepzero.train import train
    from zoo.errors import InputError, ObjectiveError, RunError
    from zoo.fzoos.client import Client
    from zoo.fzoos.federate import federate
    from zoo.jit import jit_objective
    from zoo.optimize import minimize, resume
    from zoo.problem import Problem
    from zoo.runtime.distributed.crew import workers

__version__ = "0.1.0"

_WHERE = {
    "Client": "zoo.fzoos.client",
    "InputError": "zoo.errors",
    "ObjectiveError": "zoo.errors",
    "Optimizer": "zoo.asktell",
    "Problem": "zoo.problem",
    "RunError": "zoo.errors",
    "federate": "zoo.fzoos.federate",
    "jit_objective": "zoo.jit",
    "minimize": "zoo.optimize",
    "resume": "zoo.optimize",
    "train": "zoo.deepzero.train",
    "workers": "zoo.runtime.distributed.crew",
}

__all__ = [
    "Client",
    "InputError",
    "ObjectiveError",
    "Optimizer",
    "Problem",
    "RunError",
    "federate",
    "jit_objective",
    "minimize",
    "resume",
    "train",
    "workers",
]


def __getattr__(name: str) -> Any:
    if name in _WHERE:
        return getattr(importlib.import_module(_WHERE[name]), name)
    raise AttributeError(f"module 'zoo' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_WHERE])
