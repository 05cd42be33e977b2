"""The straight path between image and noise.

Source: Liu et al. 2022, "Flow Straight and Fast" (arXiv 2209.03003), equation 1; Lipman et al. 2022 (arXiv 2210.02747).
"""

import torch
from torch import Tensor

from ...core import NoiseSchedule


class Flow(NoiseSchedule):
    """Rectified flow: alpha = 1 - t, sigma = t."""

    def alpha(self, t: Tensor) -> Tensor:
        """1 - t."""
        return 1 - t

    def sigma(self, t: Tensor) -> Tensor:
        """The time itself."""
        return t

    def t_at(self, log_snr: Tensor | float) -> Tensor:
        """The inverse of log SNR = 2 ln((1 - t) / t)."""
        return torch.sigmoid(-torch.as_tensor(log_snr, dtype=torch.float64) / 2)
