"""The kernel distance: squared maximum mean discrepancy of features under a cubic kernel, without bias.

Source: Binkowski et al. 2018, "Demystifying MMD GANs" (arXiv 1801.01401), section 4, who measure it on Inception
features: only that is a KID. Cost: subsets x subset_size^2 kernel values.
"""

from typing import Annotated

import numpy as np
import torch
from annotated_types import Ge
from torch import Tensor

from ...core import DataSpec, FeatureExtractor, FeatureMetric

SEED = 2020  # of the subsets; torch-fidelity's, so that values compare


class Kernel(FeatureMetric):
    """Kernel distance (squared MMD) of features to the reference's, without bias.

    The mean over random subsets, and under ``_sd`` the standard deviation over them. The subsets are drawn by numpy's
    frozen ``RandomState(2020)`` from the images in the order of their index.

    Args:
        features: What it is measured on; the name goes into the name of the result.
        layer: The extractor's layer; null is its first.
        subsets: Number of random subsets.
        subset_size: Images in each; fewer where there are fewer.
    """

    needs = frozenset({"reference"})
    least_reference = 2

    def __init__(
        self,
        *,
        features: FeatureExtractor,
        layer: str | None = None,
        subsets: Annotated[int, Ge(1)] = 100,
        subset_size: Annotated[int, Ge(2)] = 1000,
    ) -> None:
        super().__init__(features, layer)
        self.subsets, self.subset_size = subsets, subset_size
        self.made: Tensor
        self.real: Tensor
        for name in ("made", "real"):
            self.add_state(name, torch.zeros(0, self.dim), "cat")

    def check(self, spec: DataSpec, images: int) -> None:
        """At least two images, of the kind that these features read."""
        super().check(spec, images)
        if images < 2:
            raise ValueError(f"kernel needs at least 2 images; got {images}: write evaluate.images: 2 or more")

    def protocol(self) -> dict[str, str]:
        """The features' own, kernel and subsets."""
        subsets = f"{self.subsets} of {self.subset_size} or all, RandomState({SEED})"
        return {**super().protocol(), "kernel": "(x.y / D + 1)^3", "subsets": subsets}

    def take(self, f: Tensor, *, real: bool, labels: Tensor | None, index: Tensor | None) -> None:
        """Keep the features."""
        self.append("real" if real else "made", f, index)

    def compute(self) -> dict[str, float]:
        """``kernel_<features>`` and ``kernel_<features>_sd``."""
        n, n_real = len(self.made), len(self.real)
        size = min(self.subset_size, n, n_real)
        if size < 2:
            raise ValueError(f"kernel needs at least 2 images on either side; got {n} generated, {n_real} reference")
        x, y = self.made.to(torch.float64), self.real.to(self.made.device, torch.float64)
        draw = np.random.RandomState(SEED)
        values = torch.stack([squared_mmd(_some(x, size, draw), _some(y, size, draw)) for _ in range(self.subsets)])
        name = f"kernel_{self.feature_name}"
        return {name: float(values.mean()), f"{name}_sd": float(values.std(correction=0))}


def _some(rows: Tensor, size: int, draw: np.random.RandomState) -> Tensor:
    return rows[torch.from_numpy(draw.choice(len(rows), size, replace=False)).to(rows.device)]


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
