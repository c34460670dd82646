"""The end of a run: a few lines for people, or one JSON object."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from cli.progress import short
from cli.table import columns
from zoo import methods
from zoo.problem import ATTEMPTS, show_point
from zoo.runtime.folder import to_json

#: Arrays of more numbers than this are left out of the JSON object.
_MANY = 1000
_ALWAYS = ("x", "consensus", "mean")

#: Restarts that are named, the last ones.
_NAMED = 6

#: A run whose value is this close to the minimum has found it.
_FOUND = 1e-6


def as_json(result: Mapping[str, Any], minimum: float | None = None) -> dict[str, Any]:
    """Result as plain JSON values, without its large arrays."""
    fields = {
        name: to_json(value)
        for name, value in result.items()
        if name in _ALWAYS or np.size(value) <= _MANY
    }
    return fields if minimum is None else fields | {"minimum": minimum}


def print_json(content: Mapping[str, Any]) -> None:
    """Print one JSON object on one line."""
    print(json.dumps(to_json(content)))


@contextlib.contextmanager
def printed(
    found: Sequence[Mapping[str, Any]], as_object: bool, minimum: Callable[[], float | None]
) -> Iterator[None]:
    """Print the last result found, however the block ends: what a failed run had found too."""
    try:
        yield
    finally:
        if found and as_object:
            print_json(as_json(found[-1], minimum()))
        elif found:
            print("\n".join(lines(found[-1], minimum())))


def number(value: Any) -> str:
    """A number in a few digits; what has none is a dash."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return "-"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def lines(result: Mapping[str, Any], minimum: float | None = None) -> list[str]:
    """Result in a few lines.

    Parameters
    ----------
    result : mapping
        Of a run, or of its folder's result.json.
    minimum : float, optional
        Known minimum of the objective.
    """
    if methods.get(result["method"]).study != methods.MINIMIZATION:
        title, told = methods.get(result["method"]).study_module().lines(result)
        return [title, *(f"  {line}" for line in columns(_ended(told, result)))]
    fun = result.get("fun")
    rows = [("fun", number(fun))]
    if minimum is not None and fun is not None:
        rows.append(("minimum", f"{number(float(minimum))}, so the error is {fun - minimum:.3g}"))
    rows.append(("x", show_point(np.asarray(result["x"], np.float64))))
    if result.get("consensus_fun") is not None:
        rows.append(("consensus", f"fun {number(result['consensus_fun'])} at the consensus point"))
    if "runs_fun" in result:
        rows.append(("runs", _runs(np.asarray(result["runs_fun"], np.float64), minimum)))
    if len(result.get("restarts", ())) > 1:
        rows.append(("restarts", _restarts(result["restarts"][1:])))
    if "minima_fun" in result:
        values = np.asarray(result["minima_fun"], np.float64)
        shown = ", ".join(f"{value:.4g}" for value in values[:6])
        rows.append(("minima", f"{len(values)}: {shown}{', ...' if len(values) > 6 else ''}"))
    seconds = float(result["seconds"])
    rate = f", {short(result['nfev'] / seconds)} evaluations/s" if seconds > 0 else ""
    rows.append(
        (
            "work",
            f"{result['nfev']:,} evaluations, {result['nit']:,} steps, {seconds:.3g} s{rate}",
        )
    )
    bad = failures(result.get("failures") or {})
    if result.get("nonfinite"):
        bad.insert(0, f"{result['nonfinite']:,} without a finite value")
    if bad:
        rows.append(("failures", ", ".join(bad)))
    rows = _ended(rows, result)
    title = f"{result['objective']}, dimension {result['dim']}: {result['method']}, seed "
    return [title + str(result["seed"]), *(f"  {line}" for line in columns(rows))]


def _ended(rows: list[tuple[str, str]], result: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Rows, and what is said of the end of every run."""
    crew = [("workers", workers(result["workers"]))] if result.get("workers") else []
    return [*rows, *crew, ("ended", str(result["message"]))]


def failures(counts: Mapping[str, int]) -> list[str]:
    """What is to be said of evaluations that failed."""
    said = []
    for kind in ATTEMPTS:
        name = {"crash": "crashed", "timeout": "timed out", "output": "printed no number"}[kind]
        again, given_up = counts.get(f"retried {kind}", 0), counts.get(kind, 0)
        if again:
            said.append(f"{again:,} {name} and repeated")
        if given_up:
            said.append(f"{given_up:,} {name} and given up")
    kinds = {name for kind in ATTEMPTS for name in (kind, f"retried {kind}")}
    return said + [f"{count:,} {kind}" for kind, count in counts.items() if kind not in kinds]


def workers(counts: Mapping[str, int]) -> str:
    """What is to be said of the workers of a run."""
    said = [f"{counts.get('workers', 0)} in the end"]
    if counts.get("lost"):
        said.append(f"{counts['lost']} lost")
    if counts.get("replayed"):
        shards, messages = _count(counts["moved"], "shard"), _count(counts["messages"], "message")
        said.append(f"{shards} rebuilt by {messages}")
    if counts.get("resent"):
        said.append(f"{_count(counts['resent'], 'chunk')} sent again")
    if counts.get("copies"):
        said.append(f"{_count(counts['copies'], 'straggler')} sent to a second worker")
    return ", ".join(said)


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'s' * (number != 1)}"


def _restarts(runs: Sequence[Mapping[str, Any]]) -> str:
    more = ["..."] if len(runs) > _NAMED else []
    sizes = [f"{run['regime']} {run['popsize']}" for run in runs[-_NAMED:]]
    reasons = [" and ".join(run["stop"]) or "-" for run in runs[-_NAMED:]]
    return f"{len(runs)} ({', '.join(more + sizes)}): {', '.join(more + reasons)}"


def _runs(values: Any, minimum: float | None) -> str:
    values = np.where(np.isfinite(values), values, np.inf)
    base, of = (values.min(), "the best") if minimum is None else (minimum, "the minimum")
    found = int(np.sum(values <= base + _FOUND))
    return (
        f"{found} of {len(values)} within {_FOUND:g} of {of}; "
        f"median {np.median(values):.4g}, worst {values.max():.4g}"
    )
