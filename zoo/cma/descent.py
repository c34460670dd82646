"""One run of CMA-ES between two restarts: pycma's strategy over a box."""

from __future__ import annotations

import functools
import math
import warnings
from typing import Any

import numpy as np
from threadpoolctl import ThreadpoolController

from zoo.cma.config import CMAConfig
from zoo.cma.restarts import Restart
from zoo.problem import Array, Problem
from zoo.runtime.folder import to_json

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # it asks for matplotlib
    import cma

#: Stands for a value that is not finite while none has been: larger than what objectives return.
_HUGE = 1e300


@functools.cache
def _controller() -> ThreadpoolController:
    return ThreadpoolController()


def _alone() -> Any:
    """One thread for linear algebra: its sums depend on how many there are."""
    return _controller().limit(limits=1, user_api="blas")


class Descent:
    """One run between two restarts: pycma in box coordinates.

    Box coordinates, and not pycma's CMA_stds, for its tolerances tolx and tolxstagnation, its
    boundary transformation and its penalty are all relative to widths of one.

    Parameters
    ----------
    problem : Problem
    config : CMAConfig
    run : Restart
    start : (d,) array
        First mean, in box coordinates.
    generator : numpy.random.Generator
        Of the normals.
    """

    def __init__(
        self,
        problem: Problem,
        config: CMAConfig,
        run: Restart,
        start: Array,
        generator: np.random.Generator,
    ) -> None:
        self._lower, self._upper = problem.lower, problem.upper
        self._worst = -math.inf
        penalty = config.boundary == "penalty"
        options = config.pycma() | {
            "bounds": [[0.0] * len(start), [1.0] * len(start)],
            "BoundaryHandler": cma.BoundPenalty if penalty else cma.BoundTransform,
            "popsize": run.popsize,
            "randn": lambda *shape: generator.standard_normal(shape),
            "seed": np.nan,  # leaves the global generator alone
            "verbose": -9,  # says nothing, writes nothing
            "verb_log": 0,
            "signals_filename": "",  # reads nothing
        }
        if len(start) == 1:
            options["maxstd"] = math.inf  # pycma fails to limit the deviation of one coordinate
        if run.maxfevals is not None:
            options["maxfevals"] = run.maxfevals
        self.strategy = cma.CMAEvolutionStrategy(start, run.sigma0, options)
        self._penalties = self.strategy.boundary_handler.hist if penalty else None

    def ask(self) -> Array:
        """Points (popsize, d) to be evaluated next."""
        with _alone(), np.errstate(all="ignore"):
            self._asked = self.strategy.ask()
        return self._placed(np.array(self._asked))

    def tell(self, values: Array) -> dict[str, Any]:
        """Take the values (popsize,) of the points asked for; pycma's reasons to stop, if any.

        What is not finite counts as the worst finite value that this run has seen. So points of a
        step without any are told to be equal; pycma stops there (tolfun, if it is the first step,
        or tolflatfitness), and a restart looks somewhere else.
        """
        finite = np.isfinite(values)
        self._worst = float(np.max(values[finite], initial=self._worst))
        worst = self._worst if self._worst > -math.inf else _HUGE
        told = np.where(finite, values, worst)
        with _alone(), np.errstate(all="ignore"):
            if self._penalties == []:
                low, high = np.sort(told)[[(len(told) + 1) // 4, 3 * (len(told) + 1) // 4]]
                if not 0.0 < (high - low) / self.strategy.sigma**2 < _HUGE:
                    # pycma needs a first range. Any will do: the penalties adapt.
                    self._penalties.append(1.0)
            self.strategy.tell(self._asked, told.tolist())
            return dict(to_json(self.strategy.stop()))

    @property
    def mean(self) -> Array:
        """Mean (d,) of the distribution."""
        return self._placed(np.asarray(self.strategy.result.xfavorite))

    @property
    def stds(self) -> Array:
        """Standard deviations (d,) of the distribution, in box coordinates."""
        strategy = self.strategy
        if strategy.gp.isidentity:
            return np.array(strategy.stds)
        # Ill-conditioned: pycma has moved a linear map out of the covariance.
        linear = np.array([strategy.gp.pheno(row) for row in np.eye(strategy.N)]).T
        linear = linear * strategy.sigma_vec.scaling
        variances = np.einsum("ij,jk,ik->i", linear, strategy.sm.C, linear)
        return np.asarray(strategy.sigma * np.sqrt(variances))

    def _placed(self, u: Array) -> Array:
        return np.clip((1.0 - u) * self._lower + u * self._upper, self._lower, self._upper)
