"""Euler's method, ancestral: a step of the probability-flow ODE to less noise than wanted, and fresh noise.

Source: Karras's and Crowson's k-diffusion, `sample_euler_ancestral`, in r = sigma / alpha; its fresh noise
min(r_t, eta sqrt(r_t^2 (r_s^2 - r_t^2) / r_s^2)) is Song et al. 2020 (arXiv 2010.02502), equation 16.
Order 1 with eta = 0, else none; one evaluation a step.

Up to eta = 1 it is `ddim` with the same eta. What differs: eta may be larger, the noise may be scaled, and it
declares another grid.
"""

from typing import Annotated

from annotated_types import Ge
from torch import Tensor

from ...core import Context, Denoise, Level, Sampler
from ...core.fresh_noise import ancestral_step


class EulerAncestral(Sampler[None]):
    """Euler steps with fresh noise after each (k-diffusion).

    Args:
        eta: Share of fresh noise: 0 is none, 1 the forward process's posterior; above 1 more, as far as there is any.
        s_noise: Standard deviation of the fresh noise; 1 is right for a perfect network.
    """

    def __init__(self, *, eta: Annotated[float, Ge(0)] = 1.0, s_noise: Annotated[float, Ge(0)] = 1.0) -> None:
        self.eta, self.s_noise = eta, s_noise
        self.stochastic = eta * s_noise > 0
        self.order = 1 if eta == 0 else None

    def step(
        self, denoise: Denoise, x: Tensor, now: Level, then: Level, state: None, context: Context
    ) -> tuple[Tensor, None]:
        """One step; no noise in the last."""
        return ancestral_step(x, denoise(x, now), now, then, self.eta, context.randn, self.s_noise), None
