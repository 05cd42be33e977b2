"""One point of the Gaussian path x_t = alpha x0 + sigma eps (DESIGN: the mathematics in one page).

Source: Kingma et al. 2021, "Variational Diffusion Models" (arXiv 2107.00630), section 3.1.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


def like(coefficient: Tensor, x: Tensor) -> Tensor:
    """``coefficient`` ready to multiply ``x``: a 0-d one stays on the CPU, one per image goes to x's device and dtype.

    A 0-d float64 tensor neither promotes x nor makes anybody wait for a GPU, so sampling keeps its coefficients exact.
    """
    if coefficient.ndim == 0:
        return coefficient
    # towards a GPU a copy that is not waited for is safe; back from one its numbers might not be there yet
    return coefficient.to(device=x.device, dtype=x.dtype, non_blocking=coefficient.device.type == "cpu")


@dataclass(frozen=True)
class Level:
    """A time and its two coefficients, all float64.

    Attributes:
        t: The schedule's own time; 0-d when sampling, (B, 1, ..., 1) when training.
        alpha: Factor of the clean image, > 0 (see `NoiseSchedule.ends`).
        sigma: Factor of the noise, > 0; 0 only at the last level of a grid.
    """

    t: Tensor
    alpha: Tensor
    sigma: Tensor

    @property
    def log_snr(self) -> Tensor:
        """The log signal-to-noise ratio ln(alpha^2 / sigma^2); +inf where sigma = 0."""
        return 2 * self.half_log_snr

    @property
    def half_log_snr(self) -> Tensor:
        """lambda = ln(alpha / sigma), the variable of Lu et al. 2022 (arXiv 2206.00927); +inf where sigma = 0."""
        return torch.log(self.alpha) - torch.log(self.sigma)

    @property
    def ratio(self) -> Tensor:
        """The noise level r = sigma / alpha of x / alpha: Karras et al.'s sigma."""
        return self.sigma / self.alpha

    def mix(self, x0: Tensor, eps: Tensor) -> Tensor:
        """Alpha x0 + sigma eps, in the dtype of ``x0``."""
        return like(self.alpha, x0) * x0 + like(self.sigma, eps) * eps

    def noise_in(self, x: Tensor, x0: Tensor) -> Tensor:
        """The eps for which `mix` of ``x0`` gives ``x``; needs sigma > 0."""
        return (x - like(self.alpha, x) * x0) / like(self.sigma, x)

    def per_image(self, ndim: int) -> Level:
        """The level of (B,) times with its fields shaped (B, 1, ..., 1), to broadcast against x of ``ndim`` axes."""
        shape = (-1, *[1] * (ndim - 1))
        return Level(self.t.reshape(shape), self.alpha.reshape(shape), self.sigma.reshape(shape))

    def repeated(self, times: int) -> Level:
        """The level for a batch that holds every image ``times`` times, one copy of the batch after another."""
        if self.t.ndim == 0:
            return self
        return Level(*(torch.cat([field] * times) for field in (self.t, self.alpha, self.sigma)))
