"""Populations on a GPU beside those of the CPU."""

import io
import math
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numba
import numpy as np
import pytest
from commands import some_of

import zoo

gpu = pytest.mark.gpu
ROOT = Path(__file__).parent.parent
SIMULATED = os.environ.get("NUMBA_ENABLE_CUDASIM") == "1"


@gpu
def test_random_numbers_are_those_of_the_cpu():
    from gpu_kernels import words_and_normals

    from zoo import streams
    from zoo.cuda import cuda

    seed, stream, count = 7, 2**63 + 5, 6
    words = cuda.to_device(np.zeros((count, 4), np.uint64))
    normals = cuda.to_device(np.zeros((count, 2)))
    words_and_normals[2, 4](np.uint64(seed), np.uint64(stream), words, normals)
    key = np.array([seed, stream], np.uint64)
    expected = [
        np.random.Philox(key=key, counter=np.array([b, 3, 5, 1], np.uint64)).random_raw(8)[:4]
        for b in np.arange(count, dtype=np.uint64) - np.uint64(1)
    ]
    if expected:  # NumPy counts before it draws
        expected[0] = np.random.Philox(
            key=key, counter=np.array([2**64 - 1, 2, 5, 1], np.uint64)
        ).random_raw(4)
    np.testing.assert_array_equal(words.copy_to_host(), expected)
    row, block = streams.lanes(count, 4)
    out = np.empty(4 * len(row))
    here = np.uint64(seed), np.uint64(stream), np.uint64(5), np.uint64(1)
    for b in range(count):
        streams.normals(*here, 3, 1, row, np.full_like(block, b), out)
        np.testing.assert_allclose(normals.copy_to_host()[b], out[:2], rtol=1e-14, atol=1e-15)


@gpu
def test_functions_of_single_precision():
    from gpu_kernels import singles

    from zoo.cuda import cuda

    rng = np.random.default_rng(0)
    words = rng.integers(0, 2**64, (40, 2), np.uint64)
    words[:4] = [[0, 1], [2**64 - 1, 2**64 - 1], [2**41, 2**63], [2**63, 2**64 - 2]]
    x = np.concatenate([rng.uniform(-9, 9, 32), [0.0, 0.5, -3.0, 1e-6, 1e8, np.inf, -2.5, 4.75]])
    normals, ripples = cuda.to_device(np.zeros((40, 2))), cuda.to_device(np.zeros(40))
    singles[5, 8](words, x.astype(np.float32), normals, ripples)
    u, v = (((words >> np.uint64(41)).astype(float) + 0.5) / 2**23).T
    radius, angle = np.sqrt(-2.0 * np.log(u)), np.pi * (v - 0.5)
    sign = np.where(words[:, 1] % 2 == 1, -1.0, 1.0)
    expected = np.stack([radius * sign * np.cos(angle), radius * np.sin(angle)], 1)
    found = normals.copy_to_host()
    least = np.hypot(
        *found[1]
    )  # the logarithm next to 1 has its error of 2^-22, and more beside it
    assert 3.4e-4 < least < 7e-4
    found[1] *= radius[1] / least
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=6e-6)
    with np.errstate(invalid="ignore"):
        near = np.float32(x).astype(float)
        expected = np.sin(np.pi * (near - np.rint(near))) ** 2
    np.testing.assert_allclose(ripples.copy_to_host(), expected, rtol=1e-6)


@gpu
@pytest.mark.parametrize("n", [0, 1, 7, -2])
def test_loops_of_device_functions(n):
    from gpu_kernels import looped, loops, within

    from zoo.cuda import cuda

    expected, found = np.zeros(8), cuda.to_device(np.zeros(8))
    for function in (loops, within):
        function(n, expected)
    looped[1, 1](n, found)
    np.testing.assert_array_equal(found.copy_to_host(), expected)


VARIANTS = {
    "anisotropic": {"dim": 6},
    "isotropic": {"noise": "isotropic"},
    "hopping": {"dynamics": "hopping"},
    "memory": {"memory": True, "sigma_memory": 0.5},
    "memory, isotropic": {"memory": True, "sigma_memory": 0.5, "noise": "isotropic"},
    "gated": {"gate": "heaviside"},
    "smoothly gated": {"gate": "smooth"},
    "clipped": {"boundary": "clip"},
    "unbounded": {"boundary": "none"},
    "normal start": {"init": "normal"},
    "kicked": {"kick_sigma": 0.1, "kick_patience": 1, "kick_spread": 1.0},
    "hopping, kicked": {
        "dynamics": "hopping",
        "kick_sigma": 0.1,
        "kick_patience": 1,
        "kick_spread": 1.0,
    },
    "truncated": {"truncation": 0.5},
    "covariance": {
        "noise": "covariance",
        "alpha": 0.03,
        "alpha_schedule": "multiply",
        "dt": 0.2,
        "dim": 6,
    },
    "covariance and its size": {"noise": "covariance", "runs": 2},
    "covariance about the new": {
        "noise": "covariance",
        "covariance_about": "new",
        "gate": "smooth",
    },
    "effective size": {"alpha_schedule": "ess", "ess": 0.4, "memory": True},
    "sampling": {"dynamics": "sampling", "alpha": 0.03},
    "polarized": {"dynamics": "polarized", "kappa": 2.0, "sigma": 3.0},
    "polarized, isotropic": {
        "dynamics": "polarized",
        "kernel_scaling": "none",
        "alpha": 0.1,
        "noise": "isotropic",
        "sigma": 0.5,
    },
    "batches": {"batch": 3},
    "batches move all": {"batch": 4, "batch_moves": "all", "noise": "isotropic"},
    "batches with memory": {"batch": 3, "memory": True, "sigma_memory": 0.5, "runs": 2},
    "batches, effective size": {"batch": 5, "alpha_schedule": "ess", "ess": 0.4},
    "batches, gated": {"batch": 10, "particles": 21, "gate": "heaviside"},
    "batches, covariance": {"batch": 8, "particles": 20, "noise": "covariance"},
    "many runs": {"runs": 3},
    "of one tile": {"runs": 3, "particles": 8, "gate": "heaviside", "memory": True},
    "of one tile, covariance": {
        "particles": 8,
        "noise": "covariance",
        "alpha_schedule": "ess",
        "ess": 0.4,
    },
}


def ran(method, steps):
    """Shards after so many steps."""
    shards = [method.shard(i) for i in range(method.shards)]
    for _ in range(steps):
        message = method.message(1)
        method.merge([shard.step(message) for shard in shards])
    return shards


def method_of(
    device, dim=3, particles=10, seed=3, steps=20, name="rastrigin", place=None, **options
):
    from zoo.cbo.config import CBOConfig
    from zoo.cbo.method import CBO
    from zoo.config import build
    from zoo.objectives.load import ProblemConfig, load
    from zoo.runtime.budget import Budget

    config = build(CBOConfig, {"device": device, "particles": particles, "shards": 1, **options})
    problem = load(build(ProblemConfig, {"objective": name, "dim": dim} | (place or {})))
    return CBO(problem, config, Budget(steps=steps), seed)


def same_particles(found, expected):
    """Whether the particles of two shards' states are the same but for rounding."""
    for name in ("x", "energy", "y", "y_energy"):
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-9, atol=1e-9)


#: What others have, too.
OTHERS = {
    "memory", "smoothly gated", "clipped", "unbounded", "normal start", "truncated", "many runs",
    "covariance about the new", "polarized, isotropic", "batches move all", "batches, gated",
}  # fmt: skip


@gpu
@pytest.mark.parametrize(
    "variant",
    [pytest.param(name, marks=pytest.mark.slow if name in OTHERS else ()) for name in VARIANTS],
)
def test_trajectories_are_those_of_the_cpu(variant):
    options = VARIANTS[variant]
    here, there = (method_of(device, **options) for device in ("cpu", "cuda"))
    mine, other = here.shard(0), there.shard(0)
    for _ in range(10 if "kicked" in variant else 4):  # the tenth step measures the spread
        for method, shard in ((here, mine), (there, other)):
            method.merge([shard.step(method.message(1))])
        expected, found = mine.state(), other.state()
        same_particles(found, expected)
        np.testing.assert_allclose(found["c"], expected["c"], rtol=1e-9, atol=1e-9)
        for name in ("step", "phase", "evaluations", "nonfinite", "kicks", "status"):
            np.testing.assert_array_equal(found["runs"][name], expected["runs"][name])
        np.testing.assert_allclose(found["runs"]["best"], expected["runs"]["best"], rtol=1e-9)
        np.testing.assert_allclose(found["best_x"], expected["best_x"], rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(found["runs"]["spread"], expected["runs"]["spread"], rtol=1e-9)
    assert "kicked" not in variant or found["runs"]["kicks"][0] > 0


@gpu
@pytest.mark.parametrize("n", [1, 2, 9, 40 if SIMULATED else 20_000])
def test_batches_are_slices_of_the_permutations_of_the_cpu(n):
    from gpu_kernels import permutations

    from zoo import streams
    from zoo.cbo import state as st
    from zoo.cbo.device.batches import WANTED_ALL
    from zoo.cbo.device.resident import Deals
    from zoo.cuda import cuda

    put, none = cuda.to_device, cuda.to_device(np.zeros(0))
    seed, first_run, first = np.uint64(5), 2, 7
    params, runs = np.zeros(1, st.PARAMS), np.zeros(3, st.RUN)
    params["batch"] = 1
    runs["phase"] = st.MOVE
    runs["step"] = [n - 1, 3 * n - 1, 2 * n - 1]  # the next permutation is begun in this step
    epochs = np.full((3, 2), -1)
    epochs[2] = [2, 1]  # has both, and they are left alone
    order, epochs = put(np.zeros((3, 3, n), np.int32)), put(epochs)
    population = st.Population(first, put(runs), none, none, none, none, order, epochs, none)
    deals = Deals(*map(put, np.zeros((2, 3, 2, n), np.int32)), put(WANTED_ALL), none)
    grid = (1, 2) if SIMULATED else (64, 128)
    permutations[grid](put(params), seed, first_run, population, deals)
    order, epochs = order.copy_to_host(), epochs.copy_to_host()
    for run, numbers in ((0, (0, 1)), (1, (2, 3))):
        for number in numbers:
            expected = np.empty(n, np.int64)
            key = seed, np.uint64(first_run + run), np.uint64(number), streams.BATCH
            streams.permutation(*key, first, expected)
            np.testing.assert_array_equal(order[run, 1 + number % 2], expected)
            assert epochs[run, number % 2] == number
    assert not order[2].any()
    np.testing.assert_array_equal(deals.news.copy_to_host(), 0)


BLOCKS = {
    "gated": {"gate": "heaviside"},
    "covariance": {"noise": "covariance"},
    "effective size": {"alpha_schedule": "ess", "ess": 0.4, "memory": True},
    "batches": {"batch": 6, "alpha_schedule": "ess", "ess": 0.4},
    "polarized": {"dynamics": "polarized", "kappa": 2.0, "sigma": 3.0},
}


@gpu
@pytest.mark.parametrize("variant", some_of(BLOCKS, 2))
def test_blocks_of_a_population(variant):
    options = BLOCKS[variant] | {"shards": 2, "steps": 3}
    here, there = (method_of(device, **options) for device in ("cpu", "cuda"))
    pieces = ran(here, 3), ran(there, 3)
    while not here.finished:
        for expected, found in zip(*pieces, strict=True):
            same_particles(found.state(), expected.state())
        for method, shards in zip((here, there), pieces, strict=True):
            message = method.message(1)
            method.merge([shard.step(message) for shard in shards])
    assert there.finished
    expected, found = here.result(), there.result()
    for name in ("x", "fun", "consensus", "consensus_fun", "spread", "alpha"):
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-9)
    for name in ("nfev", "nit", "status", "nonfinite"):
        assert found[name] == expected[name]


@gpu
def test_blocks_go_on_after_a_resume():
    method = method_of("cuda", shards=2, batch=6)
    shards = ran(method, 3)
    taken, kept = [shard.state() for shard in shards], method.state()
    again = method_of("cuda", shards=2, batch=6)
    again.restore(kept)
    others = [again.shard(i) for i in range(2)]
    for shard, state in zip(others, taken, strict=True):
        shard.restore(state)
    for _ in range(3):
        for run, pieces in ((method, shards), (again, others)):
            message = run.message(1)
            run.merge([shard.step(message) for shard in pieces])
    for mine, other in zip(shards, others, strict=True):
        for name, array in mine.state().items():
            np.testing.assert_array_equal(other.state()[name], array)


@gpu
def test_tiles_that_are_not_in_shared_memory(monkeypatch):
    from zoo.cbo.device import shape

    monkeypatch.setattr(shape, "_BYTES", 9 * 8 * 7)
    options = {"memory": True, "particles": 40, "dim": 5}  # tiles of 32
    here, there = (method_of(device, **options) for device in ("cpu", "cuda"))
    same_particles(ran(there, 3)[0].state(), ran(here, 3)[0].state())
    for options in ({"batch": 3}, {"noise": "covariance"}):
        with pytest.raises(zoo.errors.InputError, match="take up to 4 dimensions on a GPU, got 5"):
            method_of("cuda", dim=5, **options).shard(0)


def holed(x):
    """A bowl without values in a part of the box; it writes on its argument."""
    total = 0.0
    for i in range(len(x)):
        x[i] -= 0.5
        total += x[i] * x[i]
    return total if x[0] < 0.7 else math.nan


@gpu
@pytest.mark.parametrize(
    ("variant", "groups", "few"),
    [
        ("anisotropic", 1, 8),  # a block has all tiles of a run
        pytest.param("memory", 2, 8, marks=pytest.mark.slow),
        pytest.param("gated", 512, 1, marks=pytest.mark.slow),
        pytest.param("covariance", 512, 1, marks=pytest.mark.slow),
        ("batches, covariance", 512, 0),
    ],
)
def test_many_tiles_and_groups(variant, groups, few, monkeypatch):
    from zoo.cbo.device import shape

    monkeypatch.setattr(shape, "_BYTES", 8 * 8 * 5)  # eight rows of four numbers, and one between
    monkeypatch.setattr(shape, "_GROUPS", groups)
    monkeypatch.setattr(shape, "_FEW", few)
    assert shape.tile_of(4, 21, "float64") == (8, 8 * 8 * 5)
    assert shape.groups_of(1, 21, 8) == min(groups, 3)
    options = VARIANTS[variant] | {"dim": 3, "particles": 21}
    for function in (None, numba.njit(holed)):
        methods = [method_of(kind, **options) for kind in ("cpu", "cuda")]
        if function is not None:
            methods = [of(method, function) for method in methods]
        expected, found = (ran(method, 4)[0].state() for method in methods)
        for name in ("x", "energy", "c", "best_x"):
            np.testing.assert_allclose(found[name], expected[name], rtol=1e-9, atol=1e-9)
        for name in ("evaluations", "nonfinite", "step"):
            np.testing.assert_array_equal(found["runs"][name], expected["runs"][name])
        assert function is None or found["runs"]["nonfinite"][0] > 0


def of(method, function):
    """The same run of another function."""
    from zoo.problem import CompiledObjective

    method.problem = replace(method.problem, objective=CompiledObjective(function))
    return method


@gpu
@pytest.mark.parametrize("boundary", ["clip", "reflect"])
def test_single_precision_stays_within_the_bounds(boundary):
    @numba.njit
    def edge(x):
        return -x[0] - x[1]

    result = zoo.minimize(
        edge, [(-0.3, 0.1)] * 2, device="cuda", precision="float32", boundary=boundary,
        particles=8, steps=8, seed=1,
    )  # fmt: skip
    assert np.all(result.x <= 0.1)
    assert np.all(result.x > 0.0)


@gpu
@pytest.mark.parametrize("place", [{"shift": 0.3}, {"rotate": 1}])
def test_objectives_elsewhere(place):
    expected = ran(method_of("cpu", name="ackley", place=place), 3)[0].state()
    found = ran(method_of("cuda", name="ackley", place=place), 3)[0].state()
    np.testing.assert_allclose(found["energy"], expected["energy"], rtol=1e-9)


@gpu
@pytest.mark.parametrize(
    "name", ["sphere", "ellipsoid", "ackley", "levy", "griewank", "rosenbrock"]
)
def test_objectives_are_those_of_the_cpu(name):
    expected = ran(method_of("cpu", name=name), 1)[0].state()["energy"]
    found = ran(method_of("cuda", name=name), 1)[0].state()["energy"]
    np.testing.assert_allclose(found, expected, rtol=1e-10)


@gpu
def test_the_same_bits_again_and_after_a_resume():
    first = ran(method_of("cuda", runs=2), 4)[0].state()
    method = method_of("cuda", runs=2)
    shards = ran(method, 2)
    taken, kept = shards[0].state(), method.state()
    again = method_of("cuda", runs=2)
    file = io.BytesIO()
    np.savez(file, **taken)  # files do not keep records aligned
    file.seek(0)
    again.restore(kept)
    shard = again.shard(0)
    shard.restore(dict(np.load(file)))
    for _ in range(2):
        again.merge([shard.step(again.message(1))])
    for name, array in shard.state().items():
        np.testing.assert_array_equal(array, first[name])


@gpu
@pytest.mark.parametrize("name", ["rastrigin", "ackley", "rosenbrock"])
def test_single_precision(name):
    expected = ran(method_of("cpu", name=name), 1)[0].state()
    found = ran(method_of("cuda", name=name, precision="float32"), 1)[0].state()
    assert found["x"].dtype == np.float32
    np.testing.assert_allclose(found["x"], expected["x"], atol=1e-5)
    np.testing.assert_allclose(found["energy"], expected["energy"], rtol=1e-4)


@gpu
def test_a_run_as_people_start_it():
    @numba.njit
    def bowl(x):
        total = 0.0
        for i in range(len(x)):
            total += (x[i] - 1.0) ** 2
        return total

    result = zoo.minimize(bowl, [(-3, 3)] * 2, "cbo", device="cuda", particles=8, steps=12, seed=1)
    assert result.nfev == 8 * 13 + 1
    assert result.fun < 1.0
    assert result.fun == pytest.approx(((result.x - 1.0) ** 2).sum())


@gpu
def test_ray_and_cma_are_not_needed():
    """Machines with a GPU may have little else."""
    code = (
        "import sys; sys.modules['ray'] = sys.modules['cma'] = None; import zoo, numba\n"
        "@numba.njit\n"
        "def f(x): return x[0] ** 2 + x[1] ** 2\n"
        "print(zoo.minimize(f, [(-1, 1)] * 2, device='cuda', particles=4, steps=2).nfev)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.strip() == "13", done.stderr[-2000:]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"device": "cpu", "precision": "float32"}, "precision float32 is for device cuda"),
        ({"device": "gpu"}, "device must be cpu | cuda"),
    ],
)
def test_what_does_not_go_with_a_gpu(options, said):
    with pytest.raises(zoo.errors.InputError, match=said):
        method_of(**{"device": "cuda"} | options)
