"""ZO-GraSP: how sparsity is shared between layers, by losses alone.

    S = -theta (g(theta + mu g(theta)) - g(theta))/mu         (DeepZero, eq. 4; g by RGE)

estimates GraSP's -theta * H g (Wang et al. 2020), by which a weight is to be kept for the flow of
the gradient. Only how many weights of each layer are kept is used.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from zoo.deepzero.net.network import Network
from zoo.errors import InputError

Array = npt.NDArray[np.float64]


def scores(theta: Array, before: Array, after: Array, mu: float) -> Array:
    """Scores S (d,) from the gradient estimates at theta and at theta + mu ``before``."""
    return -theta * (after - before) / mu


def ratios(network: Network, found: Array, sparsity: float, rule: str) -> dict[str, float]:
    """Name of a stage -> share of its weights that are left out, so that it is ``sparsity`` of all.

    Parameters
    ----------
    found : (d,)
        Scores.
    rule : str
        "absolute" keeps weights of the largest absolute scores, "signed" of the lowest.
    """
    ranks = -np.abs(found) if rule == "absolute" else found
    parts = [ranks[s.weight : s.weight + s.weights] for s in network.stages]
    owner = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
    kept = round((1.0 - sparsity) * len(owner))
    first = np.argsort(np.concatenate(parts), kind="stable")[:kept]
    counts = np.bincount(owner[first], minlength=len(parts))
    return {
        stage.name: 1.0 - int(count) / stage.weights
        for stage, count in zip(network.stages, counts, strict=True)
    }


def uniform(network: Network, sparsity: float) -> dict[str, float]:
    """The same share of every layer."""
    return dict.fromkeys((stage.name for stage in network.stages), sparsity)


def read_ratios(path: str, network: Network) -> dict[str, float]:
    """Shares from a JSON file.

    Raises
    ------
    InputError
        If it cannot be read, or is not of this network.
    """
    try:
        content: Any = json.loads(Path(os.path.expanduser(path)).read_text())
    except OSError as error:
        raise InputError(
            f"pruning must be grasp, uniform, or a JSON file: cannot read {path}: {error.strerror}"
        ) from None
    except ValueError as error:
        raise InputError(f"{path} is not JSON: {error}") from None
    names = [stage.name for stage in network.stages]
    if not isinstance(content, dict) or set(content) != set(names):
        raise InputError(f"{path} must hold a share for each of {', '.join(names)}")
    for name, share in content.items():
        number = isinstance(share, (int, float)) and not isinstance(share, bool)
        if not (number and 0 <= share <= 1):
            raise InputError(f"{path}: {name} must be a number from 0 to 1, got {share!r}")
    return {name: float(content[name]) for name in names}
