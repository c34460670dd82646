"""Shards on workers that have a share of a GPU, which is simulated here."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("ray")
ROOT = Path(__file__).parent.parent

SCRIPT = """
import numba, numpy as np, ray
import zoo

@numba.njit
def bowl(x):
    return (x[0] - 1.0) ** 2 + x[1] * x[1]

ray.init(address="local", num_cpus=2, num_gpus=1, include_dashboard=False, logging_level="ERROR")
with zoo.workers(2, cpus_per_worker=0.5, gpus_per_worker=0.5) as crew:
    for runs in (2, 1):  # whole runs, and blocks of one
        options = dict(device="cuda", runs=runs, shards=2, particles=4, steps=3, seed=2)
        here = zoo.minimize(bowl, [(-3, 3)] * 2, threads=1, **options)
        there = zoo.minimize(bowl, [(-3, 3)] * 2, workers=crew, **options)
        np.testing.assert_array_equal(here.particles, there.particles)
        assert (here.fun, here.nfev) == (there.fun, there.nfev)
        print("the same,", there.workers["workers"], "workers")
"""


def test_shards_on_workers_with_a_share_of_a_gpu(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        env=os.environ | {"NUMBA_ENABLE_CUDASIM": "1", "PYTHONPATH": str(ROOT)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("the same, 2 workers") == 2
