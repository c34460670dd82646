"""Training runs, as commands start and continue them; see :mod:`zoo.minimization`."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from zoo.config import build, taken
from zoo.deepzero import grasp, weights
from zoo.deepzero.blackbox import dealt, gathered
from zoo.deepzero.config import DeepZeroConfig, NetworkConfig
from zoo.deepzero.data.batches import batch_rows
from zoo.deepzero.data.dataset import NAMES, load
from zoo.deepzero.estimate import Estimate, estimated
from zoo.deepzero.job import Job
from zoo.deepzero.masks import kept_weights
from zoo.deepzero.method import DeepZero
from zoo.deepzero.net.models import MODELS, layers_of
from zoo.deepzero.net.network import network
from zoo.errors import InputError, RunError
from zoo.objectives.load import named, source_digest
from zoo.optimize import as_seed, numbers, words
from zoo.runtime.folder import CONFIG, RunFolder
from zoo.runtime.launch import Prepared

Array = npt.NDArray[np.float64]

#: Trained parameters, in the run folder.
WEIGHTS = "weights.npz"


def prepare(name: str, values: dict[str, Any], seed: int) -> Prepared:
    """Prepare a run; see :func:`zoo.minimization.prepare`."""
    given = _located(taken(NetworkConfig, values))
    config = build(DeepZeroConfig, values)
    if config.pruning not in ("grasp", "uniform") and os.path.isfile(config.pruning):
        config = replace(config, pruning=os.path.abspath(config.pruning))
    data = load(given.data, given.data_folder)
    job = job_of(given, config, data, seed)
    check_free(given)
    described = describe(name, given, job)
    made = assembled(given, job, described)
    return replace(made, notes=[told(job, estimated(job))])


def check_free(given: NetworkConfig) -> None:
    """Refuse to write trained parameters where something is, or where nothing can be."""
    if given.weights is None:
        return
    path = Path(given.weights)
    if path.exists():
        raise InputError(f"{path} is there already: choose another name for weights")
    if not path.parent.is_dir():
        raise InputError(f"there is no folder {path.parent}: choose another one for weights")


def reopen(stored: Mapping[str, Any], folder: RunFolder, objective: str | None) -> Prepared:
    """Prepare a stored run again; see :func:`zoo.minimization.reopen`."""
    if objective is not None:
        raise InputError("--objective is for runs that minimize one; this one trains a network")
    if stored.get("from_python"):
        raise InputError(
            f"{folder.path} was started from Python: zoo.deepzero.train.resume continues it there"
        )
    given, config, seed = stored_config(stored, folder)
    job = job_of(given, config, load(given.data, given.data_folder), seed)
    check_same(stored, given, job, folder)
    if job.network is not None and folder.snapshot() is not None:
        given = replace(given, init=None)  # it has all that was in it
    made = assembled(given, job, stored)
    if stored.get("source") in (None, source_digest(given.model)):
        return made
    return replace(made, warnings=["the black box's file has changed since the run was started"])


def stored_config(
    stored: Mapping[str, Any], folder: RunFolder
) -> tuple[NetworkConfig, DeepZeroConfig, int]:
    """What a run folder's config.json states.

    Raises
    ------
    RunError
        If it is damaged.
    """
    try:
        given = build(NetworkConfig, stored["problem"])
        config = build(DeepZeroConfig, numbers(DeepZeroConfig, stored["config"]))
        return given, config, as_seed(stored["seed"])
    except (KeyError, TypeError, AttributeError, InputError) as error:
        raise RunError(f"{folder.path / CONFIG} is damaged: {error}") from error


def check_same(
    stored: Mapping[str, Any], given: NetworkConfig, job: Job, folder: RunFolder
) -> None:
    """Refuse to go on with other data, another model, or from another beginning."""
    found = {"data": job.data.describe(), "parameters": job.described()}
    if _shares_of_file(job):
        found["shares"] = job.sparsities
    if folder.snapshot() is None and folder.result() is None:
        found["first parameters"] = digest(*first(given, job))
    for what, now in found.items():
        if stored.get(what) != now:
            raise InputError(f"the {what} are not those that {folder.path} was started with")


def job_of(given: NetworkConfig, config: DeepZeroConfig, data: Any, seed: int) -> Job:
    """Job of what a command was given.

    Raises
    ------
    InputError
        If the parts do not fit.
    """
    if ".py:" in given.model:
        if given.init is None:
            raise InputError("a black box needs its first parameters: --init FILE.npz")
        for option in ("hidden", "depth", "width", "augment"):
            if getattr(given, option) != getattr(NetworkConfig, option):
                raise InputError(f"{option} is for networks, and not for black boxes")
        loss, template = named(given.model, "model"), weights.of_black_box(given.init)
        if not callable(loss):
            raise InputError(f"{given.model} is not a function loss(params, batch)")
        return black_box(loss, template, config, data, seed)
    net = network(layers_of(given), data.shape, len(data.classes))
    config = config.completed(False, net.parameters)
    if config.oracle == "node" and net.normalized:
        raise InputError(
            "node probes need losses of single samples, and batch normalization couples them: "
            "use oracle cge, or a network without it"
        )
    if given.augment and data.shape[2] == 1:
        raise InputError("augment is for images")
    sparsities: dict[str, float] = {}
    if config.sparsity and config.oracle == "cge":
        total = sum(stage.weights for stage in net.stages)
        check_left(round((1.0 - config.sparsity) * total))
    if config.sparsity and config.oracle == "cge" and config.pruning != "grasp":
        if config.pruning == "uniform":
            sparsities = grasp.uniform(net, config.sparsity)
        else:
            sparsities = grasp.read_ratios(config.pruning, net)
        check_left(sum(kept_weights(net, sparsities).values()))
    return Job(data, config, seed, net, augment=given.augment, sparsities=sparsities)


def check_left(kept: int) -> None:
    """Refuse a sparsity that leaves no weight at all."""
    if not kept:
        raise InputError("nothing is left of the weights: a smaller sparsity, or other shares")


def black_box(
    loss: Callable[[Any, Any], float], template: Any, config: DeepZeroConfig, data: Any, seed: int
) -> Job:
    """Job of a black box.

    Raises
    ------
    InputError
        If an option is for networks, or the loss has no finite value at the first parameters.
    """
    for name in ("pruning", "mask_every", "grasp", "grasp_directions", "grasp_samples"):
        if getattr(config, name) != getattr(DeepZeroConfig, name):
            raise InputError(f"{name} is for networks, and not for black boxes")
    if config.sparsity and config.oracle != "cyclic":
        raise InputError("a black box has no layers to be sparse in: sparsity goes with cyclic")
    config = config.completed(True, len(gathered(template)))
    job = Job(data, config, seed, loss=loss, template=template)
    _try(job)
    return job


def _try(job: Job) -> None:
    """Evaluate a black box once: what is wrong with it is found before the run starts."""
    box = job.model()
    rows = batch_rows(job.data.count("train"), job.config.batch, job.seed, 0)
    box.load(*job.data.batch("train", rows))
    try:
        value = box.loss(gathered(job.template))
    except RunError as error:
        raise InputError(str(error)) from error
    if not math.isfinite(value):
        raise InputError(f"the loss must be finite at the first parameters, got {value:g}")


def _shares_of_file(job: Job) -> bool:
    """Whether the shares of weights that are left out come from a file."""
    config = job.config
    shared = bool(config.sparsity) and config.oracle == "cge" and job.network is not None
    return shared and config.pruning not in ("grasp", "uniform")


def first(given: NetworkConfig, job: Job) -> tuple[Array, Array | None]:
    """First parameters, and the moments of batch normalization if a file has them."""
    if job.network is None:
        return gathered(job.template), None
    if given.init is not None:
        return weights.of_network(given.init, job.network)
    return job.network.initial(job.seed), None


def digest(theta: Array, moments: Array | None) -> str:
    """Digest of first parameters."""
    arrays = [theta] if moments is None else [theta, moments]
    return sha256(b"".join(array.tobytes() for array in arrays)).hexdigest()


def assembled(given: NetworkConfig, job: Job, described: Mapping[str, Any]) -> Prepared:
    """Run of a job, from its first parameters on."""
    method = DeepZero(job, *first(given, job))
    model = " ".join(given.model.split())
    if job.network is None:  # FILE.py:NAME without its folder, or a function's name
        model = os.path.basename(model)
    head = {
        "method": "deepzero",
        "model": model,
        "data": job.data.name,
        "train": job.data.count("train"),
        "test": job.data.count("test"),
    }

    def complete(fields: dict[str, Any], folder: Path | None) -> dict[str, Any]:
        arrays = trained(method)
        places = [] if folder is None else [folder / WEIGHTS]
        if given.weights is not None:
            places.append(Path(given.weights))
        for place in places:
            weights.write(place, arrays)
        return fields | {"weights": str(places[-1]) if places else None}

    return Prepared(
        method, head, described, job.seed, seconds=job.config.seconds, complete=complete
    )


def trained(method: Any) -> dict[str, Any]:
    """Parameters by name that a DeepZero has trained."""
    if method.job.network is not None:
        return weights.named(method.job.network, method.theta, method.moments)
    found = dealt(method.theta, method.job.template)
    return found if isinstance(found, dict) else {"params": found}


def describe(
    name: str, given: NetworkConfig, job: Job, from_python: bool = False
) -> dict[str, Any]:
    """Content of the run folder's config.json."""
    return {
        "method": name,
        "problem": asdict(given),
        "config": words(job.config),
        "budget": {},
        "seed": job.seed,
        "data": job.data.describe(),
        "parameters": job.described(),
        "first parameters": digest(*first(given, job)),
        "shares": job.sparsities,
        "source": source_digest(given.model),
        "from_python": from_python,
    }


def told(job: Job, cost: Estimate) -> str:
    """Line that tells of the cost of a run before it starts."""
    size = f"{job.size:,} parameters; {cost.steps:,} steps, {cost.queries:,.0f} queries"
    if cost.seconds is None:
        return size
    large = cost.memory > 1e7 and job.config.device == "cpu"
    memory = f", and {cost.memory / 1e6:,.0f} MB a thread" if large else ""
    of = "of one core" if job.config.device == "cpu" else "on this GPU"
    return f"{size}, about {_duration(cost.seconds)} {of}{memory}"


def _duration(seconds: float) -> str:
    for size, unit in (
        (365.25 * 86400, "years"),
        (86400, "days"),
        (3600, "hours"),
        (60, "minutes"),
    ):
        if seconds >= 2 * size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.2g} seconds" if seconds < 10 else f"{seconds:.0f} seconds"


def lines(result: Mapping[str, Any]) -> tuple[str, list[tuple[str, str]]]:
    """Title, and rows of a label and a text, that tell of a result."""
    rows = []
    if result.get("test_accuracy") is not None:
        rows.append(
            ("accuracy", f"{result['test_accuracy']:.2%} of {result['test']:,} test samples")
        )
    losses = {"in training": result["train_loss"], "in the test": result.get("test_loss")}
    said = [f"{value:.4g} {where}" for where, value in losses.items() if value is not None]
    rows.append(("loss", ", ".join(said) or "not known before the end of an epoch"))
    oracle = f"{result['oracle']}, lr {result['lr']:g}, mu {result['mu']:g}"
    if result["sparsity"]:
        oracle += f", sparsity {result['sparsity']:g}"
    rows.append(("oracle", oracle))
    seconds = float(result["seconds"])
    rate = f", {result['queries'] / seconds:.3g} queries/s" if seconds > 0 else ""
    rows.append(
        (
            "work",
            f"{result['queries']:,} queries, {result['steps']:,} steps, "
            f"{result['epochs']:.3g} epochs, {seconds:.3g} s{rate}",
        )
    )
    if result.get("weights"):
        rows.append(("weights", str(result["weights"])))
    title = f"{result['model']} ({result['parameters']:,} parameters) on {result['data']}: deepzero"
    return f"{title}, seed {result['seed']}", rows


def _located(given: NetworkConfig) -> NetworkConfig:
    """Names of files made absolute: a run may be resumed from another folder."""

    def absolute(path: str | None) -> str | None:
        return None if path is None else os.path.abspath(os.path.expanduser(path))

    data = given.data
    if data not in NAMES and os.path.exists(os.path.expanduser(data)):
        data = str(absolute(data))
    folder = given.data_folder
    if data in ("mnist", "cifar10"):
        folder = absolute(folder or os.environ.get("ZOO_DATA") or ".")
    model = given.model
    if model not in MODELS and os.path.isfile(os.path.expanduser(model)):
        model = str(absolute(model))
    elif ".py:" in model:
        where, _, name = model.rpartition(":")
        model = f"{absolute(where)}:{name}"
    return replace(
        given,
        data=data,
        data_folder=folder,
        model=model,
        init=absolute(given.init),
        weights=absolute(given.weights),
    )
