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
        euler = then.mix(x0, now.noise_in(x, x0))  # lines 7, 8: d_i is the noise
        if not then.sigma > 0:
            return euler, None
        # line 10: d_i', of which d_i' - d_i = (x0 - x0_there) / r_t exactly: both are taken of the same x, so its large
        # part goes out here and not in the computer's digits
        x0_there = denoise(euler, then)
        # line 11: x + (t' - t)(d + d') / 2, written as a correction: x / alpha is huge where alpha is small
        return euler + then.alpha * (1 - now.ratio / then.ratio) / 2 * (x0 - x0_there), None
