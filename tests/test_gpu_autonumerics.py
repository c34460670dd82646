"""Programs on a GPU beside those of the CPU."""

import os
from dataclasses import replace

import numpy as np
import pytest

gpu = pytest.mark.gpu
SIMULATED = os.environ.get("NUMBA_ENABLE_CUDASIM") == "1"

F5 = "div c1 x; add t1 x; add t2 c2; div c3 t3; add t4 c4"  # x + c/x: infinite at 0, and good
PROGRAMS = [
    (F5, [25.549178, -8.837500, 17.715246, 0.999992]),
    ("mul x x; fma t1 c1 x; sub t2 c2; sqrt t1; div t4 t3", [0.3, 2.5]),
    ("add x c1", [1.0]),
]


def programs():
    from evolve.autonumerics.programs import parse

    return [parse(text, constants) for text, constants in PROGRAMS]


@gpu
@pytest.mark.parametrize("real", ["float64", "float32"])
def test_values_of_programs_are_those_of_the_cpu(real):
    from evolve.autonumerics import device, interpreter

    x = np.linspace(0.0, 1.0, 19)
    with np.errstate(all="ignore"):
        found = device.evaluate(programs(), x, real)
        expected = [interpreter.evaluate(one, x, np.dtype(real)) for one in programs()]
    if SIMULATED:  # which rounds a*b + c twice
        np.testing.assert_allclose(found, expected, rtol=4 * np.finfo(real).eps)
    else:
        np.testing.assert_array_equal(found, expected)


@gpu
def test_values_in_double_double_precision_are_those_of_the_cpu():
    from evolve.autonumerics import device, interpreter

    x = np.linspace(0.0, 1.0, 19)
    with np.errstate(all="ignore"):
        high, low = device.evaluate_dd(programs(), x)
        expected = [interpreter.evaluate_dd(one, x) for one in programs()]
    for k, (top, rest) in enumerate(expected):
        np.testing.assert_allclose(high[k], top, rtol=1e-15)
        if not SIMULATED:  # whose fma is none
            np.testing.assert_allclose(
                (high[k] - top) + (low[k] - rest), 0.0, atol=1e-30 * np.abs(top).max()
            )


@gpu
def test_a_front_is_tried_at_every_float32():
    from evolve.autonumerics.front import published_singles
    from evolve.autonumerics.programs import parse
    from evolve.autonumerics.singles import Precision
    from evolve.autonumerics.targets import TARGETS

    target = replace(TARGETS["exp2"], domain=(0.9, 0.9 + 70 * 2.0**-24))
    (row,) = published_singles([parse("add x c1", [0.96])], target, "cuda")
    found = parse(row["program"], row["constants"])
    assert row["error"] == pytest.approx(Precision(target).worst(found), rel=1e-6)


@gpu
def test_every_float32_is_tried():
    from evolve.autonumerics.singles import Precision
    from evolve.autonumerics.targets import TARGETS

    end = float(np.nextafter(np.float32(1.0), np.float32(2.0))) + 130 * 2.0**-23
    target = replace(TARGETS["exp2"], domain=(1.0, end), error="ulp")
    one = programs()[0]
    with np.errstate(all="ignore"):
        expected, found = (Precision(target, where).worst(one) for where in ("cpu", "cuda"))
    assert found == pytest.approx(expected, rel=1e-6)
    assert expected > 1.0
