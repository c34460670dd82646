"""An objective as a device function."""

from __future__ import annotations

from typing import Any

from zoo.cbo.device.shape import Shape
from zoo.cuda import cuda, device_function


def value_of(objective: Any, shape: Shape) -> Any:
    """Device function f(x, shift, rotation, anchor, z): the objective where its problem has it.

    ``z`` is room for a point where the objective is taken elsewhere, or may write on its argument.
    """
    value_at = device_function(objective, single=shape.real == "float32")
    shifted, rotated, pure = shape.shifted, shape.rotated, shape.pure

    @cuda.jit(device=True)
    def value(x, shift, rotation, anchor, z):
        if not shifted:
            if pure:
                return value_at(x)
            for j in range(len(x)):
                z[j] = x[j]
            return value_at(z)
        for j in range(len(x)):
            total = anchor[j]
            if rotated:
                for k in range(len(x)):
                    total += rotation[j, k] * (x[k] - shift[k])
            else:
                total += x[j] - shift[j]
            z[j] = total
        return value_at(z)

    return value
