"""What can go wrong, by whose doing it is; the CLI maps each to an exit code."""

from __future__ import annotations


class InputError(ValueError):
    """The caller's input cannot be used: one line says what was wrong and what is accepted."""


class ObjectiveError(RuntimeError):
    """The objective failed: raised, returned no number, crashed, or was never finite.

    Attributes
    ----------
    point : numpy.ndarray or None
        The point whose evaluation failed.
    result : scipy.optimize.OptimizeResult or None
        What the run had found by then.
    """

    def __init__(self, message: str, point: object = None) -> None:
        super().__init__(message)
        self.point = point
        self.result: object = None


class RunError(RuntimeError):
    """A run folder cannot be written, read or continued."""


class Diverged(RunError):
    """The run has come to where it cannot go on; continued, it would come there again."""


class Interrupted(Exception):
    """The run was asked to stop before its end; ``result`` is what it had found."""

    result: object = None
