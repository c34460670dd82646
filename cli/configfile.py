"""Parameters from a TOML file: the same names as on the command line, flat or in tables."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterable
from typing import Any

from zoo.errors import InputError


def read_parameters(path: str, names: Iterable[str], tables: Iterable[str]) -> dict[str, Any]:
    """Name -> value of a file.

    Parameters
    ----------
    path : str
    names : iterable of str
        Parameters that there are; a file may write ``-`` for ``_``.
    tables : iterable of str
        Tables that they may be in; which is in which does not matter.

    Raises
    ------
    InputError
        If the file cannot be read, or has something else.
    """
    try:
        with open(path, "rb") as file:
            content = tomllib.load(file)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is no TOML file: {error}") from None
    names, tables = list(names), list(tables)
    values: dict[str, Any] = {}
    for key, value in content.items():
        if isinstance(value, dict):
            if key not in tables:
                raise InputError(f"{path}: unknown table [{key}]{_hint(key, tables)}")
            for inner, held in value.items():
                _take(values, path, inner, held, names)
        else:
            _take(values, path, key, value, names)
    return values


def _take(values: dict[str, Any], path: str, key: str, value: Any, names: list[str]) -> None:
    name = key.replace("-", "_")
    if name not in names:
        raise InputError(f"{path}: unknown parameter {key!r}{_hint(name, names)}")
    if name in values:
        raise InputError(f"{path}: {key} is given twice")
    if not isinstance(value, str | int | float):
        raise InputError(f"{path}: {key} must be a number, a text, true or false, got {value!r}")
    if isinstance(value, int) and abs(value) >= 2**64:
        raise InputError(f"{path}: {key} is too large")
    values[name] = value


def _hint(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, 1, 0.5)
    return f": did you mean {near[0]!r}?" if near else ""
