"""Schedules given by a table of betas: DDPM's discrete process, read as a continuous one.

Source: Ho et al. 2020, "Denoising Diffusion Probabilistic Models" (arXiv 2006.11239), section 2, equation 4.
Step i of T stands at t = i / T; in between, log SNR is interpolated linearly.
Its rescaling to zero terminal SNR: Lin et al. 2023, "Common Diffusion Noise Schedules and Sample Steps are Flawed"
(arXiv 2305.08891), section 3.1, algorithm 1.
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
        zero_terminal_snr: Rescale the table so that step T is noise alone (Lin et al. 2023), which stands at log SNR
            -20. The prediction must be one that can live there: v, x0, flow or edm, not epsilon.

    Raises:
        ValueError: Betas out of range, or steps beyond log SNR +-20, where float32 cannot tell levels apart.
    """

    def __init__(self, betas: Tensor, *, zero_terminal_snr: bool = False) -> None:
        betas = _checked(betas.to(torch.float64))
        self.steps = len(betas)
        # equation 4: alpha_bar_i = prod (1 - beta); logs, or 1 - alpha_bar loses its digits at the clean end
        log_alpha_bar = torch.log1p(-betas).cumsum(0)
        _refuse_beyond(_log_snr(log_alpha_bar))
        if zero_terminal_snr:
            log_alpha_bar = _rescaled(log_alpha_bar)
        self.zero_terminal_snr = bool(log_alpha_bar[-1] == -torch.inf)  # also where beta_T = 1 was given
        self.table = _from_clean(_log_snr(log_alpha_bar))  # (T + 1,)

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
        """From the last entry, or -20, to the first: cleaner than beta_1 is nothing that table or network knows."""
        noisiest = 1.0 if self.table[-1] >= -LOG_SNR_LIMIT else float(self.t_at(-LOG_SNR_LIMIT))
        return noisiest, 1 / self.steps

    def label(self, level: Level) -> Tensor:
        """Step i tells the network i - 1, as DDPM's code does."""
        return level.t * self.steps - 1


def _checked(betas: Tensor) -> Tensor:
    """The betas, if they are such."""
    rule = "betas are a row of numbers in (0, 1]"
    if betas.ndim != 1 or len(betas) == 0:
        raise ValueError(f"{rule}; got a tensor of shape {tuple(betas.shape)}")
    bad = ((betas > 0) & (betas <= 1)).logical_not().nonzero()
    if len(bad):
        i = int(bad[0])
        raise ValueError(
            f"{rule}; got beta_{i + 1} = {float(betas[i]):.6g} of {len(betas)}: bring the betas down, or spread them"
            " over more steps"
        )
    return betas


def _rescaled(log_alpha_bar: Tensor) -> Tensor:
    """Algorithm 1 of Lin et al. 2023: step T without signal, step 1 as it was, sqrt(alpha_bar) moved in proportion."""
    if len(log_alpha_bar) < 2:
        raise ValueError("a table of one step cannot be rescaled to zero terminal SNR; give it two steps at least")
    # 1 - sqrt(alpha_bar), which keeps its digits at the clean end
    gone = -torch.expm1(log_alpha_bar / 2)
    # lines 6 and 8: a_i <- (a_i - a_T) a_1 / (a_1 - a_T), a = sqrt(alpha_bar); its logarithm, with a = 1 - gone
    return log_alpha_bar[0] + 2 * torch.log1p(-(gone - gone[0]) / (gone[-1] - gone[0]))


def _log_snr(log_alpha_bar: Tensor) -> Tensor:
    return log_alpha_bar - torch.log(-torch.expm1(log_alpha_bar))


def _refuse_beyond(log_snr: Tensor) -> None:
    """Step T alone may lie beyond -20, where it stands for noise alone."""
    steps, told = len(log_snr), "beyond +-20, where levels cannot be told apart"
    if log_snr[0] >= LOG_SNR_LIMIT:
        raise ValueError(f"step 1 of {steps} has a log SNR of {float(log_snr[0]):.1f}, {told}: make beta_1 larger")
    lost = (log_snr[:-1] <= -LOG_SNR_LIMIT).nonzero()
    if len(lost):
        i = int(lost[0])
        raise ValueError(
            f"from step {i + 1} of {steps} on the log SNR is {float(log_snr[i]):.1f} or less, {told}: take fewer steps"
            " or smaller betas"
        )


def _from_clean(log_snr: Tensor) -> Tensor:
    """The table from t = 0 on, where the betas have nothing to say: +20 there, and no step at minus infinity."""
    table = torch.cat([torch.full((1,), LOG_SNR_LIMIT, dtype=torch.float64), log_snr])
    same = (table.diff() >= 0).nonzero()
    if len(same):
        raise ValueError(
            f"step {int(same[0]) + 1} of {len(log_snr)} adds no noise that float64 can hold: make its beta larger"
        )
    # rescaled, the step before may be lower than -20 itself
    lowest = -LOG_SNR_LIMIT if table[-2] > -LOG_SNR_LIMIT else float(table[-2]) - 1
    table[-1] = table[-1].clamp(min=lowest)
    return table
