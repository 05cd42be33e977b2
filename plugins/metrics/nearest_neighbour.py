"""Nearest neighbours: for some samples the reference's images nearest to each, as distances and as a picture.

What it shows is memorisation: samples that lie nearer to the training images than other real images do, or are copies.
Source: nearest training images beside samples are shown since Goodfellow et al. 2014 (arXiv 1406.2661), figure 2; that
distances mean something beside those of held-out images alone is this metric's own. Cost: ``images`` N D multiply-adds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any

import torch
from annotated_types import Ge
from torch import Tensor

from ...core import DataSpec, FeatureExtractor, FeatureMetric
from ...core.feature_rows import room_caution
from ...core.neighbours import Near, nearest
from ...files.sheets import sheet

ROWS = 24  # of the picture, at most


class NearestNeighbour(FeatureMetric):
    """Distances of the first samples to the nearest images of the reference, and a picture of those.

    ``…_median`` and ``…_least`` are of the distances to the nearest one, ``…_copies`` is the share of samples at
    distance 0. The held-out images' values stand beside: samples that are much nearer than those are learned by heart.

    Args:
        features: What distances are measured on; null is the pixels, each from 0 to 1.
        layer: The extractor's layer; null is its first.
        images: How many samples, the first ones.
        k: How many neighbours the picture shows.
    """

    needs = frozenset({"reference"})
    made: Tensor
    real: Tensor
    real_index: Tensor
    shown: Tensor

    def __init__(
        self,
        *,
        features: FeatureExtractor | None = None,
        layer: str | None = None,
        images: Annotated[int, Ge(1)] = 16,
        k: Annotated[int, Ge(1)] = 5,
    ) -> None:
        super().__init__(PixelValues() if features is None else features, layer)
        self.images, self.k, self.least_reference = images, k, k
        self.pixels = features is None
        self._declare(())

    def check(self, spec: DataSpec, images: int) -> None:
        """One image at least, of the kind that these features read."""
        super().check(spec, images)
        if images < 1:
            raise ValueError(f"needs at least 1 image; got {images}: give 1 or more")
        if tuple(self._first["shown"].shape[1:]) != tuple(spec.shape):  # only now is it known what rows look like
            self._declare(tuple(spec.shape))

    def cautions(self, spec: DataSpec, images: int, reference: int | None) -> list[str]:
        """A reference whose rows take much memory: pixels of ImageNet at 256 x 256 are 235 GiB."""
        advice = "give features, of which a row is shorter" if self.pixels else "take a part of the reference"
        row_bytes = math.prod(spec.shape) if self.pixels else 4 * self.dim
        return super().cautions(spec, images, reference) + room_caution(reference, row_bytes, advice)

    def _declare(self, shape: tuple[int, ...]) -> None:
        dtype = torch.uint8 if self.pixels else torch.float32
        for name in ("made", "real"):
            self.add_state(name, torch.zeros([0, self.dim] if self.dim else [0], dtype=dtype), "cat")
        self.add_state("shown", torch.zeros(0, *shape, dtype=torch.uint8), "cat")

    def protocol(self) -> dict[str, str]:
        """The features' own, and how many samples; once some were seen, so many as its values are of."""
        seen = self.count("made")
        images = {"images": str(seen)} if seen else {}
        return {**super().protocol(), "samples": f"the first {self.images}", **images}

    def reference_key(self) -> dict[str, str]:
        """The features' alone; pixels, which are the images over again, are not kept."""
        return {} if self.pixels else {"states": "rows of nearest_neighbour", **FeatureMetric.protocol(self)}

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
        """Take in the images' features, and the first samples themselves."""
        if real:
            super().update(images, real=True, labels=labels, index=index, features=features)
            return
        start = self.count("made")
        numbers = torch.arange(start, start + len(images)) if index is None else index.cpu()
        first = (numbers < self.images).nonzero()[:, 0]
        if not len(first):
            return
        images, numbers, here = images[first.to(images.device)], numbers[first], first.to(images.device)
        self.append("shown", images, numbers)
        some = None if features is None else {self.layer: features[self.layer][here]}
        super().update(images, index=numbers, features=some)

    def take(self, f: Tensor, *, real: bool, labels: Tensor | None, index: Tensor | None) -> None:
        """Keep the rows; pixels in a byte each."""
        self.append("real" if real else "made", f.to(torch.uint8) if self.pixels else f, index)

    def compute(self) -> dict[str, float]:
        """``nearest_<features>_median``, ``…_least`` and ``…_copies``."""
        distances, name = self._near(1).squared[:, 0].sqrt() * self._unit, f"nearest_{self.feature_name}"
        return {
            f"{name}_median": float(distances.quantile(0.5)),
            f"{name}_least": float(distances.min()),
            f"{name}_copies": float((distances == 0).double().mean()),
        }

    def pictures(self, real: Callable[[Tensor], Tensor]) -> dict[str, Tensor]:
        """A sheet: a row a sample, from the one that is nearest to a real image on, with its neighbours."""
        near = self._near(self.k)
        order = near.squared[:, 0].sort(stable=True).indices[:ROWS].cpu()
        distances, numbers = near.squared[order].sqrt() * self._unit, near.numbers[order].cpu()
        neighbours = real(self.real_index[numbers.flatten()]).cpu().reshape(len(order), self.k, *self.shown.shape[1:])
        cells = torch.cat([self.shown.cpu()[order][:, None], neighbours], 1).flatten(0, 1)
        captions = [text for i, row in zip(order, distances, strict=True) for text in _captions(int(i), row.tolist())]
        return {f"nearest_{self.feature_name}": sheet(cells, 1 + self.k, captions=captions)}

    @property
    def _unit(self) -> float:
        """What a distance of 1 between rows is: pixels are kept from 0 to 255."""
        return 1 / 255 if self.pixels else 1.0

    def _near(self, k: int) -> Near:
        made, real = self.made, self.real.to(self.made.device)
        if not len(made) or len(real) < self.least_reference:
            raise ValueError(
                f"needs at least 1 generated image and {self.least_reference} of the reference; got {len(made)} and"
                f" {len(real)}"
            )
        for side, rows in (("generated", made), ("reference", real)):
            if not rows.isfinite().all():
                raise ValueError(f"features `{self.features.name}` of the {side} images are not all finite numbers")
        return nearest(made, real, k)


def _captions(number: int, distances: Sequence[float]) -> list[str]:
    return [f"sample {number}", *(f"{distance:.3g}" for distance in distances)]


class PixelValues(FeatureExtractor):
    """The pixels of an image as its features, from 0 to 255; their number is known when images are accepted."""

    name = "pixels"

    def __init__(self) -> None:
        self.layers = {"pixels": 0}

    def __call__(self, images: Tensor, layers: Sequence[str]) -> dict[str, Tensor]:
        """Uint8 (B, C, H, W) to float32 (B, C H W)."""
        return {layer: images.flatten(1).to(torch.float32) for layer in layers}

    def check(self, spec: DataSpec) -> None:
        """Accept any images."""
        self.layers = {"pixels": math.prod(spec.shape)}

    def protocol(self) -> dict[str, str]:
        """That they are taken as they are."""
        return {"features": self.name, "resize": "none"}
