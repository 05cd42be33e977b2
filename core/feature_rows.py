"""Metrics that keep the features of both sides."""

from __future__ import annotations

import torch
from torch import Tensor

from .feature_metric import FeatureMetric
from .features import FeatureExtractor
from .spec import DataSpec

GIB = 2**30
ROOM_GIB = 4.0  # of rows, up to which nothing is said


def room_caution(count: int | None, row_bytes: int, advice: str) -> list[str]:
    """What is said before the work of more rows of the reference than may have room.

    Args:
        count: How many; None where there are none, or it is not known.
        row_bytes: Bytes of each.
        advice: What would take less.
    """
    need = (count or 0) * row_bytes / GIB
    if need <= ROOM_GIB:
        return []
    return [
        f"keeps a row of each of the reference's {count:,} images, {need:.1f} GiB on the first rank's device, and as "
        f"much again while they become one: {advice}"
    ]


class FeatureRows(FeatureMetric):
    """A metric of the features themselves, not of their sums: 4 D bytes an image of either side.

    Attributes:
        made: Features of the generated images, (N, D) float32, in the order of their index.
        real: Those of the reference, (M, D).

    Args:
        features: The extractor.
        layer: Its layer; None takes the first.
        least: The fewest images that either side may have.
    """

    needs = frozenset({"reference"})
    made: Tensor
    real: Tensor

    def __init__(self, features: FeatureExtractor, layer: str | None, least: int) -> None:
        super().__init__(features, layer)
        self.least_reference = least
        for name in ("made", "real"):
            self.add_state(name, torch.zeros(0, self.dim), "cat")

    def check(self, spec: DataSpec, images: int) -> None:
        """Enough images, of the kind that these features read."""
        super().check(spec, images)
        least = self.least_reference
        if images < least:
            raise ValueError(f"needs at least {least} images; got {images}: give {least} or more")

    def cautions(self, spec: DataSpec, images: int, reference: int | None) -> list[str]:
        """A reference whose rows take much memory."""
        advice = "take a part of the reference, or a metric that keeps sums, such as frechet"
        return super().cautions(spec, images, reference) + room_caution(reference, 4 * self.dim, advice)

    def reference_key(self) -> dict[str, str]:
        """The features' alone: all metrics that keep the rows of an extractor keep the same."""
        return {"states": "rows", **FeatureMetric.protocol(self)}

    def take(self, f: Tensor, *, real: bool, labels: Tensor | None, index: Tensor | None) -> None:
        """Keep the features."""
        self.append("real" if real else "made", f, index)

    def rows(self) -> tuple[Tensor, Tensor]:
        """``made`` and ``real``, on one device.

        Raises:
            ValueError: There are too few of either, or one is not finite.
        """
        made, real = self.made, self.real.to(self.made.device)
        if min(len(made), len(real)) < self.least_reference:
            raise ValueError(
                f"needs at least {self.least_reference} images on either side; got {len(made)} generated,"
                f" {len(real)} reference"
            )
        for side, rows in (("generated", made), ("reference", real)):
            if not rows.isfinite().all():
                bad = int((~rows.isfinite().all(1)).sum())
                raise ValueError(
                    f"features `{self.features.name}` of {bad} of {len(rows)} {side} images are not finite numbers;"
                    " look at those images, and at the extractor's weights"
                )
        return made, real
