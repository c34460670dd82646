"""The quadratic surrogate beside its formula, and the directions of surveys."""

import math

import numpy as np
import pytest

from zoo.fzoos.directions import in_turn, orthonormal
from zoo.fzoos.quadratic import COMMON, HESSIAN, fitted


def data(n=60, d=8, noise=0.0, seed=0):
    """Points about (0.4, ..), and values of a quadratic there; its gradient and Hessian, too."""
    random = np.random.default_rng(seed)
    a = random.normal(size=(d, d))
    hessian, slope = a @ a.T / d + np.eye(d), random.normal(size=d)
    x = 0.4 + 0.1 * random.normal(size=(n, d))
    y = 3.0 + x @ slope + 0.5 * np.einsum("ni,ij,nj->n", x, hessian, x)
    return x, y + noise * random.normal(size=n), slope, hessian, random


def plain_mean(x, y, origin, logs, left_out, at):
    """Posterior mean, by the formula of a Gaussian process."""
    c, b, t, n = np.exp(logs)
    c, b = c * (COMMON not in left_out), b * (HESSIAN not in left_out)
    radius = math.sqrt(np.mean([(p - origin) @ (p - origin) for p in x]))
    points, here = (x - origin) / radius, (at - origin) / radius

    def k(p, q):
        return 10.0 + p @ q + c / 4 * (p @ p) * (q @ q) + b / 2 * (p @ q) ** 2

    matrix = np.array([[k(p, q) for q in points] for p in points])
    matrix += np.diag([n + t * (p @ p) ** 3 for p in points])
    nearest = y[np.argmin((points**2).sum(1))]
    solution = np.linalg.solve(matrix, y - nearest)
    return nearest + sum(k(p, here) * s for p, s in zip(points, solution, strict=True))


@pytest.mark.parametrize("left_out", [(), (HESSIAN,), (COMMON, HESSIAN)])
def test_it_is_the_posterior_mean(left_out):
    x, y, _, _, random = data(noise=0.01)
    made = fitted(x, y, x[5], left_out=left_out)
    for at in (x[5], x[7], 0.4 + 0.2 * random.normal(size=8)):
        expected = plain_mean(x, y, x[5], made.logs, left_out, at)
        assert made.value(at) == pytest.approx(expected, rel=1e-6)
        h = 1e-5
        slopes = [(made.value(at + h * e) - made.value(at - h * e)) / (2 * h) for e in np.eye(8)]
        np.testing.assert_allclose(made.gradient(at), slopes, rtol=1e-5, atol=1e-6)


def test_a_quadratic_is_found():
    """45 numbers, of 60 values: the gradient is right far from the points, too."""
    x, y, slope, hessian, random = data()
    made = fitted(x, y, x[0])
    for _ in range(5):
        at = random.random(8)
        expected = slope + hessian @ at
        np.testing.assert_allclose(made.gradient(at), expected, atol=0.02 * np.abs(expected).max())


def test_a_common_curvature_is_learned_from_few():
    """300 dimensions, 60 directions at three feet: their slopes, and the curvature of all."""
    random = np.random.default_rng(1)
    d, centre, here = 300, random.random(300), random.random(300)
    u = orthonormal(random, 60, d)
    feet = [here + move * random.normal(size=d) / math.sqrt(d) for move in (1.0, 0.5, 0.0)]
    x = np.concatenate(
        [
            np.concatenate([foot[None], foot + random.uniform(0.1, 0.3, (20, 1)) * some])
            for foot, some in zip(feet, np.split(u, 3), strict=True)
        ]
    )
    y = 2.0 * ((x - centre) ** 2).sum(1)
    made = fitted(x, y, here)
    exact = u @ (4.0 * (here - centre))
    error = np.linalg.norm(u @ made.gradient(here) - exact) / np.linalg.norm(exact)
    assert error < 0.2
    assert made.common * made.scale / made.radius**2 == pytest.approx(4.0, rel=0.2)
    plane = fitted(x, y, here, left_out=(COMMON, HESSIAN))
    assert np.linalg.norm(u @ plane.gradient(here) - exact) > 2.0 * error * np.linalg.norm(exact)


def test_noise_is_told_from_curvature():
    exact, noisy = (fitted(*data(n=200, noise=s)[:2], np.full(8, 0.4)) for s in (0.0, 0.05))
    shares = [np.exp(made.logs[3]) * made.variance * made.scale**2 for made in (exact, noisy)]
    assert math.sqrt(shares[1]) == pytest.approx(0.05, rel=0.6)
    assert shares[0] < 1e-2 * shares[1]


def test_where_slopes_are_clearest():
    """The noise of a difference falls with its length, what is not known of curvature grows."""
    x, y, *_ = data(n=200, noise=0.01)
    made = fitted(x, y, x[0])
    assert made.clearest(0.0) == 0.0
    assert made.clearest(0.04) > made.clearest(0.01) > 0.0


def test_degenerate_points():
    x, _, _, _, random = data()
    constant = fitted(x, np.full(len(x), 2.0), x[0])
    assert constant.value(x[3]) == pytest.approx(2.0)
    np.testing.assert_allclose(constant.gradient(random.random(8)), 0.0, atol=1e-12)
    one = fitted(x[:1], np.array([5.0]), x[0])
    assert one.value(random.random(8)) == pytest.approx(5.0)
    twice = fitted(np.repeat(x[:30], 2, 0), np.repeat(x[:30].sum(1), 2), x[0])
    np.testing.assert_allclose(twice.gradient(x[0]), 1.0, rtol=0.05)


@pytest.mark.parametrize("d", [7, 50])
def test_directions_in_turn_span_everything(d):
    pieces = [in_turn(3, first, 5, d) for first in range(0, 2 * d, 5)]
    u = np.concatenate(pieces)[: 2 * d]
    for basis in (u[:d], u[d:]):
        np.testing.assert_allclose(basis @ basis.T, np.eye(d), atol=1e-12)
    assert not np.allclose(u[0], u[d])
    np.testing.assert_array_equal(in_turn(3, 2, 3, d), u[2:5])
    large = in_turn(3, 10, 4, 1500)
    np.testing.assert_allclose(large @ large.T, np.eye(4), atol=1e-12)
