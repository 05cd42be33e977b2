"""Feature extractors: what distribution distances are measured on."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

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
    """

    name: str
    layers: Mapping[str, int]

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
