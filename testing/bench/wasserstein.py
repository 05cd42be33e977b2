"""How far two clouds of points are apart.

Source: Bonneel et al. 2015, "Sliced and Radon Wasserstein Barycenters of Measures", section 3, definition 1.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ...core import generator

DIRECTIONS = 200


def sliced_wasserstein(x: Tensor, y: Tensor) -> float:
    """The sliced 2-Wasserstein distance of two clouds (N, D) of as many points.

    The root of the mean over random directions of the squared distance of the sorted projections.
    """
    random = generator(0, "directions", 0)
    directions = torch.randn(x.shape[1], DIRECTIONS, generator=random, dtype=torch.float64)
    directions = directions / directions.norm(dim=0)
    off = (x @ directions).sort(dim=0).values - (y @ directions).sort(dim=0).values
    return float(off.square().mean().sqrt())
