"""An objective as a device function."""

from __future__ import annotations

from typing import Any

from zoo.cbo.device.shape import Shape
from zoo.cuda import cuda, device_function


def value_of(objective: Any, shape: Shape) -> Any:
    """Device function f(x, target, i): the objective where its problem has it.

    Point i of ``target.z`` is room where it is taken elsewhere, or may write on its argument.
    """
    value_at = device_function(objective, single=shape.real == "float32")
    shifted, rotated, pure = shape.shifted, shape.rotated, shape.pure

    @cuda.jit(device=True)
    def value(x, target, i):
        if pure and not shifted:
            return value_at(x)
        z = target.z[cuda.blockIdx.x, :, i]
        for j in range(len(x)):
            total = x[j]
            if shifted:
                total = target.anchor[j]
                if rotated:
                    for k in range(len(x)):
                        total += target.rotation[j, k] * (x[k] - target.shift[k])
                else:
                    total += x[j] - target.shift[j]
            z[j] = total
        return value_at(z)

    return value
