"""What every benchmark prints and writes: a table, and the same rows as JSON."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from pathlib import Path
from typing import Any


def arguments(description: str | None, **more: str) -> argparse.Namespace:
    """--quick and --out, the options that every benchmark has, and more of their own with help."""
    parser = argparse.ArgumentParser(description=description)
    for name, text in more.items():
        parser.add_argument(f"--{name}", type=Path, help=text)
    parser.add_argument("--quick", action="store_true", help="less work: does it run at all?")
    parser.add_argument("--out", type=Path, help="write the rows as JSON to this file")
    return parser.parse_args()


def shown(value: Any) -> str:
    """One cell."""
    if isinstance(value, float):
        return f"{value:.4g}"
    return "" if value is None else str(value)


def report(title: str, rows: list[dict[str, Any]], out: Path | None = None) -> None:
    """Print rows of one table; with ``out`` append them to that JSON file."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    cells = [names] + [[shown(row.get(name)) for name in names] for row in rows]
    widths = [max(len(line[i]) for line in cells) for i in range(len(names))]
    print(f"\n{title}")
    for line in cells:
        print(
            "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        )
    if out is not None:
        content = json.loads(out.read_text()) if out.exists() else {"machine": machine()}
        content[title] = rows
        out.write_text(json.dumps(content, indent=1) + "\n")


def machine() -> dict[str, Any]:
    """Where the numbers come from."""
    found = {
        "cores": len(os.sched_getaffinity(0)),
        "machine": platform.machine(),
        "python": platform.python_version(),
    }
    cuda = sys.modules.get("zoo.cuda")
    if cuda is not None and not cuda.SIMULATED:
        name = cuda.cuda.get_current_device().name
        found["gpu"] = name.decode() if isinstance(name, bytes) else str(name)
    return found
