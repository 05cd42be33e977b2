"""Feature extractors: what distribution distances are measured on."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor

from .spec import DataSpec


class FeatureExtractor(ABC):
    """Maps images to the feature vectors that metrics compare.

    An extractor has one layer or several, and gives those that are asked for in one pass, so that metrics which look at
    different layers of one network share it.

    Attributes:
        name: Goes into the names of results: a distance on `digits` features is never called FID.
        layers: The length D of a feature vector, by the name of its layer; the first is the one that metrics take
            unless they ask for another.
        libraries: Distributions, besides torch, whose code its features come of, such as that which has the network;
            their versions go into the protocol of every value.
    """

    name: str
    layers: Mapping[str, int]
    libraries: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def __call__(self, images: Tensor, layers: Sequence[str]) -> dict[str, Tensor]:
        """Features, float32 (B, D) for each of ``layers``, of uint8 images (B, C, H, W), on their device."""

    @abstractmethod
    def protocol(self) -> dict[str, str]:
        """What must be equal for two values to be compared: the weights' sha256, the resize rule; not the layer."""

    def to(self, device: torch.device) -> FeatureExtractor:
        """The extractor on ``device``; one without weights returns itself."""
        return self

    def check(self, spec: DataSpec) -> None:
        """Accept images of ``spec`` (pixels).

        Raises:
            ValueError: When it cannot read them; asked before the long work starts.
        """
        return None


def probe(extractor: FeatureExtractor, spec: DataSpec, layers: Sequence[str] | None = None) -> None:
    """Have two images of ``spec`` looked at, so that an extractor that does not keep its word is found out at once.

    Args:
        extractor: With its weights on the CPU.
        spec: Of the images, in pixels.
        layers: Which layers; None asks for all.

    Raises:
        ValueError: It cannot read them, or gives something else than finite float32 (2, D) for each layer.
    """
    asked = tuple(extractor.layers) if layers is None else tuple(layers)
    bright = torch.arange(2 * math.prod(spec.shape)).remainder(251).to(torch.uint8)  # all unlike, no random number
    who = f"features `{extractor.name}`"
    try:
        with torch.no_grad():
            found = extractor(bright.reshape(2, *spec.shape), asked)
    except (RuntimeError, IndexError, TypeError, AssertionError) as error:  # what torch raises for sizes and dtypes
        said = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ValueError(f"{who} cannot read images of shape {tuple(spec.shape)}: {said}") from error
    if not isinstance(found, Mapping):
        raise ValueError(f"{who}: expected a mapping of layers to tensors; got {type(found).__name__}")
    for layer in asked:
        _check_vectors(f"{who}, layer {layer}", found.get(layer), (2, extractor.layers[layer]))


def _check_vectors(who: str, found: object, want: tuple[int, int]) -> None:
    """Accept finite float32 of a shape."""
    if not isinstance(found, Tensor):
        raise ValueError(f"{who}: expected a tensor of shape {want} for two images; got {type(found).__name__}")
    if tuple(found.shape) != want or found.dtype != torch.float32:
        raise ValueError(
            f"{who}: expected float32 of shape {want} for two images; got {found.dtype} of shape {tuple(found.shape)}:"
            " the extractor's `layers` and what it gives must agree"
        )
    if not found.isfinite().all():
        raise ValueError(f"{who}: a feature of two ordinary images is not finite; are these its weights?")
