"""A consensus of its own for each particle, on a GPU."""

from __future__ import annotations

import math

import numpy as np

from zoo.cuda import cuda


@cuda.jit(device=True)
def own_consensus(alpha, inverse, offset, x, d, points, energies, tile):
    """Consensus of each particle of a tile, into the tile.

    The formula is that of :func:`zoo.cbo.dynamics.polarized_consensus`; ``points`` and ``energies``
    are those of all particles before anyone has moved, and a thread has a particle.
    """
    n, a, tile_x = len(energies), tile.a, tile.x
    for i in range(cuda.threadIdx.x, tile.rows, cuda.blockDim.x):
        lowest, at = np.inf, i * tile.across
        for m in range(n):
            distance = 0.0
            for j in range(d):
                away = float(points[m, j]) - float(x[a + i, j])
                distance += away * away
            lowest = min(lowest, alpha * (energies[m] - offset) + inverse * distance)
        for j in range(x.shape[1]):
            tile_x[at + j] = x[a + i, j] if lowest == np.inf else 0.0
        if lowest == np.inf:
            continue
        total = 0.0
        for m in range(n):
            distance = 0.0
            for j in range(d):
                away = float(points[m, j]) - float(x[a + i, j])
                distance += away * away
            value = alpha * (energies[m] - offset) + inverse * distance
            weight = math.exp(lowest - value)
            if weight > 0.0:
                total += weight
                for j in range(d):
                    tile_x[at + j] += weight * float(points[m, j])
        for j in range(d):
            tile_x[at + j] /= total
