"""Euler's method on the probability-flow ODE, with churn.

Source: Karras et al. 2022, "Elucidating the Design Space" (arXiv 2206.00364), algorithm 2 without its correction.
Order 1, one evaluation a step. Without churn it is DDIM at eta = 0.
"""

from torch import Tensor

from ...core import Context, Denoise, Level
from ...core.churn import ChurnedSampler


class Euler(ChurnedSampler):
    """Euler steps in sigma / alpha, order 1, with churn."""

    order = 1

    def step(
        self, denoise: Denoise, x: Tensor, now: Level, then: Level, state: None, context: Context
    ) -> tuple[Tensor, None]:
        """One step."""
        x, now = self.churn(x, now, context)
        x0 = denoise(x, now)
        # lines 7, 8: x + (t' - t) d with d = eps, which is the same image under the same noise at the new level
        return then.mix(x0, now.noise_in(x, x0)), None
