"""How a table fits what was measured, beside the noise in it: nothing here has seen people."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from evolve.gsd.curator import Release

#: Expected distance of noise from zero, in sigmas.
_MEAN_ABS = math.sqrt(2.0 / math.pi)


def errors(releases: Sequence[Release], codes: Any, people: float) -> dict[str, dict[str, float]]:
    """Distance in total variation from the noisy measurements, by workload.

    Parameters
    ----------
    releases : sequence of Release
    codes : (n, d)
        The table.
    people : float
        Rows of the data.

    Returns
    -------
    dict
        For each name of a release: mean and max over its query sets, and the noise floor: the
        same mean, expected of the people's own table.
    """
    names: dict[str, list[Release]] = {}
    for release in releases:
        names.setdefault(release.name, []).append(release)
    found = {}
    for name, parts in names.items():
        distances, floors = [], []
        for release in parts:
            offset = release.queries.offset
            gap = release.queries.counts(codes) / len(codes) - release.counts / people
            distances.append(0.5 * np.add.reduceat(np.abs(gap), offset[:-1]))
            floors.append(0.5 * _MEAN_ABS * release.sigma / people * np.diff(offset))
        distance, floor = np.concatenate(distances), np.concatenate(floors)
        found[name] = {
            "sets": len(distance),
            "mean": float(distance.mean()),
            "max": float(distance.max()),
            "noise_floor": float(floor.mean()),
        }
    return found
