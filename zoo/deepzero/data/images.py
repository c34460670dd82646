"""Images in the folders of their classes, in a folder or a tar."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np

from zoo.deepzero.data.archives import entries
from zoo.deepzero.data.parts import Array, Labelled, Parts
from zoo.errors import InputError
from zoo.extras import needed

_ENDINGS = (".png", ".jpg", ".jpeg")
_ACCEPTED = "train/CLASS/NAME.png and test/CLASS/NAME.png, or CLASS/NAME.png (also .jpg, .jpeg)"
_GREY = ("1", "L", "LA")
_COLOURED = ("P", "PA", "RGB", "RGBA", "CMYK", "YCbCr")


class _Image(NamedTuple):
    part: str  # train, test, or empty
    label: str
    name: str  # as the folder or the tar has it
    pixels: Array  # uint8 (1, H, W) or (3, H, W)


def images(path: Path) -> Parts:
    """Images of a folder or a tar: train/CLASS/NAME and test/CLASS/NAME, or CLASS/NAME alone.

    Their order is that of the classes, whose names are sorted, then of the file names. All must be
    of one size; grey ones among coloured ones become coloured, and transparency is left out. So
    are images beside train/ and test/. Pixels of JPEG can differ in the last bit between versions
    of the library that Pillow uses.

    Raises
    ------
    InputError
        If there are no such images, one cannot be read, or they differ in size.
    """
    library = needed("PIL.Image", f"the images of {path} need Pillow", "images")
    found = [_decoded(library, path, *entry) for entry in entries(path, _is_image)]
    if not found:
        raise InputError(f"{path} has no images in folders of classes: accepted are {_ACCEPTED}")
    first = found[0]
    for image in found:
        if image.pixels.shape[1:] != first.pixels.shape[1:]:
            sizes = (f"{i.pixels.shape[1]}x{i.pixels.shape[2]} ({i.name})" for i in (first, image))
            raise InputError(f"{path}: images must be of one size, got {' and '.join(sizes)}")
    given = {image.part for image in found if image.part}
    if len(given) == 1:
        raise InputError(f"{path} has images in {given.pop()}/ alone: accepted are {_ACCEPTED}")
    found = [image for image in found if bool(image.part) == bool(given)]
    name = path.resolve().name  # a folder may be given as "."
    found.sort(key=lambda image: (image.label, PurePosixPath(image.name).name, image.name))
    classes = tuple(sorted({image.label for image in found}))
    channels = max(image.pixels.shape[0] for image in found)
    stacked = {
        part: _stacked([image for image in found if image.part == part], classes, channels)
        for part in given or {""}
    }
    if given:
        return Parts(name, stacked["train"], stacked["test"], classes=classes)
    return Parts(name, stacked[""], classes=classes)


def _is_image(name: str) -> bool:
    path = PurePosixPath(name)
    hidden = path.name.startswith(".")
    return path.suffix.lower() in _ENDINGS and not hidden and bool(path.parent.name)


def _decoded(library: Any, path: Path, name: str, content: bytes) -> _Image:
    try:
        with library.open(io.BytesIO(content), formats=("JPEG", "PNG")) as image:
            mode = image.mode
            if mode in _GREY + _COLOURED:
                pixels = np.asarray(image.convert("L" if mode in _GREY else "RGB"))
    except Exception:  # decoders raise all kinds for damaged images
        raise InputError(f"{path}: {name} is no JPEG or PNG image, or is damaged") from None
    if mode not in _GREY + _COLOURED:
        raise InputError(f"{path}: {name} must have 8 bits a channel, got an image of mode {mode}")
    pixels = pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)
    label, part = ([*PurePosixPath(name).parts[-2::-1], ""])[:2]
    return _Image(part if part in ("train", "test") else "", label, name, pixels)


def _stacked(found: Sequence[_Image], classes: Sequence[str], channels: int) -> Labelled:
    """Images (N, C, H, W) and their labels (N,)."""
    x = np.empty((len(found), channels, *found[0].pixels.shape[1:]), np.uint8)
    for row, image in enumerate(found):
        x[row] = image.pixels  # grey spreads over the channels
    number = {label: k for k, label in enumerate(classes)}
    return x, np.array([number[image.label] for image in found], np.int64)
