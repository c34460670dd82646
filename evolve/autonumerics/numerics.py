"""The domain of programs that compute a function: how they are fitted, scored and told apart."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from hashlib import blake2b

import numpy as np
import numpy.typing as npt

from evolve.autonumerics.fit import Fitter
from evolve.autonumerics.grid import Grid, grid_of
from evolve.autonumerics.interpreter import BLOCK, run
from evolve.autonumerics.levenberg import NODES
from evolve.autonumerics.programs import ARITY, Program
from evolve.autonumerics.singles import Precision
from evolve.autonumerics.targets import Target
from evolve.autonumerics.variation import fresh, smallest, vary
from zoo.lanes import LANES
from zoo.runtime.protocol import State

Array = npt.NDArray[np.float64]

#: Constants by which programs are told apart, and points.
_PROBES = 0.3 + np.modf(np.sqrt(5.0) * np.arange(1, 65))[0] * 2.0

#: Bits by which values of programs that are the same may differ, and half of them.
_BITS, _HALF = 16, 1 << 15

#: A fit that is this near to what is wanted, in digits, is worth more starts.
_NEAR = 1.5

#: Errors below this, in the fit, are improved with more digits; those below _NOISE are nothing but
#: rounding errors.
_ROUNDED, _NOISE = 1e-10, 1e-14

#: ULP of 1 in single precision; errors of more of them are rough, others are lowered by so many
#: steps if by so many digits they come near what is wanted.
_ULP, _ROUGH, _STEPS, _GAIN = 2.0**-23, 8.0, 400, 0.3

#: A start is led to the target while errors are below so many times what is wanted.
_LEAD = 1e3

#: Digits of no error at all, and, with a minus, of no value.
_MOST = 300.0

#: Starts of a fit, and those of a second one.
_STARTS, _MORE = 16, 64
_QUICK = np.array([[_STARTS, 8], [8, 20], [4, 40], [1, 150]])
_LONG = np.array([[_MORE, 12], [16, 40], [4, 100], [2, 200]])


class Numerics:
    """Programs for a target; see :class:`evolve.search.domain.Domain`.

    Parameters
    ----------
    nodes, grid : Grid
        Points that programs are fitted to, and at which the largest error is looked for.
    operations : sequence of int
    most : int
        Operations of a program, at most.
    precision : Precision, optional
        Score programs by their error in single precision.
    """

    unit = "fits"

    def __init__(
        self,
        nodes: Grid,
        grid: Grid,
        operations: Sequence[int],
        most: int,
        precision: Precision | None = None,
    ) -> None:
        self.nodes, self.grid, self.precision = nodes, grid, precision
        self.operations, self.most = tuple(operations), most
        constants = 1 + most * max(ARITY[op] - 1 for op in self.operations)
        self._fitter = Fitter(nodes, most, max(constants, 2))
        points = grid.x[0] + (grid.x[-1] - grid.x[0]) * (np.arange(LANES) + 0.37) / LANES
        dtype = np.float64 if precision is None else np.float32
        self._points = points.astype(dtype)
        self._rows = np.zeros((2 + 3 * most, BLOCK), dtype)
        self._out = np.zeros(LANES, dtype)

    def fresh(self) -> Numerics:
        """The same with memory of its own."""
        return type(self)(self.nodes, self.grid, self.operations, self.most, self.precision)

    def seeds(self) -> list[Program]:
        """The smallest program."""
        return [smallest(self.operations)]

    def vary(self, genome: Program, random: np.random.Generator) -> Program:
        """A change; see :func:`evolve.autonumerics.variation.vary`."""
        return vary(genome, random, self.operations, self.most)

    def cost(self, genome: Program) -> int:
        """Number of operations."""
        return genome.cost

    def key(self, genome: Program) -> int:
        """Hash of the values with fixed constants: to eleven digits, or of single precision.

        Programs that compute the same in exact arithmetic are the same thing, unless it is their
        rounding that counts. Those without a value are told apart by their text.
        """
        constants = _PROBES[: len(genome.constants)].astype(self._out.dtype)
        run(genome.codes, constants, self._points, self._rows, self._out)
        if not np.isfinite(self._out).all():
            seen = genome.text().encode()
        elif self.precision is None:
            seen = ((self._out[::5].view(np.int64) + _HALF) >> _BITS).tobytes()
        else:
            seen = self._out.tobytes()
        return int.from_bytes(blake2b(seen, digest_size=8).digest())

    def assess(
        self, genome: Program, least: float, random: np.random.Generator
    ) -> tuple[float, Program]:
        """Digits: -log10 of the largest error, after a fit of the constants."""
        if self.precision is None:
            fitted = self._fitted(genome, least, random)
            return self._digits(fitted), fitted
        near = math.log10(1.0 / _ULP) + least  # digits of an error of so many ULP
        return self._in_ulps(self._fitted(genome, near, random), least, random)

    def _in_ulps(
        self, fitted: Program, least: float, random: np.random.Generator
    ) -> tuple[float, Program]:
        """-log10 of the largest error in ULP, with constants of float32."""
        assert self.precision is not None
        worst = self.precision.error(fitted)
        if worst < _ROUGH and _score(worst) + _GAIN > least:
            worst, fitted = self.precision.tuned(fitted, _STEPS, random)
        return _score(worst), fitted

    def _fitted(self, genome: Program, least: float, random: np.random.Generator) -> Program:
        """The program with constants by least squares; the given ones if it has no values."""
        given = genome.constants
        if not len(given):
            return genome
        starts = _starts(given, _STARTS, random)
        starts[-1] = starts[0]
        wanted = 10.0 ** -min(max(least + 0.2, -_MOST), _MOST)
        rms, best = self._fitter.fit(genome, starts, _QUICK, min(_LEAD * wanted, 1.0))
        if max(wanted, _NOISE) < rms < wanted * 10.0**_NEAR and len(given) > 2:
            starts = _starts(given, _MORE, random)
            starts[-1] = best
            again, other = self._fitter.fit(genome, starts, _LONG)
            if again < rms:
                rms, best = again, other
        if not math.isfinite(rms):
            return genome.with_constants(np.full(len(given), np.nan))
        fitted = genome.with_constants(best)
        return self._fitter.refine(fitted, 50)[1] if rms < _ROUNDED else fitted

    def _digits(self, genome: Program) -> float:
        return _score(self.grid.error(genome))

    def pack(self, genomes: Sequence[Program]) -> State:
        """Arrays of the operations and constants of all programs, one after the other."""
        return {
            "operations": np.array([g.cost for g in genomes], np.int64),
            "codes": np.concatenate([np.zeros((0, 4), np.int8), *(g.codes for g in genomes)]),
            "counts": np.array([len(g.constants) for g in genomes], np.int64),
            "constants": np.concatenate([np.zeros(0), *(g.constants for g in genomes)]),
            "low": np.concatenate([np.zeros(0), *(g.low for g in genomes)]),
        }

    def unpack(self, state: State) -> list[Program]:
        """Programs from arrays."""
        found, at, begin = [], 0, 0
        for cost, count in zip(state["operations"], state["counts"], strict=True):
            held = slice(begin, begin + count)
            codes = state["codes"][at : at + cost]
            found.append(Program(codes, state["constants"][held], state["low"][held]))
            at, begin = at + cost, begin + count
        return found


def _score(error: float) -> float:
    """Digits of an error."""
    return -math.log10(error) if 0.0 < error < math.inf else -_MOST if error else _MOST


def numerics(
    target: Target, operations: Sequence[int], most: int, single: bool = False
) -> Numerics:
    """Domain of the programs for a target, of single or double precision."""
    precision = None
    if single:
        precision = Precision(target).sampled()
        precision.check()
        target = replace(target, error="ulp")  # by which they are judged
    return Numerics(
        grid_of(target, NODES, ends=False), grid_of(target), operations, most, precision
    )


def _starts(given: Array, count: int, random: np.random.Generator) -> Array:
    """Constants to start from (count, K): the given ones, near them, far from them, and others."""
    starts = fresh(random, (count, len(given)))
    known = np.isfinite(given)
    if known.any():
        half = count // 2
        spread = np.concatenate(
            [np.zeros(1), np.full(half // 2, 0.1), np.full(half - half // 2, 1.5)]
        )
        near = given * np.exp(spread[:, None] * random.normal(size=(half + 1, len(given))))
        starts[: half + 1] = np.where(known, near, starts[: half + 1])
    return starts
