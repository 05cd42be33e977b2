"""The probability-flow ODE, solved by somebody else's solver."""

from __future__ import annotations

import math

import numpy as np
import torch
from scipy.integrate import solve_ivp
from torch import Tensor

from ..core import Denoise, Level, NoiseSchedule


def reference_end(
    denoise: Denoise, x: Tensor, schedule: NoiseSchedule, now: Level, then: Level, rtol: float = 1e-11
) -> Tensor:
    """Where the probability-flow ODE takes x; SciPy's DOP853, order 8 with step control, and none of our samplers.

    Args:
        denoise: (x, level) -> x0_hat.
        x: (B, *shape) at ``now``, float64.
        schedule: Gives the levels in between.
        now: Where it starts.
        then: Where it ends, sigma > 0.
        rtol: Relative tolerance of the solver; the absolute one is a tenth of it.

    Returns:
        x at ``then``, (B, *shape) float64.
    """
    if not then.sigma > 0:
        raise ValueError("the ODE is solved in ln(sigma / alpha), which has no end at sigma = 0; stop at a level above")

    # Karras et al. 2022 (arXiv 2206.00364), equation 1 for y = x / alpha in r = sigma / alpha: dy / d ln r = y - x0_hat
    def slope(log_r: float, y: np.ndarray) -> np.ndarray:
        level = schedule.at(schedule.t_at(-2 * log_r))
        frame = torch.from_numpy(y).reshape(x.shape)
        drift: np.ndarray = (frame - denoise(level.alpha * frame, level)).flatten().numpy()
        return drift

    with torch.no_grad():
        start = (x.to(torch.float64) / now.alpha).flatten().numpy()
        span = (math.log(now.ratio), math.log(then.ratio))
        solved = solve_ivp(slope, span, start, method="DOP853", rtol=rtol, atol=rtol / 10)
    assert solved.success, solved.message
    return then.alpha * torch.from_numpy(solved.y[:, -1]).reshape(x.shape)
