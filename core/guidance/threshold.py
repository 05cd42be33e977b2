"""Dynamic thresholding: no pixel out of the range of images.

Source: Saharia et al. 2022, "Photorealistic Text-to-Image Diffusion Models with Deep Language Understanding" (Imagen,
arXiv 2205.11487), section 2.3. Works without guidance too: ``of: 1``. Cost: one selection of the largest values.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import floor
from typing import Annotated

from annotated_types import Gt, Le
from torch import Tensor

from ..level import Level
from .base import Around


@dataclass(frozen=True, kw_only=True)
class DynamicThreshold(Around):
    """Keeps x0_hat within the limit: clips it at a percentile of its absolute values and divides by that.

    Attributes:
        percentile: Share of an image's values that are scaled, not clipped, when they are beyond the limit.
        limit: The largest absolute value of clean data; 1 for pixels, whatever latents reach.
    """

    percentile: Annotated[float, Gt(0), Le(1)] = 0.995
    limit: Annotated[float, Gt(0)] = 1.0

    def combine(self, conditional: Tensor, reference: Tensor, level: Level) -> Tensor:
        """The guidance inside, within [-limit, limit]."""
        guided = self.of.combine(conditional, reference, level)
        size = _percentile(guided.abs().flatten(1), self.percentile)
        # section 2.3, and the code in the paper's appendix: s = max(percentile of |x0_hat|, 1), clip to [-s, s], divide
        # by s; so values beyond the limit are clipped there (static thresholding) where the percentile is within it
        s = size.clamp(min=self.limit).reshape(-1, *[1] * (guided.ndim - 1))
        return guided.clamp(-s, s) * (self.limit / s)


def _percentile(values: Tensor, share: float) -> Tensor:
    """The percentile of each row of (B, N), between two values by the line: (B,).

    torch.quantile would do, but takes neither bfloat16 nor more than 16 million values.
    """
    place = share * (values.shape[1] - 1)
    below = floor(place)
    largest = values.topk(values.shape[1] - below).values  # falling; the last is number `below` from the bottom
    low, high = largest[:, -1], largest[:, -2] if largest.shape[1] > 1 else largest[:, -1]
    return low + (place - below) * (high - low)
