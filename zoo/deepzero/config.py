"""Parameters of zeroth-order training."""

from __future__ import annotations

from dataclasses import dataclass, replace

from zoo.config import option
from zoo.errors import InputError

ORACLES = ("cge", "cyclic", "node", "rge", "es")
#: Oracles that see nothing but losses.
BLACK_BOX = ("rge", "es", "cge", "cyclic")
RULES = ("sgd", "adam", "lion")
DISTRIBUTIONS = ("gaussian", "sphere", "rademacher")

#: Oracles that a parameter is for, where not all of them take it.
_ONLY = {
    "sparsity": ("cge", "cyclic"),
    "central": ("cge", "cyclic"),
    "pruning": ("cge",),
    "mask_every": ("cge",),
    "grasp": ("cge",),
    "grasp_directions": ("cge",),
    "grasp_samples": ("cge",),
    "decay": ("cyclic",),
    "directions": ("rge", "es"),
    "distribution": ("rge", "es"),
}

#: Learning rates that work for gradients by coordinates. Along q random directions of d the
#: estimate is about sqrt(d / q) times as long as the gradient, so that q / (q + d) is.
_RATE = 0.1
#: Weight decay of networks.
_DECAY = 5e-4
#: Sparsity of cyclic, which would be dense without.
_CYCLIC = 0.9
#: Of rules that divide by the length of the gradient.
_NORMED = {"adam": 1e-3, "lion": 1e-4}


@dataclass(frozen=True)
class NetworkConfig:
    """What is trained, and on what."""

    model: str = option(
        "mlp",
        "mlp, cnn, resnet20; layers in words, such as 'conv 8, relu, maxpool, dense'; a file of "
        "them; or FILE.py:NAME, a function loss(params, batch) that is seen as a black box.",
    )
    hidden: str = option("32", "Hidden units of the mlp, 256,128 for two layers.", numeric=True)
    depth: int = option(2, "Convolutions of the cnn.", least=1, most=16)
    width: int = option(18, "Channels of the cnn.", least=1)
    data: str = option(
        "digits",
        "digits (comes along), mnist, cifar10; FILE.npz with x_train, y_train, x_test, y_test or x "
        "and y; an IDX file of images; a folder or tar of images, train/CLASS/* and test/CLASS/*.",
    )
    data_folder: str | None = option(
        None, "Where the files of mnist and cifar10 are; by default $ZOO_DATA, or this folder."
    )
    augment: bool = option(False, "Crop and flip training images at random.")
    init: str | None = option(
        None, "Start from the parameters in this .npz; a black box needs one, of its own arrays."
    )
    weights: str | None = option(None, "Write the trained parameters to this .npz.")


@dataclass(frozen=True)
class DeepZeroConfig:
    """Every parameter of training: the oracle, what it estimates, the update rule, the schedule."""

    oracle: str | None = option(
        None,
        "Where gradients come from. cge: differences by single coordinates. cyclic: by a few of "
        "them in turn, the others decaying. node: probes of units. rge: random directions. es: "
        "antithetic pairs of them. By default cge, and rge for black boxes.",
        choices=ORACLES,
    )
    mu: float = option(5e-3, "Step of the differences.", above=0)
    central: bool = option(False, "Differences to both sides, for twice the queries.")
    sparsity: float = option(
        0.0,
        "Share of the weights that a step of cge leaves out, less than 1; of all coordinates for "
        "cyclic, where it is 0.9 by default.",
        least=0,
    )
    pruning: str = option(
        "grasp",
        "How sparsity is shared between layers: by zeroth-order GraSP scores, uniform, or as in a "
        'JSON file, {"conv1": 0.5, ...}.',
    )
    mask_every: int = option(
        0, "Epochs that a mask is kept; 0: every step has a new one (DeepZero: 5).", least=0
    )
    grasp: str = option(
        "absolute",
        "Weights kept by GraSP: those of the largest scores, by absolute value (DeepZero's code) "
        "or of the lowest by sign (Wang et al. 2020).",
        choices=("absolute", "signed"),
    )
    grasp_directions: int = option(192, "Directions of each gradient estimate of GraSP.", least=1)
    grasp_samples: int = option(25, "Samples of each class for GraSP.", least=1)
    decay: float = option(
        0.99, "Factor of the derivatives that a step of cyclic does not renew.", least=0, most=1
    )
    directions: int = option(24, "Directions of a step of rge; twice the pairs of es.", least=1)
    distribution: str = option(
        "gaussian", "Of the directions; sphere: of radius sqrt(d).", choices=DISTRIBUTIONS
    )
    rule: str = option("sgd", "Update rule.", choices=RULES)
    lr: float | None = option(
        None,
        "Learning rate. By default 0.1 for cge, cyclic and node; for q directions, or pairs, of "
        "d parameters q / (q + d) if that is less; 0.001 for adam, 0.0001 for lion.",
        above=0,
    )
    momentum: float | None = option(
        None, "By default 0.9, and none for cyclic, which remembers anyway.", least=0, most=0.9999
    )
    weight_decay: float | None = option(
        None,
        "Of all parameters, estimated in this step or not. By default 0.0005 for networks, and "
        "none for black boxes.",
        least=0,
    )
    schedule: str = option(
        "cosine", "Of the learning rate, after the warm-up.", choices=("cosine", "constant")
    )
    warmup: float = option(3.0, "Epochs of linear warm-up, of half the run at most.", least=0)
    epochs: int = option(50, "Passes over the training data.", least=1)
    batch: int = option(128, "Samples of a step.", least=1, most=1 << 16)
    precision: str = option("single", "Of the network.", choices=("single", "double"))
    device: str = option(
        "cpu",
        "cpu; or cuda: passes and changes on a GPU, of networks. Results differ by rounding.",
        choices=("cpu", "cuda"),
    )
    convolutions: str = option(
        "auto",
        "On a GPU, of changes of whole maps. kernels: zoo's own. torch: PyTorch's, of many changes "
        "stacked, whose factors have 10 bits in single precision (TF32). auto: torch for large "
        "networks, such as resnet20.",
        choices=("auto", "kernels", "torch"),
    )
    shards: int | None = option(
        None,
        "Pieces of the work of a step, so many workers have something to do; by default 1 for "
        "small steps, else 8.",
        least=1,
    )
    seconds: float | None = option(
        None,
        "Most seconds of wall-clock time; what a step under way has done by then is lost.",
        above=0,
    )

    def __post_init__(self) -> None:
        if not self.sparsity < 1:
            raise InputError(
                f"sparsity must be >= 0 and < 1, got {self.sparsity:g}: nothing is left"
            )
        if self.device == "cpu" and self.convolutions != "auto":
            raise InputError(f"convolutions {self.convolutions} is for device cuda")
        oracle = self.oracle
        for name, oracles in _ONLY.items():
            given = getattr(self, name) != getattr(DeepZeroConfig, name)
            if given and oracle is not None and oracle not in oracles:
                raise InputError(f"{name} is for {' and '.join(oracles)}, not {oracle}")
        if oracle == "es" and self.directions % 2:
            raise InputError(f"directions must be even for es, got {self.directions}")
        if not self.sparsity:
            for name in ("pruning", "mask_every", "grasp", "grasp_directions", "grasp_samples"):
                if getattr(self, name) != getattr(DeepZeroConfig, name):
                    raise InputError(f"{name} goes with sparsity")

    def completed(self, black_box: bool, size: int) -> DeepZeroConfig:
        """Config with the defaults that depend on others, and on the number of parameters.

        Raises
        ------
        InputError
            If a black box is to be looked into.
        """
        oracle = self.oracle or ("rge" if black_box else "cge")
        if black_box and self.device != "cpu":
            raise InputError(f"device {self.device} is for networks: a black box is where it is")
        if self.convolutions == "torch" and oracle not in ("cge", "cyclic"):
            raise InputError(f"convolutions torch are those of cge and cyclic, not {oracle}")
        if black_box and oracle not in BLACK_BOX:
            raise InputError(
                f"oracle {oracle} looks into a network: for black boxes there are "
                + ", ".join(BLACK_BOX)
            )
        rate = self.lr or _NORMED.get(self.rule, _RATE)
        if self.lr is None and self.rule == "sgd" and oracle in ("rge", "es"):
            count = self.directions / (2 if oracle == "es" else 1)
            rate = min(_RATE, count / (count + size))
        momentum = self.momentum
        if momentum is None:
            momentum = 0.0 if oracle == "cyclic" and self.rule == "sgd" else 0.9
        decay = self.weight_decay
        if decay is None:
            decay = 0.0 if black_box else _DECAY
        sparsity = self.sparsity or (_CYCLIC if oracle == "cyclic" else 0.0)
        return replace(
            self, oracle=oracle, lr=rate, momentum=momentum, weight_decay=decay, sparsity=sparsity
        )
