"""The first diffusion schedule: betas that rise linearly.

Source: Ho et al. 2020, "Denoising Diffusion Probabilistic Models" (arXiv 2006.11239), section 4.
"""

from typing import Annotated

import torch
from annotated_types import Ge, Gt, Lt

from ...core import TableSchedule


class Linear(TableSchedule):
    """Betas evenly spaced from low to high (DDPM).

    Args:
        steps: T, the length of the table.
        low: beta_1.
        high: beta_T.
    """

    def __init__(
        self,
        *,
        steps: Annotated[int, Ge(2)] = 1000,
        low: Annotated[float, Gt(0), Lt(1)] = 1e-4,
        high: Annotated[float, Gt(0), Lt(1)] = 0.02,
        zero_terminal_snr: bool = False,
    ) -> None:
        betas = torch.linspace(low, high, steps, dtype=torch.float64)
        super().__init__(betas, zero_terminal_snr=zero_terminal_snr)
