"""A picture of a synthetic table beside the real one. Not private."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from cli.figure import empty_figure
from evolve.gsd.evaluate import Comparison, Distances, merged, merged_sizes, width_of
from evolve.gsd.files import writing

if TYPE_CHECKING:
    from evolve.gsd.columns import Codes, Column
    from evolve.gsd.learning import Learning
    from evolve.gsd.schema import Schema

_BLUE, _ORANGE, _GREY = "#1f5f8b", "#e08214", "#999999"

#: Columns whose names fit beside the heat map, labels that fit below a panel, letters of a label.
_NAMED, _LABELS, _LETTERS = 60, 12, 14

#: Columns that are drawn one by one.
_SHOWN = 3


def blank() -> Any:
    """Figure to draw into; InputError if Matplotlib is missing."""
    return empty_figure(14.0, 9.0, 120, "evaluate", layout="constrained")


def draw(
    path: str,
    title: str,
    schema: Schema,
    real: Codes,
    synthetic: Codes,
    compared: Sequence[Comparison],
    learning: Learning | None,
) -> None:
    """Draw the distances of pairs, the farthest columns and the accuracies into a PNG file.

    Parameters
    ----------
    path : str
    title : str
    schema : Schema
    real, synthetic : int array (N, d), (N', d)
    compared : sequence of Comparison
        1- and 2-way marginals first.
    learning : Learning or None

    Raises
    ------
    InputError
        If Matplotlib is missing.
    RunError
        If the file cannot be written.
    """
    figure = blank()
    from matplotlib import rc_context

    one, two = compared[0].synthetic, compared[1].synthetic
    worst = np.argsort(-one.tvd, kind="stable")[:_SHOWN]
    tables = [merged(table, schema) for table in (real, synthetic)]
    sizes = merged_sizes(schema)
    left = ["pairs"] * _SHOWN
    if learning is not None:
        left[-1] = "learning"
    rows = [[panel, min(i, len(worst) - 1)] for i, panel in enumerate(left)]
    with rc_context({"text.parse_math": False}), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # letters that the font does not have
        panels = figure.subplot_mosaic(rows, width_ratios=(1.15, 1))
        _pairs(figure, panels["pairs"], schema.names, two)
        for i, j in enumerate(worst):
            shares = [np.bincount(table[:, j], minlength=sizes[j]) / len(table) for table in tables]
            _column(panels[i], schema.columns[j], shares, float(one.tvd[j]))
        if learning is not None:
            _accuracies(panels["learning"], learning)
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper right", ncols=2)
        figure.suptitle(title)
        with writing(path) as file:
            figure.savefig(file, format="png")


def _pairs(figure: Any, axes: Any, names: Sequence[str], pairs: Distances) -> None:
    grid = np.full((len(names), len(names)), np.nan)
    for (i, j), distance in zip(pairs.sets, pairs.tvd, strict=True):
        grid[i, j] = grid[j, i] = distance
    image = axes.imshow(grid, cmap="viridis", vmin=0.0, vmax=max(np.nan_to_num(pairs.max), 1e-9))
    figure.colorbar(image, ax=axes, label="total-variation distance")
    every = -(-len(names) // _NAMED)
    shown = range(0, len(names), every)
    labels = [_cut(names[i]) for i in shown]
    size = 8 if len(names) <= _NAMED // 2 else 5
    axes.set_xticks(shown, labels, rotation=90, fontsize=size)
    axes.set_yticks(shown, labels, fontsize=size)
    means = f": mean {pairs.mean:.4f}, max {pairs.max:.4f}" if pairs.sets else ": none"
    axes.set_title(f"pairs of columns{means}")


def _column(axes: Any, column: Column, shares: Sequence[Any], distance: float) -> None:
    places = np.arange(len(shares[0]))
    looks = (("real", _BLUE, -0.2, 2.5), ("synthetic", _ORANGE, 0.2, 1.0))
    for share, (name, colour, side, width) in zip(shares, looks, strict=True):
        if len(places) <= 2 * _LABELS:
            axes.bar(places + side, share, 0.4, color=colour, label=name)
        else:
            axes.step(places, share, where="mid", color=colour, lw=width, label=name)
    shown = places[:: -(-len(places) // _LABELS)]
    if column.null is not None:
        shown = np.append(shown[shown < len(places) - len(places) / _LABELS], places[-1])
    labels = [_cut(_label(column, int(place))) for place in shown]
    axes.set_xticks(shown, labels, rotation=30, ha="right", fontsize=8)
    axes.set_ylabel("share of rows")
    axes.set_title(f"{_cut(column.name, 40)}: distance {distance:.4f}")


def _label(column: Column, place: int) -> str:
    """What a merged code stands for: the first of its values."""
    code = place * width_of(column)
    if code >= column.bins:
        return f"null {column.null}".strip()
    return column.labels[code] if column.kind == "category" else f"{column.edges[code]:.6g}"


def _accuracies(axes: Any, learning: Learning) -> None:
    scores = learning.scores
    bars = axes.barh(
        [f"{score.model},\n{score.trained_on}" for score in scores],
        [score.accuracy for score in scores],
        color=[{"real": _BLUE, "synthetic": _ORANGE}[score.trained_on] for score in scores],
    )
    axes.bar_label(bars, fmt="%.3f", padding=3)
    axes.axvline(learning.majority, color=_GREY, ls="--")
    axes.set_xlim(0, 1.1)
    axes.invert_yaxis()
    axes.set_xlabel("accuracy on real rows; dashed: always the commonest label")
    axes.set_title(f"learning {_cut(learning.target, 40)}")


def _cut(text: str, letters: int = _LETTERS) -> str:
    return text if len(text) <= letters else text[: letters - 3] + "..."
