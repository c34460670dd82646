"""Data to train on: read by name or from a file, checked, and in two parts."""

from __future__ import annotations

import difflib
import hashlib
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np

from zoo.deepzero.data import cifar, idx, loaders
from zoo.deepzero.data.images import images
from zoo.deepzero.data.parts import Array, Ints, Labelled, Parts, class_names, labels, stratified
from zoo.errors import InputError

Floats: TypeAlias = np.ndarray[Any, np.dtype[np.float32]]

NAMES = ("digits", "mnist", "cifar10")
FOLDER = "ZOO_DATA"  # environment variable: where mnist and cifar10 are

_ACCEPTED = (
    f"accepted are {', '.join(NAMES)}, or the path of an .npz file, of an IDX file of images "
    "(with images in its name), or of a folder or a tar (.tar, .tar.gz, .tar.xz) of images"
)
_CHUNK = 2**20  # pixels whose squares are held at once


@dataclass(frozen=True, eq=False)
class Dataset:
    """Samples to train on and to test with, and their classes.

    Attributes
    ----------
    name : str
    x_train, x_test : array (N, C, H, W)
        As stored: uint8 for images, float32 otherwise. F features are (N, F, 1, 1). Read-only.
    y_train, y_test : int64 array (N,)
        Class numbers from 0 on. Read-only.
    classes : tuple of str
        Names, in the order of the numbers.
    scale, offset : float32 array (C,)
        Stored numbers x are inputs ``x * scale + offset`` of a network, for each channel.
    """

    name: str
    x_train: Array
    y_train: Ints
    x_test: Array
    y_test: Ints
    classes: tuple[str, ...]
    scale: Floats
    offset: Floats

    def __post_init__(self) -> None:
        for part in ("train", "test"):
            x, y = getattr(self, f"x_{part}"), getattr(self, f"y_{part}")
            labels = np.asarray(y)
            whole = labels.ndim == 1 and labels.dtype.kind in "iu" and len(labels) == len(x) > 0
            if not whole or labels.min() < 0 or labels.max() >= len(self.classes):
                raise InputError(
                    f"{self.name}: y_{part} must be whole numbers from 0 to "
                    f"{len(self.classes) - 1}, one for each of the samples of x_{part}, one or more"
                )
            if x.ndim != 4 or x.shape[1:] != self.x_train.shape[1:]:
                raise InputError(
                    f"{self.name}: x_{part} must be samples (N, C, H, W) of one shape, "
                    f"got {x.shape}"
                )

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape (C, H, W) of a sample."""
        return self.x_train.shape[1:]

    def inputs(self, part: Literal["train", "test"], rows: Ints) -> Floats:
        """Inputs of a network, (len(rows), C, H, W): those rows of a part, normalised."""
        stored = (self.x_train if part == "train" else self.x_test)[rows]
        out: Floats = np.multiply(stored, self.scale[:, None, None], dtype=np.float32)
        out += self.offset[:, None, None]
        return out

    def batch(self, part: Literal["train", "test"], rows: Ints) -> tuple[Floats, Ints]:
        """Inputs and labels of those rows of a part."""
        labels = self.y_train if part == "train" else self.y_test
        return self.inputs(part, rows), labels[rows]

    def count(self, part: Literal["train", "test"]) -> int:
        """Samples of a part."""
        return len(self.y_train if part == "train" else self.y_test)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of all that is stored, in hexadecimal."""
        digest = hashlib.sha256()
        stored = (self.x_train, self.y_train, self.x_test, self.y_test, self.scale, self.offset)
        for array in stored:
            little = np.ascontiguousarray(array).astype(array.dtype.newbyteorder("<"), copy=False)
            digest.update(f"{little.dtype.str}{little.shape}".encode())
            digest.update(little.data)
        return digest.hexdigest()

    def describe(self) -> dict[str, Any]:
        """What it is, in JSON's types; equal for equal data."""
        return {
            "name": self.name,
            "train": len(self.y_train),
            "test": len(self.y_test),
            "classes": list(self.classes),
            "shape": list(self.shape),
            "digest": self.digest,
        }


def load(data: str, folder: str | None = None, split: int = 0) -> Dataset:
    """Read data by name or path.

    Parameters
    ----------
    data : str
        - ``digits``: 8x8 images that come with the package.
        - ``mnist``: IDX files, see :func:`zoo.deepzero.data.idx.mnist`.
        - ``cifar10``: see :func:`zoo.deepzero.data.cifar.cifar10`.
        - Path of an .npz file, see :func:`zoo.deepzero.data.loaders.npz`; of an IDX file of
          images; or of a folder or tar of images, see :func:`zoo.deepzero.data.images.images`.
    folder : str, optional
        Where mnist or cifar10 is: by default the environment's ZOO_DATA, or else the working
        folder.
    split : int
        Number of the split, where the data is in one part: a fifth of it is held out, stratified by
        class.

    Returns
    -------
    Dataset
        Inputs are: digits x / 16 and IDX x / 255, so that zeros stay zeros; other images
        standardised, each channel by the mean and the standard deviation of the training part;
        arrays as they are, or x / 255 for uint8.

    Raises
    ------
    InputError
        If there is no such data, or it cannot be read or used; the line says why.
    """
    if not 0 <= split < 2**64:
        raise InputError(f"split must be a whole number from 0 to 2^64 - 1, got {split}")
    try:
        found = _named(data, folder) if data in NAMES else _at(Path(data), data)
    except OSError as error:
        where = error.filename or data
        raise InputError(f"cannot read {where}: {error.strerror or error}") from None
    parts = _split(found, split) if found.test is None else (found.train, found.test)
    return _checked(found, *parts)


def _named(data: str, folder: str | None) -> Parts:
    if data == "digits":
        return loaders.digits()
    where = Path(folder or os.environ.get(FOLDER) or ".")
    if not where.is_dir():
        raise InputError(f"{data}: there is no folder {where}: give the one that has its files")
    return idx.mnist(where) if data == "mnist" else cifar.cifar10(where)


def _at(path: Path, data: str) -> Parts:
    if cifar.is_binary(path):
        return cifar.binary(path)
    if path.is_dir() or cifar.is_tar(path):
        return images(path)
    if path.suffix.lower() == ".npz" and path.is_file():
        return loaders.npz(path)
    if path.is_file() and idx.is_images(path):
        return idx.idx(path)
    if path.is_file():
        raise InputError(f"cannot tell what {data} is: {_ACCEPTED}")
    near = difflib.get_close_matches(data.lower(), NAMES, 1, 0.5)
    hint = f": did you mean {near[0]!r}?" if near else f": {_ACCEPTED}"
    raise InputError(f"no data set or file {data!r}{hint}")


def _split(found: Parts, split: int) -> tuple[Labelled, Labelled]:
    """Training and test part of what is in one."""
    x, y = found.train[0], labels(found.name, found.train[1], len(found.train[0]))
    class_names(found, y, y)
    rows, held = stratified(y, len(y) // 5, split)
    if not len(held):
        raise InputError(f"{found.name}: {len(y)} samples are too few to hold some out for testing")
    return (x[rows], y[rows]), (x[held], y[held])


def _checked(found: Parts, train: Labelled, test: Labelled) -> Dataset:
    """Data set of two parts, if their labels and shapes fit."""
    x_train, x_test = train[0], test[0]
    y_train = labels(f"{found.name}, training part", train[1], len(x_train))
    y_test = labels(f"{found.name}, test part", test[1], len(x_test))
    classes = class_names(found, y_train, y_test)
    if x_train.shape[1:] != x_test.shape[1:] or not x_train[0].size:
        raise InputError(
            f"{found.name}: samples must be of one shape, and not empty, got {x_train.shape[1:]} "
            f"to train on and {x_test.shape[1:]} to test with"
        )
    if found.divisor is None:
        scale, offset = _standardised(x_train)
    else:
        scale, offset = np.full(x_train.shape[1], 1 / found.divisor), np.zeros(x_train.shape[1])
    normal = (scale.astype(np.float32), offset.astype(np.float32))
    for array in (x_train, y_train, x_test, y_test, *normal):
        array.setflags(write=False)
    return Dataset(found.name, x_train, y_train, x_test, y_test, classes, *normal)


def _standardised(x: Array) -> tuple[Array, Array]:
    """Scale and offset (C,) that give each channel mean 0 and standard deviation 1.

    Of a channel that is constant the scale is 1 / 255.
    """
    total, squares = np.zeros((2, x.shape[1]), np.int64)  # exact, so that no order matters
    rows = -(-_CHUNK // x[0].size)
    for start in range(0, len(x), rows):
        numbers = x[start : start + rows].astype(np.int64)
        total += numbers.sum(axis=(0, 2, 3))
        squares += np.square(numbers).sum(axis=(0, 2, 3))
    count = x[:, 0].size
    mean = total / count
    constant = x.min(axis=(0, 2, 3)) == x.max(axis=(0, 2, 3))
    scale = 1 / np.where(constant, 255.0, np.sqrt(squares / count - mean**2))
    return scale, -mean * scale
