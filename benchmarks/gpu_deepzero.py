"""DeepZero on a GPU: CIFAR-10 from losses alone, the networks of its Figure 2, dense CGE.

Batches are of 256. First, for each network: derivatives of a sample of coordinates beside the CPU's
in double precision, seconds of a step by device events (median of several), and the share of the
GPU's measured rate of fused multiply-adds that its operations come to; a change's operations are
counted as what is left of a pass after it. Then training from scratch, with snapshots in --folder,
so that a run that was stopped goes on when the command is given again. Published on an A6000, with
feature reuse: 41.65 % (0.99 h), 59.66 % (5.11 h) and 76.95 % (28.9 h).

    python benchmarks/gpu_deepzero.py --data FOLDER --folder RUNS [--quick] [--out FILE.json]

What was measured of a step is kept in --folder, too, and not measured again.
"""

from __future__ import annotations

import json
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from report import arguments, report

from zoo.config import build
from zoo.deepzero import study
from zoo.deepzero.config import DeepZeroConfig, NetworkConfig
from zoo.deepzero.data.dataset import Dataset, load
from zoo.deepzero.job import Job
from zoo.deepzero.net.cost import change_costs, stage_of
from zoo.deepzero.net.engine import Engine
from zoo.runtime.folder import RunFolder
from zoo.runtime.launch import begun, launch, taken_up

#: Depth, published accuracy, and hours with reuse.
RUNS = [(1, 41.65, 0.99), (2, 59.66, 5.11), (5, 76.95, 28.9)]
LR, BATCH, EPOCHS, ROUNDS = 0.3, 256, 50, 5


def elapsed(work: Any) -> float:
    """Seconds of work on the GPU, by device events."""
    from zoo.cuda import SIMULATED, cuda

    if SIMULATED:
        started = time.perf_counter()
        work()
        return time.perf_counter() - started
    begin, end = cuda.event(), cuda.event()
    begin.record()
    work()
    end.record()
    end.synchronize()
    return float(cuda.event_elapsed_time(begin, end)) / 1e3


def peak() -> float:
    """Operations a second of fused multiply-adds in single precision, kept in registers."""
    from zoo.cuda import SIMULATED, cuda, fmaf, multiprocessors

    one = np.float32(1)

    @cuda.jit
    def chains(count: int, factor: Any, out: Any) -> None:
        a = np.float32(cuda.threadIdx.x)
        b, c, d = a + one, a + one + one, a - one
        e, f, g, h = a * factor, b * factor, c * factor, d * factor
        for _ in range(count):
            for _ in range(16):  # unrolled
                a, b = fmaf(a, factor, one), fmaf(b, factor, one)
                c, d = fmaf(c, factor, one), fmaf(d, factor, one)
                e, f = fmaf(e, factor, one), fmaf(f, factor, one)
                g, h = fmaf(g, factor, one), fmaf(h, factor, one)
        out[cuda.grid(1)] = a + b + c + d + e + f + g + h

    threads = 2 if SIMULATED else 256
    count, blocks = (2, 1) if SIMULATED else (20_000, 8 * multiprocessors())
    out = cuda.to_device(np.zeros(blocks * threads, np.float32))

    def work() -> None:
        chains[blocks, threads](count, np.float32(0.5), out)

    work()
    took = float(np.median([elapsed(work) for _ in range(ROUNDS)]))
    return 2.0 * 8.0 * 16.0 * count * blocks * threads / took


def few(data: Dataset) -> Dataset:
    """A little of it, in small images: for the simulator."""
    cut = {f"x_{part}": getattr(data, f"x_{part}")[:8, :, :6, :6] for part in ("train", "test")}
    cut |= {f"y_{part}": getattr(data, f"y_{part}")[:8] for part in ("train", "test")}
    return Dataset(data.name, **cut, classes=data.classes, scale=data.scale, offset=data.offset)


def job_of(depth: int, data: Dataset, quick: bool) -> tuple[Job, NetworkConfig]:
    """Training run of the network of that depth."""
    from zoo.cuda import SIMULATED

    width = 2 if SIMULATED else 18
    given = NetworkConfig(model="cnn", depth=depth, width=width, data="cifar10")
    epochs = 1 if quick or SIMULATED else EPOCHS
    options = {"oracle": "cge", "lr": LR, "batch": BATCH, "epochs": epochs, "device": "cuda"}
    if SIMULATED:
        options |= {"batch": 4}
    return study.job_of(given, build(DeepZeroConfig, options), data, 0), given


def checked(job: Job, table: dict[str, Any], most: float) -> None:
    """Add how near the derivatives are to the CPU's, and what parts of a step take."""
    net = job.network
    assert net is not None
    rng = np.random.default_rng(0)
    batch = job.data.batch("train", np.arange(job.samples))
    theta = net.initial(1)
    engine = job.model()
    engine.load(*batch)
    engine.base(theta)
    exact = Engine(net, job.samples, np.float64, threads=2)
    exact.load(*batch)
    exact.base(theta)
    chosen = np.sort(rng.permutation(net.parameters)[: min(60, net.parameters)])
    found, true = (made.derivatives(chosen, job.config.mu) for made in (engine, exact))
    table["error beside CPU"] = float(np.linalg.norm(found - true) / np.linalg.norm(true))
    every = np.arange(net.parameters)
    g = engine.derivatives(every, job.config.mu)
    again = engine.derivatives(every, job.config.mu)
    table["same bits"] = bool(np.array_equal(g, again))
    took = float(
        np.median([elapsed(lambda: engine.derivatives(every, job.config.mu)) for _ in range(3)])
    )
    costs = change_costs(net, job.samples, False)[stage_of(net, every)].sum() * job.samples
    table |= {"ms a step": took * 1e3, "GFLOP a step": costs / 1e9,
              "TFLOP/s": costs / took / 1e12, "of peak": costs / took / most}  # fmt: skip
    started = time.perf_counter()
    for _ in range(3):
        engine.load(*job.data.batch("train", np.arange(job.samples)))
        engine.base(theta)
    around = (time.perf_counter() - started) / 3
    table["ms load and base"] = around * 1e3
    table["minutes expected"] = (took + around) * job.steps_per_epoch * job.config.epochs / 60


def warmed(job: Job) -> None:
    """Compile what a step needs, so that the time of a run that goes on is not that."""
    net, engine = job.network, job.model()
    assert net is not None
    engine.load(*job.data.batch("train", np.arange(job.samples)))
    engine.base(net.initial(1))
    engine.derivatives(np.arange(1), job.config.mu)


def trained(job: Job, given: NetworkConfig, folder: Path) -> Any:
    """Result of the run, which goes on where it was stopped."""
    described = study.describe("deepzero", given, job)
    prepared = study.assembled(given, job, described)
    if not (folder / "config.json").exists():
        shutil.rmtree(folder, ignore_errors=True)
        return begun(prepared, folder)
    kept = RunFolder(folder)
    if kept.result() is not None:
        return kept.result()
    study.check_same(kept.config(), given, job, kept)
    return launch(prepared, folder=kept, snapshot=taken_up(kept))


def main() -> None:
    given = arguments(__doc__, data="folder with CIFAR-10", folder="where runs are kept")
    if given.data is None or given.folder is None:
        sys.exit("--data FOLDER and --folder RUNS are needed")
    from zoo.cuda import SIMULATED

    data = load("cifar10", str(given.data))
    if SIMULATED:
        data = few(data)
    most = peak()
    print(f"fused multiply-adds: {most / 1e12:.3g} TFLOP/s")
    table = []
    for depth, published, hours in RUNS[:1] if SIMULATED else RUNS:
        job, network = job_of(depth, data, given.quick)
        row: dict[str, Any] = {"parameters": job.size, "epochs": job.config.epochs}
        given.folder.mkdir(parents=True, exist_ok=True)
        name = f"cnn{depth}-{job.config.epochs}"
        known = given.folder / f"{name}.json"
        if known.exists():
            row = json.loads(known.read_text())
            warmed(job)
        else:
            checked(job, row, most)
            known.write_text(json.dumps(row))
        report(f"{job.size:,} parameters, a step", [row], given.out)
        result = trained(job, network, given.folder / name)
        row |= {
            "CGE %": 100 * result["test_accuracy"],
            "minutes": result["seconds"] / 60,
            "queries": result["queries"],
            "published %": published,
            "published hours": hours,
        }
        table.append(row)
        report("CIFAR-10 on a GPU, dense CGE", table, given.out)


if __name__ == "__main__":
    main()
