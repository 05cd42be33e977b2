"""DDIM: the deterministic sampler of a diffusion model, and with eta the way back to DDPM's.

Source: Song et al. 2020, "Denoising Diffusion Implicit Models" (arXiv 2010.02502), equations 12 and 16.
Order 1, one evaluation a step.
"""

from typing import Annotated

from annotated_types import Ge, Le
from torch import Tensor

from ...core import Context, Denoise, Level, Sampler
from ...core.fresh_noise import ancestral_step


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
        # equation 12: x0_hat, the direction towards x with the noise that is kept, and fresh noise
        return ancestral_step(x, denoise(x, now), now, then, self.eta, context.randn), None
