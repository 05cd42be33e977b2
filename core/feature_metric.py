"""Metrics of feature vectors."""

from __future__ import annotations

import difflib
from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from .features import FeatureExtractor
from .metric import Metric
from .spec import DataSpec

MOST_NAMED = 8  # layers in a message


class FeatureMetric(Metric):
    """A metric that sees images through one layer of an extractor.

    The runner computes features once for all metrics of one extractor and hands them over; without a runner the metric
    asks the extractor itself.

    Args:
        features: The extractor.
        layer: Its layer; None takes the first.

    Raises:
        ValueError: The extractor has no such layer.
    """

    def __init__(self, features: FeatureExtractor, layer: str | None = None) -> None:
        super().__init__()
        self.features = features
        self.layer = next(iter(features.layers)) if layer is None else layer
        if self.layer not in features.layers:
            raise ValueError(f"layer: features `{features.name}` have {_named(features, self.layer)}")

    @property
    def dim(self) -> int:
        """Length D of a feature vector."""
        return self.features.layers[self.layer]

    @property
    def feature_name(self) -> str:
        """What results are called after: the extractor, and the layer where it is not the first."""
        first = next(iter(self.features.layers))
        return self.features.name if self.layer == first else f"{self.features.name}_{self.layer}"

    def told_apart_by(self) -> str:
        """What results are called after."""
        return self.feature_name

    def to(self, device: torch.device) -> Metric:
        """States and extractor."""
        self.features = self.features.to(device)
        return super().to(device)

    def check(self, spec: DataSpec, images: int) -> None:
        """Images that the extractor reads."""
        self.features.check(spec)

    def protocol(self) -> dict[str, str]:
        """The extractor's own, and the layer."""
        return {**self.features.protocol(), "layer": self.layer}

    def update(
        self,
        images: Tensor,
        *,
        real: bool = False,
        labels: Tensor | None = None,
        index: Tensor | None = None,
        features: Mapping[str, Tensor] | None = None,
        **later: Any,
    ) -> None:
        """Take in the images' features.

        Args:
            images: uint8 (B, C, H, W) on the device.
            real: Whether they are of the reference.
            labels: (B,) int64, where known.
            index: (B,) int64, their numbers in the whole set.
            features: What the extractor gives of them, (B, D) by layer; None asks it now.
            later: See `Metric.update`.
        """
        found = self.features(images, (self.layer,)) if features is None else features
        self.take(found[self.layer], real=real, labels=labels, index=index)

    @abstractmethod
    def take(self, f: Tensor, *, real: bool, labels: Tensor | None, index: Tensor | None) -> None:
        """Take in feature vectors.

        Args:
            f: float32 (B, D).
            real: Whether they are of the reference.
            labels: (B,) int64, where known.
            index: (B,) int64, the images' numbers in the whole set.
        """


def _named(features: FeatureExtractor, layer: str) -> str:
    """An extractor's layers, the first of them where they are many, beside what was asked for instead."""
    names = list(features.layers)
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    near = difflib.get_close_matches(layer, names, n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    return f"{', '.join(names[:MOST_NAMED])}{more}; got {layer!r}{hint}"
