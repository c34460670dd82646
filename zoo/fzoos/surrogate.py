"""A Gaussian process over points queried, and the gradient of its mean (FZooS, eq. 4 and 5).

With A = K + s^2 I over the points x_a, and alpha = A^-1 y,

    grad mu(x) = sum_a c_a(x) alpha_a (x_a - x)
    tr(x)      = d kappa - sum_ab A^-1_ab c_a c_b (x_a - x)'(x_b - x)

is the trace of the gradient's covariance, without any d x d matrix. Values are taken in units of
their standard deviation, from their mean on; the results are in the caller's units.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy.linalg import lapack

from zoo.fzoos.kernels import Kernel

Array = npt.NDArray[np.float64]

#: What is added to the diagonal grows by this factor until there is a Cholesky factor.
_MORE, _MOST = 10.0, 1.0


@dataclass(frozen=True, eq=False)
class Surrogate:
    """A Gaussian process.

    Attributes
    ----------
    kernel : Kernel
    ell : float
        Length scale.
    noise : float
        Variance s^2 of the noise, relative to that of the values: what was asked for, or more if
        it had to be.
    origin : (d,)
        Points are held as differences to it: close ones keep their digits.
    x : (n, d), y : (n,)
        Points less the origin, and standardized values.
    gram : (n, n)
        Inner products of the points.
    factor : (n, n)
        Lower Cholesky factor of A.
    alpha : (n,)
    mean, scale : float
        Of the values.
    """

    kernel: Kernel
    ell: float
    noise: float
    origin: Array
    x: Array
    y: Array
    gram: Array
    factor: Array
    alpha: Array
    mean: float
    scale: float

    def value(self, x: Array) -> float:
        """Posterior mean at x (d,)."""
        k = self.kernel.value(self._squares(x[None])[:, 0], self.ell)
        return float(self.mean + self.scale * (k @ self.alpha))

    def gradient(self, x: Array) -> Array:
        """Gradient (d,) of the posterior mean at x (d,)."""
        at = x - self.origin
        c = self.kernel.slope(self._squares(x[None])[:, 0], self.ell) * self.alpha
        return np.asarray(self.scale * (c @ self.x - c.sum() * at))

    def traces(self, points: Array) -> Array:
        """Trace (m,) of the covariance of the gradient at points (m, d)."""
        at = points - self.origin
        c = self.kernel.slope(self._squares(points), self.ell)
        solved = lapack.dpotrs(self.factor, np.asfortranarray(np.eye(len(self.x))), lower=1)[0]
        along = (c * ((solved * self.gram) @ c)).sum(0)
        both = solved @ c
        across = (c * (self.x @ at.T) * both).sum(0)
        own = np.einsum("ij,ij->i", at, at) * (c * both).sum(0)
        kappa = self.kernel.kappa / self.ell**2
        return np.asarray(self.scale**2 * (points.shape[1] * kappa - (along - 2.0 * across + own)))

    @property
    def likelihood(self) -> float:
        """Logarithm of the marginal likelihood for the best signal variance, plus a constant."""
        n = len(self.y)
        variance = max(float(self.y @ self.alpha) / n, 1e-300)
        return -0.5 * n * math.log(variance) - float(np.log(np.diagonal(self.factor)).sum())

    def extended(self, x: Array, values: Array) -> Surrogate:
        """Surrogate with more points (m, d) and their values (m,), in O(n^2 m)."""
        new = x - self.origin
        products, own = self.x @ new.T, new @ new.T
        squares = _squares(np.diagonal(self.gram), np.diagonal(own), products)
        beside = self.kernel.value(squares, self.ell)
        half = lapack.dtrtrs(self.factor, beside, lower=1)[0]
        below = self.kernel.value(_squares(np.diagonal(own), np.diagonal(own), own), self.ell)
        below[np.diag_indices_from(below)] += self.noise
        corner, failed = _cholesky(below - half.T @ half)
        gram = np.block([[self.gram, products], [products.T, own]])
        points = np.concatenate([self.x, new])
        y = np.concatenate([self.y, (values - self.mean) / self.scale])
        if failed:
            raised = replace(self, x=points, y=y, gram=gram, noise=self.noise * _MORE)
            return _solved(raised)
        factor = np.zeros_like(gram, order="F")
        n = len(self.x)
        factor[:n, :n], factor[n:, :n], factor[n:, n:] = self.factor, half.T, corner
        alpha = lapack.dpotrs(factor, y, lower=1)[0]
        return replace(self, x=points, y=y, gram=gram, factor=factor, alpha=alpha)

    def _squares(self, points: Array) -> Array:
        """Squared distances (n, m) to points (m, d)."""
        at = points - self.origin
        return _squares(np.diagonal(self.gram), np.einsum("ij,ij->i", at, at), self.x @ at.T)


def fitted(
    x: Array,
    values: Array,
    origin: Array,
    kernel: Kernel,
    scales: Sequence[float],
    noises: Sequence[float],
) -> Surrogate:
    """Surrogate of points (n, d) and values (n,), the most likely of some scales and noises."""
    at = x - origin
    mean, scale = float(values.mean()), float(values.std())
    if not scale > 1e-14 * abs(mean):
        scale = 1.0  # a constant, whose gradient is zero
    y = (values - mean) / scale
    empty = np.empty((0, 0))
    bare = Surrogate(kernel, 0.0, 0.0, origin, at, y, at @ at.T, empty, np.empty(0), mean, scale)
    tried = [_solved(replace(bare, ell=ell, noise=noise)) for ell in scales for noise in noises]
    return tried[0] if len(tried) == 1 else max(tried, key=lambda s: s.likelihood)


def _solved(bare: Surrogate) -> Surrogate:
    """The surrogate with its factor; its noise is raised until there is one."""
    own = np.diagonal(bare.gram)
    matrix = bare.kernel.value(_squares(own, own, bare.gram), bare.ell)
    noise = bare.noise
    while True:
        added = matrix.copy(order="F")
        added[np.diag_indices_from(added)] = 1.0 + noise
        factor, failed = _cholesky(added)
        if not failed:
            alpha = lapack.dpotrs(factor, bare.y, lower=1)[0]
            return replace(bare, noise=noise, factor=factor, alpha=alpha)
        if noise > _MOST:
            raise FloatingPointError("values of a window are not finite")
        noise = max(noise * _MORE, 1e-14)


def _cholesky(matrix: Array) -> tuple[Array, bool]:
    factor, info = lapack.dpotrf(matrix, lower=1, clean=1)
    return factor, info != 0


def _squares(first: Array, second: Array, products: Array) -> Array:
    """Squared distances (n, m) from squared lengths and inner products."""
    return np.maximum(first[:, None] + second - 2.0 * products, 0.0)
