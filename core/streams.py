"""Random numbers as pure functions of what they are for.

Nothing here advances a global generator: whoever asks for (seed, purpose, position) gets the same numbers on any
batch size, rank, or side of a restart. The counter idea is that of Salmon et al. 2011, "Parallel random numbers: as
easy as 1, 2, 3", section 2, with a hash in the cipher's place.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import torch
from torch import Tensor


def stream_seed(seed: int, purpose: str, position: int) -> int:
    """A 63-bit seed, spread evenly whatever the inputs."""
    digest = hashlib.blake2b(f"{seed}/{purpose}/{position}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def generator(seed: int, purpose: str, position: int, device: torch.device | str = "cpu") -> torch.Generator:
    """The generator of one purpose at one position, for example the noise of the batch that starts at image 51200."""
    return torch.Generator(device).manual_seed(stream_seed(seed, purpose, position))


class ImageStreams:
    """One stream of normal numbers for each image, so that image k does not depend on its neighbours.

    Drawn on the CPU: the same bits on every device.

    Args:
        seed: The user's.
        indices: Numbers k of the images, B of them.
        shape: (C, *size) of one.
        device: Where the numbers go.
        dtype: Their type.
    """

    def __init__(
        self,
        seed: int,
        indices: Iterable[int],
        shape: tuple[int, ...],
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.generators = [generator(seed, "image", k) for k in indices]
        self.shape, self.device, self.dtype = shape, device, dtype

    def randn(self) -> Tensor:
        """The next standard normal of every image, (B, C, *size)."""
        drawn = [torch.randn(self.shape, generator=g, dtype=self.dtype) for g in self.generators]
        return torch.stack(drawn).to(self.device)

    def rand(self) -> Tensor:
        """The next uniform numbers in [0, 1) of every image, (B, C, *size)."""
        drawn = [torch.rand(self.shape, generator=g, dtype=self.dtype) for g in self.generators]
        return torch.stack(drawn).to(self.device)

    def signs(self) -> Tensor:
        """The next random signs, -1 or 1, of every image, (B, C, *size)."""
        return torch.where(self.rand() < 0.5, -1.0, 1.0).to(self.dtype)
