"""An empty picture, to be drawn on without a display."""

from __future__ import annotations

import logging
from typing import Any

from zoo.extras import needed


def empty_figure(width: float, height: float, dpi: int, extra: str, **options: Any) -> Any:
    """Figure of so many inches.

    Raises
    ------
    InputError
        If Matplotlib is missing; ``extra`` of the package has it.
    """
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    what = "plots need Matplotlib"
    backend = needed("matplotlib.backends.backend_agg", what, extra)
    figure = needed("matplotlib.figure", what, extra).Figure((width, height), dpi=dpi, **options)
    backend.FigureCanvasAgg(figure)
    return figure
