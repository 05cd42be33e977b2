"""Feature extractors: what distribution distances are measured on."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from .spec import DataSpec


class FeatureExtractor(ABC):
    """Maps images to the feature vectors that a metric compares.

    Attributes:
        name: Goes into the names of results: a distance on `digits` features is never called FID.
        dim: Length D of a feature vector.
    """

    name: str
    dim: int

    @abstractmethod
    def __call__(self, images: Tensor) -> Tensor:
        """Features, float32 (B, D), of uint8 images (B, C, H, W), on their device."""

    @abstractmethod
    def protocol(self) -> dict[str, str]:
        """What must be equal for two values to be compared: the weights' sha256, the resize rule, the layer."""

    def to(self, device: torch.device) -> FeatureExtractor:
        """The extractor on ``device``; one without weights returns itself."""
        return self

    def check(self, spec: DataSpec) -> None:
        """Accept images of ``spec`` (pixels).

        Raises:
            ValueError: When it cannot read them; asked before the long work starts.
        """
        return None
