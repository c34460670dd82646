"""Programs in single precision: errors in units in the last place (ULP), of every float32.

An ULP is the distance of neighbouring float32 about the true value, 2^(e - 23) for one in
[2^e, 2^(e + 1)), and 2^-149 for zero.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from evolve.autonumerics.grid import truth_at
from evolve.autonumerics.interpreter import BLOCK, row_of, walk
from evolve.autonumerics.pieces import LEAST, Piece, pieces_of
from evolve.autonumerics.programs import Program
from evolve.autonumerics.targets import Target
from zoo.errors import InputError
from zoo.jit import from_bits, kernel, to_bits
from zoo.lanes import LANES, load, store

Array = npt.NDArray[np.float64]
Singles = npt.NDArray[np.float32]

#: Points at which a program is judged before every float32 is tried.
_SAMPLE = 2048

#: First step of CMA-ES, in units in the last place, and what stands for an infinite error.
_SIGMA, _HUGE = 3.0, 1e300

_EXPONENT = np.uint64(0x7FF0000000000000)
_ULP = 2.0**-23


@kernel
def _ulps(found, truth, power):
    """Error in units in the last place; infinite if there is no value.

    ``power`` is the power of two that the true value is not below; 0: that of ``truth``.
    """
    if power == 0.0:
        power = from_bits(to_bits(truth) & _EXPONENT)
    error = abs(found - truth) / max(power * _ULP, LEAST)
    return error if error == error else math.inf


@kernel
def _worst_of_sample(codes, constants, x, truth, r):
    """Largest error at the points of a sample, whose number is a multiple of BLOCK."""
    count = len(constants)
    last = row_of(len(codes), count) if len(codes) else 1
    for k in range(count):
        for i in range(0, BLOCK, LANES):
            store(r, (k + 1, i), constants[k])
    worst = 0.0
    for begin in range(0, len(x), BLOCK):
        for i in range(0, BLOCK, LANES):
            store(r, (0, i), load(x, begin + i))
        walk(codes, count, r, BLOCK)
        for i in range(BLOCK):
            worst = max(worst, _ulps(np.float64(r[last, i]), truth[begin + i], 0.0))
    return worst


@kernel
def _worst_of_all(codes, constants, first, last, middle, scale, factors, power, bits, x, r):
    """Largest error at the float32 of bits first <= b < last, whose truth is one polynomial.

    ``bits`` and ``x`` are the same memory, as int32 and as float32.
    """
    count = len(constants)
    row = row_of(len(codes), count) if len(codes) else 1
    for k in range(count):
        for i in range(0, BLOCK, LANES):
            store(r, (k + 1, i), constants[k])
    worst = 0.0
    for begin in range(first, last, BLOCK):
        n = min(BLOCK, last - begin)
        for i in range(BLOCK):
            bits[i] = begin + i
        for i in range(0, BLOCK, LANES):
            store(r, (0, i), load(x, i))
        walk(codes, count, r, BLOCK)
        for i in range(n):
            t = (np.float64(x[i]) - middle) * scale
            truth = factors[0]
            for k in range(1, len(factors)):
                truth = truth * t + factors[k]
            worst = max(worst, _ulps(np.float64(r[row, i]), truth, power))
    return worst


@kernel
def _climb(codes, constants, x, truth, r, steps, worst):
    """Change single constants by some units in the last place, where that lowers the error.

    steps : (m, 2) int64
        Which constant, and by how many units.
    """
    for s in range(len(steps)):
        k = steps[s, 0]
        before = constants[k]
        size = abs(np.float64(before))
        unit = max(from_bits(to_bits(size) & _EXPONENT) * _ULP, LEAST)
        constants[k] = np.float32(np.float64(before) + steps[s, 1] * unit)
        after = _worst_of_sample(codes, constants, x, truth, r)
        if after <= worst:
            worst = after
        else:
            constants[k] = before
    return worst


@dataclass(frozen=True, eq=False)
class Precision:
    """A target in single precision; ``device``, cpu or cuda, is where all float32 are tried."""

    target: Target
    device: str = "cpu"

    @cached_property
    def sample(self) -> tuple[Singles, Array]:
        """Some points, with the ends, and the truth there."""
        low, high = self.target.domain
        x = np.linspace(low, high, _SAMPLE - _SAMPLE // 8)
        near = np.concatenate([np.geomspace(1e-7, 0.1, _SAMPLE // 16)] * 2)
        near[: _SAMPLE // 16] = low + (high - low) * near[: _SAMPLE // 16]
        near[_SAMPLE // 16 :] = high - (high - low) * near[_SAMPLE // 16 :]
        with np.errstate(over="ignore"):
            points = np.sort(np.concatenate([x, near])).astype(np.float32)
        points = np.clip(points, *self.ends)
        return points, truth_at(self.target, points.astype(np.float64))[0]

    def check(self) -> None:
        """Raise InputError if there is no float32 in the domain, or a value that is none."""
        low, high = self.ends
        if not low <= high:
            raise InputError("there is no float32 in the domain")
        if not np.abs(self.sample[1]).max() <= np.finfo(np.float32).max:
            raise InputError(f"{self.target.name} is not finite in float32 in all of its domain")

    @property
    def ends(self) -> tuple[np.float32, np.float32]:
        """First and last float32 of the domain."""
        with np.errstate(over="ignore"):
            low, high = (np.float32(end) for end in self.target.domain)
        if float(low) < self.target.domain[0]:
            low = np.nextafter(low, np.float32(np.inf))
        if float(high) > self.target.domain[1]:
            high = np.nextafter(high, np.float32(-np.inf))
        return low, high

    def sampled(self) -> Precision:
        """The same, its sample at hand."""
        assert len(self.sample)
        return self

    def __getstate__(self) -> dict[str, Any]:
        """What goes to workers: the sample, and not the function."""
        return {"sample": self.sample}

    def error(self, program: Program) -> float:
        """Largest error at the points of the sample, in ULP, with constants rounded to float32."""
        constants = _rounded(program)
        return float(_worst_of_sample(program.codes, constants, *self.sample, _rows(program)))

    def tuned(
        self, program: Program, steps: int, random: np.random.Generator
    ) -> tuple[float, Program]:
        """Error in the sample, and the program with constants of float32 that lower it."""
        constants = _rounded(program)
        rows, sample = _rows(program), self.sample
        worst = float(_worst_of_sample(program.codes, constants, *sample, rows))
        if len(constants) and steps:
            which = random.integers(len(constants), size=steps)
            sizes = random.geometric(0.35, steps) * random.choice((-1, 1), steps)
            moves = np.stack([which, sizes], 1).astype(np.int64)
            worst = float(_climb(program.codes, constants, *sample, rows, moves, worst))
        return worst, program.with_constants(constants.astype(np.float64))

    def evolved(
        self, program: Program, evaluations: int, random: np.random.Generator
    ) -> tuple[float, Program]:
        """The same by CMA-ES (pycma), on whole units in the last place of the constants."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it asks for matplotlib
            import cma

        base = _rounded(program).astype(np.float64)
        if not len(base) or not np.isfinite(base).all():
            return self.error(program), program
        unit = np.spacing(np.abs(base).astype(np.float32)).astype(np.float64)

        def moved(steps: Any) -> Program:
            return program.with_constants(base + np.round(steps) * unit)

        options = {
            "randn": lambda *shape: random.standard_normal(shape),
            "seed": np.nan,  # leaves the global generator alone
            "verbose": -9,
            "maxfevals": evaluations,
        }
        search = cma.CMAEvolutionStrategy(np.zeros(len(base)), _SIGMA, options)
        search.optimize(lambda steps: min(self.error(moved(steps)), _HUGE))
        found = moved(search.result.xbest)
        before, after = self.error(program), self.error(found)
        return (after, found) if after < before else (before, program)

    def worst(self, program: Program, limit: float = math.inf) -> float:
        """Largest error of all float32 of the domain, in ULP; one above the limit, if there is."""
        if self.device == "cuda":
            from evolve.autonumerics import device

            return device.worst(self._pieces, program)
        constants, rows = _rounded(program), _rows(program)
        bits, worst = np.zeros(BLOCK, np.int32), 0.0
        for piece in self._pieces:
            numbers = piece.first, piece.last, piece.middle, piece.scale, piece.factors
            memory = piece.power, bits, bits.view(np.float32), rows
            worst = max(worst, _worst_of_all(program.codes, constants, *numbers, *memory))
            if worst > limit:
                break
        return worst

    @cached_property
    def _pieces(self) -> list[Piece]:
        return pieces_of(self.target, self.ends)

    @property
    def count(self) -> int:
        """Float32 in the domain, 0 and -0 being two."""
        return sum(piece.last - piece.first for piece in self._pieces)


def _rounded(program: Program) -> Singles:
    with np.errstate(over="ignore"):
        return program.constants.astype(np.float32)


def _rows(program: Program) -> Singles:
    return np.empty((2 + len(program.constants) + program.cost, BLOCK), np.float32)
