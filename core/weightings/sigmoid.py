"""The sigmoid weighting: uniform on the noise where images are noisy, uniform on x0_hat where they are clean.

Source: Kingma & Gao 2023, "Understanding Diffusion Objectives as the ELBO" (arXiv 2303.00848); Hoogeboom et al. 2024,
"Simpler Diffusion" (arXiv 2410.19324). On the noise it is sigmoid(bias - log SNR). The papers weigh a unit of log SNR
and so multiply by -d(log SNR)/dt where t is drawn uniformly; here where times are drawn is the density's part.
"""

from typing import Annotated

import torch
from annotated_types import Ge, Le
from torch import Tensor

from ..level import Level
from ..schedule import LOG_SNR_LIMIT
from .base import LossSpace


def sigmoid(
    level: Level,
    space: LossSpace,
    *,
    bias: Annotated[float, Ge(-LOG_SNR_LIMIT), Le(LOG_SNR_LIMIT)] = 0.0,
) -> Tensor:
    """e^bias sigmoid(log SNR - bias) on x0_hat: sigmoid(bias - log SNR) on the noise.

    Args:
        level: Of the images.
        space: Not needed.
        bias: The log SNR at which it turns over; with a lower one clean levels count less.
    """
    return torch.exp(bias + torch.nn.functional.logsigmoid(level.log_snr - bias))
