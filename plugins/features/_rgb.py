"""Images for networks that read colour."""

from __future__ import annotations

import torch
from torch import Tensor

from ...core import DataSpec

CHANNELS = (1, 3)


def rgb(images: Tensor) -> Tensor:
    """Uint8 (B, 3, H, W) of uint8 (B, C, H, W): colour as it is, grey in three equal channels.

    Raises:
        ValueError: Other images.
    """
    if images.ndim != 4 or images.dtype != torch.uint8 or images.shape[1] not in CHANNELS:
        raise ValueError(
            f"features: expected uint8 images (B, C, H, W) of 1 or 3 channels; got {images.dtype} of shape "
            f"{tuple(images.shape)}"
        )
    return images.expand(-1, 3, -1, -1)


def check_rgb(name: str, spec: DataSpec) -> None:
    """Accept images that `rgb` reads.

    Raises:
        ValueError: They have another number of channels, or no height and width.
    """
    if len(spec.shape) != 3 or spec.shape[0] not in CHANNELS:
        raise ValueError(
            f"features `{name}` read images of 1 or 3 channels, (C, H, W); got {tuple(spec.shape)}; choose features "
            "made for these images"
        )
