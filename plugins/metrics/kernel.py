"""The kernel distance: squared maximum mean discrepancy of features under a cubic kernel, without bias.

Source: Binkowski et al. 2018, "Demystifying MMD GANs" (arXiv 1801.01401), section 4, who measure it on Inception
features: only that is a KID. Cost: 3 subset_size^2 D multiply-adds a subset.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar

import numpy as np
import torch
from annotated_types import Ge
from torch import Tensor

from ...core import FeatureExtractor, FeatureRows, Way
from ...files.progress import Progress

SEED = 2020  # of the subsets; torch-fidelity's, so that values compare


class Kernel(FeatureRows):
    """Kernel distance (squared MMD) of features to the reference's, without bias.

    The mean over random subsets, and under ``_sd`` the standard deviation over them. The subsets are drawn by numpy's
    frozen ``RandomState(2020)`` from the images in the order of their index.

    Args:
        features: What it is measured on; the name goes into the name of the result.
        layer: The extractor's layer; null is its first.
        subsets: Number of random subsets.
        subset_size: Images in each; fewer where there are fewer.
    """

    better: ClassVar[Mapping[str, Way]] = {"": "lower"}

    def __init__(
        self,
        *,
        features: FeatureExtractor,
        layer: str | None = None,
        subsets: Annotated[int, Ge(1)] = 100,
        subset_size: Annotated[int, Ge(2)] = 1000,
    ) -> None:
        super().__init__(features, layer, least=2)
        self.subsets, self.subset_size = subsets, subset_size

    def protocol(self) -> dict[str, str]:
        """The features' own, kernel and subsets."""
        subsets = f"{self.subsets} of {self.subset_size} or all, RandomState({SEED})"
        return {**super().protocol(), "kernel": "(x.y / D + 1)^3", "subsets": subsets}

    def compute(self) -> dict[str, float]:
        """``kernel_<features>`` and ``kernel_<features>_sd``."""
        made, real = self.rows()
        size = min(self.subset_size, len(made), len(real))
        draw, found = np.random.RandomState(SEED), []
        with Progress("kernel", self.subsets) as bar:
            for _ in range(self.subsets):
                found.append(squared_mmd(_some(made, size, draw), _some(real, size, draw)))
                bar.step()
        values, name = torch.stack(found), f"kernel_{self.feature_name}"
        return {name: float(values.mean()), f"{name}_sd": float(values.std(correction=0))}


def _some(rows: Tensor, size: int, draw: np.random.RandomState) -> Tensor:
    """A subset, in float64."""
    return rows[torch.from_numpy(draw.choice(len(rows), size, replace=False)).to(rows.device)].to(torch.float64)


def squared_mmd(x: Tensor, y: Tensor) -> Tensor:
    """Unbiased estimate of the squared maximum mean discrepancy, 0-d; below 0 about as often as above when equal.

    Args:
        x: (m, D), of one distribution.
        y: (m, D), of the other.
    """
    m, d = x.shape

    def k(a: Tensor, b: Tensor) -> Tensor:
        # section 4: k(x, y) = (x.y / d + 1)^3
        return (a @ b.T / d + 1) ** 3

    k_xx, k_yy = k(x, x), k(y, y)
    # equation 4: sums over i != j within, over all pairs between
    within = k_xx.sum() - k_xx.trace() + k_yy.sum() - k_yy.trace()
    return within / (m * (m - 1)) - 2 * k(x, y).mean()
