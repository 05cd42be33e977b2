"""Exponential integration: the linear part of the probability-flow ODE is solved exactly, x0_hat is what is guessed.

Source: Lu et al. 2022, "DPM-Solver++" (arXiv 2211.01095), equation 8: in lambda = ln(alpha / sigma), from s to t,
x_t = (sigma_t / sigma_s) x_s + sigma_t int e^lambda x0_hat dlambda. Everything is a function of r = sigma / alpha and
of the scaling of x, so it holds for any schedule; and r, not lambda, stands in the formulas, so it holds at sigma = 0.
"""

from __future__ import annotations

from torch import Tensor

from .level import Level, like


def first_order(x: Tensor, x0: Tensor, now: Level, then: Level) -> Tensor:
    """X at ``then``, had the denoised image been ``x0`` all the way: DDIM's step, of order 1.

    Args:
        x: (B, C, *size) at ``now``.
        x0: The denoised image, likewise.
        now: Level with sigma > 0.
        then: Any other, noisier ones and sigma = 0 included.
    """
    # equation 8 with constant x0_hat: sigma_t (e^lambda_t - e^lambda_s) = alpha_t (1 - r_t / r_s)
    gain = then.alpha * (1 - then.ratio / now.ratio)
    return like(then.sigma / now.sigma, x) * x + like(gain, x0) * x0
