"""Rotary positions on a grid: queries and keys are turned by their place, so that only the way between two counts.

Source: Su et al. 2021, "RoFormer" (arXiv 2104.09864), equation 34; on a grid by axes as Heo et al. 2024, "Rotary
Position Embedding for Vision Transformer" (arXiv 2403.13298), section 3.2, "RoPE-Axial".
"""

import torch
from torch import Tensor

BASE = 100.0  # Heo et al.: an image has far fewer rows than a text has words, for which 10000 is


def grid_turns(rows: int, columns: int, width: int) -> Tensor:
    """By what angle each pair of channels is turned at each place: half the pairs by the column, half by the row.

    Args:
        rows: Of patches.
        columns: Likewise.
        width: Of a head, divisible by 4.

    Returns:
        (2, rows * columns, width / 2) float32, row by row: cosines and sines.
    """
    quarter = width // 4
    row, column = torch.meshgrid(
        torch.arange(rows, dtype=torch.float64), torch.arange(columns, dtype=torch.float64), indexing="ij"
    )
    # theta_t = 100^(-t / (d / 4))
    theta = BASE ** (-torch.arange(quarter, dtype=torch.float64) / quarter)
    angles = torch.cat([column.reshape(-1, 1) * theta, row.reshape(-1, 1) * theta], dim=1)
    return torch.stack([angles.cos(), angles.sin()]).to(torch.float32)


def rotate(x: Tensor, turns: Tensor) -> Tensor:
    """Turn channels i and i + d / 2 as a pair, each token by its own angles.

    Args:
        x: (..., N, d), queries or keys.
        turns: (2, N, d / 2), from `grid_turns`.
    """
    (cos, sin), (a, b) = turns, x.chunk(2, dim=-1)
    # equation 34
    return torch.cat([a * cos - b * sin, b * cos + a * sin], dim=-1)
