"""CBO on a GPU: time per step against our CPU, cbx on PyTorch, evosax and plain JAX, and the floor.

Work: component-wise CBO on the standard Rastrigin function, N particles in d dimensions, M runs, a
time step so small that nobody arrives; float32 (ours has positions, moves and the ripples of its
own Rastrigin in it, and sums in float64), and float64 of ours. Ours is timed by device events
around launches of many steps, with what goes there and comes back; rivals by wall clock around many
steps and one wait at the end, after warming up: all medians of several.

cbx gets the objective as one whole-array expression, a sampler that draws on the GPU (its own draws
on the CPU), and is timed by its bare step(), the faster one of two: as it comes, and without its
clipping. evosax has no CBO: its particle swarm, jitted over all steps (lax.scan), and mapped over
runs, is the nearest it has. "JAX" is the CBO step as one would write it in 20 lines, jitted over
all steps, with the faster one of two random generators.

The floor is the larger of two times, both measured here: positions read and written once over the
best bandwidth of a copy (small populations stay in the cache, and it does not bind them), and as
many normals and cosines, by the same functions (in float32 by the fast cosine), in a kernel that
keeps them.

    python benchmarks/gpu_cbo.py [--quick] [--out FILE.json]
"""

from __future__ import annotations

import os
import time
from typing import Any

os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")

import numpy as np
from report import arguments, report

from zoo.cbo.state import MOVE

SIGMA, ALPHA, DT = 8.5, 30.0, 1e-8
SIZES = [(1, 10_000, 20), (1, 1_000_000, 100), (1000, 100, 20)]  # M, N, d
SMALL = [(1, 40, 4), (3, 20, 4)]
MANY = (1, 400, 4)  # with sums that all blocks add up
ROUNDS = 7


def seconds(work: Any) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def method(runs: int, particles: int, d: int, real: str, device: str) -> Any:
    """Run of ours, as minimize would make it."""
    from zoo.cbo.config import CBOConfig
    from zoo.cbo.method import CBO
    from zoo.config import build
    from zoo.objectives.load import ProblemConfig, load
    from zoo.runtime.budget import Budget

    options: dict[str, Any] = {
        "runs": runs, "particles": particles, "sigma": SIGMA, "alpha": ALPHA, "dt": DT,
        "alpha_schedule": "constant", "boundary": "none", "init_lower": -3, "init_upper": 3,
        "spread_tol": 0.0, "device": device,
    }  # fmt: skip
    if device == "cuda":
        options |= {"precision": real, "shards": 1}
    problem = load(build(ProblemConfig, {"objective": "rastrigin", "dim": d}))
    return CBO(problem, build(CBOConfig, options), Budget(steps=10**9), 1)


def ours(runs: int, particles: int, d: int, real: str, steps: int, rounds: int) -> float:
    """Seconds of a step on the GPU."""
    from zoo.cuda import SIMULATED, cuda

    made = method(runs, particles, d, real, "cuda")
    shard = made.shard(0)
    shard.step(made.message(2))
    taken = []
    for _ in range(rounds):
        if SIMULATED:
            taken.append(seconds(lambda: shard.step(made.message(steps))) / steps)
            continue
        begin, end = cuda.event(), cuda.event()
        begin.record()
        shard.step(made.message(steps))
        end.record()
        end.synchronize()
        taken.append(cuda.event_elapsed_time(begin, end) / 1e3 / steps)
    assert np.all(shard.step(made.message(1)).runs["phase"] == MOVE)
    return float(np.median(taken))


def on_cpu(runs: int, particles: int, d: int, steps: int, rounds: int) -> float:
    """Seconds of a step on two threads of this machine's CPU."""
    from zoo.runtime.hosts import ThreadsHost

    made = method(runs, particles, d, "float64", "cpu")
    host, taken = ThreadsHost(2), []
    host.start(made, lambda: False, None)
    for _ in range(rounds + 1):
        count = steps if made.whole else 1
        repeats = 1 if made.whole else steps

        def work(count: int = count, repeats: int = repeats) -> None:
            for _ in range(repeats):
                made.merge(host.step(made.message(count)))

        taken.append(seconds(work) / steps)
    host.close()
    return float(np.median(taken[1:]))


def by_cbx(runs: int, particles: int, d: int, steps: int, rounds: int) -> float:
    """Seconds of a step of cbx on PyTorch."""
    return min(_by_cbx(runs, particles, d, steps, rounds, clip) for clip in (True, False))


def _by_cbx(runs: int, particles: int, d: int, steps: int, rounds: int, clip: bool) -> float:
    import torch
    from cbx.dynamics import CBO
    from cbx.utils.torch_utils import to_torch_dynamic

    place = "cuda" if torch.cuda.is_available() else "cpu"

    def rastrigin(x: Any) -> Any:
        return torch.sum(x * x - 10.0 * torch.cos(2.0 * torch.pi * x) + 10.0, dim=-1)

    dynamic = to_torch_dynamic(CBO)(
        rastrigin,
        f_dim="3D",
        x=torch.empty((runs, particles, d), device=place).uniform_(-3, 3),
        device=place,
        sampler=lambda size=None: torch.randn(size, device=place),
        noise="anisotropic",
        sigma=SIGMA,
        alpha=torch.full((runs, 1), ALPHA, device=place),
        dt=DT,
        max_it=10**9,
        verbosity=0,
        track_args={"names": []},
        **({} if clip else {"post_process": lambda dynamic: None}),
    )

    def work() -> None:
        for _ in range(steps):
            dynamic.step()
        if place == "cuda":
            torch.cuda.synchronize()

    work()
    return float(np.median([seconds(work) for _ in range(rounds)])) / steps


def by_jax(runs: int, particles: int, d: int, steps: int, rounds: int) -> float:
    """Seconds of a step of CBO in plain JAX."""
    return min(_by_jax(runs, particles, d, steps, rounds, g) for g in ("threefry2x32", "rbg"))


def _by_jax(runs: int, particles: int, d: int, steps: int, rounds: int, generator: str) -> float:
    import jax
    import jax.numpy as jnp

    def step(carry: Any, _: Any) -> Any:
        x, key = carry
        key, own = jax.random.split(key)
        energy = jnp.sum(x * x - 10.0 * jnp.cos(2.0 * jnp.pi * x) + 10.0, axis=-1)
        weights = jax.nn.softmax(-ALPHA * energy, axis=-1)
        away = x - jnp.sum(weights[..., None] * x, axis=1, keepdims=True)
        noise = jax.random.normal(own, x.shape)
        return (x - DT * away + SIGMA * DT**0.5 * away * noise, key), None

    @jax.jit
    def many(x: Any, key: Any) -> Any:
        return jax.lax.scan(step, (x, key), None, length=steps)[0]

    x = jax.random.uniform(jax.random.key(0), (runs, particles, d), minval=-3, maxval=3)
    key = jax.random.key(1, impl=generator)

    def work() -> None:
        jax.block_until_ready(many(x, key))

    work()
    return float(np.median([seconds(work) for _ in range(rounds)])) / steps


def by_evosax(runs: int, particles: int, d: int, steps: int, rounds: int) -> float:
    """Seconds of a step of evosax's particle swarm."""
    import jax
    import jax.numpy as jnp
    from evosax.algorithms import PSO

    swarm = PSO(population_size=particles, solution=jnp.zeros(d))
    params = swarm.default_params

    def rastrigin(x: Any) -> Any:
        return jnp.sum(x * x - 10.0 * jnp.cos(2.0 * jnp.pi * x) + 10.0, axis=-1)

    def begin(key: Any) -> Any:
        x = jax.random.uniform(key, (particles, d), minval=-3, maxval=3)
        return swarm.init(key, x, rastrigin(x), params)

    def step(carry: Any, _: Any) -> Any:
        state, key = carry
        key, asked, told = jax.random.split(key, 3)
        x, state = swarm.ask(asked, state, params)
        state, _ = swarm.tell(told, x, rastrigin(x), state, params)
        return (state, key), None

    def steps_of(state: Any, key: Any) -> Any:
        return jax.lax.scan(step, (state, key), None, length=steps)[0]

    keys = jax.random.split(jax.random.key(0), runs)
    states = jax.vmap(begin)(keys)
    many = jax.jit(jax.vmap(steps_of))

    def work() -> None:
        jax.block_until_ready(many(states, keys))

    work()
    return float(np.median([seconds(work) for _ in range(rounds)])) / steps


def floors(quick: bool) -> tuple[float, dict[str, float]]:
    """Bytes a second of a copy, and seconds of a coordinate's normal and cosine, by precision."""
    from importlib import import_module

    from zoo import streams, vmath
    from zoo.cbo.device.noise import normals_of
    from zoo.cbo.device.shape import THREADS
    from zoo.cuda import SIMULATED, cuda, device_function, multiprocessors

    philox, ripple = device_function(streams.philox), device_function(vmath.sin2_pi)
    fast = None if SIMULATED else import_module(cuda.__name__ + ".libdevice").fast_cosf

    def kernel_of(real: str) -> Any:
        pair, single = normals_of(real), np.dtype(real).type
        turn, ten = single(2.0 * np.pi), single(10)

        exact = real == "float64" or SIMULATED

        @cuda.jit(device=True)
        def value(x: Any) -> Any:
            if exact:
                return x * x + ten * ripple(x)
            return x * x - ten * fast(turn * x)

        @cuda.jit
        def draw(count: int, out: Any) -> None:
            i, total = cuda.grid(1), single(0)
            for k in range(count):
                a, b, c, d = philox(
                    np.uint64(k), np.uint64(i), np.uint64(1), np.uint64(1), np.uint64(1),
                    np.uint64(0),
                )  # fmt: skip
                z0, z1 = pair(a, b)
                z2, z3 = pair(c, d)
                total += (value(z0) + value(z1)) + (value(z2) + value(z3))
            out[i] = total

        return draw

    @cuda.jit
    def copy(source: Any, to: Any) -> None:
        for i in range(cuda.grid(1), len(source), cuda.gridsize(1)):
            to[i] = source[i]

    def timed(work: Any, times: int) -> float:
        work()
        if SIMULATED:
            return seconds(work)
        taken = []
        for _ in range(ROUNDS):
            begin, end = cuda.event(), cuda.event()
            begin.record()
            for _ in range(times):
                work()
            end.record()
            end.synchronize()
            taken.append(cuda.event_elapsed_time(begin, end) / 1e3 / times)
        return float(min(taken))

    size = 1 << (8 if quick else 28)
    source = cuda.to_device(np.random.default_rng(0).normal(size=size))
    to = cuda.device_array_like(source)
    blocks = 1 if SIMULATED else 16 * multiprocessors()
    copies = [lambda: copy[blocks, THREADS](source, to), lambda: to.copy_to_device(source)]
    bandwidth = 16.0 * size / min(timed(work, 10) for work in copies)
    count, each = (2 if SIMULATED else 2000), {}
    for real in ("float32", "float64"):
        draw, out = kernel_of(real), cuda.to_device(np.zeros(blocks * THREADS, real))
        took = timed(lambda draw=draw, out=out: draw[blocks, THREADS](count, out), 3)
        each[real] = took / (4.0 * count * blocks * THREADS)
    return bandwidth, each


def main() -> None:
    given = arguments(__doc__)
    from zoo.cuda import SIMULATED

    quick = given.quick or SIMULATED
    rounds = 2 if quick else ROUNDS
    bandwidth, each = floors(quick)
    single, double = 1e12 * each["float32"], 1e12 * each["float64"]
    print(f"copy: {bandwidth / 1e9:.4g} GB/s; a normal and a cosine: {single:.3g} ps in float32, "
          f"{double:.3g} in float64")  # fmt: skip
    table: list[dict[str, Any]] = []
    small = SMALL if SIMULATED else [*SMALL, MANY]
    for runs, particles, d in small if quick else SIZES:
        numbers = runs * particles * d
        steps = 2 if quick else int(np.clip(2e10 / numbers, 100, 5000))
        row: dict[str, Any] = {"M x N x d": f"{runs} x {particles:,} x {d}"}
        table.append(row)
        for real in ("float32", "float64"):
            took = ours(runs, particles, d, real, steps, rounds)
            bytes_ = 2.0 * numbers * np.dtype(real).itemsize
            floor = max(bytes_ / bandwidth, numbers * each[real])
            row |= {f"{real} us": took * 1e6, f"{real} floor us": floor * 1e6,
                    f"{real} over floor": took / floor}  # fmt: skip
        report("CBO on a GPU, a step of component-wise Rastrigin", table, given.out)
        few = max(2, int(np.clip(2e8 / numbers, 2, 50)))
        row["2 cores us"] = 1e6 * on_cpu(runs, particles, d, few, min(rounds, 3))
        row["float64 times 2 cores"] = row["2 cores us"] / row["float64 us"]
        rivals = {"cbx": by_cbx, "evosax PSO": by_evosax, "JAX": by_jax}
        for name, rival in rivals.items():
            count = 2 if quick else int(np.clip(2e9 / numbers, 20, 500))
            try:
                row[f"{name} us"] = 1e6 * rival(runs, particles, d, count, rounds)
                row[f"float32 times {name}"] = row[f"{name} us"] / row["float32 us"]
            except ImportError as error:
                print(f"{name} is not here: {error}")
            except Exception as error:  # out of memory, say: told, and not hidden
                print(f"{name} at {row['M x N x d']}: {type(error).__name__}: {error}")
        report("CBO on a GPU, a step of component-wise Rastrigin", table, given.out)


if __name__ == "__main__":
    main()
