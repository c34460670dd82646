"""Every test function against its textbook formula and the facts the registry states of it."""

from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pytest

from zoo.errors import InputError
from zoo.objectives import functions
from zoo.objectives.registry import FUNCTIONS, get

ALL = list(FUNCTIONS.values())
CASES = [
    pytest.param(f, d, id=f"{f.name}-{d}")
    for f in ALL
    for d in ([f.dim] if f.dim else sorted({f.min_dim, 2, 5, 20, 33}))
]

# The minimizers of these are irrational, or their minimum is: rounding shows.
INEXACT = {
    "branin", "cross-in-tray", "dixon-price", "eggholder", "holder-table", "mccormick",
    "michalewicz", "qing", "schwefel", "six-hump-camel", "styblinski-tang",
}  # fmt: skip


def index(x):
    return np.arange(1.0, len(x) + 1.0)


def levy(x):
    w = 1 + (x - 1) / 4
    middle = np.sum((w[:-1] - 1) ** 2 * (1 + 10 * np.sin(np.pi * w[:-1] + 1) ** 2))
    last = (w[-1] - 1) ** 2 * (1 + np.sin(2 * np.pi * w[-1]) ** 2)
    return np.sin(np.pi * w[0]) ** 2 + middle + last


def ackley(x):
    cosines = np.mean(np.cos(2 * np.pi * x))
    return 20 + np.e - 20 * np.exp(-0.2 * np.sqrt(np.mean(x**2))) - np.exp(cosines)


def zakharov(x):
    s = np.sum(0.5 * index(x) * x)
    return np.sum(x**2) + s**2 + s**4


def dixon_price(x):
    return (x[0] - 1) ** 2 + np.sum(index(x)[1:] * (2 * x[1:] ** 2 - x[:-1]) ** 2)


def drop_wave(x):
    return -(1 + np.cos(12 * np.linalg.norm(x))) / (0.5 * np.sum(x**2) + 2)


def bohachevsky(x, y):
    return x**2 + 2 * y**2 - 0.3 * np.cos(3 * np.pi * x) - 0.4 * np.cos(4 * np.pi * y) + 0.7


def eggholder(x, y):
    first = -(y + 47) * np.sin(np.sqrt(abs(x / 2 + y + 47)))
    return first - x * np.sin(np.sqrt(abs(x - (y + 47))))


def cross_in_tray(x, y):
    inner = np.sin(x) * np.sin(y) * np.exp(abs(100 - np.hypot(x, y) / np.pi))
    return -0.0001 * (abs(inner) + 1) ** 0.1


def holder_table(x, y):
    return -abs(np.sin(x) * np.cos(y) * np.exp(abs(1 - np.hypot(x, y) / np.pi)))


def beale(x, y):
    return (1.5 - x + x * y) ** 2 + (2.25 - x + x * y**2) ** 2 + (2.625 - x + x * y**3) ** 2


def branin(x, y):
    b, c, t = 5.1 / (4 * np.pi**2), 5 / np.pi, 1 / (8 * np.pi)
    return (y - b * x**2 + c * x - 6) ** 2 + 10 * (1 - t) * np.cos(x) + 10


def goldstein_price(x, y):
    first = 1 + (x + y + 1) ** 2 * (19 - 14 * x + 3 * x**2 - 14 * y + 6 * x * y + 3 * y**2)
    quadratic = 18 - 32 * x + 12 * x**2 + 48 * y - 36 * x * y + 27 * y**2
    return first * (30 + (2 * x - 3 * y) ** 2 * quadratic)


def easom(x, y):
    return -np.cos(x) * np.cos(y) * np.exp(-((x - np.pi) ** 2 + (y - np.pi) ** 2))


def schaffer2(x, y):
    return 0.5 + (np.sin(x**2 - y**2) ** 2 - 0.5) / (1 + 0.001 * (x**2 + y**2)) ** 2


def canyon(x, y):
    v = y - (2 / 16 * (x - 1) * (x - 4) ** 2 + 2)
    b = -x - 1.6 * y
    walls = 25 * (1 - np.exp(-1.4 * v**2 * np.exp(-0.002 * x**4)))
    ripples = 1.1625 * ((1 - np.cos(0.75 * np.pi * x)) + (1 - np.cos(0.75 * np.pi * y)))
    ridge = 4 * np.exp(1 - 2 * v**4) * max((1 - np.exp(-9 * b**2)) * np.sign(b), 0)
    return walls + 0.4 * x**2 + 0.2 * y**2 + ripples + ridge


ANY_DIMENSION = {
    "sphere": lambda x: np.sum(x**2),
    "ellipsoid": lambda x: np.sum(10 ** np.linspace(0, 6, len(x)) * x**2),
    "bent-cigar": lambda x: x[0] ** 2 + 1e6 * np.sum(x[1:] ** 2),
    "discus": lambda x: 1e6 * x[0] ** 2 + np.sum(x[1:] ** 2),
    "sum-powers": lambda x: np.sum(abs(x) ** (index(x) + 1)),
    "schwefel12": lambda x: np.sum(np.cumsum(x) ** 2),
    "schwefel222": lambda x: np.sum(abs(x)) + np.prod(abs(x)),
    "zakharov": zakharov,
    "trid": lambda x: np.sum((x - 1) ** 2) - np.sum(x[1:] * x[:-1]),
    "step": lambda x: np.sum(np.floor(x + 0.5) ** 2),
    "rosenbrock": lambda x: np.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2),
    "dixon-price": dixon_price,
    "qing": lambda x: np.sum((x**2 - index(x)) ** 2),
    "rastrigin": lambda x: 10 * len(x) + np.sum(x**2 - 10 * np.cos(2 * np.pi * x)),
    "rastrigin25": lambda x: np.sum(x**2 + 2.5 * (1 - np.cos(2 * np.pi * x))),
    "ackley": ackley,
    "griewank": lambda x: 1 + np.sum(x**2) / 4000 - np.prod(np.cos(x / np.sqrt(index(x)))),
    "schwefel": lambda x: 418.9828872724337 * len(x) - np.sum(x * np.sin(np.sqrt(abs(x)))),
    "levy": levy,
    "styblinski-tang": lambda x: 0.5 * np.sum(x**4 - 16 * x**2 + 5 * x),
    "salomon": lambda x: 1 - np.cos(2 * np.pi * np.linalg.norm(x)) + 0.1 * np.linalg.norm(x),
    "alpine": lambda x: np.sum(abs(x * np.sin(x) + 0.1 * x)),
    "michalewicz": lambda x: -np.sum(np.sin(x) * np.sin(index(x) * x**2 / np.pi) ** 20),
    "drop-wave": drop_wave,
    "xin-she-yang": lambda x: np.sum(abs(x)) * np.exp(-np.sum(np.sin(x**2))),
}
TWO_DIMENSIONS = {
    "bohachevsky": bohachevsky,
    "himmelblau": lambda x, y: (x**2 + y - 11) ** 2 + (x + y**2 - 7) ** 2,
    "eggholder": eggholder,
    "cross-in-tray": cross_in_tray,
    "holder-table": holder_table,
    "beale": beale,
    "booth": lambda x, y: (x + 2 * y - 7) ** 2 + (2 * x + y - 5) ** 2,
    "branin": branin,
    "goldstein-price": goldstein_price,
    "easom": easom,
    "six-hump-camel": lambda x, y: (
        (4 - 2.1 * x**2 + x**4 / 3) * x**2 + x * y + (-4 + 4 * y**2) * y**2
    ),
    "three-hump-camel": lambda x, y: 2 * x**2 - 1.05 * x**4 + x**6 / 6 + x * y + y**2,
    "mccormick": lambda x, y: np.sin(x + y) + (x - y) ** 2 - 1.5 * x + 2.5 * y + 1,
    "matyas": lambda x, y: 0.26 * (x**2 + y**2) - 0.48 * x * y,
    "schaffer2": schaffer2,
    "canyon": canyon,
}


def textbook(f):
    if f.name in ANY_DIMENSION:
        return ANY_DIMENSION[f.name]
    return lambda x: TWO_DIMENSIONS[f.name](*x)


def near_minimizer(f, d, n, radius, rng):
    points = f.minimizer(d) + rng.uniform(-radius, radius, (n, d))
    return np.clip(points, *f.bounds(d))


@pytest.fixture
def rng():
    return np.random.default_rng(20240607)


def test_registry_and_functions_hold_the_same_names():
    compiled = {
        name
        for name, value in vars(functions).items()
        if hasattr(value, "py_func") and value.py_func.__module__ == functions.__name__
    }
    compiled = {name for name in compiled if not name.startswith("_")}
    assert compiled == {name.replace("-", "_") for name in FUNCTIONS}
    assert set(FUNCTIONS) == set(ANY_DIMENSION) | set(TWO_DIMENSIONS)


@pytest.mark.parametrize(("f", "d"), CASES)
def test_minimum_is_the_value_at_the_minimizer(f, d):
    x = f.minimizer(d)
    lower, upper = f.bounds(d)
    assert x.shape == lower.shape == upper.shape == (d,)
    assert np.all(lower < upper)
    assert np.all((lower <= x) & (x <= upper))
    value, minimum = f.function()(x), f.minimum(d)
    assert isinstance(value, float)
    assert isinstance(minimum, float)
    if f.name in INEXACT:
        assert value == pytest.approx(minimum, rel=1e-13, abs=1e-13 * d)
    else:
        assert value == minimum


@pytest.mark.parametrize(("f", "d"), CASES)
def test_nothing_is_lower_than_the_minimum(f, d, rng):
    lower, upper = f.bounds(d)
    points = [rng.uniform(lower, upper, (2000, d))]
    points += [near_minimizer(f, d, 500, r, rng) for r in (1.0, 1e-1, 1e-3, 1e-6)]
    lowest = min(map(f.function(), np.concatenate(points)))
    assert lowest >= f.minimum(d) - 1e-12 * d * max(1.0, abs(f.minimum(d)))


@pytest.mark.parametrize(("f", "d"), CASES)
def test_equals_the_textbook_formula(f, d, rng):
    lower, upper = f.bounds(d)
    points = np.concatenate(
        [rng.uniform(lower, upper, (50, d)), near_minimizer(f, d, 50, 1.0, rng)]
    )
    values = [f.function()(x) for x in points]
    expected = [textbook(f)(x) for x in points]
    np.testing.assert_allclose(values, expected, rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize("f", ALL, ids=lambda f: f.name)
def test_separable_means_that_halves_of_points_may_be_exchanged(f, rng):
    d = f.dim or 6
    fun = f.function()
    violation = scale = 0.0
    for a, b in zip(*near_minimizer(f, d, 40, 1.0, rng).reshape(2, 20, d), strict=True):
        half = np.arange(d) < d // 2
        exchanged = fun(np.where(half, a, b)) + fun(np.where(half, b, a))
        violation = max(violation, abs(fun(a) + fun(b) - exchanged))
        scale = max(scale, abs(fun(a)), abs(fun(b)))
    if f.separable:
        assert violation <= 1e-13 * max(scale, 1.0)
    else:
        assert violation >= 1e-3 * scale


@pytest.mark.parametrize("name", ["beale", "branin", "himmelblau", "rosenbrock", "six-hump-camel"])
def test_minimizers_are_stationary(name):
    f = FUNCTIONS[name]
    d, h = f.default_dim, 1e-6
    x, fun = f.minimizer(d), f.function()
    slopes = [(fun(x + h * e) - fun(x - h * e)) / (2 * h) for e in np.eye(d)]
    np.testing.assert_allclose(slopes, 0.0, atol=1e-8)


@pytest.mark.parametrize(("d", "minimum"), [(1, -0.8013034), (2, -1.8013034), (10, -9.6601517)])
def test_published_minima_of_michalewicz(d, minimum):
    assert get("michalewicz").minimum(d) == pytest.approx(minimum, abs=1e-7)


@pytest.mark.parametrize(
    "name", ["ackley", "canyon", "griewank", "levy", "rastrigin", "salomon", "schaffer2"]
)
def test_no_digits_are_lost_near_a_minimum_of_zero(name):
    f = FUNCTIONS[name]
    d = f.default_dim
    fun, x = f.function(), f.minimizer(d)
    e = np.full(d, 1.0)
    # linear about the sharp minima, quadratic about the smooth; 1 - cos would be off by percents
    ratio = fun(x + 2e-8 * e) / fun(x + 1e-8 * e)
    assert ratio == pytest.approx(2.0 if name in {"ackley", "salomon"} else 4.0, rel=1e-4)


@pytest.mark.parametrize("f", ALL, ids=lambda f: f.name)
def test_nan_stays_nan(f):
    x = f.minimizer(f.default_dim)
    for i in (0, len(x) - 1):
        y = x.copy()
        y[i] = math.nan
        assert math.isnan(f.function()(y))


def test_names_forgive_signs_and_case():
    assert get("Styblinski_Tang ") is get("styblinski-tang") is FUNCTIONS["styblinski-tang"]
    assert get("styblinski-tang").function() is functions.styblinski_tang


def test_default_dimension():
    assert get("ackley").default_dim == 20
    assert get("branin").default_dim == 2


def test_bounds_may_differ_by_coordinate_and_dimension():
    lower, upper = get("branin").bounds(2)
    assert lower.tolist() == [-5.0, 0.0]
    assert upper.tolist() == [10.0, 15.0]
    assert get("trid").bounds(3)[1].tolist() == [9.0, 9.0, 9.0]


def test_unknown_name_suggests_the_nearest():
    with pytest.raises(InputError, match="unknown objective 'rastrgin': did you mean") as error:
        get("rastrgin")
    message = str(error.value)
    assert "'rastrigin'" in message
    assert "zoo list objectives" in message
    assert "\n" not in message


def test_unknown_name_near_to_none():
    with pytest.raises(InputError, match=r"^unknown objective 'qqqqq': 'zoo list objectives'"):
        get("qqqqq")


@pytest.mark.parametrize("of", ["bounds", "minimum", "minimizer"])
def test_a_dimension_it_does_not_have(of):
    with pytest.raises(InputError, match=r"^objective 'himmelblau' has dimension 2, not 5$"):
        getattr(get("himmelblau"), of)(5)
    with pytest.raises(InputError, match=r"^objective 'rosenbrock' needs dimension 2 or more"):
        getattr(get("rosenbrock"), of)(1)
    with pytest.raises(InputError, match=r"^objective 'sphere' needs dimension 1 or more, not 0$"):
        getattr(get("sphere"), of)(0)


def test_registry_imports_nothing_heavy():
    code = (
        "import sys; from zoo.objectives.registry import FUNCTIONS, get\n"
        "print([f.default_dim for f in FUNCTIONS.values()], get('ackley').minimum(20))\n"
        "heavy = {'numba', 'ray', 'scipy', 'numpy', 'zoo.jit', 'zoo.objectives.functions'}\n"
        "sys.exit(' '.join(sorted(heavy & set(sys.modules))) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
