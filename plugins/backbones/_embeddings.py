"""Numbers as waves: the noise label, the place of a patch."""

import math

import torch
from torch import Tensor, nn

from ...core import DataSpec

MAX_PERIOD = 10_000  # of the slowest wave, in units of the label or of patches


def waves(values: Tensor, width: int) -> Tensor:
    """Cosines and sines of ``values`` at ``width / 2`` frequencies, from 1 down to 1 / 10000, in equal ratios.

    Vaswani et al. 2017, "Attention Is All You Need" (arXiv 1706.03762), section 3.5.

    Args:
        values: (N,) of any floating dtype, which is the result's too.
        width: Even.

    Returns:
        (N, width): cosines, then sines.
    """
    half = width // 2
    steps = torch.arange(half, device=values.device, dtype=values.dtype)
    angles = values[:, None] * torch.exp(-math.log(MAX_PERIOD) / half * steps)  # (N, width / 2)
    return torch.cat([angles.cos(), angles.sin()], dim=1)


def positions(rows: int, columns: int, width: int) -> Tensor:
    """Fixed positions of a grid of patches: half the channels tell the column, half the row.

    In the order of the original DiT, whose weights know it: of each half, sines come before cosines.

    Args:
        rows: Of patches.
        columns: Likewise.
        width: Divisible by 4.

    Returns:
        (rows * columns, width) float32, row by row.
    """
    row, column = torch.meshgrid(
        torch.arange(rows, dtype=torch.float64), torch.arange(columns, dtype=torch.float64), indexing="ij"
    )
    halves = [waves(place.flatten(), width // 2).roll(width // 4, dims=1) for place in (column, row)]
    return torch.cat(halves, dim=1).to(torch.float32)


class NoiseEmbedding(nn.Module):
    """Waves of the noise label through a small network.

    Args:
        frequencies: Width of the waves, even.
        width: Of the result.
    """

    def __init__(self, frequencies: int, width: int) -> None:
        super().__init__()
        self.frequencies = frequencies
        self.into = nn.Linear(frequencies, width)
        self.out = nn.Linear(width, width)

    def forward(self, noise: Tensor) -> Tensor:
        """(B,) labels as (B, width)."""
        # float32 at least, whatever surrounds it: bfloat16 cannot tell 999 from 1000
        precise = noise.to(torch.promote_types(noise.dtype, torch.float32))
        seen = waves(precise, self.frequencies).to(self.into.weight.dtype)
        hidden = self.into(seen)
        embedded: Tensor = self.out(nn.functional.silu(hidden))
        return embedded


def image_size(spec: DataSpec, backbone: str) -> tuple[int, int, int]:
    """(C, H, W) of data that is images.

    Raises:
        ValueError: When it is something else.
    """
    if len(spec.shape) != 3:
        raise ValueError(f"backbone `{backbone}` takes images (channels, height, width); got shape {spec.shape}")
    channels, height, width = spec.shape
    return channels, height, width
