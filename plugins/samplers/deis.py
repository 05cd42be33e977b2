"""DEIS: the noise as a polynomial in ln(sigma / alpha), integrated exactly.

Source: Zhang & Chen 2022, "Fast Sampling of Diffusion Models with Exponential Integrator" (arXiv 2204.13902),
equation 14 in the variable rho = sigma / alpha of section 3.3, the polynomial drawn over ln rho (tAB-DEIS, log-rho).
Order 1 to 4, one evaluation a step; lower orders in the first steps, 1 in the one to sigma = 0, where ln rho ends.
"""

from typing import Literal

from torch import Tensor

from ...core import Context, Denoise, Level, Sampler
from ...core.multistep import Past, beyond_first, exponential_moments, lam, remember


class DEIS(Sampler[Past]):
    """Diffusion exponential integrator (tAB-DEIS), order 1 to 4.

    Args:
        order: Of convergence: one more than the polynomial's degree; 1 is DDIM.
    """

    order: int

    def __init__(self, *, order: Literal[1, 2, 3, 4] = 3) -> None:
        self.order = order

    def step(
        self, denoise: Denoise, x: Tensor, now: Level, then: Level, state: Past | None, context: Context
    ) -> tuple[Tensor, Past]:
        """One step."""
        x0 = denoise(x, now)
        eps = now.noise_in(x, x0)
        past = remember(eps, -lam(now), state, self.order)
        if not then.sigma > 0:
            return then.alpha * x0, past
        # equation 14: x_t / alpha_t = x_s / alpha_s + the integral of the polynomial over rho, its constant part by
        # itself; over u = ln rho - ln rho_s, from 0 to u_t, d rho is rho_s e^u du
        u_t = lam(now) - lam(then)
        moments = [u_t ** (k + 1) * m for k, m in enumerate(exponential_moments(u_t, self.order))]
        return then.mix(x0, eps) + then.alpha * now.ratio * beyond_first(past, moments), past
