"""Random Fourier features: a surrogate as a vector of M weights (FZooS, eq. 6; Rahimi and Recht).

    phi_j(x) = sqrt(2/M) cos(v_j'x + b_j),      phi(x)'phi(x') -> k(x, x') as M^-1/2
    w        = Phi (Phi'Phi + s^2 I)^-1 y
    grad     = -sqrt(2/M) sum_j w_j sin(v_j'x + b_j) v_j

(the paper prints 2/sqrt(M), which would give 2 k). The directions come from a seed that all share.
They are held in single precision: rounded ones are random directions as good as any.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.linalg import lapack

from zoo.fzoos.kernels import Kernel
from zoo.fzoos.sharing import shared
from zoo.jit import cpu_name, source_digest
from zoo.jit import kernel as compiled
from zoo.lanes import LANES, fma, load, spread, store, total, widen
from zoo.streams import lanes, normals
from zoo.vmath import sin_pi

Array = npt.NDArray[np.float64]

#: Purpose of random numbers; see :mod:`zoo.streams`.
_DIRECTIONS = np.uint64(41)

#: Directions that are held at a time in double precision.
_BLOCK = 512


@compiled
def _drawn(seed, first, d, row, block, out, v):
    """Fill the rows of v with the normals of directions ``first`` and on."""
    count = len(v)
    padded = (d + 3) // 4 * 4
    normals(
        seed, np.uint64(0), np.uint64(0), _DIRECTIONS, first, count * padded // 4, row, block, out
    )
    for j in range(count):
        for k in range(d):
            v[j, k] = out[j * padded + k]


@compiled
def _gradient(v, b, weights, x, out):
    """Add sum_j w_j sin(v_j'x + b_j) v_j to out; rows are padded to whole lanes."""
    count, padded = v.shape
    for j in range(count):
        along = spread(0.0)
        for k in range(0, padded, LANES):
            along = fma(widen(load(v, (j, k))), load(x, k), along)
        phase = (total(along) + b[j]) / math.pi
        turns = math.floor(phase + 0.5)
        sine = sin_pi(phase - turns)
        if (np.int64(turns) & 1) != 0:
            sine = -sine
        factor = weights[j] * sine
        for k in range(0, padded, LANES):
            store(out, k, fma(widen(load(v, (j, k))), factor, load(out, k)))


@dataclass(frozen=True, eq=False)
class Features:
    """Features that all clients share; of one seed and size there is one on a machine.

    Attributes
    ----------
    v : (M, d padded to whole lanes) float32
        Directions, for the length scale 1.
    b : (M,)
        Phases.
    dimension : int
    """

    v: npt.NDArray[np.float32]
    b: Array
    dimension: int

    def phi(self, x: Array, ell: float) -> Array:
        """Features (M, n) of points (n, d)."""
        found = np.empty((len(self.b), len(x)))
        for at in range(0, len(self.b), _BLOCK):
            v = self.v[at : at + _BLOCK, : self.dimension].astype(np.float64)
            found[at : at + _BLOCK] = v @ (x / ell).T
        found += self.b[:, None]
        np.cos(found, out=found)
        found *= math.sqrt(2.0 / len(self.b))
        return found

    def weights(self, x: Array, values: Array, ell: float, noise: float) -> Array:
        """Weights (M,) of the surrogate of points (n, d) and values (n,).

        ``noise`` is relative to the variance of the values; their mean is left out.
        """
        mean, scale = values.mean(), values.std()
        if not scale > 1e-14 * abs(mean):
            return np.zeros(len(self.b))
        phi = self.phi(x, ell)
        matrix = phi.T @ phi
        while True:
            added = matrix.copy(order="F")
            added[np.diag_indices_from(added)] += noise
            _, solution, failed = lapack.dposv(added, (values - mean) / scale, lower=1)
            if not failed:
                return np.asarray(phi @ (scale * solution))
            noise = max(10.0 * noise, 1e-14)

    def gradient(self, x: Array, ell: float, weights: Array) -> Array:
        """Gradient (d,) at x (d,) of the surrogate with these weights."""
        padded = np.zeros(self.v.shape[1])
        padded[: self.dimension] = x / ell
        out = np.zeros(len(padded))
        _gradient(self.v, self.b, weights, padded, out)
        return np.asarray(out[: self.dimension] * (-math.sqrt(2.0 / len(self.b)) / ell))


@functools.lru_cache(maxsize=2)
def features(seed: int, count: int, dimension: int, kernel: Kernel) -> Features:
    """Features of a seed, drawn once on a machine."""
    padded = -(-dimension // LANES) * LANES
    key = np.array([seed, 0], np.uint64)
    random = np.random.Generator(np.random.Philox(key=key, counter=[0, 0, 1, int(_DIRECTIONS)]))
    b = random.uniform(0.0, 2.0 * math.pi, count)

    def draw(v: Any) -> None:
        row, block = lanes(min(count, _BLOCK), dimension)
        out = np.empty(4 * len(row))
        for at in range(0, count, _BLOCK):
            _drawn(np.uint64(seed), at, dimension, row, block, out, v[at : at + _BLOCK])
        if math.isfinite(kernel.freedom):  # frequencies of Student's distribution
            v *= np.sqrt(kernel.freedom / random.chisquare(kernel.freedom, count))[:, None]

    told = repr((source_digest("runtime"), cpu_name(), seed, count, dimension, kernel.freedom))
    name = sha256(told.encode()).hexdigest()[:24]
    return Features(shared(name, (count, padded), np.float32, draw), b, dimension)
