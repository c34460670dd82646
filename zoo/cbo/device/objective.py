"""An objective as a device function."""

from __future__ import annotations

from typing import Any

from zoo.cbo.device.shape import Shape
from zoo.cuda import cuda, device_function


def value_of(objective: Any, shape: Shape) -> Any:
    """Device function f(x, place, i): the objective where its problem has it.

    Point i of ``place.z`` is room where it is taken elsewhere, or may write on its argument.
    """
    value_at = device_function(objective, single=shape.real == "float32")
    shifted, rotated, pure = shape.shifted, shape.rotated, shape.pure

    @cuda.jit(device=True)
    def value(x, place, i):
        if pure and not shifted:
            return value_at(x)
        z = place.z[cuda.blockIdx.x, :, i]
        for j in range(len(x)):
            total = x[j]
            if shifted:
                total = place.anchor[j]
                if rotated:
                    for k in range(len(x)):
                        total += place.rotation[j, k] * (x[k] - place.shift[k])
                else:
                    total += x[j] - place.shift[j]
            z[j] = total
        return value_at(z)

    return value
