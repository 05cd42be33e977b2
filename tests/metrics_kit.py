"""Features that a test can do by hand, metrics of them, images."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from dmf.core import DataSpec, FeatureExtractor, Metric

DIGITS = DataSpec((1, 8, 8), tuple("0123456789"))


class Corner(FeatureExtractor):
    """Pixels of the upper left corner: features that a test can do by hand; knows where it was sent."""

    name = "corner"
    device = torch.device("cpu")

    def __init__(self, dim: int = 4) -> None:
        self.layers = {"corner": dim}

    def __call__(self, images: Tensor, layers: Sequence[str]) -> dict[str, Tensor]:
        return {"corner": images.flatten(1)[:, : self.layers["corner"]].float() / 255}

    def protocol(self) -> dict[str, str]:
        return {"features": self.name}

    def to(self, device: torch.device) -> FeatureExtractor:
        moved = Corner(self.layers["corner"])
        moved.device = device
        return moved


def seen(extractor: FeatureExtractor, images: Tensor) -> Tensor:
    layer = next(iter(extractor.layers))
    return extractor(images, (layer,))[layer]


def make(kind: type[Metric], **options: Any) -> Metric:
    return kind(features=Corner(), **options)  # type: ignore[call-arg]


def pictures(n: int, seed: int, low: int = 0) -> Tensor:
    return torch.randint(low, 256, (n, 1, 4, 4), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)
