"""Metrics of balls around features, each reaching to the k-th nearest other feature of its own set."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from ...core import FeatureExtractor, FeatureRows, Way


class Balls(FeatureRows):
    """What such metrics share.

    Args:
        features: The extractor.
        layer: Its layer; None takes the first.
        k: Which neighbour a ball reaches to.
    """

    better: ClassVar[Mapping[str, Way]] = {"": "higher"}

    def __init__(self, features: FeatureExtractor, layer: str | None, k: int) -> None:
        super().__init__(features, layer, least=k + 1)
        self.k = k

    def protocol(self) -> dict[str, str]:
        """The features' own, and which neighbour."""
        return {**super().protocol(), "k": str(self.k)}
