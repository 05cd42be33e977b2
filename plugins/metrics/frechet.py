"""The Fréchet distance between two normal distributions fitted to features of real and of generated images.

Source: Dowson & Landau 1982, "The Fréchet distance between multivariate normal distributions", equation 4; Heusel et
al. 2017 (arXiv 1706.08500), equation 6, who measure it on Inception features: only that is an FID.
"""

import torch
from torch import Tensor

from ...core import DataSpec, FeatureExtractor, FeatureMetric


class Frechet(FeatureMetric):
    """Fréchet distance of features to the reference's.

    Args:
        features: What it is measured on; the name goes into the name of the result.
        layer: The extractor's layer; null is its first.
    """

    needs = frozenset({"reference"})
    least_reference = 2

    def __init__(self, *, features: FeatureExtractor, layer: str | None = None) -> None:
        super().__init__(features, layer)
        zeros, square = (torch.zeros(size, dtype=torch.float64) for size in ([self.dim], [self.dim] * 2))
        for side in ("", "real_"):
            self.add_state(f"{side}n", torch.zeros((), dtype=torch.int64), "sum")
            self.add_state(f"{side}total", zeros, "sum")
            self.add_state(f"{side}outer", square, "sum")

    def check(self, spec: DataSpec, images: int) -> None:
        """More images than features, of the kind that these features read."""
        super().check(spec, images)
        if images <= self.dim:
            raise ValueError(
                f"frechet on `{self.features.name}` needs more images than its {self.dim} features, or the"
                f" covariance is singular and the distance mostly bias; got {images}: write evaluate.images:"
                f" {self.dim + 1} or more, or use the metric `kernel`, which has no bias"
            )

    def take(self, f: Tensor, *, real: bool, labels: Tensor | None, index: Tensor | None) -> None:
        """Add the features' sums."""
        f = f.to(torch.float64)  # (B, D)
        side = "real_" if real else ""
        for name, more in (("n", len(f)), ("total", f.sum(0)), ("outer", f.T @ f)):
            setattr(self, side + name, getattr(self, side + name) + more)

    def compute(self) -> dict[str, float]:
        """``frechet_<features>``."""
        return {f"frechet_{self.feature_name}": frechet_distance(*self._moments(""), *self._moments("real_"))}

    def _moments(self, side: str) -> tuple[Tensor, Tensor]:
        """Mean (D,) and unbiased covariance (D, D)."""
        n, total, outer = int(getattr(self, f"{side}n")), getattr(self, f"{side}total"), getattr(self, f"{side}outer")
        if n < 2:
            kind = "reference" if side else "generated"
            raise ValueError(f"frechet needs at least 2 images on either side; got {n} {kind} image(s)")
        mean = total / n
        return mean, (outer - n * torch.outer(mean, mean)) / (n - 1)


def frechet_distance(mu1: Tensor, cov1: Tensor, mu2: Tensor, cov2: Tensor) -> float:
    """Squared Fréchet distance of two normal distributions.

    Args:
        mu1: Mean, (D,) float64.
        cov1: Covariance, (D, D), symmetric and positive semi-definite up to rounding.
        mu2: As ``mu1``.
        cov2: As ``cov1``.
    """
    # tr (S1 S2)^(1/2) = tr (S1^(1/2) S2 S1^(1/2))^(1/2): the same trace, of a symmetric matrix, so that eigenvalues
    # are real, and no worse than 0 by rounding
    values, vectors = torch.linalg.eigh(cov1)
    root1 = (vectors * values.clamp(min=0).sqrt()) @ vectors.T
    trace = torch.linalg.eigvalsh(root1 @ cov2 @ root1).clamp(min=0).sqrt().sum()
    # Heusel et al., equation 6: |m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2))
    distance = (mu1 - mu2).square().sum() + cov1.trace() + cov2.trace() - 2 * trace
    return max(float(distance), 0.0)
