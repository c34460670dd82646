"""Optional libraries: imported where they are used; where one is missing, a line says so."""

from __future__ import annotations

import importlib
from typing import Any

from zoo.errors import InputError


def needed(module: str, what: str, extra: str, otherwise: str = "") -> Any:
    """Import a module that an extra of the package installs.

    Parameters
    ----------
    module : str
    what : str
        Begins the sentence "... needs LIBRARY".
    extra : str
    otherwise : str
        How to go without, if one can.

    Raises
    ------
    InputError
        If it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        hint = f", or go without, by {otherwise}" if otherwise else ""
        raise InputError(f"{what}: pip install 'zoo-engine[{extra}]'{hint} ({error})") from error
