"""Plain text in columns."""

from __future__ import annotations

from collections.abc import Sequence


def columns(
    rows: Sequence[Sequence[str]], *, heads: Sequence[str] = (), right: bool = False
) -> list[str]:
    """Rows as lines of aligned columns; the last one is as long as it likes.

    Parameters
    ----------
    rows : sequence of sequences of str
    heads : sequence of str
        Titles of the columns, if any.
    right : bool
        Align to the right, as numbers are.
    """
    table = [list(heads), *rows] if heads else list(rows)
    if not table:
        return []
    widths = [max(len(row[j]) for row in table) for j in range(len(table[0]))]
    align = str.rjust if right else str.ljust
    return [
        "  ".join(align(cell, width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in table
    ]
