"""zoo list: the methods, the test functions, and what programs may be found for."""

from __future__ import annotations

import json as json_
from typing import Any

import click

from cli.table import columns
from zoo.methods import METHODS
from zoo.objectives.registry import FUNCTIONS, TestFunction

_WHAT = ("methods", "objectives", "targets")


@click.command("list", short_help="List methods, test functions and targets.")
@click.argument("what", type=click.Choice(_WHAT), required=False)
@click.option("--json", is_flag=True, help="Print one JSON object.")
def listing(what: str | None, json: bool) -> None:
    """List the methods, the test functions and the targets that there are."""
    wanted = (what,) if what else _WHAT
    if json:
        made = {"methods": methods, "objectives": objectives, "targets": targets}
        print(json_.dumps({name: made[name]() for name in wanted}))
        return
    printed = []
    if "methods" in wanted:
        printed.append(
            "\n".join(columns([[m["name"], m["summary"]] for m in methods()], heads=["method", ""]))
        )
    if "objectives" in wanted:
        printed.append("\n".join(_objective_lines()))
    if "targets" in wanted:
        rows = [
            [t["name"], f"[{t['domain'][0]:g}, {t['domain'][1]:g}]", t["error"]] for t in targets()
        ]
        printed.append("\n".join(columns(rows, heads=["target", "domain", "error"])))
    print("\n\n".join(printed))


def methods() -> list[dict[str, Any]]:
    """Name and summary of every method."""
    return [{"name": name, "summary": entry.summary} for name, entry in METHODS.items()]


def objectives() -> list[dict[str, Any]]:
    """What is known of every test function without computing anything.

    The minimum is None where it depends on the dimension.
    """
    return [
        {
            "name": f.name,
            "dim": f.dim,
            "default_dim": f.default_dim,
            "bounds": _bounds(f),
            "minimum": None if callable(f.lowest) else f.lowest,
            "tags": _tags(f),
            "summary": f.summary,
        }
        for f in FUNCTIONS.values()
    ]


def targets() -> list[dict[str, Any]]:
    """Functions that programs may be found for, where, and how errors count."""
    from evolve.autonumerics.targets import TARGETS

    return [
        {"name": target.name, "domain": list(target.domain), "error": target.error}
        for target in TARGETS.values()
    ]


def _bounds(f: TestFunction) -> list[list[float]]:
    """One pair of bounds if it is that of all coordinates, else one a coordinate."""
    ends = [end(f.default_dim) if callable(end) else end for end in (f.lower, f.upper)]
    lower, upper = (list(e) if not isinstance(e, float | int) else [e] for e in ends)
    count = max(len(lower), len(upper))
    if len(lower) < count:
        lower *= count
    if len(upper) < count:
        upper *= count
    return [[float(a), float(b)] for a, b in zip(lower, upper, strict=True)]


def _tags(f: TestFunction) -> list[str]:
    tags = ["separable"] if f.separable else []
    return [*tags, "multimodal" if f.multimodal else "unimodal"]


def _objective_lines() -> list[str]:
    rows = []
    for f, known in zip(FUNCTIONS.values(), objectives(), strict=True):
        bounds = " x ".join(f"[{low:g}, {high:g}]" for low, high in known["bounds"])
        if callable(f.lower) or callable(f.upper):
            bounds += f" at {f.default_dim}"
        least = f", >= {f.min_dim}" if f.min_dim > 1 else ""
        rows.append(
            [
                f.name,
                f"any{least}" if f.dim is None else str(f.dim),
                bounds,
                "by dimension" if callable(f.lowest) else f"{f.lowest:.6g}",
                ", ".join(known["tags"]),
            ]
        )
    return columns(rows, heads=["objective", "dim", "bounds", "minimum", "tags"])
