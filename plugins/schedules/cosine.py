"""A table whose alpha_bar follows a squared cosine.

Source: Nichol & Dhariwal 2021, "Improved Denoising Diffusion Probabilistic Models" (arXiv 2102.09672), equation 17.
"""

import math
from typing import Annotated

import torch
from annotated_types import Ge, Gt, Lt

from ...core import TableSchedule


class Cosine(TableSchedule):
    """Betas of the squared-cosine alpha_bar (Improved DDPM).

    Args:
        steps: T, the length of the table.
        offset: s, which keeps beta_1 from vanishing.
        beta_max: Betas are cut off here, or the last would be 1.
    """

    def __init__(
        self,
        *,
        steps: Annotated[int, Ge(2)] = 1000,
        offset: Annotated[float, Ge(0)] = 0.008,
        beta_max: Annotated[float, Gt(0), Lt(1)] = 0.999,
    ) -> None:
        t = torch.arange(steps + 1, dtype=torch.float64) / steps
        # equation 17: alpha_bar_t = f(t) / f(0), f(t) = cos^2((t / T + s) / (1 + s) pi / 2)
        f = torch.cos((t + offset) / (1 + offset) * math.pi / 2) ** 2
        # below equation 17: beta_t = 1 - alpha_bar_t / alpha_bar_{t-1}, clipped
        super().__init__((1 - f[1:] / f[:-1]).clamp(max=beta_max))
