"""Precision and recall: what share of the samples could be real, and what share of the real images could be samples.

Source: Kynkäänniemi et al. 2019, "Improved Precision and Recall Metric for Assessing Generative Models" (arXiv
1904.06991), section 2, equations 1 and 2. Cost: three products of all features with all, N^2 D multiply-adds each.
"""

from __future__ import annotations

from typing import Annotated

from annotated_types import Ge

from ...core import FeatureExtractor
from ...core.neighbours import in_balls, nearest
from ...files.progress import Progress
from ._balls import Balls


class PrecisionRecall(Balls):
    """Precision and recall of features: shares within and of the reference's manifold.

    A set's manifold is the union of the balls around its features that reach to each one's k-th nearest other. Both
    depend on the number of images of either side: compare at equal numbers.

    Args:
        features: What it is measured on; the name goes into the names of the results.
        layer: The extractor's layer; null is its first.
        k: Which neighbour a ball reaches to; the paper's is 3.
    """

    def __init__(self, *, features: FeatureExtractor, layer: str | None = None, k: Annotated[int, Ge(1)] = 3) -> None:
        super().__init__(features, layer, k)

    def compute(self) -> dict[str, float]:
        """``precision_<features>`` and ``recall_<features>``."""
        made, real = self.rows()
        with Progress("precision and recall", 2 * len(made) + len(real)) as bar:
            # equation 1: the radius is the distance to the k-th nearest other feature of the same set, NN_k(phi', Phi)
            made_radii = nearest(made, made, self.k, others=True, tick=bar.step).squared[:, -1]
            real_radii = nearest(real, real, self.k, others=True, tick=bar.step).squared[:, -1]
            # f(phi, Phi) = 1 where |phi - phi'| <= that radius for at least one phi' of Phi
            count, _, covered = in_balls(made, real, made_radii, real_radii, tick=bar.step)
        assert covered is not None
        # equation 2: the mean of f over the features of the other set
        return {
            f"precision_{self.feature_name}": float((count > 0).double().mean()),
            f"recall_{self.feature_name}": float(covered.double().mean()),
        }
