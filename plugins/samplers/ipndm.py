"""iPNDM: Adams and Bashforth's method for the noise in sigma / alpha.

Source: Liu et al. 2022, "Pseudo Numerical Methods for Diffusion Models" (arXiv 2202.09778), equations 9 and 12, without
the Runge-Kutta steps of the start, as Zhang & Chen 2022 (arXiv 2204.13902), appendix B. Order 1 to 4, one evaluation a
step, lower orders in the first. The fixed coefficients are those of equal steps in sigma / alpha: on grids that are
smooth but not even there, which is to say on all in use, they have order 2 at most. With `variable_steps` the
polynomial runs over sigma / alpha itself, and the order is the one asked for.
"""

from typing import Literal

from torch import Tensor

from ...core import Context, Denoise, Level, Sampler
from ...core.multistep import Past, beyond_first, remember


class IPNDM(Sampler[Past]):
    """Improved pseudo numerical method, order 1 to 4.

    Args:
        order: Number of noises that a step combines.
        variable_steps: Weigh them by the true lengths of the steps, not as if all were equal.
    """

    def __init__(self, *, order: Literal[1, 2, 3, 4] = 3, variable_steps: bool = False) -> None:
        self.points, self.variable_steps = order, variable_steps
        self.order = order if variable_steps else min(order, 2)

    def step(
        self, denoise: Denoise, x: Tensor, now: Level, then: Level, state: Past | None, context: Context
    ) -> tuple[Tensor, Past]:
        """One step; the last is like the others, for sigma / alpha = 0 is a place like any."""
        x0 = denoise(x, now)
        eps = now.noise_in(x, x0)
        step = float(then.ratio - now.ratio)
        # equation 12 by backward differences: 55/24, -59/24, 37/24, -9/24 is the cubic over equal steps of length 1
        here = float(now.ratio) if self.variable_steps else (state[0].at + 1 if state else 0.0)
        length = step if self.variable_steps else 1.0
        past = remember(eps, here, state, self.points)
        moments = [length**k / (k + 1) for k in range(self.points)]
        # equation 9 in r: x_t / alpha_t = x_s / alpha_s + (r_t - r_s) (eps + what the polynomial has beyond it)
        return then.mix(x0, eps) + then.alpha * step * beyond_first(past, moments), past
