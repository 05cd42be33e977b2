"""What happens to images before a classifier sees them: size, channels, range, normalisation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from ...core import DataSpec

GREY, COLOUR = 1, 3


@dataclass
class Preparation:
    """From uint8 images to what a network reads.

    Attributes:
        channels: That the network reads.
        size: Side to resize to; None takes images as they are.
        mean: Of each channel, or one for all, of images in [0, 1]; None for a network that takes bytes.
        std: Likewise.
    """

    channels: int
    size: int | None
    mean: Sequence[float] | None
    std: Sequence[float] | None
    _moments: dict[torch.device, tuple[Tensor, Tensor]] = field(default_factory=dict, repr=False)  # copied there once

    def __post_init__(self) -> None:
        if (self.mean is None) != (self.std is None):
            raise ValueError("mean and std go together: give both, or null for both; got one of them")
        for name, values in (("mean", self.mean), ("std", self.std)):
            if values is not None and len(values) not in (1, self.channels):
                raise ValueError(
                    f"{name}: expected one number, or one for each of the network's {self.channels} channel(s); "
                    f"got {len(values)}"
                )

    def __call__(self, images: Tensor) -> Tensor:
        """Uint8 (B, C, H, W) as float32 (B, channels, size, size), or as uint8 for a network that takes bytes."""
        if images.dtype != torch.uint8 or images.dim() != 4:
            raise ValueError(f"expected uint8 images (B, C, H, W); got {images.dtype} of shape {tuple(images.shape)}")
        x = images.to(torch.float32)
        if self.size is not None and images.shape[2:] != (self.size, self.size):
            x = interpolate(x, (self.size, self.size), mode="bicubic", antialias=True).clamp(0, 255)
        x = x.expand(-1, self.channels, -1, -1)
        return x.round().to(torch.uint8) if self.mean is None else self.normalised(x)

    def normalised(self, x: Tensor) -> Tensor:
        """Float32 images (B, channels, H, W) in [0, 255], less the mean, over the standard deviation."""
        mean, std = self._moments_on(x.device)
        return (x - mean) / std

    def _moments_on(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of bytes, (channels or 1, 1, 1) each."""
        if device not in self._moments:
            assert self.mean is not None and self.std is not None
            mean, std = (255 * torch.tensor(values).reshape(-1, 1, 1) for values in (self.mean, self.std))
            self._moments[device] = mean.to(device), std.to(device)
        return self._moments[device]

    def check(self, name: str, spec: DataSpec) -> None:
        """Accept images of the network's channels, or grey ones for a network that reads colour.

        Raises:
            ValueError: They are others.
        """
        shape = tuple(spec.shape)
        if len(shape) != 3 or (shape[0] != self.channels and (shape[0], self.channels) != (GREY, COLOUR)):
            read = "1 or 3 channels" if self.channels == COLOUR else f"{self.channels} channel(s)"
            raise ValueError(
                f"features `{name}` read images of {read}, (C, H, W); got {shape}; choose "
                "features made for these images"
            )

    def protocol(self) -> dict[str, str]:
        """The rules, for the protocol."""
        exactly = "rounded" if self.mean is None else "not rounded"
        resize = "none" if self.size is None else f"antialiased bicubic, to {self.size} x {self.size}, {exactly}"
        pixels = "bytes"
        if self.mean is not None and self.std is not None:
            mean, std = (", ".join(f"{value:g}" for value in values) for values in (self.mean, self.std))
            pixels = f"of [0, 1], minus ({mean}), over ({std})"
        return {"resize": resize, "channels": str(self.channels), "pixels": pixels}
