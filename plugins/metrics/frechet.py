"""The Fréchet distance between two normal distributions fitted to features of real and of generated images.

Source: Dowson & Landau 1982, "The Fréchet distance between multivariate normal distributions", equation 4; Heusel et
al. 2017 (arXiv 1706.08500), equation 6, who measure it on Inception features: only that is an FID. Cost: D^2 / 2
multiply-adds an image, a factor of each covariance, the eigenvalues of a D x D matrix.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from scipy.linalg.blas import dsyrk
from torch import Tensor

from ...core import DataSpec, FeatureExtractor, FeatureMetric, Statistics, Way
from ._root_trace import root_trace

Moments = tuple[Tensor, Tensor]


class Frechet(FeatureMetric):
    """Fréchet distance of features to the reference's.

    Args:
        features: What it is measured on; the name goes into the name of the result.
        layer: The extractor's layer; null is its first.
    """

    needs = frozenset({"reference"})
    least_reference = 2
    better: ClassVar[Mapping[str, Way]] = {"": "lower"}

    def __init__(self, *, features: FeatureExtractor, layer: str | None = None) -> None:
        super().__init__(features, layer)
        zeros, square = (torch.zeros(size, dtype=torch.float64) for size in ([self.dim], [self.dim] * 2))
        self.real_n: Tensor
        for side in ("", "real_"):
            self.add_state(f"{side}n", torch.zeros((), dtype=torch.int64), "sum")
            self.add_state(f"{side}total", zeros, "sum")
            self.add_state(f"{side}outer", square, "sum")  # its lower triangle
        self.given: Statistics | None = None

    def check(self, spec: DataSpec, images: int) -> None:
        """At least two images, of the kind that these features read."""
        super().check(spec, images)
        if images < 2:
            raise ValueError(f"needs at least 2 images; got {images}: give 2 or more")

    def cautions(self, spec: DataSpec, images: int, reference: int | None) -> list[str]:
        """Fewer images than features, on either side."""
        found = super().cautions(spec, images, reference)
        for side, count in (("", images), ("the reference's ", reference)):
            if count is not None and count <= self.dim:
                found.append(
                    f"{side}{count} images are not more than the {self.dim} features of `{self.feature_name}`: their"
                    " covariance is singular, and the distance mostly bias: compare it at this number of images only,"
                    " or take `kernel`"
                )
        return found

    def reset(self) -> None:
        """Back to the start, without a reference."""
        super().reset()
        self.given = None

    def reference_key(self) -> dict[str, str]:
        """The features' alone: all distances between their means and covariances have the same sums."""
        return {"states": "moments", **FeatureMetric.protocol(self)}

    def take(self, f: Tensor, *, real: bool, labels: Tensor | None, index: Tensor | None) -> None:
        """Add the features' sums.

        They are taken in float64 of features in float32, whose own rounding is a greater part of a small spread about a
        large mean than what the difference of the sums loses: nothing is gained by moving them to their mean first.
        """
        f = f.to(torch.float64)  # (B, D)
        side = "real_" if real else ""
        setattr(self, f"{side}n", getattr(self, f"{side}n") + len(f))
        setattr(self, f"{side}total", getattr(self, f"{side}total") + f.T @ f.new_ones(len(f)))
        setattr(self, f"{side}outer", _added(getattr(self, f"{side}outer"), f))

    def take_reference(self, statistics: Statistics) -> None:
        """Take mean and covariance in place of the reference's images."""
        statistics.check(self.dim, FeatureMetric.protocol(self))
        self.given = statistics

    def reference_statistics(self) -> Statistics:
        """Mean and covariance of the reference."""
        mu, sigma = self._reference()
        images = int(self.real_n) if self.given is None else self.given.images
        return Statistics(mu, sigma, images, FeatureMetric.protocol(self), self.feature_name)

    def compute(self) -> dict[str, float]:
        """``frechet_<features>``."""
        made = self._moments("")
        return {f"frechet_{self.feature_name}": frechet_distance(*made, *self._reference())}

    def _reference(self) -> Moments:
        if self.given is None:
            return self._moments("real_")
        return self.given.mu.to("cpu", torch.float64), self.given.sigma.to("cpu", torch.float64)

    def _moments(self, side: Literal["", "real_"]) -> Moments:
        """Mean (D,) and unbiased covariance (D, D), on the CPU."""
        kind = "reference" if side else "generated"
        n = int(getattr(self, f"{side}n"))
        total, low = getattr(self, f"{side}total").cpu(), getattr(self, f"{side}outer").cpu().tril()
        if n < 2:
            raise ValueError(f"needs at least 2 images on either side; got {n} {kind} image(s)")
        if not (total.isfinite().all() and low.isfinite().all()):
            raise ValueError(
                f"features `{self.features.name}` of the {kind} images are not all finite numbers; look at those"
                " images, and at the extractor's weights"
            )
        mean = total / n
        return mean, (low + low.tril(-1).T - n * torch.outer(mean, mean)) / (n - 1)


def _added(outer: Tensor, f: Tensor) -> Tensor:
    """``outer`` with f^T f, (D, D) of (B, D), added to its lower triangle, in place where it can be."""
    if outer.is_inference() and not torch.is_inference_mode_enabled():
        outer = outer.clone()
    if outer.device.type != "cpu":
        return outer.addmm_(f.T, f)
    # one triangle is half of the work; BLAS reads columns first, so that what it calls the upper one is our lower one
    return torch.from_numpy(dsyrk(1.0, f.numpy().T, 1.0, outer.numpy().T, overwrite_c=1).T)


def frechet_distance(mu1: Tensor, cov1: Tensor, mu2: Tensor, cov2: Tensor) -> float:
    """Squared Fréchet distance of two normal distributions, no less than 0.

    Args:
        mu1: Mean, (D,) float64.
        cov1: Covariance, (D, D), symmetric and positive semi-definite up to rounding.
        mu2: As ``mu1``.
        cov2: As ``cov1``.
    """
    # Heusel et al., equation 6: |m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2))
    distance = (mu1 - mu2).square().sum() + cov1.trace() + cov2.trace() - 2 * root_trace(cov1, cov2)
    return max(float(distance), 0.0)
