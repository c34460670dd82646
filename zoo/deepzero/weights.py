"""Trained parameters in .npz files."""

from __future__ import annotations

import io
import os
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from zoo.deepzero.blackbox import gathered
from zoo.deepzero.net.network import Network
from zoo.errors import InputError
from zoo.runtime.folder import write_file

Array = npt.NDArray[np.float64]

#: TypeError: NumPy has read one array, of an .npy.
_DAMAGE = (ValueError, TypeError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error)


def named(network: Network, theta: Array, moments: Array) -> dict[str, Any]:
    """Arrays of a network by name: "conv1.weight", ..., and the running "conv1.mean", ..."""
    arrays: dict[str, Any] = {"layers": np.array(network.text)}
    at = 0
    held = network.slices()
    for stage in network.stages:
        for name, (where, shape) in held.items():
            if name.startswith(f"{stage.name}."):
                arrays[name] = theta[where].reshape(shape)
        if stage.gamma >= 0:
            arrays[f"{stage.name}.mean"] = moments[at : at + stage.channels, 0]
            arrays[f"{stage.name}.variance"] = moments[at : at + stage.channels, 1]
        at += stage.channels
    return arrays


def write(path: Path, arrays: dict[str, Any]) -> None:
    """Write arrays to an .npz, all of it or nothing."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:  # names may clash with savez's arguments
        for name, array in arrays.items():
            with file.open(f"{name}.npy", "w", force_zip64=True) as part:
                np.lib.format.write_array(part, np.asarray(array), allow_pickle=False)
    write_file(path, buffer.getvalue())


def read(path: str) -> dict[str, Any]:
    """Arrays of an .npz by name.

    Raises
    ------
    InputError
        If it cannot be read.
    """
    try:
        with np.load(os.path.expanduser(path), allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from None
    except _DAMAGE:  # NumPy's own words advise to load it unsafely
        raise InputError(
            f"{path} is damaged, or is not an .npz file of arrays, as numpy.savez writes them"
        ) from None


def of_network(path: str, network: Network) -> tuple[Array, Array]:
    """Parameters (d,) and moments (channels, 2) of a network from a file.

    Raises
    ------
    InputError
        If it is of another network.
    """
    arrays = read(path)
    arrays.pop("layers", None)
    theta = network.initial(0)
    for name, (where, shape) in network.slices().items():
        theta[where] = _taken(path, arrays, name, shape).ravel()
    moments = np.tile([0.0, 1.0], (sum(s.channels for s in network.stages), 1))
    at = 0
    for stage in network.stages:
        own = moments[at : at + stage.channels]
        for column, name in enumerate(("mean", "variance")):
            if stage.gamma >= 0 and f"{stage.name}.{name}" in arrays:
                own[:, column] = _taken(path, arrays, f"{stage.name}.{name}", (stage.channels,))
        if (own[:, 1] < 0).any():
            raise InputError(f"{path}: {stage.name}.variance must be >= 0")
        at += stage.channels
    if arrays:
        raise InputError(f"{path} is of another network: this one has no {next(iter(arrays))}")
    return theta, moments


def _taken(path: str, arrays: dict[str, Any], name: str, shape: tuple[int, ...]) -> Any:
    """Array of a file, which is removed from ``arrays``."""
    found = arrays.pop(name, None)
    if found is None or found.shape != shape:
        what = "is missing" if found is None else f"is of shape {found.shape}"
        raise InputError(f"{path} is of another network: {name} {what}, and must be {shape}")
    if found.dtype.kind not in "fiu" or not np.isfinite(found).all():
        raise InputError(f"{path}: {name} must be finite numbers")
    return found


def of_black_box(path: str) -> dict[str, Any]:
    """Parameters of a black box from a file: arrays by name."""
    arrays = read(path)
    gathered(arrays)
    return arrays
