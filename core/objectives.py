"""Training objectives: from a network's attempt to one loss per image.

An objective is a function (attempt, *, options) -> (B,), or an `nn.Module` with weights of its own (a learned
uncertainty, a projector, a teacher), which is then trained, sharded and saved with the backbone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from .conditioning import Cond
from .denoiser import Denoiser
from .level import Level, like
from .weightings import Weighting


@dataclass(frozen=True)
class Attempt:
    """What an objective judges. Fields are added over time, never removed.

    Attributes:
        output: F, (B, C, *size).
        target: F*, likewise: what F would be for the true x0.
        weight: Factor on the squared error of F, (B, 1, ..., 1).
        x0: The clean x, (B, C, *size).
        x: The noised one.
        level: Its level.
        cond: Its conditioning, after label dropout.
        extras: Channels of the network beyond C, (B, any, *size).
    """

    output: Tensor
    target: Tensor
    weight: Tensor
    x0: Tensor
    x: Tensor
    level: Level
    cond: Cond
    extras: Tensor


Objective = Callable[[Attempt], Tensor]


def l2(attempt: Attempt) -> Tensor:
    """Weighted squared error, mean over an image. Ho et al. 2020 (arXiv 2006.11239), equation 14."""
    return (attempt.weight * (attempt.output - attempt.target) ** 2).flatten(1).mean(1)


def l1(attempt: Attempt) -> Tensor:
    """Absolute error, mean over an image; the root of the weight, so that it scales as `l2`'s root does."""
    return (attempt.weight.sqrt() * (attempt.output - attempt.target).abs()).flatten(1).mean(1)


def training_loss(
    denoiser: Denoiser, objective: Objective, weighting: Weighting, x0: Tensor, eps: Tensor, level: Level, cond: Cond
) -> Tensor:
    """One loss per image.

    Args:
        denoiser: With the network in training.
        objective: Judges the attempt.
        weighting: Factor on the squared error of x0_hat.
        x0: Clean x, (B, C, *size).
        eps: Standard normal, likewise.
        level: With fields (B, 1, ..., 1).
        cond: Conditioning after label dropout.

    Returns:
        (B,) float.
    """
    channels = x0.shape[1]
    c = denoiser.coefficients(level)
    x = level.mix(x0, eps)
    raw = denoiser.raw(x, level, cond)
    # F* = (x0 - c_skip x) / c_out, its two parts gathered in float64: near the clean end the difference has no digits
    target = like((1 - c.c_skip * level.alpha) / c.c_out, x) * x0 - like(c.c_skip * level.sigma / c.c_out, x) * eps
    weight = like(weighting(level, c) * c.c_out**2, x)
    return objective(Attempt(raw[:, :channels], target, weight, x0, x, level, cond, raw[:, channels:]))
