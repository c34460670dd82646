"""Networks by name."""

from __future__ import annotations

import difflib
import os
from pathlib import Path

from zoo.deepzero.config import NetworkConfig
from zoo.errors import InputError

MODELS = ("mlp", "cnn", "resnet20")


def layers_of(config: NetworkConfig) -> str:
    """Layers, in words, of the network that a config asks for.

    ``mlp`` has rectified units. ``cnn`` is the family of DeepZero's Figure 2 (3 x 3 convolutions
    with batch normalization, relu and maxpool; 730 to 12,610 parameters for depths 1 to 5 on
    CIFAR-10). ``resnet20`` is that of He et al. 2016 for CIFAR-10, with 269,722 parameters.

    Raises
    ------
    InputError
        If there is none of that name, or the file cannot be read.
    """
    model = config.model.strip()
    for name, given in (("hidden", "mlp"), ("depth", "cnn"), ("width", "cnn")):
        if getattr(config, name) != getattr(NetworkConfig, name) and model != given:
            raise InputError(f"{name} is for the {given}, not for {model}")
    if model == "mlp":
        return ", ".join(f"dense {size}, relu" for size in _sizes(config.hidden)) + ", dense"
    if model == "cnn":
        block = f"conv {config.width}, batchnorm, relu, maxpool"
        return ", ".join([block] * config.depth) + ", avgpool, dense"
    if model == "resnet20":
        return _resnet(16, 3)
    file = os.path.isfile(os.path.expanduser(model))
    if not file and (model == "dense" or " " in model or "," in model or "\n" in model):
        return model
    try:
        return Path(os.path.expanduser(model)).read_text()
    except (OSError, ValueError) as error:
        near = difflib.get_close_matches(model, MODELS, 1)
        hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(MODELS)}"
        reason = getattr(error, "strerror", None) or "it is not text"
        raise InputError(f"unknown model {model!r}: {hint} (and as a file: {reason})") from None


def _sizes(text: str) -> list[int]:
    words = [word.strip() for word in text.split(",")]
    if not all(word.isdecimal() and 0 < int(word) < 1 << 16 for word in words):
        raise InputError(f"hidden must be whole numbers >= 1, such as 256,128, got {text!r}")
    return [int(word) for word in words]


def _resnet(width: int, blocks: int) -> str:
    words = [f"conv {width} bias=no, batchnorm, relu"]
    for k in range(3 * blocks):
        channels = width << (k // blocks)
        stride = " stride=2" if k and k % blocks == 0 else ""
        inside = (
            f"conv {channels}{stride} bias=no, batchnorm, relu, conv {channels} bias=no, batchnorm"
        )
        words.append(f"({inside}), relu")
    return ", ".join(words) + ", avgpool, dense"
