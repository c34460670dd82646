"""When a run ends: budgets, target and stagnation, the same words for every method."""

from __future__ import annotations

from dataclasses import dataclass

from zoo.config import option


@dataclass(frozen=True)
class Budget:
    """Limits of a run; the first one reached ends it. None is no limit."""

    steps: int | None = option(None, "Most steps (iterations, generations).", least=0)
    evaluations: int | None = option(None, "Most evaluations of the objective, a run.", least=1)
    seconds: float | None = option(None, "Most seconds of wall-clock time.", above=0)
    target: float | None = option(None, "Stop at an objective value at or below this.")
    patience: int | None = option(
        None, "Stop after this many steps without a better value.", least=1
    )
