"""What every backbone is told beside the image: the noise label, the class, the place of a patch."""

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
    """Fixed positions of a grid of patches: half the channels tell the row, half the column.

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
    both = [waves(row.flatten(), width // 2), waves(column.flatten(), width // 2)]
    return torch.cat(both, dim=1).to(torch.float32)


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
        # float32 whatever surrounds it: bfloat16 cannot tell 999 from 1000
        seen = waves(noise.to(torch.float32), self.frequencies).to(self.into.weight.dtype)
        hidden = self.into(seen)
        embedded: Tensor = self.out(nn.functional.silu(hidden))
        return embedded


def class_table(spec: DataSpec, width: int, backbone: str) -> nn.Embedding | None:
    """A row for each class and one for "none"; None for unlabelled data.

    Raises:
        ValueError: When the data is conditioned on more than its class.
    """
    others = sorted(set(spec.cond) - {"class"})
    if others:
        raise ValueError(
            f"backbone `{backbone}` is conditioned on the class alone, but the data also gives {', '.join(others)};"
            " choose a backbone that takes these, or a dataset without them"
        )
    return nn.Embedding(spec.null_class + 1, width) if spec.classes else None


def image_size(spec: DataSpec, backbone: str) -> tuple[int, int, int]:
    """(C, H, W) of data that is images.

    Raises:
        ValueError: When it is something else.
    """
    if len(spec.shape) != 3:
        raise ValueError(f"backbone `{backbone}` takes images (channels, height, width); got shape {spec.shape}")
    channels, height, width = spec.shape
    return channels, height, width
