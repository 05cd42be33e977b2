"""What `edm` and `ve` share: the image stays as it is, noise grows over it."""

import torch
from torch import Tensor

from ...core import Level, NoiseSchedule


class Exploding(NoiseSchedule):
    """alpha = 1, sigma from sigma_min to sigma_max: a subclass says at which time.

    Args:
        sigma_min: The cleanest sigma.
        sigma_max: The noisiest.

    Raises:
        ValueError: sigma_max not above sigma_min.
    """

    def __init__(self, sigma_min: float, sigma_max: float) -> None:
        if not sigma_min < sigma_max:
            raise ValueError(
                f"sigma rises from sigma_min to sigma_max; got {sigma_min:g} and {sigma_max:g}: make sigma_max larger"
            )
        self.sigma_min, self.sigma_max = sigma_min, sigma_max

    def alpha(self, t: Tensor) -> Tensor:
        """One."""
        return torch.ones_like(t)

    def sigma_at(self, log_snr: Tensor | float) -> Tensor:
        """The sigma in range that is nearest to a log SNR: the inverse of log SNR = -2 ln sigma."""
        sigma = torch.exp(-torch.as_tensor(log_snr, dtype=torch.float64) / 2)
        return sigma.clamp(self.sigma_min, self.sigma_max)

    def label(self, level: Level) -> Tensor:
        """250 ln sigma: Karras et al. 2022 (arXiv 2206.00364), table 1, c_noise = ln(sigma) / 4, times 1000."""
        return 250 * level.sigma.log()
