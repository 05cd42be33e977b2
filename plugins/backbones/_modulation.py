"""Adaptive normalisation: what the conditioning does to the tokens of a block.

Source: Peebles & Xie 2022, "Scalable Diffusion Models with Transformers" (arXiv 2212.09748), section 3.2, figure 3.
"""

import torch
from torch import Tensor


def modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """x (1 + scale) + shift.

    Args:
        x: (B, N, D), normalised.
        shift: (B, D).
        scale: (B, D), 0 for none.
    """
    return torch.addcmul(shift[:, None], x, 1 + scale[:, None])  # one kernel


def gated(x: Tensor, gate: Tensor, change: Tensor) -> Tensor:
    """x + gate change.

    Args:
        x: (B, N, D).
        gate: (B, D).
        change: (B, N, D).
    """
    return torch.addcmul(x, gate[:, None], change)
