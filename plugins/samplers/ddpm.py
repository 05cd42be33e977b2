"""DDPM: ancestral sampling from the posterior of the forward process.

Source: Ho et al. 2020, "Denoising Diffusion Probabilistic Models" (arXiv 2006.11239), equations 6, 7 and algorithm 2.
No order of convergence as an ODE method; one evaluation a step.
"""

from typing import Literal

import torch
from torch import Tensor

from ...core import Context, Denoise, Level, Sampler


class DDPM(Sampler[None]):
    """Ancestral sampling; on the 1000-step table it is the paper's.

    Args:
        variance: `small` is the posterior's own, `large` is beta_t (section 3.2: the two extremes).
    """

    stochastic = True
    grid = "uniform"

    def __init__(self, *, variance: Literal["small", "large"] = "small") -> None:
        self.variance = variance

    def step(
        self, denoise: Denoise, x: Tensor, now: Level, then: Level, state: None, context: Context
    ) -> tuple[Tensor, None]:
        """One step; no noise in the last."""
        x0 = denoise(x, now)
        # equation 7 in r = sigma / alpha, which holds for any schedule: q = (r_s / r_t)^2 is the share of x that stays
        q = (then.ratio / now.ratio) ** 2
        mean = then.alpha * (1 - q) * x0 + then.alpha * q / now.alpha * x
        if not then.sigma > 0:
            return mean, None
        return mean + self._variance(now, then, q).sqrt() * context.randn(), None

    def _variance(self, now: Level, then: Level, q: Tensor) -> Tensor:
        if self.variance == "small":
            # equation 7: beta_tilde = (1 - alpha_bar_s) / (1 - alpha_bar_t) beta_t
            return then.sigma**2 * (1 - q)
        # beta_t = 1 - (alpha_t / alpha_s)^2 where alpha^2 + sigma^2 = 1; scaled back, so that schedules agree
        n_now, n_then = torch.hypot(now.alpha, now.sigma), torch.hypot(then.alpha, then.sigma)
        return n_then**2 * (1 - (now.alpha / n_now / (then.alpha / n_then)) ** 2)
