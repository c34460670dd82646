"""How particles move: each dynamics on a tile of particles, as flat passes that vectorize.

Rows are padded to ``dp``, the dimension rounded up to a multiple of four, so that a tile of
particles is one long array. Notation of the literature: x position, c consensus, D = x - c,
xi standard normals, noise scaled by sigma sqrt(dt) (no sqrt 2).
"""

from __future__ import annotations

import math

import numpy as np

from zoo.jit import kernel
from zoo.vmath import exp

# Codes of the configuration's choices, in the order of the choices there.
ANISOTROPIC, ISOTROPIC, COVARIANCE = range(3)
CBO, HOPPING, POLARIZED, SAMPLING = range(4)
UNBOUNDED, CLIP, REFLECT = range(3)
UNGATED, HEAVISIDE, SMOOTH = range(3)


@kernel
def drift_gate(gate, epsilon, energy, at_consensus):
    """Factor of the drift: H(E(x) - E(c)), or its smooth form (PTTM 2017, eq. 1.1).

    Nobody drifts to a consensus point whose own energy is not finite.
    """
    if gate == UNGATED:
        return 1.0
    if at_consensus == np.inf:
        return 0.0
    if gate == HEAVISIDE:
        return 1.0 if energy >= at_consensus else 0.0
    return 0.5 * (1.0 + math.tanh((energy - at_consensus) / epsilon))


@kernel
def anisotropic(x, c, drift, noise, truncation, xi, new):
    """x <- x - drift D + noise T(D) xi, coordinate by coordinate (Carrillo, Jin, Li, Zhu 2021).

    ``T`` cuts each component at +-truncation. ``drift`` is lambda dt, one a number (gated); noise
    is sigma sqrt(dt).
    """
    for f in range(len(x)):
        d = x[f] - c[f]
        t = min(max(d, -truncation), truncation)
        new[f] = (x[f] - drift[f] * d) + (noise * t) * xi[f]


@kernel
def isotropic(x, c, drift, noise, truncation, xi, new, dp):
    """x <- x - drift D + noise min(|D|, truncation) xi (PTTM 2017; Fornasier et al. 2024)."""
    for f in range(len(x)):
        d = x[f] - c[f]
        new[f] = d * d
    for i in range(0, len(x), dp):
        s0, s1, s2, s3 = 0.0, 0.0, 0.0, 0.0  # four chains: a fixed order, and no long latency
        for f in range(i, i + dp, 4):
            s0 += new[f]
            s1 += new[f + 1]
            s2 += new[f + 2]
            s3 += new[f + 3]
        scale = noise * min(math.sqrt((s0 + s1) + (s2 + s3)), truncation)
        for f in range(i, i + dp):
            new[f] = (x[f] - drift[f] * (x[f] - c[f])) + scale * xi[f]


@kernel
def covariance(x, c, drift, noise, factor, xi, new, d):
    """x <- x - drift D + noise C^(1/2) xi (Carrillo, Hoffmann, Stuart, Vaes 2022).

    Affine invariant. ``factor`` is the transposed lower factor of C; rows of x are as long as it,
    and ``d`` numbers of each are used.
    """
    dp = len(factor)
    for f in range(len(x)):
        e = x[f] - c[f]
        new[f] = x[f] - drift[f] * e
    for i in range(0, len(x), dp):
        row = new[i : i + dp]
        for k in range(d):
            z = noise * xi[i + k]
            column = factor[k]
            for j in range(dp):
                row[j] += z * column[j]


@kernel
def hopping(x, c, noise, xi, new):
    """x ~ N(c, noise^2 I): a fresh sample about the consensus (consensus hopping)."""
    for f in range(len(x)):
        new[f] = c[f] + noise * xi[f]


@kernel
def add_squares(x, c, squares):
    """Add (x - c)^2, number by number."""
    for f in range(len(x)):
        squares[f] += (x[f] - c[f]) * (x[f] - c[f])


@kernel
def remember(x, y, drift, noise, isotropy, xi, new, dp):
    """Add the pull to personal bests y: - drift (x - y) + noise (x - y) xi (memory effects)."""
    if isotropy == ANISOTROPIC:
        for f in range(len(x)):
            d = x[f] - y[f]
            new[f] += noise * d * xi[f] - drift * d
        return
    for i in range(0, len(x), dp):
        square = 0.0
        for f in range(i, i + dp):
            square += (x[f] - y[f]) * (x[f] - y[f])
        scale = noise * math.sqrt(square)
        for f in range(i, i + dp):
            new[f] += scale * xi[f] - drift * (x[f] - y[f])


@kernel
def confine(boundary, lower, upper, c, new, out):
    """Positions brought back into the bounds; one lost to overflow restarts at c."""
    if boundary == UNBOUNDED:
        for f in range(len(new)):
            v = new[f]
            out[f] = v if v - v == 0.0 else c[f]
        return
    reflecting = boundary == REFLECT
    for f in range(len(new)):
        v = new[f]
        v = v if v - v == 0.0 else c[f]
        low, high = lower[f], upper[f]
        mirrored = low if v < low else high
        v = 2.0 * mirrored - v if reflecting and (v < low or v > high) else v
        out[f] = min(max(v, low), high)


@kernel
def polarized_consensus(alpha, inverse, x, points, energies, distance, c):
    """Each row's own consensus: Gibbs weights times k(x, y) = exp(-inverse |x - y|^2).

    Bungert, Roith, Wacker (2024), "Polarized consensus-based dynamics".

    Parameters
    ----------
    x : (rows, dp)
        Where the consensus is wanted.
    points : (dp, N)
        All particles, transposed, so that the loops over particles vectorize.
    energies : (N,)
    distance : (N,)
        Scratch.
    c : (rows, dp)
        Receives c(x_i); x_i itself where every weight vanishes.
    """
    rows, dp = x.shape
    n = len(energies)
    for i in range(rows):
        distance[:] = 0.0
        for k in range(dp):
            v = x[i, k]
            coordinate = points[k]
            for j in range(n):
                e = coordinate[j] - v
                distance[j] += e * e
        lowest = np.inf
        for j in range(n):
            distance[j] = alpha * energies[j] + inverse * distance[j]
            lowest = min(lowest, distance[j])
        if lowest == np.inf:
            c[i, :] = x[i, :]
            continue
        total = 0.0
        for j in range(n):
            distance[j] = exp(lowest - distance[j])
        for j in range(n):
            total += distance[j]
        for k in range(dp):
            coordinate = points[k]
            s0, s1, s2, s3 = 0.0, 0.0, 0.0, 0.0
            for j in range(0, n - 3, 4):
                s0 += distance[j] * coordinate[j]
                s1 += distance[j + 1] * coordinate[j + 1]
                s2 += distance[j + 2] * coordinate[j + 2]
                s3 += distance[j + 3] * coordinate[j + 3]
            for j in range(n - n % 4, n):
                s0 += distance[j] * coordinate[j]
            c[i, k] = ((s0 + s1) + (s2 + s3)) / total
