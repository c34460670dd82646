"""Parameters of methods: declared once, in a frozen dataclass, with their meaning and range.

From the same declaration come the command line's options, the config file, the table in the
documentation and the validation.
"""

from __future__ import annotations

import difflib
import math
import numbers
from collections.abc import Mapping
from dataclasses import MISSING, Field, dataclass, field, fields
from typing import Any, TypeVar, get_type_hints

from zoo.errors import InputError

Config = TypeVar("Config")

_LARGEST = 2**62  # whole numbers fit kernels' int64 with room to add


@dataclass(frozen=True)
class Option:
    """What a parameter means and which values it takes."""

    help: str
    above: float | None = None  # exclusive
    least: float | None = None
    most: float | None = None
    choices: tuple[str, ...] | None = None
    finite: bool = True
    numeric: bool = False  # a word that may be a number

    def accepted(self) -> str:
        """Describe the range in words."""
        if self.choices:
            return " | ".join(self.choices)
        parts = []
        if self.above is not None:
            parts.append(f"> {self.above:g}")
        if self.least is not None:
            parts.append(f">= {self.least:g}")
        if self.most is not None:
            parts.append(f"<= {self.most:g}")
        return " and ".join(parts)


def option(default: Any, help: str, **limits: Any) -> Any:
    """Dataclass field with an :class:`Option`."""
    return field(default=default, metadata={"option": Option(help, **limits)})


def options_of(config: type) -> dict[str, tuple[Field[Any], Option, Any]]:
    """Name -> (field, option, type) of a config dataclass, in order."""
    hints = get_type_hints(config)
    return {
        f.name: (f, f.metadata["option"], hints[f.name])
        for f in fields(config)
        if "option" in f.metadata
    }


def plain(hint: Any) -> tuple[type, bool]:
    """Plain type of a hint, and whether None is accepted."""
    arguments = getattr(hint, "__args__", ())
    if type(None) in arguments:
        return next(a for a in arguments if a is not type(None)), True
    return hint, False


def _checked(name: str, value: Any, option: Option, hint: Any) -> Any:
    kind, optional = plain(hint)
    if value is None and optional:
        return None
    wrong = InputError(f"{name} must be {_name_of(kind)}, got {value!r}")
    if kind is bool or isinstance(value, bool):
        if kind is not bool or not isinstance(value, bool):
            raise wrong
    elif kind is int:
        try:
            whole = isinstance(value, numbers.Integral) or float(value).is_integer()
        except (TypeError, ValueError, OverflowError):
            whole = False
        if isinstance(value, str) or not whole:
            raise wrong
        value = int(value)
        if abs(value) > _LARGEST:
            raise InputError(f"{name} must be at most {_LARGEST}, got {value}")
    elif kind is float:
        try:
            value = float(value) if not isinstance(value, str) else math.nan
        except (TypeError, ValueError):
            raise wrong from None
        if math.isnan(value):
            raise wrong
        if option.finite and math.isinf(value):
            raise InputError(f"{name} must be finite, got {value:g}")
    elif option.numeric and isinstance(value, int):
        value = str(value)
    elif not isinstance(value, str):
        raise wrong
    if option.choices is not None and value not in option.choices:
        near = difflib.get_close_matches(str(value), option.choices, 1)
        hint_text = f" (did you mean {near[0]!r}?)" if near else ""
        raise InputError(f"{name} must be {option.accepted()}, got {value!r}{hint_text}")
    low = option.above is not None and not value > option.above
    low = low or (option.least is not None and not value >= option.least)
    if low or (option.most is not None and not value <= option.most):
        raise InputError(f"{name} must be {option.accepted()}, got {value!r}")
    return value


def _name_of(kind: type) -> str:
    return {int: "a whole number", float: "a number", bool: "true or false", str: "a word"}[kind]


def build(config: type[Config], values: Mapping[str, Any]) -> Config:
    """Config from names and values, each checked.

    Raises
    ------
    InputError
        For a name that the config does not have, or a value outside its type or range.
    """
    known = options_of(config)
    for name in values:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1, 0.5)
            hint = f": did you mean {near[0]!r}?" if near else f"; known are {', '.join(known)}"
            raise InputError(f"unknown parameter {name!r}{hint}")
    checked = {}
    for name, (f, opt, hint) in known.items():
        value = values.get(name, f.default)
        if value is MISSING:
            raise InputError(f"parameter {name!r} is missing")
        checked[name] = _checked(name, value, opt, hint)
    return config(**checked)


def taken(config: type[Config], values: dict[str, Any]) -> Config:
    """Config from those of ``values`` that are its own, which are removed."""
    return build(config, {name: values.pop(name) for name in options_of(config) if name in values})
