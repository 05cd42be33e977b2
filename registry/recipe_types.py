"""What a recipe is: its keys, types, ranges, defaults. The JSON Schema that checks recipes is derived from these."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt

from .recipe_parts import PartKind, PartRef, SamplerRef
from .recipe_values import Count, Factors, FolderName, InitFrom, Seed, Share, Span, WeightsName, Whole
from .yaml12 import dump


@dataclass(frozen=True, kw_only=True)
class Loading:
    """The way of the images from the data set to the step: it changes how fast they come, and nothing else.

    Attributes:
        device_gib: A data set that is in memory lies on the training device if it needs at most so many GiB; a larger
            one stays in the host's memory, and a thread gathers its batches ahead of the step. Of each set by itself:
            images, latents that are kept, held-out images.
        workers: Processes on each rank that read a data set which is not in memory; `auto` is one for each core of the
            rank but one, at most 8. With 0 it is read in the training process, batch by batch.
        ahead: Batches that are made ready before they are asked for; each worker reads at least one ahead.
    """

    device_gib: Annotated[float, Ge(0)] = 2.0
    workers: Literal["auto"] | Whole = "auto"
    ahead: Count = 4


@dataclass(frozen=True, kw_only=True)
class Latents:
    """Keeping what a costly codec makes of the training images, on disk, so that each image is encoded once.

    Attributes:
        cache: Whether to; `auto` does where the codec has moments, the augmentations are `flip` or none, and the
            training sees more images than there are to encode.
        dtype: Arithmetic in which moments are trained on and kept; `float16` takes half the room and rounds to 11 bits.
        shard_mib: Size of the files of a new cache: at most that much is encoded again after an interruption.
    """

    cache: bool | Literal["auto"] = "auto"
    dtype: Literal["float32", "float16"] = "float32"
    shard_mib: Annotated[float, Gt(0)] = 16.0


@dataclass(frozen=True, kw_only=True)
class Train:
    """Training.

    Attributes:
        steps: Optimizer steps in all.
        batch_size: Images a step, over all ranks together.
        micro_batch: Images that go through the network together on a rank, whose share of the batch is cut into such
            pieces: less memory, the same gradient. Null is the whole share; `auto` is what fits into a GPU's memory,
            by trial.
        lr: Learning rate after the warm-up.
        warmup: Steps in which the learning rate rises from 0; or images, as in `500k images`.
        decay: Course of the learning rate after the warm-up.
        optimizer: Turns gradients into steps.
        freeze: Patterns over the names of weights; those that they choose are not trained.
        lr_factors: Factors on the learning rate of weights, by patterns over their names; where several patterns
            choose a weight, their product.
        weight_decay_on: What an optimizer's weight decay applies to: weights of two dimensions and more, embeddings
            among them, or also biases and the scales of norms. Never to what a layer exempts, as Mamba's do.
        clip: The gradient's norm is clipped to this; null never clips.
        label_dropout: Share of images trained without their label, which guidance needs.
        ema: Averages of the weights, of which the first is what samples are made with. A bare number is `fixed` with
            that decay a step; `[]` keeps none.
        objective: What the error of a prediction is.
        loss_space: The prediction in whose terms the error is taken; null is what the network predicts.
        weighting: How the loss weighs noise levels.
        density: Where the training times are drawn from.
        stratified: Spread the times of each batch evenly over the density, all ranks together.
        precision: Arithmetic of the network in training; weights stay in fp32, and samples are made in fp32. `auto` is
            bf16 on a GPU that has units for it, else fp32, and what a run has begun with. With fp16 the loss is scaled
            so that small gradients do not vanish.
        activation_checkpointing: Keep no activations within the network's blocks, and compute them again for the
            gradient: less memory, a slower step, the same weights.
        stop_after_bad_steps: Give up after this many steps in a row with a loss that is not finite.
    """

    steps: Count
    batch_size: Count
    micro_batch: Count | Literal["auto"] | None = None
    lr: Annotated[float, Gt(0)]
    warmup: Span = 0
    decay: Annotated[PartRef, PartKind("decay")] = PartRef("constant")
    optimizer: Annotated[PartRef, PartKind("optimizer")] = PartRef("adamw")
    freeze: tuple[str, ...] = ()
    lr_factors: Factors = field(default_factory=dict)
    weight_decay_on: Literal["matrices", "all"] = "matrices"
    clip: Annotated[float, Gt(0)] | None = 1.0
    label_dropout: Share = 0.1
    ema: tuple[Annotated[PartRef, PartKind("average")], ...] = (PartRef("fixed"),)
    objective: Annotated[PartRef, PartKind("objective")] = PartRef("l2")
    loss_space: Annotated[PartRef, PartKind("prediction")] | None = None
    weighting: Annotated[PartRef, PartKind("weighting")] = PartRef("uniform")
    density: Annotated[PartRef, PartKind("density")] = PartRef("uniform")
    stratified: bool = False
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    activation_checkpointing: bool = False
    stop_after_bad_steps: Count = 20


@dataclass(frozen=True, kw_only=True)
class Compute:
    """How the device computes, in training, sampling and scoring alike: how fast, and how results are rounded.

    Attributes:
        deterministic: The same bits each time on a GPU too, at a cost of speed; CPUs give them anyway.
        tf32: Whether a GPU may shorten float32 to TF32 in matrix products and convolutions; `auto` lets those that have
            it. What is measured on images is always computed in float32.
        compile: Whether torch compiles the network: all of it, or each of its blocks, which takes as long as one block
            where all are alike.
        channels_last: Whether the channels of a pixel lie together in memory; `auto` does it on a GPU for networks most
            of whose weights are in convolutions.
    """

    deterministic: bool = False
    tf32: bool | Literal["auto"] = "auto"
    compile: bool | Literal["blocks"] = False
    channels_last: bool | Literal["auto"] = "auto"


@dataclass(frozen=True, kw_only=True)
class Preview:
    """Sample sheets while training goes on.

    Attributes:
        every: Steps between two sheets; 0 makes none.
        start: First step with a sheet.
        per_class: Images of each class.
        strips: Pictures of each image on its way from noise, a row an image in a sheet of its own; 0 makes none.
    """

    every: Whole = 0
    start: Whole = 0
    per_class: Count = 4
    strips: Whole = 0


@dataclass(frozen=True, kw_only=True)
class Sample:
    """The sheet of samples after training.

    Attributes:
        per_class: Images of each class.
        strips: Pictures of each image on its way from noise, a row an image in a sheet of its own; 0 makes none.
        seed: Image k of one seed is the same for any batch size.
        batch_size: Images made at a time.
    """

    per_class: Count = 10
    strips: Whole = 0
    seed: Seed = 0
    batch_size: Count = 256


@dataclass(frozen=True, kw_only=True)
class During:
    """Scores while training goes on, of the averaged weights where there are any.

    Attributes:
        every: Training images between two evaluations, rounded up to the next step; 0 makes none.
        images: Images to make and score each time; values have this number in their names, as in `fid_n1000`.
        metrics: The metrics; null is those of the evaluation after training.
    """

    every: Whole = 0
    images: Count = 1000
    metrics: tuple[Annotated[PartRef, PartKind("metric")], ...] | None = None


@dataclass(frozen=True, kw_only=True)
class Evaluate:
    """Scores after training, and while it goes on.

    Attributes:
        images: Images to make and score; 0 scores nothing.
        metrics: The metrics.
        batch_size: Images that a rank makes and scores together; the batches, and so the values, are the same on any
            number of ranks.
        seed: Seed of the images.
        weights: `ema`, the first average; `raw`, the weights themselves; another average's label, or `posthoc-LENGTH`.
        held_out: Also score the dataset's held-out images, for scale.
        during: Scores while training goes on.
    """

    images: Whole = 0
    metrics: tuple[Annotated[PartRef, PartKind("metric")], ...] = ()
    batch_size: Count = 256
    seed: Seed = 1
    weights: WeightsName = "ema"
    held_out: bool = True
    during: During = During()


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """Checkpoints.

    Attributes:
        every: Steps between two checkpoints; null writes none by steps.
        minutes: Minutes since the last checkpoint, however that came about, after which one is written; null does not
            look at the clock.
        keep: Checkpoints kept; older ones are deleted.
        keep_every: Each checkpoint whose step is a multiple of this is written, and kept for ever; null keeps none.
        best: Name of a value of `evaluate.during`, without its number of images, as `fid`: a checkpoint is also written
            wherever it is measured; or `loss`, judged at the checkpoints there are. The best one is kept; null keeps
            none.
        asynchronous: Training waits only until the weights are copied to the host's memory, and goes on while they are
            written.
    """

    every: Count | None = 1000
    minutes: Annotated[float, Gt(0)] | None = None
    keep: Count = 2
    keep_every: Count | None = None
    best: str | None = None
    asynchronous: bool = False


@dataclass(frozen=True, kw_only=True)
class Log:
    """Logged values.

    Attributes:
        every: Steps between two logged points.
    """

    every: Count = 20


@dataclass(frozen=True, kw_only=True)
class Distributed:
    """Training on several ranks.

    Attributes:
        strategy: How ranks share the work: `ddp` keeps the whole network on each; `fsdp` gives each its part of every
            weight, gradient, moment and average, for networks that are too large for that.
        timeout_s: Seconds that a rank waits for another before the run ends with an error; rank 0 alone makes sheets of
            samples, and the others wait for it.
    """

    strategy: Literal["ddp", "fsdp"] = "ddp"
    timeout_s: Annotated[float, Ge(1)] = 1800


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One experiment: what is trained, how, and what is made of it.

    Attributes:
        name: The run's name and its folder's.
        seed: Seed of everything random in training.
        device: Where to compute; auto takes a GPU when there is one.
        dataset: The training images.
        loading: The way of the images to the training device.
        codec: Turns images into what the network sees, and back.
        latents: Keeping what the codec makes of the training images.
        augment: Random changes of training images, one after the other.
        backbone: The network.
        schedule: How signal and noise depend on time.
        prediction: What the network predicts.
        train: Training.
        compute: How the device computes.
        preview: Sample sheets while training goes on.
        sampler: How images are made.
        sample: The sheet of samples after training.
        evaluate: Scores after training, and while it goes on.
        checkpoint: Checkpoints.
        log: Logged values.
        hooks: What else happens around the run, trackers first of all.
        distributed: Training on several ranks.
        init_from: A run or weights to start from; a text is the source of them.
    """

    name: FolderName
    seed: Seed = 0
    device: Literal["auto", "cpu", "cuda"] = "auto"
    dataset: Annotated[PartRef, PartKind("dataset")]
    loading: Loading = Loading()
    codec: Annotated[PartRef, PartKind("codec")] = PartRef("pixels")
    latents: Latents = Latents()
    augment: tuple[Annotated[PartRef, PartKind("augmentation")], ...] = ()
    backbone: Annotated[PartRef, PartKind("backbone")]
    schedule: Annotated[PartRef, PartKind("schedule")]
    prediction: Annotated[PartRef, PartKind("prediction")]
    train: Train
    compute: Compute = Compute()
    preview: Preview = Preview()
    sampler: Annotated[SamplerRef, PartKind("sampler")] = SamplerRef("adams", steps=20)
    sample: Sample = Sample()
    evaluate: Evaluate = Evaluate()
    checkpoint: Checkpoint = Checkpoint()
    log: Log = Log()
    hooks: tuple[Annotated[PartRef, PartKind("hook")], ...] = (PartRef("mlflow"),)
    distributed: Distributed = Distributed()
    init_from: InitFrom | None = None

    def as_dict(self) -> dict[str, Any]:
        """The whole recipe with every default in it, in values that YAML and JSON know."""
        found = plain(self)
        assert isinstance(found, dict)
        return found

    def to_yaml(self) -> str:
        """The whole recipe as text that `recipe.read` reads back to an equal recipe."""
        return dump(self.as_dict())

    def digest(self) -> str:
        """SHA-256 of the recipe: equal for equal recipes, however they were written."""
        text = json.dumps(self.as_dict(), sort_keys=True, separators=(",", ":"), allow_nan=False)
        return hashlib.sha256(text.encode()).hexdigest()


def plain(value: Any, short: bool = True) -> Any:
    """A recipe, or a piece of one, as it is written: a part as ``{name, **options}``.

    Args:
        value: A `Recipe`, or anything in one.
        short: Whether a part without options is its bare name, and weights to start from their bare source.
    """
    if short and isinstance(value, InitFrom) and value == InitFrom(source=value.source):
        return value.source
    if is_dataclass(value):
        found = {f.name: plain(getattr(value, f.name), short) for f in fields(value)}
        if not isinstance(value, PartRef):
            return found
        options = found.pop("options")
        whole = {"name": found.pop("name"), **options, **found}
        return whole if len(whole) > 1 or not short else value.name
    if isinstance(value, Mapping):
        return {key: plain(v, short) for key, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v, short) for v in value]
    return value
