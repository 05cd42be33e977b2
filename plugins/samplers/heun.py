"""Heun's method on the probability-flow ODE, with churn.

Source: Karras et al. 2022, "Elucidating the Design Space" (arXiv 2206.00364), algorithm 2, in r = sigma / alpha.
Order 2, two evaluations a step, one in the last.
"""

from torch import Tensor

from ...core import Context, Denoise, Level
from ...core.churn import ChurnedSampler


class Heun(ChurnedSampler):
    """Heun steps in sigma / alpha (EDM), order 2, with churn."""

    evaluations = 2
    order = 2

    def step(
        self, denoise: Denoise, x: Tensor, now: Level, then: Level, state: None, context: Context
    ) -> tuple[Tensor, None]:
        """One step."""
        x, now = self.churn(x, now, context)
        x0 = denoise(x, now)
        eps = now.noise_in(x, x0)  # line 7: d_i
        euler = then.mix(x0, eps)  # line 8
        if not then.sigma > 0:
            return euler, None
        eps_there = then.noise_in(euler, denoise(euler, then))  # line 10: d_i'
        # line 11: x + (t' - t)(d + d') / 2, written as a correction: x / alpha is huge where alpha is small
        return euler + then.alpha * (then.ratio - now.ratio) / 2 * (eps_there - eps), None
