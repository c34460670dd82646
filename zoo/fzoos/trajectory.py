"""What is remembered: points that have been queried, and their values."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


class Trajectory:
    """Points of the unit box and their values, the latest ``memory`` of them, none of them twice.

    Parameters
    ----------
    dimension : int
    memory : int
    columns : int, optional
        Values of a point; one number if not given.
    """

    def __init__(self, dimension: int, memory: int, columns: int | None = None) -> None:
        self.memory = memory
        shape = () if columns is None else (columns,)
        self._x = np.empty((2 * memory, dimension))
        self._y = np.empty((2 * memory, *shape))
        self._squares = np.empty(2 * memory)
        self._end = self._moved = 0  # rows in use, and how many have been moved out
        self._places: dict[bytes, int] = {}

    def __len__(self) -> int:
        return min(self._end, self.memory)

    @property
    def added(self) -> int:
        """Points that have ever been added."""
        return self._moved + self._end

    @property
    def _rows(self) -> slice:
        return slice(self._end - len(self), self._end)

    @property
    def x(self) -> Array:
        """Points (n, d), in the order in which they came."""
        return self._x[self._rows]

    @property
    def y(self) -> Array:
        """Values (n,), or (n, columns)."""
        return self._y[self._rows]

    def find(self, point: Array) -> int | None:
        """Place of a point (d,), or None."""
        place = self._places.get(point.tobytes(), -1) - self._moved - self._rows.start
        return place if place >= 0 else None

    def add(self, x: Array, y: Array) -> None:
        """Add points (m, d) and their values (m,); one that is there gets its new value."""
        for point, value in zip(x, y, strict=True):
            place = self.find(point)
            if place is not None:
                self.y[place] = value
                continue
            if self._end == len(self._x):
                self._move()
            at = self._end
            self._x[at], self._y[at], self._squares[at] = point, value, point @ point
            self._places[point.tobytes()] = self._moved + at
            self._end += 1

    def _move(self) -> None:
        """Forget what is no more among the latest."""
        kept = self._rows
        self._moved += kept.start
        for array in (self._x, self._y, self._squares):
            array[: self.memory] = array[kept]
        self._end = self.memory
        self._places = {k: v for k, v in self._places.items() if v >= self._moved}

    def nearest(self, point: Array, count: int) -> Ints:
        """Places of the nearest points, in the order in which they came."""
        if len(self) <= count:
            return np.arange(len(self))
        squares = self._squares[self._rows] - 2.0 * (self.x @ point)
        return np.sort(np.argpartition(squares, count)[:count])

    def state(self) -> dict[str, Array]:
        """Points and values."""
        return {"x": self.x.copy(), "y": self.y.copy()}

    def restore(self, state: dict[str, Array]) -> None:
        """Take up points and values."""
        self._end = self._moved = 0
        self._places = {}
        self.add(state["x"], state["y"])
