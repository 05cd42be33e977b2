"""Dynamic negative square: betas that rise with the square of the step, for a table of any length.

Source: an earlier DDPM code for CIFAR-10; in no paper. beta_i, i = 0 ... T - 1, is
low + (high - low) ((i + offset) / (T + 1 + offset))^2, with low and high first scaled by 1000 / T.
"""

from typing import Annotated

import torch
from annotated_types import Ge, Gt, Lt

from ...core import TableSchedule


class DNS(TableSchedule):
    """Betas that rise with the square of the step (dynamic negative square), scaled to the length of the table.

    Args:
        steps: T, the length of the table.
        low: Where the betas start, as for 1000 steps; scaled by 1000 / T.
        high: Where they lead, likewise.

    Raises:
        ValueError: A table so short that a beta would reach 1.
    """

    def __init__(
        self,
        *,
        steps: Annotated[int, Ge(2)] = 1000,
        low: Annotated[float, Gt(0), Lt(1)] = 1e-4,
        high: Annotated[float, Gt(0), Lt(1)] = 0.02,
        zero_terminal_snr: bool = False,
    ) -> None:
        scale, offset = 1000 / steps, self.offset(steps)
        share = (torch.arange(steps, dtype=torch.float64) + offset) / (steps + 1 + offset)
        betas = scale * (low + (high - low) * share**2)
        if betas.max() >= 1:
            raise ValueError(
                f"low = {low:g} and high = {high:g}, scaled by 1000 / {steps} steps, give a beta of"
                f" {float(betas.max()):.3g}, and betas stay below 1: take more steps, or bring low and high down"
            )
        super().__init__(betas, zero_terminal_snr=zero_terminal_snr)

    @staticmethod
    def offset(steps: int) -> int:
        """How far the square is entered at the first step: 5."""
        return 5
