"""Images and labels in IDX files, the format of MNIST."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from pathlib import Path

import numpy as np

from zoo.deepzero.data.archives import reading
from zoo.deepzero.data.parts import Array, Labelled, Parts
from zoo.errors import InputError

_IMAGES = re.compile(r"(.*?)(?:train|t10k)-images[.-]idx3-ubyte(?:\.gz)?")


def is_images(path: Path) -> bool:
    """Whether a file is one of images, by its name."""
    return "images" in path.name


def mnist(folder: Path) -> Parts:
    """MNIST, or another data set in files of such names; if it has but one pair, that is split.

    Raises
    ------
    InputError
        If the folder has no such files, or those of several data sets, or they cannot be read.
    """
    found = sorted(path for path in folder.iterdir() if _IMAGES.fullmatch(path.name))
    if not found:
        raise InputError(
            f"mnist: {folder} has neither train-images-idx3-ubyte nor t10k-images-idx3-ubyte "
            "(accepted too: .idx3-ubyte, a prefix such as mnist_, .gz)"
        )
    if len({_IMAGES.sub(r"\1", path.name) for path in found}) > 1:
        names = ", ".join(path.name for path in found)
        raise InputError(f"mnist: {folder} has several data sets: give one of {names} by its path")
    path = next((path for path in found if "train-images" in path.name), found[0])
    parts = idx(path)
    part = "-train" if "train-images" in path.name else "-t10k"
    return replace(parts, name="mnist" if parts.test else f"mnist{part}")


def idx(path: Path) -> Parts:
    """Images of an IDX file with the labels beside it, and those of t10k beside those of train.

    Raises
    ------
    InputError
        If one of the files is missing, not IDX of unsigned bytes, or cut short.
    """
    test = _beside(path, ("train-images", "t10k-images"))
    return Parts(path.name, _pair(path), _pair(test) if test else None, divisor=255.0)


def _pair(path: Path) -> Labelled:
    """Images (N, 1, H, W) of a file, and labels (N,) of the one beside it."""
    labels = _beside(path, ("images", "labels"), ("idx3", "idx1"))
    if labels is None:
        raise InputError(
            f"{path} has no labels beside it: they must be in a file of this name with labels for "
            "images, and idx1 for idx3"
        )
    return _unsigned(path, "images", 3)[:, None], _unsigned(labels, "labels", 1)


def _beside(path: Path, *changes: tuple[str, str]) -> Path | None:
    """File of a changed name, compressed or not; None if there is none."""
    name = path.name.removesuffix(".gz")
    for old, new in changes:
        name = new.join(name.rsplit(old, 1))
    if name == path.name.removesuffix(".gz"):
        return None
    beside = (path.with_name(name), path.with_name(f"{name}.gz"))
    return next((file for file in beside if file.is_file()), None)


def _unsigned(path: Path, what: str, axes: int) -> Array:
    """Unsigned bytes of an IDX file, of so many axes."""
    with reading(path) as file:
        content = file.read()
    magic = bytes([0, 0, 8, axes])  # unsigned bytes, and the number of axes
    if content[:4] != magic:
        raise InputError(
            f"{path} is no IDX file of {what}: it must begin with {magic.hex()}, "
            f"got {content[:4].hex() or 'nothing'}"
        )
    start = 4 + 4 * axes
    shape = tuple(np.frombuffer(content[4:start].ljust(4 * axes, b"\0"), ">u4").tolist())
    if len(content) != start + math.prod(shape):
        raise InputError(
            f"{path} is incomplete or damaged: {' x '.join(map(str, shape))} {what} take "
            f"{start + math.prod(shape)} bytes, got {len(content)}"
        )
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)
