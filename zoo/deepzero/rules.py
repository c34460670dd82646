"""Update rules: from a gradient estimate to the next parameters.

sgd    v <- m v + g + lambda theta,  theta <- theta - eta v
adam   Adam with decoupled weight decay (Loshchilov and Hutter 2019), beta_1 = m, beta_2 = 0.999
lion   theta <- theta - eta (sign(m v + (1 - m) g) + lambda theta),  v <- 0.99 v + 0.01 g
       (Chen et al. 2023)

They are dense: a coordinate whose derivative has not been estimated has the derivative zero, so
weight decay and what is left of the momentum still move it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from zoo.runtime.protocol import State

Array = npt.NDArray[np.float64]

RULES = ("sgd", "adam", "lion")

_SECOND, _EPS, _SLOW = 0.999, 1e-8, 0.99


def rate(peak: float, step: int, steps: int, warmup: int, cosine: bool) -> float:
    """Learning rate of step 0 <= step < steps: a linear warm-up, then half a cosine down to 0."""
    if step < warmup:
        return peak * (step + 1) / warmup
    if not cosine:
        return peak
    return 0.5 * peak * (1.0 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


@dataclass
class Rule:
    """A rule and what it remembers.

    Attributes
    ----------
    name : str
        One of :data:`RULES`.
    momentum, decay : float
        m and lambda.
    first, second : (d,)
        v, and Adam's second moments.
    """

    name: str
    momentum: float
    decay: float
    first: Array
    second: Array

    @classmethod
    def new(cls, name: str, momentum: float, decay: float, size: int) -> Rule:
        """Rule that remembers nothing yet."""
        return cls(name, momentum, decay, np.zeros(size), np.zeros(size if name == "adam" else 0))

    def update(self, theta: Array, g: Array, rate: float, step: int) -> None:
        """Change ``theta`` (d,) by one step, in place; ``step`` counts from 0."""
        m, v = self.momentum, self.first
        if self.name == "sgd":
            v *= m
            v += g
            v += self.decay * theta
            theta -= rate * v
            return
        theta -= rate * self.decay * theta
        if self.name == "lion":
            theta -= rate * np.sign(m * v + (1.0 - m) * g)
            v *= _SLOW
            v += (1.0 - _SLOW) * g
            return
        v *= m
        v += (1.0 - m) * g
        self.second *= _SECOND
        self.second += (1.0 - _SECOND) * g * g
        first = v / (1.0 - m ** (step + 1))
        second = self.second / (1.0 - _SECOND ** (step + 1))
        theta -= rate * first / (np.sqrt(second) + _EPS)

    def state(self) -> State:
        """What it remembers."""
        return {"first": self.first.copy(), "second": self.second.copy()}

    def restore(self, state: State) -> None:
        """Take it up."""
        self.first, self.second = state["first"].copy(), state["second"].copy()
