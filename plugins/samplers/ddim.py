"""DDIM: the deterministic sampler of a diffusion model, and with eta the way back to DDPM's.

Source: Song et al. 2020, "Denoising Diffusion Implicit Models" (arXiv 2010.02502), equations 12 and 16.
Order 1, one evaluation a step.
"""

from typing import Annotated

from annotated_types import Ge, Le
from torch import Tensor

from ...core import Context, Denoise, Level, Sampler


class DDIM(Sampler[None]):
    """Denoising diffusion implicit models, order 1.

    Args:
        eta: 0 is deterministic, 1 has the variance of DDPM's posterior.
    """

    grid = "uniform"

    def __init__(self, *, eta: Annotated[float, Ge(0), Le(1)] = 0.0) -> None:
        self.eta = eta
        self.stochastic = eta > 0
        self.order = None if eta > 0 else 1

    def step(
        self, denoise: Denoise, x: Tensor, now: Level, then: Level, state: None, context: Context
    ) -> tuple[Tensor, None]:
        """One step."""
        x0 = denoise(x, now)
        eps = now.noise_in(x, x0)
        if not self.stochastic or not then.sigma > 0:
            return then.mix(x0, eps), None
        # equation 16 in r = sigma / alpha, which holds for any schedule: sigma_t = eta sigma_s sqrt(1 - (r_s / r_t)^2)
        fresh = self.eta * then.sigma * (1 - (then.ratio / now.ratio) ** 2).sqrt()
        # equation 12: the rest of the noise keeps its direction
        kept = (then.sigma**2 - fresh**2).sqrt()
        return then.alpha * x0 + kept * eps + fresh * context.randn(), None
