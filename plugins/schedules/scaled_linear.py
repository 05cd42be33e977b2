"""Stable Diffusion's schedule: the roots of the betas rise linearly.

Source: Rombach et al. 2022, "High-Resolution Image Synthesis with Latent Diffusion Models" (arXiv 2112.10752). The
paper calls it linear; its published code spaces the roots, and has the numbers of Stable Diffusion.
"""

from typing import Annotated

import torch
from annotated_types import Ge, Gt, Lt

from ...core import TableSchedule


class ScaledLinear(TableSchedule):
    """Betas evenly spaced in their root from low to high (Stable Diffusion).

    Args:
        steps: T, the length of the table.
        low: beta_1.
        high: beta_T.
    """

    def __init__(
        self,
        *,
        steps: Annotated[int, Ge(2)] = 1000,
        low: Annotated[float, Gt(0), Lt(1)] = 0.00085,
        high: Annotated[float, Gt(0), Lt(1)] = 0.012,
        zero_terminal_snr: bool = False,
    ) -> None:
        roots = torch.linspace(low**0.5, high**0.5, steps, dtype=torch.float64)
        super().__init__(roots**2, zero_terminal_snr=zero_terminal_snr)
