"""What both Mamba layers are made of."""

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import rms_norm, silu

from .precision import wide

STEPS = 1e-3, 0.1  # the first step sizes lie between these
SHORTEST = 1e-4


def first_steps(count: int) -> Tensor:
    """Biases (count,) whose softplus is log-uniform over ``STEPS``: Gu & Dao 2023, section 3.6."""
    low, high = map(math.log, STEPS)
    steps = torch.exp(low + (high - low) * torch.rand(count)).clamp(min=SHORTEST)
    return steps + torch.log(-torch.expm1(-steps))  # the inverse of softplus


def causal(conv: nn.Conv1d, x: Tensor) -> Tensor:
    """A convolution padded at both ends, cut so that no token sees a later one: (B, D, L) to (B, D, L)."""
    out: Tensor = conv(x)[..., : x.shape[-1]]
    return out


class GatedNorm(nn.Module):
    """RMSNorm of x silu(z), in groups of channels: Dao & Gu 2024 (arXiv 2405.21060), section 7.1.

    Args:
        width: Channels.
        groups: Each is normalised by itself.
    """

    def __init__(self, width: int, groups: int) -> None:
        super().__init__()
        self.groups = groups
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor, z: Tensor) -> Tensor:
        """(..., width) each to (..., width), in float32 inside."""
        gated = torch.unflatten(wide(x) * silu(wide(z)), -1, (self.groups, -1))
        normal = rms_norm(gated, gated.shape[-1:], eps=1e-5).flatten(-2)
        return (normal * self.weight).to(x.dtype)
