"""Classic test functions of optimization as compiled scalar objectives.

Bounds, minima and minimizers are in `zoo.objectives.registry`. Where a textbook formula loses its
digits near the minimum (1 - cos, 1 - exp), an equal one that keeps them is computed: a value of
1e-20 means 1e-20, and a minimum of 0 is exactly 0 at a minimizer that is exact in float64.
"""

from __future__ import annotations

import math

import numpy as np

from zoo import vmath
from zoo.jit import inlined, jit_objective
from zoo.vmath import sin2_pi

_TURN = 2.0 * math.pi


@inlined
def _sin(x):
    """sin(x) by a form that vectorizes; absolute error below 1e-15 * (1 + abs(x))."""
    return 1.0 - 2.0 * sin2_pi(x * (1.0 / _TURN) - 0.25)


# Any dimension, one valley.


@jit_objective
def sphere(x):
    """sum x_i^2 (De Jong 1975)."""
    total = 0.0
    for i in range(len(x)):
        total += x[i] * x[i]
    return total


@jit_objective
def ellipsoid(x):
    """sum 10^(6 i/(d-1)) x_i^2, i = 0..d-1 (BBOB, without its transformations)."""
    rate = math.log(1e6) / max(len(x) - 1, 1)
    total = 0.0
    for i in range(len(x)):
        total += vmath.exp(i * rate) * (x[i] * x[i])
    return total


@jit_objective
def bent_cigar(x):
    """x_1^2 + 10^6 sum_{i>1} x_i^2."""
    total = 0.0
    for i in range(1, len(x)):
        total += x[i] * x[i]
    return x[0] * x[0] + 1e6 * total


@jit_objective
def discus(x):
    """10^6 x_1^2 + sum_{i>1} x_i^2."""
    total = 0.0
    for i in range(1, len(x)):
        total += x[i] * x[i]
    return 1e6 * (x[0] * x[0]) + total


@jit_objective
def sum_powers(x):
    """sum |x_i|^(i+1), i = 1..d."""
    total = 0.0
    for i in range(len(x)):
        total += abs(x[i]) ** (i + 2.0)
    return total


@jit_objective
def schwefel12(x):
    """sum_i (sum_{j<=i} x_j)^2, the rotated hyper-ellipsoid (Schwefel 1981, problem 1.2)."""
    total = 0.0
    partial = 0.0
    for i in range(len(x)):
        partial += x[i]
        total += partial * partial
    return total


@jit_objective
def schwefel222(x):
    """sum |x_i| + prod |x_i| (Schwefel 1981, problem 2.22)."""
    total = 0.0
    product = 1.0
    for i in range(len(x)):
        total += abs(x[i])
        product *= abs(x[i])
    return total + product


@jit_objective
def zakharov(x):
    """sum x_i^2 + s^2 + s^4 with s = sum i x_i / 2, i = 1..d."""
    total = 0.0
    weighted = 0.0
    for i in range(len(x)):
        total += x[i] * x[i]
        weighted += (0.5 * (i + 1.0)) * x[i]
    square = weighted * weighted
    return total + square + square * square


@jit_objective
def trid(x):
    """sum (x_i - 1)^2 - sum_{i>1} x_i x_{i-1}."""
    total = (x[0] - 1.0) * (x[0] - 1.0)
    for i in range(1, len(x)):
        total += (x[i] - 1.0) * (x[i] - 1.0) - x[i] * x[i - 1]
    return total


@jit_objective
def step(x):
    """sum floor(x_i + 1/2)^2."""
    total = 0.0
    for i in range(len(x)):
        whole = np.floor(x[i] + 0.5)
        total += whole * whole
    return total


# Any dimension, several valleys.


@jit_objective
def rosenbrock(x):
    """sum 100 (x_{i+1} - x_i^2)^2 + (1 - x_i)^2 (Rosenbrock 1960)."""
    total = 0.0
    for i in range(len(x) - 1):
        bend = x[i + 1] - x[i] * x[i]
        total += 100.0 * (bend * bend) + (1.0 - x[i]) * (1.0 - x[i])
    return total


@jit_objective
def dixon_price(x):
    """(x_1 - 1)^2 + sum_{i>1} i (2 x_i^2 - x_{i-1})^2 (Dixon and Price 1989)."""
    total = (x[0] - 1.0) * (x[0] - 1.0)
    for i in range(1, len(x)):
        bend = 2.0 * (x[i] * x[i]) - x[i - 1]
        total += (i + 1.0) * (bend * bend)
    return total


@jit_objective
def qing(x):
    """sum (x_i^2 - i)^2, i = 1..d (Qing 2006)."""
    total = 0.0
    for i in range(len(x)):
        gap = x[i] * x[i] - (i + 1.0)
        total += gap * gap
    return total


@jit_objective
def rastrigin(x):
    """10 d + sum x_i^2 - 10 cos(2 pi x_i), not divided by d (Rastrigin 1974)."""
    total = 0.0
    for i in range(len(x)):
        total += x[i] * x[i] + 20.0 * sin2_pi(x[i])
    return total


@jit_objective
def rastrigin25(x):
    """sum x_i^2 + 2.5 (1 - cos(2 pi x_i)), Rastrigin's with ripples a quarter as high.

    Used by Fornasier, Klock and Riedl, "Consensus-based optimization methods converge globally".
    """
    total = 0.0
    for i in range(len(x)):
        total += x[i] * x[i] + 5.0 * sin2_pi(x[i])
    return total


@jit_objective
def ackley(x):
    """20 + e - 20 exp(-0.2 sqrt(mean x_i^2)) - exp(mean cos(2 pi x_i)) (Ackley 1987)."""
    squares = 0.0
    ripples = 0.0
    for i in range(len(x)):
        squares += x[i] * x[i]
        ripples += sin2_pi(x[i])
    bowl = math.expm1(-0.2 * math.sqrt(squares / len(x)))
    return -20.0 * bowl - math.e * math.expm1(-2.0 * ripples / len(x))


@jit_objective
def griewank(x):
    """1 + sum x_i^2 / 4000 - prod cos(x_i / sqrt(i)), i = 1..d (Griewank 1981)."""
    squares = 0.0
    gap = 0.0  # 1 - the product of the cosines so far
    for i in range(len(x)):
        squares += x[i] * x[i]
        gap += 2.0 * sin2_pi(x[i] / (_TURN * math.sqrt(i + 1.0))) * (1.0 - gap)
    return squares / 4000.0 + gap


@jit_objective
def schwefel(x):
    """418.98288727243371 d - sum x_i sin(sqrt|x_i|) (Schwefel 1981, problem 2.26)."""
    total = 0.0
    for i in range(len(x)):
        total += 418.9828872724337 - x[i] * _sin(math.sqrt(abs(x[i])))
    return total


@jit_objective
def levy(x):
    """Levy's function with w_i = 1 + (x_i - 1)/4 (Levy and Montalvo 1985).

    sin(pi w_1)^2 + sum_{i<d} (w_i - 1)^2 (1 + 10 sin(pi w_i + 1)^2)
    + (w_d - 1)^2 (1 + sin(2 pi w_d)^2).
    """
    last = len(x) - 1
    total = sin2_pi(0.25 * (x[0] - 1.0))
    for i in range(last):
        v = 0.25 * (x[i] - 1.0)
        total += v * v * (1.0 + 10.0 * sin2_pi(v + 1.0 / math.pi))
    v = 0.25 * (x[last] - 1.0)
    return total + v * v * (1.0 + sin2_pi(2.0 * v))


@jit_objective
def styblinski_tang(x):
    """sum (x_i^4 - 16 x_i^2 + 5 x_i) / 2 (Styblinski and Tang 1990)."""
    total = 0.0
    for i in range(len(x)):
        square = x[i] * x[i]
        total += square * (square - 16.0) + 5.0 * x[i]
    return 0.5 * total


@jit_objective
def salomon(x):
    """1 - cos(2 pi r) + 0.1 r with r = |x| (Salomon 1996)."""
    squares = 0.0
    for i in range(len(x)):
        squares += x[i] * x[i]
    r = math.sqrt(squares)
    return 2.0 * sin2_pi(r) + 0.1 * r


@jit_objective
def alpine(x):
    """sum |x_i sin x_i + 0.1 x_i| (Alpine no. 1)."""
    total = 0.0
    for i in range(len(x)):
        total += abs(x[i] * (_sin(x[i]) + 0.1))
    return total


@jit_objective
def michalewicz(x):
    """-sum sin(x_i) sin(i x_i^2 / pi)^20, i = 1..d (Michalewicz 1992, steepness m = 10)."""
    total = 0.0
    for i in range(len(x)):
        s = sin2_pi((i + 1.0) * (x[i] * x[i]) * (1.0 / (math.pi * math.pi)))
        s4 = (s * s) * (s * s)
        total -= _sin(x[i]) * (s4 * s4 * (s * s))
    return total


@jit_objective
def drop_wave(x):
    """-(1 + cos(12 r)) / (r^2 / 2 + 2) with r = |x|."""
    squares = 0.0
    for i in range(len(x)):
        squares += x[i] * x[i]
    wave = 1.0 - sin2_pi(math.sqrt(squares) * (6.0 / math.pi))
    return -2.0 * wave / (0.5 * squares + 2.0)


@jit_objective
def xin_she_yang(x):
    """sum |x_i| exp(-sum sin(x_i^2)) (Yang 2010, no. 2)."""
    total = 0.0
    waves = 0.0
    for i in range(len(x)):
        total += abs(x[i])
        waves += _sin(x[i] * x[i])
    return total * math.exp(-waves)


# Two dimensions.


@jit_objective
def bohachevsky(p):
    """x^2 + 2 y^2 - 0.3 cos(3 pi x) - 0.4 cos(4 pi y) + 0.7 (Bohachevsky et al. 1986, no. 1)."""
    x, y = p[0], p[1]
    return x * x + 2.0 * (y * y) + 0.6 * sin2_pi(1.5 * x) + 0.8 * sin2_pi(2.0 * y)


@jit_objective
def himmelblau(p):
    """(x^2 + y - 11)^2 + (x + y^2 - 7)^2 (Himmelblau 1972)."""
    x, y = p[0], p[1]
    return (x * x + y - 11.0) ** 2 + (x + y * y - 7.0) ** 2


@jit_objective
def eggholder(p):
    """-(y + 47) sin sqrt|x/2 + y + 47| - x sin sqrt|x - y - 47|."""
    x, z = p[0], p[1] + 47.0
    return -z * math.sin(math.sqrt(abs(0.5 * x + z))) - x * math.sin(math.sqrt(abs(x - z)))


@jit_objective
def cross_in_tray(p):
    """-0.0001 (|sin x sin y exp|100 - r/pi|| + 1)^0.1 with r = |(x, y)| (Mishra 2006)."""
    x, y = p[0], p[1]
    ridge = math.exp(abs(100.0 - math.sqrt(x * x + y * y) / math.pi))
    return -0.0001 * (abs(math.sin(x) * math.sin(y) * ridge) + 1.0) ** 0.1


@jit_objective
def holder_table(p):
    """-|sin x cos y exp|1 - r/pi|| with r = |(x, y)| (Mishra 2006)."""
    x, y = p[0], p[1]
    ridge = math.exp(abs(1.0 - math.sqrt(x * x + y * y) / math.pi))
    return -abs(math.sin(x) * math.cos(y) * ridge)


@jit_objective
def beale(p):
    """(1.5 - x + x y)^2 + (2.25 - x + x y^2)^2 + (2.625 - x + x y^3)^2 (Beale 1958)."""
    x, y = p[0], p[1]
    a = 1.5 - x + x * y
    b = 2.25 - x + x * (y * y)
    c = 2.625 - x + x * (y * y * y)
    return a * a + b * b + c * c


@jit_objective
def booth(p):
    """(x + 2 y - 7)^2 + (2 x + y - 5)^2."""
    x, y = p[0], p[1]
    return (x + 2.0 * y - 7.0) ** 2 + (2.0 * x + y - 5.0) ** 2


@jit_objective
def branin(p):
    """(y - 5.1 x^2 / (4 pi^2) + 5 x / pi - 6)^2 + 10 (1 - 1 / (8 pi)) cos x + 10 (Branin 1972)."""
    x, y = p[0], p[1]
    bend = y - (5.1 / (4.0 * math.pi * math.pi)) * (x * x) + (5.0 / math.pi) * x - 6.0
    return bend * bend + (10.0 - 10.0 / (8.0 * math.pi)) * math.cos(x) + 10.0


@jit_objective
def goldstein_price(p):
    """The product of two polynomials of degree four (Goldstein and Price 1971).

    [1 + (x + y + 1)^2 (19 - 14 x + 3 x^2 - 14 y + 6 x y + 3 y^2)]
    * [30 + (2 x - 3 y)^2 (18 - 32 x + 12 x^2 + 48 y - 36 x y + 27 y^2)].
    """
    x, y = p[0], p[1]
    a = 19.0 - 14.0 * x + 3.0 * (x * x) - 14.0 * y + 6.0 * (x * y) + 3.0 * (y * y)
    b = 18.0 - 32.0 * x + 12.0 * (x * x) + 48.0 * y - 36.0 * (x * y) + 27.0 * (y * y)
    return (1.0 + (x + y + 1.0) ** 2 * a) * (30.0 + (2.0 * x - 3.0 * y) ** 2 * b)


@jit_objective
def easom(p):
    """-cos x cos y exp(-(x - pi)^2 - (y - pi)^2) (Easom 1990)."""
    x, y = p[0], p[1]
    return -math.cos(x) * math.cos(y) * math.exp(-((x - math.pi) ** 2) - (y - math.pi) ** 2)


@jit_objective
def six_hump_camel(p):
    """(4 - 2.1 x^2 + x^4 / 3) x^2 + x y + (4 y^2 - 4) y^2 (Dixon and Szego 1978)."""
    x, y = p[0], p[1]
    u, v = x * x, y * y
    return (4.0 - 2.1 * u + u * u / 3.0) * u + x * y + (4.0 * v - 4.0) * v


@jit_objective
def three_hump_camel(p):
    """2 x^2 - 1.05 x^4 + x^6 / 6 + x y + y^2."""
    x, y = p[0], p[1]
    u = x * x
    return (2.0 - 1.05 * u + u * u / 6.0) * u + x * y + y * y


@jit_objective
def mccormick(p):
    """sin(x + y) + (x - y)^2 - 1.5 x + 2.5 y + 1 (McCormick 1976)."""
    x, y = p[0], p[1]
    return math.sin(x + y) + (x - y) ** 2 - 1.5 * x + 2.5 * y + 1.0


@jit_objective
def matyas(p):
    """0.26 (x^2 + y^2) - 0.48 x y."""
    x, y = p[0], p[1]
    return 0.26 * (x - y) ** 2 + 0.04 * (x * y)


@jit_objective
def schaffer2(p):
    """0.5 + (sin(x^2 - y^2)^2 - 0.5) / (1 + 0.001 (x^2 + y^2))^2 (Schaffer 1984, no. 2)."""
    x, y = p[0], p[1]
    a = 0.001 * (x * x + y * y)
    s = math.sin(x * x - y * y)
    return (s * s + a + 0.5 * (a * a)) / ((1.0 + a) * (1.0 + a))


@jit_objective
def canyon(p):
    """The GrandCanyon: a curved canyon that leads gradients past the minimum beside it.

    25 (1 - exp(-1.4 v^2 exp(-0.002 x^4))) + 0.4 x^2 + 0.2 y^2
    + 1.1625 (1 - cos(0.75 pi x)) + 1.1625 (1 - cos(0.75 pi y))
    + 4 exp(1 - 2 v^4) max(sign(b) (1 - exp(-9 b^2)), 0)
    with v = y - (x - 1) (x - 4)^2 / 8 - 2 and b = -x - 1.6 y.
    From Riedl, Klock, Geldhauser and Fornasier, "Gradient is All You Need?".
    """
    x, y = p[0], p[1]
    v = y - (0.125 * (x - 1.0) * ((x - 4.0) * (x - 4.0)) + 2.0)
    b = -x - 1.6 * y
    v2 = v * v
    total = -25.0 * math.expm1(-1.4 * v2 * math.exp(-0.002 * (x * x) * (x * x)))
    total += 0.4 * (x * x) + 0.2 * (y * y) + 2.325 * (sin2_pi(0.375 * x) + sin2_pi(0.375 * y))
    if b > 0.0:
        total -= 4.0 * math.exp(1.0 - 2.0 * (v2 * v2)) * math.expm1(-9.0 * (b * b))
    return total
