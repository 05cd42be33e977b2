"""Between the data's uint8 pixels and the x that the network sees."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from .spec import DataSpec


class Codec(ABC):
    """Encodes images to x and decodes x to images.

    Args:
        spec: Of the data, in pixels.

    Attributes:
        spec: Of x: what the backbone is built for.
        sigma_data: Standard deviation of x, for the `edm` prediction.
        grey_level: Step of x from one grey level to the next, where x is affine in the image; None where it is not.
    """

    sigma_data: float = 0.5
    grey_level: float | None = None

    def __init__(self, spec: DataSpec) -> None:
        self.spec = spec

    @abstractmethod
    def encode(self, images: Tensor) -> Tensor:
        """Images, uint8 (B, C, H, W), as x, float32 (B, *spec.shape), on their device."""

    @abstractmethod
    def decode(self, x: Tensor) -> Tensor:
        """The images of x, uint8 (B, C, H, W)."""


class Pixels(Codec):
    """No codec: x = image / 127.5 - 1 in [-1, 1]; back by rounding and clamping."""

    grey_level = 1 / 127.5

    def encode(self, images: Tensor) -> Tensor:
        """Uint8 to [-1, 1]."""
        return images.to(torch.float32) / 127.5 - 1

    def decode(self, x: Tensor) -> Tensor:
        """[-1, 1] to uint8, to the nearest."""
        return ((x.to(torch.float32) + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
