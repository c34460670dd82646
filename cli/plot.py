"""A picture of a run: its convergence, and in two dimensions its particles over the objective."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np

from cli.execution import stdout_for_results
from cli.failure import say
from cli.figure import empty_figure
from zoo.errors import InputError, ObjectiveError
from zoo.objectives.load import ProblemConfig, load

if TYPE_CHECKING:
    from zoo.problem import Array, Problem

#: Points a side of the grid under the contours: compiled functions, and Python's.
_FINE, _COARSE = 200, 60
#: Seconds that the grid may take.
_PATIENCE = 10.0

_BLUE, _ORANGE, _RED = "#1f5f8b", "#e08214", "#c0392b"


def draw(
    path: str,
    name: str,
    config: ProblemConfig | None,
    rows: list[dict[str, Any]],
    result: dict[str, Any] | None,
    minimum: float | None,
) -> None:
    """Draw a run into a file, whose name says the format.

    Parameters
    ----------
    path : str
    name : str
        Title, where neither result nor config says what was minimized.
    config : ProblemConfig or None
        For the contours; None draws none.
    rows : list of dict
        The history.
    result : dict or None
    minimum : float or None
        Known minimum; then the distance to it is drawn.

    Raises
    ------
    InputError
        If Matplotlib is missing, there is nothing to draw, or the file cannot be written.
    """
    if not rows:
        raise InputError("there is no history to draw yet")
    particles = _particles(result)
    figure = empty_figure(11.0 if particles is not None else 6.4, 4.6, 150, "plot")
    panels = figure.subplots(1, 2 if particles is not None else 1, squeeze=False)[0]
    _convergence(panels[0], rows, minimum)
    if particles is not None and result is not None:
        _landscape(figure, panels[1], config, particles, result)
    if result is not None:
        what = result.get("model", "table")
        if "dim" in result:
            what = f"{result['objective']}, dimension {result['dim']}"
        name = f"{what}, {result['method']}"
    figure.suptitle(name)
    figure.tight_layout()
    save(figure, path)


def save(figure: Any, path: str) -> None:
    """Write a picture to a file, whose name says the format.

    Raises
    ------
    InputError
        If the file cannot be written.
    """
    try:
        figure.savefig(path)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror or error}") from None
    except ValueError as error:  # a format there is not
        raise InputError(f"cannot write {path}: {error}") from None


def _particles(result: dict[str, Any] | None) -> Array | None:
    """Last positions (n, 2), or None."""
    if result is None or result.get("dim") != 2:
        return None
    given = result.get("particles")
    x = np.empty((0, 2)) if given is None else np.asarray(given, np.float64).reshape(-1, 2)
    return x[np.all(np.isfinite(x), axis=1)]


def _column(rows: list[dict[str, Any]], name: str) -> Array:
    return np.array([np.nan if row.get(name) is None else row[name] for row in rows], np.float64)


def _convergence(axes: Any, rows: list[dict[str, Any]], minimum: float | None) -> None:
    units = ("evaluations", "candidates", "queries", "fits")
    unit = next(name for name in units if name in rows[-1])
    evaluations = _column(rows, unit)
    curves = {name: _column(rows, name) for name in ("best", "median", "worst") if name in rows[-1]}
    what = {"evaluations": "best value", "fits": "-digits"}.get(unit, "loss")
    if "fun" in rows[-1]:
        what = "best value"
    if minimum is not None:
        curves = {name: values - minimum for name, values in curves.items()}
        what = "distance of the best value from the minimum"
    finite = np.concatenate([values[np.isfinite(values)] for values in curves.values()])
    if len(finite) and np.any(finite > 0) and (minimum is not None or np.all(finite > 0)):
        axes.set_yscale("log")  # what lies at the minimum itself is drawn at the lower end
        floor = max(finite[finite > 0].min(), 1e-300)
        curves = {name: np.maximum(values, floor) for name, values in curves.items()}
    if "worst" in curves:
        axes.fill_between(
            evaluations,
            curves["best"],
            curves["worst"],
            color=_BLUE,
            alpha=0.15,
            lw=0,
            label="all runs",
        )
        axes.plot(evaluations, curves["median"], color=_BLUE, ls="--", lw=1, label="median run")
    axes.plot(
        evaluations, curves["best"], color=_BLUE, label="best run" if "worst" in curves else None
    )
    axes.set_xlabel(unit)
    axes.set_ylabel(what)
    axes.grid(alpha=0.3)
    if "worst" in curves:
        axes.legend()


def _landscape(
    figure: Any, axes: Any, config: ProblemConfig | None, particles: Array, result: dict[str, Any]
) -> None:
    problem = _problem(config)
    if problem is not None:
        grid = _grid(problem)
        if grid is not None:
            u, v, values = grid
            filled = axes.contourf(u, v, values, np.linspace(0.0, 1.0, 21), cmap="Greys_r")
            figure.colorbar(filled, ax=axes, label="share of the box with a lower value")
        axes.set_xlim(problem.lower[0], problem.upper[0])
        axes.set_ylim(problem.lower[1], problem.upper[1])
    if len(particles):
        axes.plot(*particles.T, ".", color=_ORANGE, ms=4, alpha=0.7, label="last particles")
    for middle in ("consensus", "mean"):
        if result.get(middle) is not None:
            axes.plot(*result[middle], "o", mfc="none", mec=_BLUE, ms=11, mew=2, label=middle)
    axes.plot(*result["x"], "+", color=_RED, ms=13, mew=2, label="best")
    axes.set_xlabel("$x_0$")
    axes.set_ylabel("$x_1$")
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3, frameon=False)


def _problem(config: ProblemConfig | None) -> Problem | None:
    if config is None or config.command is not None:  # thousands of processes for a picture
        return None
    try:
        with stdout_for_results():
            return load(config)
    except InputError as error:
        say(f"warning: no contours: {error}")
        return None


def _grid(problem: Problem) -> tuple[Array, Array, Array] | None:
    """Coordinates (n,), (n,) and ranks (n, n) of the objective; None if it cannot say in time.

    Ranks, from 0 for the lowest value to 1, show the shape of functions of any scale.
    """
    side = _FINE if problem.objective.concurrent else _COARSE
    u, v = (np.linspace(a, b, side) for a, b in zip(problem.lower, problem.upper, strict=True))
    values = np.empty((side, side))
    end = time.monotonic() + _PATIENCE
    with stdout_for_results():
        for i, second in enumerate(v):
            try:
                values[i] = problem.objective.evaluate(
                    np.stack([u, np.full(side, second)], axis=1), lambda: time.monotonic() > end
                )
            except Exception as error:
                why = error if isinstance(error, ObjectiveError) else "the objective is too slow"
                say(f"warning: no contours: {why}")
                return None
    finite = np.isfinite(values)
    if not np.any(finite):
        return None
    ranks = np.searchsorted(np.sort(values[finite]), values) / np.sum(finite)
    return u, v, np.where(finite, ranks, np.nan)
