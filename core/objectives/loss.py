"""The training loss: one attempt of the network, judged in the loss space.

What is predicted and where the error is taken are two choices. With the network's x0_hat = c_skip x + c_out F and the
loss space's x0_hat = c_skip' x + c_out' F', the error there is F' - F'* = (c_out / c_out') (F - F*): exact at every
level, where F' itself would be a difference of equals. Salimans & Ho 2022 (arXiv 2202.00512), section 4, compare such
losses.
"""

from __future__ import annotations

from torch import Tensor

from ..conditioning import Cond
from ..denoiser import Denoiser
from ..level import Level, like
from ..predictions import Coefficients, Prediction
from ..weightings import LossSpace, Weighting
from .base import Attempt, Objective


def training_loss(
    denoiser: Denoiser,
    objective: Objective,
    weighting: Weighting,
    x0: Tensor,
    eps: Tensor,
    level: Level,
    cond: Cond,
    loss_space: Prediction | None = None,
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
        loss_space: The prediction in whose terms the error is taken; None is the network's own.

    Returns:
        (B,) float.
    """
    channels = x0.shape[1]
    c = denoiser.coefficients(level)
    x = level.mix(x0, eps)
    raw = denoiser.raw(x, level, cond)
    output, extras = raw[:, :channels], raw[:, channels:]
    target = _target(c, level, x0, eps)
    error, there = output - target, c
    if loss_space is not None:
        there = loss_space(level, denoiser.sigma_data)
        error = like(c.c_out / there.c_out, x) * error
        target = _target(there, level, x0, eps)
        output = target + error
    factor = weighting(level, LossSpace(there.c_skip, there.c_out, denoiser.sigma_data))
    weight = like(factor * there.c_out**2, x)  # the one conversion: the error of x0_hat is c_out' times that of F'
    return objective(Attempt(output, target, error, weight, x0, x, level, cond, extras))


def _target(c: Coefficients, level: Level, x0: Tensor, eps: Tensor) -> Tensor:
    """F*, (B, C, *size)."""
    # F* = (x0 - c_skip x) / c_out, its two parts gathered in float64: near the clean end the difference has no digits
    return like((1 - c.c_skip * level.alpha) / c.c_out, x0) * x0 - like(c.c_skip * level.sigma / c.c_out, x0) * eps
