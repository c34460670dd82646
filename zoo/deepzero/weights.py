"""Trained parameters in .npz files."""

from __future__ import annotations

import io
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
        with np.load(Path(path).expanduser(), allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from None
    except (ValueError, AttributeError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise InputError(f"{path} is not an .npz file of arrays: {error}") from None


def of_network(path: str, network: Network) -> tuple[Array, Array]:
    """Parameters (d,) and moments (channels, 2) of a network from a file.

    Raises
    ------
    InputError
        If it is of another network.
    """
    arrays = read(path)
    theta = network.initial(0)
    for name, (where, shape) in network.slices().items():
        found = arrays.get(name)
        if found is None or found.shape != shape:
            what = "is missing" if found is None else f"is of shape {found.shape}"
            raise InputError(f"{path} is of another network: {name} {what}, and must be {shape}")
        theta[where] = found.ravel()
    if not np.isfinite(theta).all():
        raise InputError(f"{path} has parameters that are not finite")
    moments = np.tile([0.0, 1.0], (sum(s.channels for s in network.stages), 1))
    at = 0
    for stage in network.stages:
        for column, name in enumerate(("mean", "variance")):
            found = arrays.get(f"{stage.name}.{name}")
            if stage.gamma >= 0 and found is not None and found.shape == (stage.channels,):
                moments[at : at + stage.channels, column] = found
        at += stage.channels
    return theta, moments


def of_black_box(path: str) -> dict[str, Any]:
    """Parameters of a black box from a file: arrays by name."""
    arrays = read(path)
    gathered(arrays)
    return arrays
