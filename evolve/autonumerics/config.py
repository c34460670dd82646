"""What programs are to compute, and of what they may be made."""

from __future__ import annotations

from dataclasses import dataclass

from zoo.config import option

#: Names of the operations, in the order of their codes in :mod:`evolve.autonumerics.programs`.
OPERATIONS = ("add", "sub", "mul", "div", "fma", "sqrt")

#: What may be small.
ERRORS = ("relative", "absolute", "ulp")

#: Operations of a program, at most.
_MOST = 24


@dataclass(frozen=True)
class TargetConfig:
    """A target, and the programs for it."""

    target: str = option(
        "exp2",
        "Function to compute: a name (zoo list targets), or FILE.py:NAME, a function of a number "
        "of mpmath, with a domain.",
    )
    domain: str | None = option(
        None, "Closed interval A,B of x; by default that of the target: [0, 1] of exp2."
    )
    error: str | None = option(
        None,
        "What is to be small: relative or absolute errors, or errors in units in the last place; "
        "by default as usual for the target.",
        choices=ERRORS,
    )
    dtype: str = option(
        "float64",
        "Of the programs: float64 by their error in exact arithmetic, float32 by that of every "
        "float32, in units in the last place.",
        choices=("float64", "float32"),
    )
    device: str = option(
        "cpu",
        "Where every float32 of the domain is tried, at the end, with dtype float32: cpu or cuda.",
        choices=("cpu", "cuda"),
    )
    max_ops: int = option(10, "Operations of a program, at most.", least=1, most=_MOST)
    operations: str = option(
        "add,sub,mul,div", "Operations to use, of add, sub, mul, div, fma and sqrt."
    )
    minutes: float = option(5.0, "Time for the search.", above=0.0)
