"""From a recipe's names to objects."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch

from ..core import (
    Augmentation,
    Backbone,
    Codec,
    CondSpec,
    Dataset,
    DataSpec,
    Denoiser,
    Grid,
    Guidance,
    Level,
    NoiseSchedule,
    Prediction,
    Sampler,
    levels_of,
    with_labels,
)
from ..core.denoiser import Network
from ..core.predictions import check_prediction
from ..registry import PartRef, Recipe, SamplerRef, UserError, build, load
from ..registry.options import fill
from .average_rules import check_weights
from .checkpoints import check_best
from .compute import prepare
from .console import log
from .latents.possible import check_latents
from .world import World


def part(kind: str, ref: PartRef, *given: Any) -> Any:
    """The object that a recipe names."""
    return build(kind, ref.name, *given, **ref.options)


@dataclass(frozen=True)
class Model:
    """All that a network needs to be a denoiser.

    Attributes:
        backbone: Raw network.
        codec: Between pixels and x; ``codec.spec`` is what the backbone sees.
        schedule: Noise schedule.
        prediction: Row of the table.
        pixels: Spec of the data in pixels.
        augmentations: Of training images; their labels are in ``codec.spec``, and not in ``pixels``.
    """

    backbone: Backbone
    codec: Codec
    schedule: NoiseSchedule
    prediction: Prediction
    pixels: DataSpec
    augmentations: tuple[Augmentation, ...] = ()

    def denoiser(self, network: Network | None = None) -> Denoiser:
        """The denoiser around ``network``, by default the backbone."""
        return Denoiser(network or self.backbone, self.schedule, self.prediction, self.codec.sigma_data)


def build_model(recipe: Recipe, pixels: DataSpec, accept: Callable[[DataSpec], None] | None = None) -> Model:
    """The model of a recipe for data of ``pixels``, its weights drawn from the recipe's seed.

    The weights are made on the CPU, so that they are the same on every device and rank.

    Args:
        recipe: Names the parts.
        pixels: The data.
        accept: Asked before the network is made, with what it will see; refuses by an error.
    """
    schedule, prediction = build_path(recipe)
    augmentations = tuple(part("augmentation", ref, pixels) for ref in recipe.augment)
    try:
        told = with_labels(pixels, augmentations)
    except ValueError as error:
        raise UserError(f"augment: {error}") from error
    codec: Codec = part("codec", recipe.codec, told)
    if accept is not None:
        accept(codec.spec)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        backbone: Backbone = part("backbone", recipe.backbone, codec.spec)
    prepare(backbone, recipe.compute, recipe.device)
    return Model(backbone, codec, schedule, prediction, pixels, augmentations)


def build_path(recipe: Recipe) -> tuple[NoiseSchedule, Prediction]:
    """Schedule and prediction of a recipe: they need neither data nor network, so they are built to check it too.

    Raises:
        UserError: Options that make no schedule, or a prediction that cannot go with it.
    """
    schedule: NoiseSchedule = part("schedule", recipe.schedule)
    prediction: Prediction = part("prediction", recipe.prediction)
    try:
        check_prediction(schedule, prediction)
    except ValueError as error:
        raise UserError(f"prediction {recipe.prediction.name} with schedule {recipe.schedule.name}: {error}") from error
    return schedule, prediction


def build_dataset(recipe: Recipe, world: World) -> Dataset:
    """The recipe's data, read; by rank 0 first, which downloads what is missing."""
    dataset: Dataset = world.first_alone(lambda: part("dataset", recipe.dataset))
    if len(dataset) == 0:
        raise UserError(f"dataset {recipe.dataset.name} is empty; there is nothing to train on")
    return dataset


@dataclass(frozen=True)
class ReferenceModel:
    """A network to guide away from.

    Attributes:
        denoiser: It, on the device, in eval mode.
        spec: What it sees; its augmentations, and so its neutral conditions, may be others than the model's.
        labels: Whether it is told the same labels, or none.
        about: What it is, for the protocol.
    """

    denoiser: Denoiser
    spec: DataSpec
    labels: Literal["same", "none"]
    about: str


@dataclass(frozen=True)
class Sampling:
    """How images are made.

    Attributes:
        sampler: Takes the steps.
        levels: The grid.
        guidance: How the answers of the network and of the reference are combined.
        reference: The reference; None is the same network without labels.
    """

    sampler: Sampler[Any]
    levels: list[Level]
    guidance: Guidance
    reference: ReferenceModel | None


def build_sampling(ref: SamplerRef, schedule: NoiseSchedule, reference: ReferenceModel | None = None) -> Sampling:
    """Sampler, grid and guidance of a recipe.

    Args:
        ref: The recipe's sampler.
        schedule: Of the network.
        reference: What `load_reference` gives for the recipe.
    """
    sampler: Sampler[Any] = part("sampler", ref)
    levels, guidance = build_levels(ref, schedule), part("guidance", ref.guidance)
    assert reference is not None or ref.reference is None or not guidance.guides, "load_reference was left out"
    return Sampling(sampler, levels, guidance, reference)


def build_levels(ref: SamplerRef, schedule: NoiseSchedule) -> list[Level]:
    """The grid of a recipe on its schedule.

    Raises:
        UserError: Options that make no grid there.
    """
    grid: Grid = part("grid", grid_of(ref))
    try:
        return levels_of(schedule, grid(schedule, ref.steps))
    except ValueError as error:
        raise UserError(f"sampler.grid: {error}") from error


def check_parts(recipe: Recipe) -> None:
    """Build what needs neither data nor network: what is wrong there is told before either, and not after training.

    Raises:
        UserError: Parts that cannot be, or not together.
    """
    schedule, _ = build_path(recipe)
    part("sampler", recipe.sampler)
    build_levels(recipe.sampler, schedule)
    part("guidance", recipe.sampler.guidance)
    check_dropout(recipe.sampler, recipe.train.label_dropout)
    for kind in ("objective", "weighting", "density", "decay"):
        part(kind, getattr(recipe.train, kind))
    check_weights(recipe)
    check_hooks(recipe)
    check_latents(recipe)
    check_best(recipe)


def check_hooks(recipe: Recipe) -> None:
    """Ask the hooks that check a recipe, by a method ``check``, whether they can do what they are asked.

    Raises:
        UserError: One refuses.
    """
    for ref in recipe.hooks:
        hook = part("hook", ref)
        if hasattr(hook, "check"):
            try:
                hook.check(recipe)
            except ValueError as error:
                raise UserError(f"hooks: {error}") from error


def tell_of_mirrors(augment: Sequence[PartRef], augmentations: Sequence[Augmentation]) -> None:
    """Warn of mirrored images that the network is not told of, where it is told of other changes.

    Args:
        augment: The recipe's.
        augmentations: What was built of them.
    """
    told = [ref.name for ref, one in zip(augment, augmentations, strict=True) if one.label is not None]
    untold = [ref.name for ref, one in zip(augment, augmentations, strict=True) if one.mirrors and one.label is None]
    if told and untold:
        log.warning(
            "augment: %s mirrors images and does not tell the network, so samples come mirrored too, whatever %s tells "
            "it; leave %s out where %s mirrors, as edm does",
            *(untold[0], told[0], untold[0], told[0]),
        )


def check_dropout(ref: SamplerRef, label_dropout: float) -> None:
    """Accept a guidance away from the network without labels.

    Raises:
        UserError: It never was trained without.
    """
    if label_dropout == 0 and ref.reference is None and not is_unguided(ref):
        raise UserError(
            "sampler.guidance: guidance needs a network that was also trained without labels, and train.label_dropout "
            "is 0; write guidance: 1, train with label_dropout: 0.1, or guide away from a weaker network, "
            "sampler.reference"
        )


def grid_of(ref: SamplerRef) -> PartRef:
    """The grid that is used: the recipe's, or the one that the sampler declares, with its defaults."""
    if ref.grid is not None:
        return ref.grid
    name = part("sampler", ref).grid
    return PartRef(name, fill(load("grid", name), "grid", {}))


def is_unguided(ref: SamplerRef) -> bool:
    """Whether the guidance never needs a reference: cfg with scale 1, alone or inside another."""
    guidance: Guidance = part("guidance", ref.guidance)
    return not guidance.guides


def spec_as_dict(spec: DataSpec) -> dict[str, Any]:
    """A spec as JSON, kept in the run so that sampling needs no data."""
    cond = {
        name: {"kind": one.kind, "shape": list(one.shape), "neutral": one.neutral} for name, one in spec.cond.items()
    }
    return {"shape": list(spec.shape), "classes": list(spec.classes), "cond": cond}


def spec_from_dict(value: dict[str, Any]) -> DataSpec:
    """The inverse of `spec_as_dict`."""
    cond = {name: CondSpec(**{**one, "shape": tuple(one["shape"])}) for name, one in value["cond"].items()}
    return DataSpec(tuple(value["shape"]), tuple(value["classes"]), cond)
