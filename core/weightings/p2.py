"""P2, perception prioritized: less weight where images are nearly clean and only fine detail is left to learn.

Source: Choi et al. 2022, "Perception Prioritized Training of Diffusion Models" (arXiv 2204.00227), equation 8.
"""

from typing import Annotated

import torch
from annotated_types import Ge, Gt
from torch import Tensor

from ..level import Level
from .base import LossSpace


def p2(
    level: Level, space: LossSpace, *, k: Annotated[float, Gt(0)] = 1.0, gamma: Annotated[float, Ge(0)] = 1.0
) -> Tensor:
    """SNR / (k + SNR)^gamma on x0_hat: 1 / (k + SNR)^gamma on the noise.

    Args:
        level: Of the images.
        space: Not needed.
        k: Keeps the factor finite where there is nothing but noise, and sets where it begins to fall.
        gamma: How fast it falls; 0 is uniform on the noise.
    """
    # equation 8: lambda_t / (k + SNR)^gamma, lambda_t of the loss on the noise; one exp of a sum, so nothing overflows
    return torch.exp(level.log_snr - gamma * torch.log(k + level.log_snr.exp()))
