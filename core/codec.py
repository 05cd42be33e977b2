"""Between the data's uint8 pixels and the x that the network sees."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from .spec import DataSpec


class Codec(ABC):
    """Encodes images to x and decodes x to images.

    One that is costly, or whose x is drawn from a distribution, sets ``moment_shape`` and writes `moments` and `draw`
    too: training then asks for those, and may keep the moments of all images on disk.

    Args:
        spec: Of the data, in pixels.

    Attributes:
        spec: Of x: what the backbone is built for.
        sigma_data: Standard deviation of x, for the `edm` prediction.
        grey_level: Step of x from one grey level to the next, where x is affine in the image; None where it is not.
        moment_shape: Shape of one image's moments; None where there are none.
        free: Names of options that a run may go on with other values of, while `facts` stay as they are: where files
            lie, how much is done at a time.
    """

    sigma_data: float = 0.5
    grey_level: float | None = None
    moment_shape: tuple[int, ...] | None = None
    free: tuple[str, ...] = ()

    def __init__(self, spec: DataSpec) -> None:
        self.spec = spec

    @abstractmethod
    def encode(self, images: Tensor) -> Tensor:
        """Images, uint8 (B, C, H, W), as x, float32 (B, *spec.shape), on their device."""

    @abstractmethod
    def decode(self, x: Tensor) -> Tensor:
        """The images of x, uint8 (B, C, H, W).

        Raises:
            SamplingError: Of these x there are none that could be shown.
        """

    def moments(self, images: Tensor) -> Tensor | None:
        """What x is drawn from, such as mean and log-variance: float32 (B, *moment_shape), on the images' device.

        It holds nothing random. None where there are no moments: x is then `encode`'s alone.
        """
        return None

    def draw(self, moments: Tensor, eps: Tensor) -> Tensor:
        """The x of moments, float32 (B, *spec.shape).

        Args:
            moments: (B, *moment_shape), as `moments` gives them, perhaps rounded.
            eps: Standard normal, (B, *spec.shape); zeros give what `encode` gives.
        """
        raise NotImplementedError(f"{type(self).__name__} has no moments to draw from; use encode")

    def facts(self) -> dict[str, str]:
        """What the built codec is beside its name: such as the sha256 of weights that an option names.

        All that its x and its moments depend on, and nothing else, such as where a file lies. A codec with moments
        has facts: moments on disk are known by them.

        Returns:
            Texts by name. A run notes each as ``codec.NAME``, scores are compared by them, and a run goes on only
            with the same ones.
        """
        return {}


class Pixels(Codec):
    """No codec: x = image / 127.5 - 1 in [-1, 1]; back by rounding and clamping."""

    grey_level = 1 / 127.5

    def encode(self, images: Tensor) -> Tensor:
        """Uint8 to [-1, 1]."""
        return images.to(torch.float32) / 127.5 - 1

    def decode(self, x: Tensor) -> Tensor:
        """[-1, 1] to uint8, to the nearest."""
        return ((x.to(torch.float32) + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
