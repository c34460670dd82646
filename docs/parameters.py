"""Write docs/parameters.md: every parameter of every method, from the declarations themselves.

python docs/parameters.py
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from zoo.config import options_of
from zoo.methods import METHODS
from zoo.objectives.load import ProblemConfig
from zoo.runtime.budget import Budget
from zoo.runtime.distributed.placement import Placement


def table(config: type) -> list[str]:
    """Markdown table of a config dataclass."""
    lines = ["| parameter | default | accepted | meaning |", "|---|---|---|---|"]
    for name, (field, option, _) in options_of(config).items():
        cells = [f"`{name}`", default(field.default), option.accepted(), option.help]
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return lines


def default(value: Any) -> str:
    """Show a default."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, float) and not math.isinf(value):
        return f"{value:g}"
    return str(value)


def text() -> str:
    """Return the whole page."""
    lines = ["# Parameters", "", "Written by `docs/parameters.py` from the declarations.", ""]
    lines += ["On the command line `_` is `-`: `--alpha-schedule`. In Python they are keywords of"]
    lines += ["`zoo.minimize`; in a `--config` file, names of a TOML table.", ""]
    lines += ["## Problem of cbo and cma (command line)", "", *table(ProblemConfig), ""]
    lines += [
        "## Budget of cbo and cma",
        "",
        "The first limit reached ends the run.",
        "",
        *table(Budget),
        "",
    ]
    lines += ["## Workers", "", "Nothing here changes a result.", "", *table(Placement), ""]
    for name, entry in METHODS.items():
        lines += [f"## {name}", "", f"{entry.summary[0].upper()}{entry.summary[1:]}.", ""]
        for title, inputs in entry.input_classes().items():
            if inputs not in (ProblemConfig, Budget):
                lines += [f"{title} (command line):", "", *table(inputs), "", "Method:", ""]
        lines += [*table(entry.config_class()), ""]
    return "\n".join(lines)


if __name__ == "__main__":
    (Path(__file__).parent / "parameters.md").write_text(text())
