"""Losses of which nothing is known but their values."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from zoo.errors import InputError, Interrupted, RunError
from zoo.problem import never

Array = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


class BlackBox:
    """A function ``loss(params, batch)`` on a batch.

    Parameters
    ----------
    function : callable
        Takes the parameters, in the form of ``template``, and a batch, a tuple of arrays; returns
        a number.
    template : array, or mapping of arrays
        Says how the vector of parameters is dealt out.
    cancelled : callable
        True gives up what is under way.
    """

    def __init__(
        self,
        function: Callable[[Any, Any], float],
        template: Any,
        cancelled: Callable[[], bool] = never,
    ) -> None:
        self.function, self.template, self.cancelled = function, template, cancelled
        self.moments = np.empty((0, 2))
        self._batch: Any = None
        self._theta = np.empty(0)
        self._base: float | None = None

    def load(self, *batch: Any) -> None:
        """Take up a batch; the function may not write into it, for others see it too."""
        for array in batch:
            array.setflags(write=False)
        self._batch = batch

    def base(self, theta: Array) -> float:
        """Loss of the batch at ``theta``, from which changes will start."""
        self._theta = theta.copy()
        self._base = self.loss(theta)
        return self._base

    def loss(self, theta: Array) -> float:
        """Loss of the batch at ``theta``.

        Raises
        ------
        RunError
            If the function raises, or returns no number.
        Interrupted
            If cancelled.
        """
        if self.cancelled():
            raise Interrupted
        try:
            value = self.function(dealt(theta, self.template), self._batch)
        except (Exception, SystemExit) as error:  # it means to end more than this evaluation
            raise RunError(f"the loss raised {type(error).__name__}: {error}") from error
        try:
            if not isinstance(value, str | bytes):
                return float(value)
        except (TypeError, ValueError):
            pass
        raise RunError(f"the loss must be a number, got {value!r}")

    def derivatives(self, coordinates: Ints, mu: float, central: bool = False) -> Array:
        """Differences by coordinates, one after another."""
        assert self._base is not None
        g, theta = np.empty(len(coordinates)), self._theta.copy()
        for at, i in enumerate(coordinates):
            kept = theta[i]
            theta[i] = kept + mu
            ahead = self.loss(theta)
            if central:
                theta[i] = kept - mu
                g[at] = (ahead - self.loss(theta)) / (2.0 * mu)
            else:
                g[at] = (ahead - self._base) / mu
            theta[i] = kept
        return g


def dealt(theta: Array, template: Any) -> Any:
    """Parameters in the form of a template, from their vector; copies."""
    if not isinstance(template, Mapping):
        return theta.reshape(np.shape(template)).copy()
    parts, at = {}, 0
    for name, array in template.items():
        size = np.size(array)
        parts[name] = theta[at : at + size].reshape(np.shape(array)).copy()
        at += size
    return parts


def gathered(template: Any) -> Array:
    """Vector of the parameters in a template.

    Raises
    ------
    InputError
        If they are not finite numbers.
    """
    arrays = template.values() if isinstance(template, Mapping) else [template]
    for name in template if isinstance(template, Mapping) else ():
        if not isinstance(name, str):
            raise InputError(f"names of parameters must be words, got {name!r}")
    try:
        vector = np.concatenate([np.empty(0), *(np.asarray(array).ravel() for array in arrays)])
    except (TypeError, ValueError) as error:
        raise InputError(f"parameters must be an array, or a dict of arrays: {error}") from None
    if vector.dtype.kind != "f" or not vector.size or not np.isfinite(vector).all():
        raise InputError("parameters must be finite numbers, one or more")
    return vector.astype(np.float64)
