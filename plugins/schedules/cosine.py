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
        zero_terminal_snr: bool = False,
    ) -> None:
        t = torch.arange(steps + 1, dtype=torch.float64) / steps
        # equation 17: alpha_bar_t = f(t) / f(0), f(t) = cos^2(angle), angle = (t / T + s) / (1 + s) pi / 2
        angle = (t + offset) / (1 + offset) * math.pi / 2
        stride = math.pi / 2 / (1 + offset) / steps
        # below equation 17: beta_t = 1 - alpha_bar_t / alpha_bar_{t-1}, clipped; in its numerator
        # cos^2 a - cos^2 b = sin(b - a) sin(b + a), which keeps its digits at the clean end
        betas = math.sin(stride) * torch.sin(angle[1:] + angle[:-1]) / torch.cos(angle[:-1]) ** 2
        super().__init__(betas.clamp(max=beta_max), zero_terminal_snr=zero_terminal_snr)
