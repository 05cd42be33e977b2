"""Schedules given by a table of betas: DDPM's discrete process, read as a continuous one.

Source: Ho et al. 2020, "Denoising Diffusion Probabilistic Models" (arXiv 2006.11239), section 2, equation 4.
Step i of T stands at t = i / T; in between, log SNR is interpolated linearly.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .level import Level
from .schedule import LOG_SNR_LIMIT, NoiseSchedule


class TableSchedule(NoiseSchedule):
    """The variance-preserving schedule of beta_1 ... beta_T.

    Args:
        betas: (T,), each in (0, 1].
    """

    def __init__(self, betas: Tensor) -> None:
        betas = betas.to(torch.float64)
        if betas.ndim != 1 or not ((betas > 0) & (betas <= 1)).all():
            raise ValueError(f"betas are a row of numbers in (0, 1]; got {tuple(betas.shape)}: {betas}")
        self.steps = len(betas)
        # equation 4: alpha_bar_i = prod (1 - beta); logs, or 1 - alpha_bar loses its digits at the clean end
        log_alpha_bar = torch.log1p(-betas).cumsum(0)
        log_snr = log_alpha_bar - torch.log(-torch.expm1(log_alpha_bar))
        clean = torch.full((1,), LOG_SNR_LIMIT, dtype=torch.float64)  # t = 0, where the table has nothing to say
        self.table = torch.cat([clean, log_snr.clamp(-LOG_SNR_LIMIT, LOG_SNR_LIMIT)])  # (T + 1,)
        if not (self.table.diff() < 0).all():
            raise ValueError("these betas leave the log SNR beyond +-20, where levels cannot be told apart")

    def log_snr(self, t: Tensor) -> Tensor:
        """Linear between the entries of the table."""
        position = t * self.steps
        i = position.floor().long().clamp(0, self.steps - 1)
        return torch.lerp(self.table[i], self.table[i + 1], position - i)

    def alpha(self, t: Tensor) -> Tensor:
        """The root of sigmoid(log SNR)."""
        return torch.sigmoid(self.log_snr(t)).sqrt()

    def sigma(self, t: Tensor) -> Tensor:
        """The root of sigmoid(-log SNR)."""
        return torch.sigmoid(-self.log_snr(t)).sqrt()

    def t_at(self, log_snr: Tensor | float) -> Tensor:
        """The inverse of the interpolation, exactly."""
        want = torch.as_tensor(log_snr, dtype=torch.float64).clamp(float(self.table[-1]), float(self.table[0]))
        i = (torch.searchsorted(-self.table, -want) - 1).clamp(0, self.steps - 1)
        return (i + (self.table[i] - want) / (self.table[i] - self.table[i + 1])) / self.steps

    def ends(self) -> tuple[float, float]:
        """From the last entry to the first: cleaner than beta_1 is nothing that the table, or a network, knows."""
        return 1.0, 1 / self.steps

    def label(self, level: Level) -> Tensor:
        """Step i tells the network i - 1, as DDPM's code does."""
        return level.t * self.steps - 1
