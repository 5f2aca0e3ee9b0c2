"""Every setting of a training run, with the source of its default.

Resolved in three steps: recipe, then ``--config`` file, then ``--set key=value``. The
result is stored in the run folder and in the checkpoint. Tags: [paper] stated by the
paper, [DGD] the code MSP-CNN builds on, [X-Corr] the code its cross-correlation follows,
[inferred] not stated by any source, chosen here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from reid.errors import ConfigError
from reid.losses.settings import LossConfig
from reid.model_file.preprocess import Preprocess
from reid.models import default_settings
from reid.models.description import NetworkSettings
from reid.printing import printable

LR_POLICIES = ("fixed", "step", "multistep", "stepdecr", "poly", "inv", "sigmoid", "cosine")
"""How the learning rate changes within a stage; the formulas are in ``StageConfig``."""


def _check(ok: bool, message: str) -> None:
    if not ok:
        raise ConfigError(message)


@dataclass(frozen=True, slots=True)
class AugmentConfig:
    """Random changes to images in training; evaluation uses the centre crop."""

    random_crop: bool = True  # crop at random, else at the centre [paper] 160x64 to 144x56
    # largest shift, a share of the side below, 0 to 0.5; CSN and X-Corr have 0.05
    translation: float = 0.0
    # of what the shift is a share: each, for its own side, or height, for both axes; X-Corr's
    # code, and CSN's recipes, have height
    translation_side: str = "each"
    # what comes in at the border: edges, which repeats the edge's pixels, or zeros; X-Corr's code,
    # and CSN's recipes, have zeros
    translation_fill: str = "edges"
    mirror_probability: float = 0.5  # probability of mirroring an image [DGD]
    # strength of AlexNet's PCA jitter, whose own value is 0.1 [inferred] off
    colour_jitter_std: float = 0.0
    # probability of random erasing (Zhong et al. 2017); not in the paper
    erasing_probability: float = 0.0

    def __post_init__(self) -> None:
        _check(
            0 <= self.translation < 0.5,
            f"augment.translation must be in [0, 0.5), found {self.translation}",
        )
        for name, words in (
            ("translation_side", ("height", "each")),
            ("translation_fill", ("zeros", "edges")),
        ):
            value = getattr(self, name)
            _check(
                value in words,
                f"augment.{name} must be {' or '.join(words)}, found {value!r}",
            )


@dataclass(frozen=True, slots=True)
class DataConfig:
    """The dataset, how it is split and how it is read."""

    name: str = "market1501"  # the dataset, one of reid.datasets()
    # several datasets to train on together, each in a folder of its name; empty: name alone
    names: tuple[str, ...] = ()
    # test identities of a random split; 0: the dataset's own split [paper] CUHK01: 100 or 486
    num_test_identities: int = 0
    split_seed: int = 0  # seed of a random split; CUHK03: which of its 20 test sets
    # CUHK03 and MSMT17: train on the validation part, or keep it apart: auto, train, apart
    validation: str = "auto"
    # training people that are kept out of training: how well they are found is logged as a learning
    # curve every run.check_every iterations; 0: none
    held_out_identities: int = 0
    junk: tuple[str, ...] = ()  # own images: people who are neither a correct nor a false match
    distractors: tuple[str, ...] = ()  # own images: people that no query shows
    # own folders: their meaning, such as camera/person; empty: recognised
    layout: str = ""
    num_workers: int = -1  # loader processes; -1: chosen from the machine's cores

    def __post_init__(self) -> None:
        for name in ("split_seed", "held_out_identities"):
            value = getattr(self, name)
            _check(value >= 0, f"data.{name} must be 0 or above, found {value}")
        _check(
            self.validation in ("auto", "train", "apart"),
            f"data.validation must be auto, train or apart; found {self.validation!r}",
        )

    @property
    def datasets(self) -> tuple[str, ...]:
        """The datasets to train on: ``names``, or ``name``."""
        return self.names or (self.name,)


@dataclass(frozen=True, slots=True)
class SamplerConfig:
    """How a batch is composed.

    ``pairs``: each anchor with one positive (from another camera if there is one) and
    ``negatives_per_positive`` negatives. ``identities``: P identities x K images, each
    image an anchor, pairs taken within the batch. ``all_pairs``: every pair of one person's
    images, copies included, once an epoch [X-Corr].
    """

    kind: str = "pairs"  # pairs, all_pairs or identities, see above
    anchors_per_batch: int = 48  # pairs, all_pairs: positives of a batch [inferred]
    # negatives for each positive [paper] section 3.3, Figure 5
    negatives_per_positive: int = 2
    # pairs: how often an epoch takes each image, augmented anew; all_pairs: how many copies of it
    # form pairs; CSN's recipes 4 or 7 [X-Corr]: itself, 2 or 5 moved, one mirrored
    copies: int = 1
    across_cameras: bool = False  # all_pairs: only pairs of two cameras
    # all_pairs: a copy is augmented alike in every epoch; CSN's recipes on [X-Corr]
    fixed_copies: bool = False
    # all_pairs: drawn, each copy shifted and mirrored by chance; written, the first is the image,
    # the last its mirror, those between are shifted; CSN's recipes written [X-Corr]
    copy_kinds: str = "drawn"
    # negatives are of another camera than the first image of their pair, as in most tests; off: of
    # any camera [paper] random. With positives of two cameras and half of the negatives of one, a
    # network learns to tell cameras
    negatives_across_cameras: bool = False
    identities_per_batch: int = 16  # identities: P, the identities of a batch
    images_per_identity: int = 4  # identities: K, the images of each of them

    def __post_init__(self) -> None:
        _check(
            self.kind in ("pairs", "all_pairs", "identities"),
            f"sampler.kind must be pairs, all_pairs or identities, found {self.kind!r}",
        )
        _check(
            self.copy_kinds in ("drawn", "written"),
            f"sampler.copy_kinds must be drawn or written, found {self.copy_kinds!r}",
        )
        counts = ("anchors_per_batch", "copies", "identities_per_batch", "images_per_identity")
        for name in counts:
            _check(getattr(self, name) >= 1, f"sampler.{name} must be at least 1")
        _check(
            self.negatives_per_positive >= 0, "sampler.negatives_per_positive must be 0 or above"
        )


@dataclass(frozen=True, slots=True)
class OptimizerConfig:
    """SGD and Adam as in Caffe, or PyTorch's Adam. No weight decay on biases and BN [DGD].

    The two Adams differ in where ``delta`` is added: Caffe adds it before the correction of the
    first steps, PyTorch after it. Both add the decay to the gradient.
    """

    # sgd, caffe_adam, or adam (PyTorch's) [DGD]; CSN's recipes adam [paper]
    kind: str = "sgd"
    momentum: float = 0.9  # momentum of SGD; beta1 of caffe_adam [DGD]
    momentum2: float = 0.999  # beta2 of caffe_adam
    delta: float = 1e-8  # caffe_adam: added to the root of the mean square
    weight_decay: float = 5e-4  # weight decay; biases and batch norms have none [DGD]
    nesterov: bool = False  # use Nesterov's momentum
    bias_lr_mult: float = 2.0  # the learning rate of biases, times base_lr [DGD]
    # factor on the learning rate of weights that were loaded (run.start_from, a network's
    # pretrained); below 1 they learn more slowly than new ones
    loaded_lr_mult: float = 1.0
    iter_size: int = 1  # batches whose gradients are added up for one update; [DGD] has 2
    # limit on the length (L2 norm) of all gradients, summed over iter_size; 0: no limit
    clip_gradients: float = 0.0
    # test and export the running mean of the weights (EMA), with this decay at each update; 0: the
    # last weights; not in the papers
    average_decay: float = 0.0

    def __post_init__(self) -> None:
        kinds = ("sgd", "adam", "caffe_adam")
        _check(
            self.kind in kinds,
            f"optimizer.kind must be one of {', '.join(kinds)}; found {self.kind!r}",
        )
        _check(
            self.iter_size >= 1, f"optimizer.iter_size must be at least 1, found {self.iter_size}"
        )
        _check(
            0 < self.loaded_lr_mult < math.inf,
            f"optimizer.loaded_lr_mult must be above 0, found {self.loaded_lr_mult}; a stage's "
            "freeze_loaded keeps loaded weights as they are",
        )
        _check(
            0 <= self.momentum2 < 1,
            f"optimizer.momentum2 must be in [0, 1), found {self.momentum2}",
        )
        _check(self.delta > 0, f"optimizer.delta must be above 0, found {self.delta}")
        _check(
            0 <= self.average_decay < 1,
            f"optimizer.average_decay must be in [0, 1), found {self.average_decay}",
        )
        _check(
            0 <= self.clip_gradients < math.inf,
            f"optimizer.clip_gradients must be 0 (no limit) or above, found {self.clip_gradients}",
        )


@dataclass(frozen=True, slots=True)
class StageConfig:
    """One stage of training: its length, learning rate and losses.

    The length is ``iterations`` or ``epochs`` (one of them positive). Policies:
    ``fixed``; ``step``: base_lr * gamma^floor(i / stepsize); ``multistep``: base_lr * gamma^(number
    of ``milestones`` or ``stepvalues`` passed); ``stepdecr``: base_lr * (1 - gamma * floor(i /
    stepsize)); ``poly``: base_lr * (1 - i / n)^power, in a stage of n iterations; ``inv``:
    base_lr * (1 + gamma * i)^-power; ``sigmoid``: base_lr / (1 + exp(-gamma * (i - stepsize)));
    ``cosine``: from base_lr to min_lr over the stage. The rate of all but ``fixed`` is at least
    ``min_lr``. All but ``cosine`` are Caffe's, ``stepdecr`` the DGD fork's.
    ``loss_weights`` gives weights to the losses of the network's objective;
    a loss that is absent or 0 is not computed. MSP-CNN's are softmax, euclidean and
    cross_correlation; the paper gives no weights, so 1, 1, 1 in the recipes is [inferred].
    ``image_height`` and ``image_width`` shrink the crops for a coarse-to-fine schedule (0:
    the size of the crop); the network checks that it can take the size.
    """

    name: str = "stage1"  # its name in the log and in messages
    iterations: int = 0  # updates of the stage; or epochs
    epochs: float = 0.0  # passes over the training images; or iterations
    # fixed, step, multistep, stepdecr, poly, inv, sigmoid or cosine, see above
    lr_policy: str = "step"
    base_lr: float = 0.1  # the learning rate at the start of the stage
    gamma: float = 0.1  # the factor of a step; how fast inv falls and sigmoid rises
    stepsize: int = 20000  # iterations between steps; where sigmoid reaches half of base_lr
    power: float = 1.0  # the exponent of poly and inv
    milestones: tuple[float, ...] = ()  # shares of the stage in (0, 1), for multistep
    stepvalues: tuple[int, ...] = ()  # the same as iterations, as in Caffe; or milestones
    min_lr: float = 0.0  # the lowest learning rate of all policies but fixed
    warmup_iterations: int = 0  # iterations at the start, in which the rate rises to base_lr
    # loss -> weight, see above [inferred] 1, 1, 1 in MSP-CNN's recipes
    loss_weights: dict[str, float] = field(default_factory=dict)
    image_height: int = 0  # height of the crops in this stage; 0: the crop's own
    image_width: int = 0  # width of the crops in this stage; 0: the crop's own
    # keep loaded weights and the running statistics of their batch norms as they are in this stage;
    # only new weights learn, and these batch norms normalise as in evaluation
    freeze_loaded: bool = False

    def __post_init__(self) -> None:
        where = f"stage {self.name!r}"
        _check(
            printable(self.name) == self.name,
            f"{where}: expected a name without control characters, for the lines of the log",
        )
        _check(
            (self.iterations > 0) != (self.epochs > 0),
            f"{where} needs either iterations or epochs above 0; found "
            f"iterations={self.iterations}, epochs={self.epochs}",
        )
        _check(
            self.lr_policy in LR_POLICIES,
            f"{where}: lr_policy must be one of {', '.join(LR_POLICIES)}; found {self.lr_policy!r}",
        )
        _check(self.base_lr > 0, f"{where}: base_lr must be above 0, found {self.base_lr}")
        _check(
            list(self.milestones) == sorted(self.milestones)
            and all(0 < share < 1 for share in self.milestones),
            f"{where}: milestones must be ascending shares of the stage in (0, 1), found "
            f"{list(self.milestones)}",
        )
        _check(
            list(self.stepvalues) == sorted({max(0, value) for value in self.stepvalues}),
            f"{where}: stepvalues must be ascending iterations of 0 or more, found "
            f"{list(self.stepvalues)}",
        )
        _check(
            not (self.milestones and self.stepvalues),
            f"{where}: set either milestones or stepvalues, not both",
        )
        _check(self.stepsize > 0, f"{where}: stepsize must be above 0, found {self.stepsize}")
        if self.lr_policy in ("poly", "inv", "sigmoid"):
            _check(
                0 <= self.gamma < math.inf and 0 <= self.power < math.inf,
                f"{where}: {self.lr_policy} needs gamma and power of 0 or above, found "
                f"{self.gamma} and {self.power}",
            )
        _check(
            (self.image_height > 0) == (self.image_width > 0),
            f"{where}: set both image_height and image_width, or neither",
        )
        _check(self.warmup_iterations >= 0, f"{where}: warmup_iterations must be 0 or above")

    @property
    def image_size(self) -> tuple[int, int] | None:
        """(height, width) to shrink crops to, or None for no change."""
        return (self.image_height, self.image_width) if self.image_height else None


@dataclass(frozen=True, slots=True)
class RunConfig:
    """The run itself: seed, arithmetic, how often to save and log."""

    seed: int = 0  # seed of weights, batches and augmentation
    # begin with the weights of a run folder, a checkpoint or a file of weights (safetensors, or a
    # state dict); a classifier of another number of people stays new; never read on resume
    start_from: str = ""
    # with start_from: leave out its classifier of identities even if its size fits, as for other
    # people of the same number
    new_classifier: bool = False
    # fp32, bf16, fp16; auto: measured on a CPU; on CUDA bf16, or fp16 without it
    precision: str = "auto"
    channels_last: str = "auto"  # memory layout: on, off; auto: measured
    device: str = "auto"  # cpu, cuda; auto: CUDA if there is a GPU
    # on a CPU: on, off (faster, more memory); auto: on if there is room
    keep_freed_memory: str = "auto"
    # of several processes on a CPU: each stays on its own share of the cores (Linux)
    own_cores: bool = True
    # on CUDA: the same weights in every run, slower, MSP-CNN only; a CPU always gives them
    deterministic: bool = False
    checkpoint_every_s: float = 300.0  # seconds between checkpoints
    log_every: int = 10  # iterations between rows of the log
    # iterations between searches for the held-out people; the end of a stage has one too
    check_every: int = 250

    def __post_init__(self) -> None:
        for name, allowed in (
            ("precision", ("auto", "fp32", "bf16", "fp16")),
            ("channels_last", ("auto", "on", "off")),
            ("device", ("auto", "cpu", "cuda")),
            ("keep_freed_memory", ("auto", "on", "off")),
        ):
            value = getattr(self, name)
            _check(
                value in allowed, f"run.{name} must be one of {', '.join(allowed)}; found {value!r}"
            )
        _check(
            printable(self.start_from) == self.start_from,
            f"run.start_from must be a path without control characters, found {self.start_from!r}",
        )
        for name in ("log_every", "check_every"):
            _check(getattr(self, name) >= 1, f"run.{name} must be at least 1")
        _check(0 <= self.seed < 2**63, f"run.seed must be from 0 to 2^63 - 1, found {self.seed}")


@dataclass(frozen=True, slots=True)
class TrainConfig:
    """Everything that decides a training run."""

    recipe: str = ""  # the recipe it began with
    network: NetworkSettings = field(default_factory=default_settings)
    preprocess: Preprocess = field(default_factory=Preprocess)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    data: DataConfig = field(default_factory=DataConfig)
    sampler: SamplerConfig = field(default_factory=SamplerConfig)
    losses: LossConfig = field(default_factory=LossConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    run: RunConfig = field(default_factory=RunConfig)
    stages: tuple[StageConfig, ...] = ()
