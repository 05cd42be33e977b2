"""Mirror images left to right.

Source: for diffusion Ho et al. 2020, "Denoising Diffusion Probabilistic Models" (arXiv 2006.11239), appendix B.
Cost: one pass over the batch. The network is not told, so mirrored images come out as often as they went in.
"""

from typing import Annotated

import torch
from annotated_types import Ge, Le
from torch import Tensor

from ...core import Augmentation, DataSpec


class Flip(Augmentation):
    """Mirror each image left to right, at random; samples are then mirrored as often.

    Args:
        spec: Of the data, in pixels.
        probability: Of an image to be mirrored.
    """

    draws = 1
    mirrors = True

    def __init__(self, spec: DataSpec, *, probability: Annotated[float, Ge(0), Le(1)] = 0.5) -> None:
        super().__init__(spec)
        self.probability = probability

    def __call__(self, images: Tensor, draws: Tensor) -> tuple[Tensor, None]:
        """uint8 (B, C, H, W) and (B, 1) to images of the same shape; there is no label."""
        mirrored = (draws[:, 0] < self.probability).to(torch.int64)  # (B,)
        both = torch.cat([images, images.flip(-1)])  # (2 B, C, H, W)
        # whole images are copied: a quarter of the time of torch.where, pixel by pixel
        return both.index_select(0, torch.arange(len(images), device=images.device) + len(images) * mirrored), None
