"""The straight path between image and noise.

Source: Liu et al. 2022, "Flow Straight and Fast" (arXiv 2209.03003), equation 1; Lipman et al. 2022 (arXiv 2210.02747).
The shift: Esser et al. 2024, "Scaling Rectified Flow Transformers for High-Resolution Image Synthesis"
(arXiv 2403.03206), section 5.3.2, equation 23.
"""

from typing import Annotated

import torch
from annotated_types import Ge, Le
from torch import Tensor

from ...core import Level, NoiseSchedule


class Flow(NoiseSchedule):
    """Rectified flow: alpha = 1 - t', sigma = t', where t' is t, shifted for the resolution.

    Args:
        shift: s of t' = s t / (1 + (s - 1) t): above 1 even times are noisier, as large images want it; the paper takes
            the root of the ratio of pixels, and 3 at 1024 x 1024.
    """

    def __init__(self, *, shift: Annotated[float, Ge(0.01), Le(100)] = 1.0) -> None:
        self.shift = shift

    def alpha(self, t: Tensor) -> Tensor:
        """1 - t', gathered so that it keeps its digits where t' is near 1."""
        return (1 - t) / (1 + (self.shift - 1) * t)

    def sigma(self, t: Tensor) -> Tensor:
        """t'."""
        # equation 23, with s = sqrt(m / n)
        return self.shift * t / (1 + (self.shift - 1) * t)

    def t_at(self, log_snr: Tensor | float) -> Tensor:
        """The inverse of log SNR = 2 ln((1 - t') / t'), and of the shift."""
        shifted = torch.sigmoid(-torch.as_tensor(log_snr, dtype=torch.float64) / 2)
        return shifted / (self.shift - (self.shift - 1) * shifted)

    def label(self, level: Level) -> Tensor:
        """1000 t': a network is told how much noise there is, whatever the shift."""
        return 1000 * level.sigma
