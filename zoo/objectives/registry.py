"""What is known of each test function: bounds, minimum, minimizer, difficulty.

Imports nothing heavy: the functions themselves are compiled code in `zoo.objectives.functions`,
fetched by `TestFunction.function`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, TypeAlias

from zoo.errors import InputError

if TYPE_CHECKING:
    import numpy as np

#: A number for every coordinate, one number each, or either of them as a function of the dimension.
Coordinates: TypeAlias = float | Sequence[float] | Callable[[int], float | Sequence[float]]


@dataclass(frozen=True)
class TestFunction:
    """A test function and the facts known of it.

    Attributes
    ----------
    name : str
        Its name, as `FUNCTIONS` and the command line have it (words joined by ``-``).
    dim : int or None
        Its dimension; None if it is defined in any dimension from `min_dim` on.
    lower, upper : float, sequence or callable
        Customary bounds; `bounds` gives them as arrays.
    lowest : float or callable
        Its global minimum within the bounds; `minimum` gives it for a dimension.
    lowest_at : float, sequence or callable
        A global minimizer; `minimizer` gives it as an array.
    separable : bool
        Whether it is a sum of functions of one coordinate each.
    multimodal : bool
        Whether it has more than one local minimizer within the bounds (plateaus aside).
    summary : str
        What it looks like, in one line.
    min_dim : int
        The smallest dimension it is defined in, where `dim` is None.
    """

    __test__ = False  # its name starts with Test, but pytest has nothing to collect here

    name: str
    dim: int | None
    lower: Coordinates
    upper: Coordinates
    lowest: float | Callable[[int], float]
    lowest_at: Coordinates
    separable: bool
    multimodal: bool
    summary: str
    min_dim: int = 1

    @property
    def default_dim(self) -> int:
        """The dimension to use where none is asked for."""
        return 20 if self.dim is None else self.dim

    def check_dim(self, d: int) -> None:
        """Raise `InputError` if the function is not defined in dimension ``d``."""
        if self.dim is not None and d != self.dim:
            raise InputError(f"objective '{self.name}' has dimension {self.dim}, not {d}")
        if d < self.min_dim:
            raise InputError(
                f"objective '{self.name}' needs dimension {self.min_dim} or more, not {d}"
            )

    def bounds(self, d: int) -> tuple[np.ndarray, np.ndarray]:
        """Lower and upper bounds in dimension ``d``, each of shape ``(d,)``."""
        return self._array(self.lower, d), self._array(self.upper, d)

    def minimum(self, d: int) -> float:
        """The global minimum within the bounds in dimension ``d``."""
        self.check_dim(d)
        return self.lowest(d) if callable(self.lowest) else self.lowest

    def minimizer(self, d: int) -> np.ndarray:
        """A point of shape ``(d,)`` where the global minimum is taken."""
        return self._array(self.lowest_at, d)

    def function(self) -> Any:
        """Return the compiled function ``f(x: float64[::1]) -> float``."""
        from zoo.objectives import functions

        return getattr(functions, self.name.replace("-", "_"))

    def _array(self, coordinates: Coordinates, d: int) -> np.ndarray:
        import numpy as np

        self.check_dim(d)
        return np.full(d, coordinates(d) if callable(coordinates) else coordinates, dtype=float)


def get(name: str) -> TestFunction:
    """Return the test function called ``name``; ``-``, ``_`` and upper case are all the same.

    Raises
    ------
    InputError
        If there is none of this name.
    """
    key = name.strip().lower().replace("_", "-")
    if key in FUNCTIONS:
        return FUNCTIONS[key]
    from difflib import get_close_matches

    near = " or ".join(f"'{match}'" for match in get_close_matches(key, FUNCTIONS, cutoff=0.5))
    hint = f"did you mean {near}? " if near else ""
    raise InputError(f"unknown objective '{name}': {hint}'zoo list objectives' shows them all")


def _dixon_price_minimizer(d: int) -> list[float]:
    return [2.0 ** (2.0 ** (1 - i) - 1.0) for i in range(1, d + 1)]


@cache
def _michalewicz_coordinate(i: int) -> float:
    """The minimizer of -sin(x) sin(i x^2 / pi)^20 on [0, pi]."""
    import numpy as np
    from scipy.optimize import brentq

    def slope(x: float) -> float:  # without a factor that changes no sign near the minimizer
        u = i * x * x / math.pi
        return math.cos(x) * math.sin(u) + 40.0 * i * x / math.pi * math.sin(x) * math.cos(u)

    # 50 points or more across each valley
    x = np.linspace(0.0, math.pi, 100 * i + 1)
    k = int(np.argmax(np.sin(x) * np.sin(i * x * x / math.pi) ** 20))
    return brentq(slope, x[k - 1], x[k + 1], xtol=1e-15)


def _michalewicz_minimizer(d: int) -> list[float]:
    return [_michalewicz_coordinate(i) for i in range(1, d + 1)]


def _michalewicz_minimum(d: int) -> float:
    return -math.fsum(
        math.sin(x) * math.sin(i * x * x / math.pi) ** 20
        for i, x in enumerate(_michalewicz_minimizer(d), start=1)
    )


# fmt: off
_ALL = (
    TestFunction("sphere", None, -5.12, 5.12, 0.0, 0.0, separable=True, multimodal=False,
                 summary="sum of squares"),
    TestFunction("ellipsoid", None, -5.0, 5.0, 0.0, 0.0, separable=True, multimodal=False,
                 summary="sum of squares with weights from 1 to 1e6"),
    TestFunction("bent-cigar", None, -100.0, 100.0, 0.0, 0.0, separable=True, multimodal=False,
                 summary="a narrow ridge: all squares but the first times 1e6"),
    TestFunction("discus", None, -100.0, 100.0, 0.0, 0.0, separable=True, multimodal=False,
                 summary="the first square times 1e6, the others as they are"),
    TestFunction("sum-powers", None, -1.0, 1.0, 0.0, 0.0, separable=True, multimodal=False,
                 summary="powers 2, 3, ... d+1: flatter in every next coordinate"),
    TestFunction("schwefel12", None, -65.536, 65.536, 0.0, 0.0, separable=False, multimodal=False,
                 summary="rotated hyper-ellipsoid: squares of partial sums"),
    TestFunction("schwefel222", None, -10.0, 10.0, 0.0, 0.0, separable=False, multimodal=False,
                 summary="sum plus product of absolute values: a sharp minimum"),
    TestFunction("zakharov", None, -5.0, 10.0, 0.0, 0.0, separable=False, multimodal=False,
                 summary="a bowl with one steep quartic direction"),
    TestFunction("trid", None, lambda d: -float(d * d), lambda d: float(d * d),
                 lambda d: d * (d + 4) * (1 - d) / 6,
                 lambda d: [i * (d + 1.0 - i) for i in range(1, d + 1)],
                 separable=False, multimodal=False,
                 summary="a bowl of neighbours' products, far from the origin"),
    TestFunction("step", None, -100.0, 100.0, 0.0, 0.0, separable=True, multimodal=False,
                 summary="squares of rounded coordinates: plateaus, one of them lowest"),
    TestFunction("rosenbrock", None, -5.0, 10.0, 0.0, 1.0,
                 separable=False, multimodal=True, min_dim=2,
                 summary="a long curved valley; from d = 4 a second local minimum"),
    TestFunction("dixon-price", None, -10.0, 10.0, 0.0, _dixon_price_minimizer,
                 separable=False, multimodal=True,
                 summary="a curved valley; two global minimizers, a local one at 2/3"),
    TestFunction("qing", None, -500.0, 500.0,
                 0.0, lambda d: [math.sqrt(i) for i in range(1, d + 1)],
                 separable=True, multimodal=True,
                 summary="2^d global minimizers, +-sqrt(i) in coordinate i"),
    TestFunction("rastrigin", None, -5.12, 5.12, 0.0, 0.0, separable=True, multimodal=True,
                 summary="a bowl under a lattice of deep ripples (10 per coordinate)"),
    TestFunction("rastrigin25", None, -3.0, 3.0, 0.0, 0.0, separable=True, multimodal=True,
                 summary="Rastrigin's with ripples of 2.5, as in papers on CBO"),
    TestFunction("ackley", None, -32.768, 32.768, 0.0, 0.0, separable=False, multimodal=True,
                 summary="an almost flat rippled plain with a funnel in the middle"),
    TestFunction("griewank", None, -600.0, 600.0, 0.0, 0.0, separable=False, multimodal=True,
                 summary="a wide bowl under a product of cosines"),
    TestFunction("schwefel", None, -500.0, 500.0, 0.0, 420.96874635998205,
                 separable=True, multimodal=True,
                 summary="waves that grow outwards: the best minima are far apart"),
    TestFunction("levy", None, -10.0, 10.0, 0.0, 1.0, separable=True, multimodal=True,
                 summary="a bowl under waves of growing height"),
    TestFunction("styblinski-tang", None, -5.0, 5.0,
                 lambda d: -39.16616570377141546 * d, -2.903534027771177,
                 separable=True, multimodal=True,
                 summary="two valleys in each coordinate, one deeper"),
    TestFunction("salomon", None, -100.0, 100.0, 0.0, 0.0, separable=False, multimodal=True,
                 summary="rings of equal height about the minimum"),
    TestFunction("alpine", None, -10.0, 10.0, 0.0, 0.0, separable=True, multimodal=True,
                 summary="sharp-edged waves; several global minimizers (0 is one)"),
    TestFunction("michalewicz", None, 0.0, math.pi, _michalewicz_minimum, _michalewicz_minimizer,
                 separable=True, multimodal=True,
                 summary="steep narrow valleys on flat ground (m = 10)"),
    TestFunction("drop-wave", None, -5.12, 5.12, -1.0, 0.0, separable=False, multimodal=True,
                 summary="ripples on water about the minimum"),
    TestFunction("xin-she-yang", None, -math.tau, math.tau, 0.0, 0.0,
                 separable=False, multimodal=True,
                 summary="sharp minimum among waves; not smooth (no. 2)"),
    TestFunction("bohachevsky", 2, -100.0, 100.0, 0.0, 0.0, separable=True, multimodal=True,
                 summary="a bowl under small ripples (no. 1)"),
    TestFunction("himmelblau", 2, -5.0, 5.0, 0.0, (3.0, 2.0), separable=False, multimodal=True,
                 summary="four global minimizers ((3, 2) is one)"),
    TestFunction("eggholder", 2, -512.0, 512.0, -959.64066272085083, (512.0, 404.2318051137578),
                 separable=False, multimodal=True,
                 summary="steep hills and pits; the minimizer on the bounds"),
    TestFunction("cross-in-tray", 2, -10.0, 10.0, -2.0626118708227369, 1.3494066171539108,
                 separable=False, multimodal=True,
                 summary="a cross of edges; four global minimizers (all signs)"),
    TestFunction("holder-table", 2, -10.0, 10.0,
                 -19.208502567886732, (8.055023475736563, 9.664590019241273),
                 separable=False, multimodal=True,
                 summary="waves rising to the corners; four global minimizers (all signs)"),
    TestFunction("beale", 2, -4.5, 4.5, 0.0, (3.0, 0.5), separable=False, multimodal=True,
                 summary="flat valleys, steep corners"),
    TestFunction("booth", 2, -10.0, 10.0, 0.0, (1.0, 3.0), separable=False, multimodal=False,
                 summary="a plain quadratic bowl"),
    TestFunction("branin", 2, (-5.0, 0.0), (10.0, 15.0), 1.25 / math.pi, (math.pi, 2.275),
                 separable=False, multimodal=True,
                 summary="three global minimizers (x = pi is one)"),
    TestFunction("goldstein-price", 2, -2.0, 2.0, 3.0, (0.0, -1.0),
                 separable=False, multimodal=True,
                 summary="values over five orders of magnitude"),
    TestFunction("easom", 2, -100.0, 100.0, -1.0, math.pi, separable=False, multimodal=True,
                 summary="a narrow hole in a wide flat plain"),
    TestFunction("six-hump-camel", 2, (-3.0, -2.0), (3.0, 2.0),
                 -1.0316284534898774, (0.08984201310031806, -0.7126564030207396),
                 separable=False, multimodal=True,
                 summary="six local minima, two of them global ((x, y) and (-x, -y))"),
    TestFunction("three-hump-camel", 2, -5.0, 5.0, 0.0, 0.0, separable=False, multimodal=True,
                 summary="three local minima"),
    TestFunction("mccormick", 2, (-1.5, -3.0), (4.0, 4.0),
                 -math.sqrt(3.0) / 2.0 - math.pi / 3.0, (0.5 - math.pi / 3.0, -0.5 - math.pi / 3.0),
                 separable=False, multimodal=True,
                 summary="a slanted valley under a sine wave"),
    TestFunction("matyas", 2, -10.0, 10.0, 0.0, 0.0, separable=False, multimodal=False,
                 summary="a narrow quadratic bowl"),
    TestFunction("schaffer2", 2, -100.0, 100.0, 0.0, 0.0, separable=False, multimodal=True,
                 summary="rings of waves that fade outwards"),
    TestFunction("canyon", 2, -2.0, 8.0, 0.0, 0.0, separable=False, multimodal=True,
                 summary="GrandCanyon: gradients flow past the minimum, at a distance"),
)
# fmt: on

#: Every test function by name: those of any dimension first, then the others, by the alphabet.
FUNCTIONS: dict[str, TestFunction] = {
    f.name: f for f in sorted(_ALL, key=lambda f: (f.dim is not None, f.name))
}
