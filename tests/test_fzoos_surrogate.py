"""Surrogates: their gradients, how sure they are, and the features that they travel as."""

import math

import numpy as np
import pytest

from zoo.fzoos.features import features
from zoo.fzoos.kernels import KERNELS
from zoo.fzoos.surrogate import fitted
from zoo.fzoos.trajectory import Trajectory

NAMES = sorted(KERNELS)


def data(seed=0, n=40, d=6):
    random = np.random.default_rng(seed)
    x = random.random((n, d))
    return x, np.sin(3.0 * x).sum(1) + 5.0, random


def plain_kernel(name, a, b, ell):
    """A slow and obvious one."""
    distance = math.sqrt(sum((p - q) ** 2 for p, q in zip(a, b, strict=True)))
    if name == "se":
        return math.exp(-(distance**2) / (2.0 * ell**2))
    s = math.sqrt(5.0) * distance / ell
    return (1.0 + s + s * s / 3.0) * math.exp(-s)


def plain_posterior(name, x, y, ell, noise, at):
    """Posterior mean, by the formula."""
    mean, scale = y.mean(), y.std()
    k = np.array([[plain_kernel(name, a, b, ell) for b in x] for a in x])
    beside = np.array([plain_kernel(name, at, b, ell) for b in x])
    return mean + scale * beside @ np.linalg.solve(k + noise * np.eye(len(x)), (y - mean) / scale)


def plain_covariance(name, x, y, ell, noise, at, h=1e-4):
    """Covariance (d, d) of the gradient, by differences of the posterior covariance."""
    d = len(at)
    k = np.array([[plain_kernel(name, a, b, ell) for b in x] for a in x])
    inverse = np.linalg.inv(k + noise * np.eye(len(x)))

    def covariance(p, q):
        first = np.array([plain_kernel(name, p, b, ell) for b in x])
        second = np.array([plain_kernel(name, q, b, ell) for b in x])
        return plain_kernel(name, p, q, ell) - first @ inverse @ second

    found = np.empty((d, d))
    steps = h * np.eye(d)
    for i in range(d):
        for j in range(d):
            found[i, j] = sum(
                s * t * covariance(at + s * steps[i], at + t * steps[j])
                for s in (-1, 1)
                for t in (-1, 1)
            ) / (4.0 * h * h)
    return y.std() ** 2 * found


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("on_data", [False, True])
def test_gradient_is_that_of_the_mean(name, on_data):
    x, y, random = data()
    at = x[3].copy() if on_data else random.random(6)
    ell, noise, h = 0.8, 1e-6, 1e-5
    made = fitted(x, y, at + 0.1, KERNELS[name], [ell], [noise])
    assert made.value(at) == pytest.approx(plain_posterior(name, x, y, ell, noise, at), rel=1e-9)
    slopes = [
        (
            plain_posterior(name, x, y, ell, noise, at + h * e)
            - plain_posterior(name, x, y, ell, noise, at - h * e)
        )
        / (2.0 * h)
        for e in np.eye(6)
    ]
    np.testing.assert_allclose(made.gradient(at), slopes, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_trace_is_that_of_the_whole_covariance(name):
    x, y, random = data(1, 15, 3)
    points = np.concatenate([random.random((3, 3)), x[:1]])
    made = fitted(x, y, points[0], KERNELS[name], [0.7], [1e-4])
    expected = [np.trace(plain_covariance(name, x, y, 0.7, 1e-4, at)) for at in points]
    np.testing.assert_allclose(made.traces(points), expected, rtol=2e-3)


@pytest.mark.parametrize("name", NAMES)
def test_uncertainty_never_grows(name):
    x, y, random = data(2, 60, 8)
    points = random.random((5, 8))
    before = np.full(5, np.inf)
    for n in range(2, 60, 3):
        made = fitted(x[:n], y[:n], points[0], KERNELS[name], [1.0], [1e-6])
        now = made.traces(points) / made.scale**2
        assert (now <= before + 1e-9).all()
        assert (now > -1e-9).all()
        before = now


@pytest.mark.parametrize("name", NAMES)
def test_points_added_later_are_as_good(name):
    x, y, random = data(3, 50, 6)
    at = random.random(6)
    first = fitted(x[:30], y[:30], at, KERNELS[name], [0.9], [1e-6])
    once = first.extended(x[30:], y[30:])
    by_one = first
    for i in range(30, 50):
        by_one = by_one.extended(x[i : i + 1], y[i : i + 1])
    mean, scale = y[:30].mean(), y[:30].std()
    for made in (once, by_one):
        matrix = made.factor @ made.factor.T
        k = np.array([[plain_kernel(name, a, b, 0.9) for b in x] for a in x]) + 1e-6 * np.eye(50)
        np.testing.assert_allclose(matrix, k, atol=1e-12)
        expected = np.linalg.solve(k, (y - mean) / scale)
        np.testing.assert_allclose(made.alpha, expected, rtol=1e-6, atol=1e-6)


def test_points_that_coincide_raise_the_noise_and_nothing_else():
    x, y, random = data(4)
    at = random.random(6)
    doubled = np.concatenate([x, x[:5]])
    made = fitted(doubled, np.concatenate([y, y[:5]]), at, KERNELS["se"], [0.8], [0.0])
    assert 0.0 < made.noise < 1e-6
    once = fitted(x, y, at, KERNELS["se"], [0.8], [1e-12])
    np.testing.assert_allclose(made.gradient(at), once.gradient(at), rtol=0.05)
    assert once.extended(x[:2], y[:2]).value(at) == pytest.approx(once.value(at), rel=1e-2)


def test_constant_values_have_no_gradient():
    x, _, random = data(5)
    made = fitted(x, np.full(len(x), 7.0), x[0], KERNELS["matern"], [0.8], [1e-6])
    assert made.value(x[0]) == 7.0
    np.testing.assert_array_equal(made.gradient(random.random(6)), np.zeros(6))
    weights = features(1, 64, 6, KERNELS["se"]).weights(x, np.full(len(x), 7.0), 1.0, 1e-6)
    np.testing.assert_array_equal(weights, np.zeros(64))


def test_a_plane_is_learned():
    """With d + 1 points or more, and a long scale, the gradient of a plane is found."""
    random = np.random.default_rng(6)
    slope = random.normal(size=10)
    x = 0.5 + 0.05 * random.normal(size=(30, 10))
    made = fitted(x, x @ slope, x[0], KERNELS["se"], [10.0], [1e-10])
    np.testing.assert_allclose(made.gradient(x[0]), slope, rtol=1e-2, atol=1e-2)


def test_the_length_scale_of_the_data_is_the_most_likely():
    random = np.random.default_rng(7)
    x = random.random((120, 2))
    squares = ((x[:, None] - x) ** 2).sum(-1)
    y = np.linalg.cholesky(np.exp(-squares / (2 * 0.3**2)) + 1e-6 * np.eye(120)) @ random.normal(
        size=120
    )
    made = fitted(x, y, x[0], KERNELS["se"], [0.03, 0.1, 0.3, 1.0, 3.0], [1e-6])
    assert made.ell == 0.3
    noisy = fitted(x, y + random.normal(size=120), x[0], KERNELS["se"], [0.3], [1e-6, 1e-3, 0.3])
    assert noisy.noise == 0.3


@pytest.mark.parametrize("name", NAMES)
def test_features_converge_to_the_kernel(name):
    x, _, _ = data(8, 30, 5)
    k = np.array([[plain_kernel(name, a, b, 1.0) for b in x] for a in x])
    errors = []
    for count in (250, 4000):
        phis = [features(seed, count, 5, KERNELS[name]).phi(x, 1.0) for seed in range(20)]
        errors.append(np.sqrt(np.mean([(phi.T @ phi - k) ** 2 for phi in phis])))
    assert errors[0] < 0.07  # and k, not 2 k
    assert errors[0] / errors[1] == pytest.approx(4.0, rel=0.25)  # M^-1/2


@pytest.mark.parametrize("name", NAMES)
def test_gradient_of_features_is_that_of_their_sum(name):
    x, y, random = data(9, 30, 21)
    shared = features(5, 300, 21, KERNELS[name])
    w = shared.weights(x, y, 1.5, 1e-6)
    at, h = random.random(21), 1e-5
    ends = [shared.phi(np.array([at + h * e, at - h * e]), 1.5).T @ w for e in np.eye(21)]
    expected = [(ahead - back) / (2 * h) for ahead, back in ends]
    np.testing.assert_allclose(shared.gradient(at, 1.5, w), expected, rtol=1e-5, atol=1e-6)


def test_weights_carry_the_surrogate():
    x, y, random = data(10, 60, 4)
    at = random.random(4)
    exact = fitted(x, y, at, KERNELS["se"], [1.0], [1e-4]).gradient(at)
    errors = []
    for count in (500, 20_000):
        shared = features(6, count, 4, KERNELS["se"])
        found = shared.gradient(at, 1.0, shared.weights(x, y, 1.0, 1e-4))
        errors.append(np.linalg.norm(found - exact) / np.linalg.norm(exact))
    assert errors[1] < 0.05
    assert errors[1] < errors[0]


def test_features_are_those_of_the_seed():
    first = features(1, 100, 7, KERNELS["se"])
    features.cache_clear()
    again, other = features(1, 100, 7, KERNELS["se"]), features(2, 100, 7, KERNELS["se"])
    np.testing.assert_array_equal(first.v, again.v)
    np.testing.assert_array_equal(first.b, again.b)
    assert not np.array_equal(first.v, other.v)
    assert abs(first.v[:, :7].mean()) < 0.1
    assert first.v[:, :7].std() == pytest.approx(1.0, rel=0.1)


def test_the_latest_points_are_remembered():
    random = np.random.default_rng(11)
    held, x = Trajectory(3, 20), random.random((95, 3))
    for at in range(0, 95, 5):
        held.add(x[at : at + 5], np.arange(at, at + 5.0))
        assert held.added == at + 5
        np.testing.assert_array_equal(held.x, x[max(0, at - 15) : at + 5])
        np.testing.assert_array_equal(held.y, np.arange(max(0, at - 15), at + 5.0))
        assert held.find(x[at]) == len(held) - 5
    assert held.find(x[74]) is None
    held.add(x[90:91], np.array([-1.0]))  # a new value of a known point
    assert (len(held), held.y[15]) == (20, -1.0)
    nearest = held.nearest(x[80], 4)
    order = np.argsort(((held.x - x[80]) ** 2).sum(1))[:4]
    np.testing.assert_array_equal(nearest, np.sort(order))
    again = Trajectory(3, 20)
    again.restore(held.state())
    np.testing.assert_array_equal(again.x, held.x)
    assert again.find(x[90]) == 15
