"""Density and coverage: how deep samples lie among real images, and what share of the real ones has a sample near.

Source: Naeem et al. 2020, "Reliable Fidelity and Diversity Metrics for Generative Models" (arXiv 2002.09797), section
3, density and coverage. Cost: two products of all features with all, N^2 D multiply-adds each.
"""

from __future__ import annotations

from typing import Annotated

from annotated_types import Ge

from ...core import FeatureExtractor
from ...core.neighbours import in_balls, nearest
from ...files.progress import Progress
from ._balls import Balls


class DensityCoverage(Balls):
    """Density and coverage of features, by balls around the reference's alone.

    A ball reaches from a real feature to its k-th nearest other real one. Density counts in how many balls a sample
    lies, over k: 1 on average for samples like the real images, and more where they crowd together. Coverage is the
    share of balls with a sample in them.

    Args:
        features: What it is measured on; the name goes into the names of the results.
        layer: The extractor's layer; null is its first.
        k: Which neighbour a ball reaches to; the paper's is 5.
    """

    def __init__(self, *, features: FeatureExtractor, layer: str | None = None, k: Annotated[int, Ge(1)] = 5) -> None:
        super().__init__(features, layer, k)

    def compute(self) -> dict[str, float]:
        """``density_<features>`` and ``coverage_<features>``."""
        made, real = self.rows()
        with Progress("density and coverage", len(made) + len(real)) as bar:
            # NND_k(X_i): the distance from X_i to its k-th nearest other
            radii = nearest(real, real, self.k, others=True, tick=bar.step).squared[:, -1]
            count, holds, _ = in_balls(made, real, None, radii, tick=bar.step)
        return {
            # density: 1/(k M) sum_j sum_i 1[Y_j in B(X_i, NND_k(X_i))]
            f"density_{self.feature_name}": float(count.double().mean()) / self.k,
            # coverage: 1/N sum_i 1[some Y_j in B(X_i, NND_k(X_i))]
            f"coverage_{self.feature_name}": float(holds.double().mean()),
        }
