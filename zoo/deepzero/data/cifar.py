"""CIFAR-10: its binary version, or images in the folders of its classes."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path, PurePosixPath

import numpy as np

from zoo.deepzero.data.archives import entries
from zoo.deepzero.data.images import images
from zoo.deepzero.data.parts import Array, Labelled, Parts
from zoo.errors import InputError

CLASSES = (
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
)  # fmt: skip
_SHAPE = (3, 32, 32)
_RECORD = 1 + 3 * 32 * 32  # bytes: a label, and the channels' rows
_TRAIN = tuple(f"data_batch_{k}.bin" for k in range(1, 6))
_TEST = "test_batch.bin"
_BATCHES = (*_TRAIN, _TEST)
_BINARY_TAR = re.compile(r"cifar-10-binary\.(tar|tgz|tar\.gz)")
_TAR = re.compile(r".*\.(tar|tgz|txz|tar\.gz|tar\.xz)", re.IGNORECASE)


def is_tar(path: Path) -> bool:
    """Whether a path is a tar's, by its name."""
    return path.is_file() and _TAR.fullmatch(path.name) is not None


def is_binary(path: Path) -> bool:
    """Whether a path is that of CIFAR-10's binary version, a folder or a tar."""
    if path.is_dir():
        return (path / _TRAIN[0]).is_file()
    return path.is_file() and _BINARY_TAR.fullmatch(path.name) is not None


def cifar10(folder: Path) -> Parts:
    """CIFAR-10 in a folder: cifar-10-batches-bin or cifar-10-binary.tar.gz, or else images.

    These are in a tar or a folder whose name begins with cifar10 or cifar-10. Instead of the
    folder that has it, the binary version's own or that of the images can be given.

    Raises
    ------
    InputError
        If there is none of these, it cannot be read, or it is not CIFAR-10.
    """
    named = sorted([*folder.glob("cifar10*"), *folder.glob("cifar-10*")])
    places = [*(path for path in named if "python" not in path.name), folder]
    for path in places:
        if is_binary(path):
            return binary(path)
    for path in places:
        if is_tar(path) or ((path / "train").is_dir() and (path / "test").is_dir()):
            parts = images(path)
            whole = parts.test is not None and parts.classes == CLASSES
            if not whole or parts.train[0].shape[1:] != _SHAPE:
                raise InputError(
                    f"{path} is not CIFAR-10, which has train/ and test/ of 32x32 colour images of "
                    f"{', '.join(CLASSES)}: give other images by their path"
                )
            return replace(parts, name="cifar10")
    raise InputError(
        f"cifar10: {folder} has neither cifar-10-batches-bin nor cifar-10-binary.tar.gz, nor a "
        "tar or folder cifar10... of images train/CLASS/NAME and test/CLASS/NAME (the version for "
        "Python is not read: it is pickled)"
    )


def binary(path: Path) -> Parts:
    """CIFAR-10's binary version, a folder or a tar: data_batch_1.bin to 5 and test_batch.bin.

    Raises
    ------
    InputError
        If one of them is missing, or damaged.
    """
    batches = {
        PurePosixPath(name).name: _records(path, name, content)
        for name, content in entries(path, lambda name: PurePosixPath(name).name in _BATCHES)
    }
    missing = [name for name in _BATCHES if name not in batches]
    if missing:
        raise InputError(f"{path} lacks {', '.join(missing)}")
    train = np.concatenate([batches.pop(name) for name in _TRAIN])
    return Parts("cifar10", _labelled(train), _labelled(batches[_TEST]), classes=CLASSES)


def _records(path: Path, name: str, content: bytes) -> Array:
    """Records of a batch, uint8 (N, 3073)."""
    records = np.frombuffer(content, np.uint8)
    if not len(records) or len(records) % _RECORD:
        raise InputError(
            f"{path}: {name} is incomplete or damaged: it must have {_RECORD} bytes an image, got "
            f"{len(records)}"
        )
    records = records.reshape(-1, _RECORD)
    if records[:, 0].max() >= len(CLASSES):
        raise InputError(f"{path}: {name} is damaged: its labels must be from 0 to 9")
    return records


def _labelled(records: Array) -> Labelled:
    return np.ascontiguousarray(records[:, 1:]).reshape(-1, *_SHAPE), records[:, 0]
