"""Levels whose log noise-to-signal ratio is normal, EDM's choice.

Source: Karras et al. 2022, "Elucidating the Design Space" (arXiv 2206.00364), table 1, with sigma = r = sigma / alpha.
"""

from typing import Annotated

import torch
from annotated_types import Gt
from torch import Tensor

from ..schedule import LOG_SNR_LIMIT, NoiseSchedule


def log_normal(u: Tensor, schedule: NoiseSchedule, *, mean: float = -1.2, std: Annotated[float, Gt(0)] = 1.2) -> Tensor:
    """Logarithm of sigma / alpha is normal (EDM): the same levels on every schedule, as far as it reaches.

    Args:
        u: Uniform numbers, (B,).
        schedule: Gives the times of levels.
        mean: P_mean, of ln(sigma / alpha); higher is noisier.
        std: P_std.
    """
    # table 1, noise distribution: ln(sigma) ~ N(P_mean, P_std^2)
    log_ratio = mean + std * torch.special.ndtri(u.to(torch.float64))
    return schedule.clip(schedule.t_at((-2 * log_ratio).clamp(-LOG_SNR_LIMIT, LOG_SNR_LIMIT)))
