"""Networks in words: a comma-separated list of layers, brackets around what a shortcut spans.

    dense 32, relu, dense 10
    conv 18, batchnorm, relu, maxpool, avgpool, dense
    conv 16, bn, relu, (conv 16 bias=no, bn, relu, conv 16 bias=no, bn), relu, avgpool, dense

A ``dense`` without a number has one output a class. ``kernel`` (3), ``stride`` (1), ``padding``
(kernel // 2) and ``bias`` (yes) follow a convolution. ``maxpool`` and ``avgpool`` take the size of
their windows; an ``avgpool`` without one spans the whole map. Brackets are a residual block (He et
al. 2016): its input is added to its output, subsampled and with channels of zeros where their
shapes differ ("option A").
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass, field

from zoo.errors import InputError

#: Activations, in the order of their numbers in the kernels; all of them are monotone.
ACTIVATIONS = ("", "relu", "tanh", "step", "quantize")

_ALIASES = {"bn": "batchnorm", "fc": "dense", "linear": "dense"}
_KINDS = ("dense", "conv", "batchnorm", *ACTIVATIONS[1:], "maxpool", "avgpool")
_NUMBERED = ("dense", "conv", "quantize", "maxpool", "avgpool")
_MOST = 1 << 16


@dataclass(frozen=True)
class Layer:
    """One layer: its kind, its number (outputs, channels, levels, window; 0: none), its options."""

    kind: str
    number: int = 0
    options: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Residual:
    """A residual block."""

    layers: tuple[Layer, ...]


def parse(text: str) -> tuple[Layer | Residual, ...]:
    """Layers of a network in words.

    Raises
    ------
    InputError
        If there is a word in it that is none of these.
    """
    text = "\n".join(line.partition("#")[0] for line in text.splitlines())
    tokens = re.findall(r"[()]|[^(),\n]+", text.lower())
    layers: list[Layer | Residual] = []
    block: list[Layer] | None = None
    for token in (token.strip() for token in tokens):
        if not token:
            continue
        if token == "(":
            if block is not None:
                raise InputError("a residual block cannot be inside another one: ( ... ( ... ) )")
            block = []
        elif token == ")":
            if not block:
                raise InputError("a residual block is ( and ) around one layer or more")
            layers.append(Residual(tuple(block)))
            block = None
        elif block is not None:
            block.append(_layer(token))
        else:
            layers.append(_layer(token))
    if block is not None:
        raise InputError("a residual block is not closed: ) is missing")
    if not layers:
        raise InputError("a network has at least one layer, such as 'dense'")
    return tuple(layers)


def _layer(token: str) -> Layer:
    word, *rest = token.split()
    kind = _ALIASES.get(word, word)
    if kind not in _KINDS:
        near = difflib.get_close_matches(word, (*_KINDS, *_ALIASES), 1)
        hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(_KINDS)}"
        raise InputError(f"unknown layer {word!r}: {hint}")
    number = 0
    if rest and "=" not in rest[0]:
        if kind not in _NUMBERED:
            raise InputError(f"{kind} takes no number, got {token!r}")
        number = _whole(rest.pop(0), token, 1)
    if not number and kind in ("conv", "quantize"):
        what = "channels" if kind == "conv" else "levels"
        raise InputError(f"{kind} needs a number of {what}, such as '{kind} 16'")
    return Layer(kind, number, dict(_option(kind, text, token) for text in rest))


def _option(kind: str, text: str, token: str) -> tuple[str, int]:
    name, _, value = text.partition("=")
    least = {"kernel": 1, "stride": 1, "padding": 0, "bias": 0}
    if kind != "conv" or name not in least:
        raise InputError(f"{text!r} in {token!r}: only conv takes kernel, stride, padding, bias=no")
    if name == "bias":
        if value not in ("yes", "no"):
            raise InputError(f"bias must be yes or no, got {token!r}")
        return name, int(value == "yes")
    return name, _whole(value, token, least[name])


def _whole(text: str, token: str, least: int) -> int:
    if not (text.isdecimal() and least <= int(text) <= _MOST):
        raise InputError(f"{text!r} in {token!r} must be a whole number from {least} to {_MOST}")
    return int(text)
