"""Data in arrays: the digits that come with the package, and .npz files.

The digits are the test part of the "Optical Recognition of Handwritten Digits" data set by
E. Alpaydin and C. Kaynak (UCI Machine Learning Repository, 1998, doi 10.24432/C50P49), licensed
CC BY 4.0 (https://creativecommons.org/licenses/by/4.0/): 1,797 images of 8x8 numbers from 0 to 16,
in the original order, here as uint8 arrays in ``digits.npz`` beside this module. Which 450 of them
test is there too: those of scikit-learn's ``train_test_split(..., test_size=450, stratify=y,
random_state=0)``, so that figures can be compared.
"""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path

import numpy as np

from zoo.deepzero.data.parts import Array, Parts
from zoo.errors import InputError

_NAMES = (("x_train", "y_train", "x_test", "y_test"), ("x", "y"))
_DAMAGE = (OSError, ValueError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error)
_ZIP = (b"PK\3\4", b"PK\5\6")  # how a zip begins, and one without files
_CHANNELS = (1, 3)  # grey, and colours


def digits() -> Parts:
    """The digits of the package: 1,347 to train on and 450 held out."""
    with np.load(Path(__file__).with_name("digits.npz"), allow_pickle=False) as file:
        x, y, test = file["x"][:, None], file["y"], file["test"]
    return Parts("digits", (x[~test], y[~test]), (x[test], y[test]), divisor=16.0)


def npz(path: Path) -> Parts:
    """Arrays of a file: x_train, y_train, x_test and y_test, or x and y, which are split.

    Samples are features (N, F), which become (N, F, 1, 1), or images (N, H, W), of one channel, or
    (N, C, H, W). Images are taken as (N, H, W, C) where the last axis is 1 or 3, the second is
    neither, and the third is more than 1. Numbers of type uint8, which images are, stay so and are
    divided by 255; others become float32 and are taken as they are.

    Raises
    ------
    InputError
        If the file cannot be read, lacks the arrays, or their shapes or types do not fit.
    """
    arrays = _arrays(path)
    xs = {key: x for key, x in arrays.items() if key.startswith("x")}
    kinds = [f"{key} is {x.shape[1:]} of {x.dtype}" for key, x in xs.items()]
    pairs = [
        (_numbers(path, key, _samples(path, key, x)), arrays[key.replace("x", "y", 1)])
        for key, x in xs.items()
    ]
    first, last = pairs[0], pairs[-1]
    if first[0].shape[1:] != last[0].shape[1:] or first[0].dtype != last[0].dtype:
        raise InputError(f"{path}: samples must be of one shape and type; {', '.join(kinds)}")
    divisor = 255.0 if first[0].dtype == np.uint8 else 1.0
    return Parts(path.name, first, last if len(pairs) > 1 else None, divisor=divisor)


def _arrays(path: Path) -> dict[str, Array]:
    """Those arrays of a file that are asked for."""
    with path.open("rb") as file:
        if file.read(4) not in _ZIP:  # numpy reads other files as other things
            raise InputError(f"{path} is no .npz file: accepted is what numpy.savez writes")
        file.seek(0)
        try:
            with np.load(file, allow_pickle=False) as npz_file:
                held = sorted(npz_file.files)
                for names in _NAMES:
                    if set(names) <= set(held):
                        return {name: np.asarray(npz_file[name]) for name in names}
        except _DAMAGE as error:
            raise InputError(
                f"cannot read {path}: {error}; accepted are arrays of numbers, as numpy.savez "
                "writes them"
            ) from None
    raise InputError(
        f"{path} has the arrays {', '.join(held) or '(none)'}; accepted are x_train, "
        "y_train, x_test and y_test, or x and y"
    )


def _numbers(path: Path, key: str, x: Array) -> Array:
    """Uint8 as it is, and other numbers as float32."""
    if x.dtype == np.uint8:
        return np.ascontiguousarray(x)
    if x.dtype.kind not in "buif":
        raise InputError(f"{path}: {key} must be real numbers, got {x.dtype}")
    with np.errstate(over="ignore"):
        x = np.ascontiguousarray(x, np.float32)
    finite = np.isfinite(x)
    if not finite.all():
        row = int(np.argmin(finite.reshape(len(x), -1).all(axis=1)))
        raise InputError(f"{path}: {key} must be finite float32 numbers, {key}[{row}] is not")
    return x


def _samples(path: Path, key: str, x: Array) -> Array:
    """Samples (N, C, H, W) of those of another shape."""
    if not 2 <= x.ndim <= 4 or 0 in x.shape[1:]:
        raise InputError(
            f"{path}: {key} must be features (N, F), or images (N, H, W), (N, C, H, W) or "
            f"(N, H, W, C), got shape {x.shape}"
        )
    if x.ndim == 2:
        return x[:, :, None, None]
    if x.ndim == 3:
        return x[:, None]
    last = x.shape[3] in _CHANNELS and x.shape[1] not in _CHANNELS and x.shape[2] > 1
    return x.transpose(0, 3, 1, 2) if last else x
