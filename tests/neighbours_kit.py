"""Features that are given, and distances by their definition: what the metrics of neighbours are tested with."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from dmf.core import FeatureExtractor, FeatureMetric


class Given(FeatureExtractor):
    """Features that a test hands over itself."""

    name = "given"

    def __init__(self, dim: int) -> None:
        self.layers = {"given": dim}

    def __call__(self, images: Tensor, layers: Sequence[str]) -> dict[str, Tensor]:
        raise AssertionError("they are given")

    def protocol(self) -> dict[str, str]:
        return {"features": self.name}


def fed(metric: FeatureMetric, made: Tensor, real: Tensor, batch: int = 97) -> Any:
    """It, having seen these features."""
    for side, rows in ((True, real), (False, made)):
        for index in torch.split(torch.arange(len(rows)), batch):
            metric.update(rows[index], real=side, index=index, features={metric.layer: rows[index]})
    return metric


def distances(a: Tensor, b: Tensor) -> Tensor:
    """All squared distances, (N, M) float64, from the differences."""
    return torch.stack([(row - b.double()).square().sum(1) for row in a.double()])


def radii(rows: Tensor, k: int) -> Tensor:
    """Squared distances to the k-th nearest other row."""
    apart = distances(rows, rows)
    apart.fill_diagonal_(float("inf"))
    return apart.sort(1).values[:, k - 1]


def normal(n: int, dim: int, seed: int, away: float = 0.0) -> Tensor:
    """Float32 rows of a normal distribution."""
    return torch.randn(n, dim, generator=torch.Generator().manual_seed(seed)) + away
