"""The noise schedule: how much signal and noise there is at time t.

Source: Kingma et al. 2021 (arXiv 2107.00630), section 3.1; any alpha, sigma with a falling log SNR is allowed.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from .level import Level

LOG_SNR_LIMIT = 20.0  # beyond it float32 cannot tell the level from pure signal or pure noise
BISECTIONS = 100  # float64 has 53 bits; the rest is for schedules whose t is spread over many octaves


class NoiseSchedule(ABC):
    """alpha(t) and sigma(t) on [t_min, t_max], t_min clean; log SNR falls with t.

    A subclass writes `alpha` and `sigma`; everything else follows, and may be overridden by a closed form. Times and
    results are float64 on the CPU, of any shape. A schedule may reach alpha = 0 or sigma = 0 at its ends: core keeps
    samplers and training away from there (`ends`).

    Attributes:
        t_min: The clean end of the range of t.
        t_max: The noisy end.
        zero_terminal_snr: Whether a step of its own stands at the level without signal, and is practised as often as
            any other; predictions that cannot live there are refused (`dmf.core.predictions.check_prediction`).
    """

    t_min: float = 0.0
    t_max: float = 1.0
    zero_terminal_snr: bool = False

    @abstractmethod
    def alpha(self, t: Tensor) -> Tensor:
        """Factor of the clean image at ``t``, in [0, 1] or constant 1."""

    @abstractmethod
    def sigma(self, t: Tensor) -> Tensor:
        """Factor of the noise at ``t``, >= 0."""

    def log_snr(self, t: Tensor) -> Tensor:
        """ln(alpha^2 / sigma^2) at ``t``; infinite where one of them is 0."""
        return 2 * (torch.log(self.alpha(t)) - torch.log(self.sigma(t)))

    def at(self, t: Tensor | float) -> Level:
        """The level at ``t``."""
        t = torch.as_tensor(t, dtype=torch.float64)
        return Level(t, self.alpha(t), self.sigma(t))

    def t_at(self, log_snr: Tensor | float) -> Tensor:
        """The time at which log SNR has the given value, by bisection; a value out of reach gives the nearer end."""
        want = torch.as_tensor(log_snr, dtype=torch.float64)
        low, high = torch.full_like(want, self.t_min), torch.full_like(want, self.t_max)
        for _ in range(BISECTIONS):
            middle = (low + high) / 2
            too_clean = self.log_snr(middle) > want
            low, high = torch.where(too_clean, middle, low), torch.where(too_clean, high, middle)
        return (low + high) / 2

    def between(self, now: Level, then: Level, fraction: float | Tensor) -> Level:
        """The level a fraction of the way from ``now`` to ``then`` in log SNR; both with sigma > 0."""
        return self.at(self.t_at(torch.lerp(now.log_snr, then.log_snr, torch.as_tensor(fraction, dtype=torch.float64))))

    def label(self, level: Level) -> Tensor:
        """What the network is told of the level: 1000 t, the scale that every backbone expects."""
        return 1000 * level.t

    @property
    def clean(self) -> Level:
        """The end of every grid: the image itself, alpha = 1, sigma = 0."""
        t = torch.tensor(self.t_min, dtype=torch.float64)
        return Level(t, torch.ones_like(t), torch.zeros_like(t))

    def ends(self) -> tuple[float, float]:
        """The times (noisiest, cleanest) between which parts are called: the range, clipped to |log SNR| <= 20."""
        t_min, t_max = (torch.tensor(t, dtype=torch.float64) for t in (self.t_min, self.t_max))
        noisiest = t_max if self.log_snr(t_max) >= -LOG_SNR_LIMIT else self.t_at(-LOG_SNR_LIMIT)
        cleanest = t_min if self.log_snr(t_min) <= LOG_SNR_LIMIT else self.t_at(LOG_SNR_LIMIT)
        return float(noisiest), float(cleanest)

    def clip(self, t: Tensor) -> Tensor:
        """``t`` kept between the `ends`."""
        noisiest, cleanest = self.ends()
        return t.clamp(cleanest, noisiest)
