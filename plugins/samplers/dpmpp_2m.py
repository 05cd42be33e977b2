"""DPM-Solver++(2M): the second-order multistep solver of the probability-flow ODE in lambda.

Source: Lu et al. 2022, "DPM-Solver++" (arXiv 2211.01095), algorithm 2.
Order 2, one evaluation a step; the first step and the one to sigma = 0 are of order 1.
"""

from torch import Tensor

from ...core import Context, Denoise, Level, Sampler
from ...core.exponential import first_order
from ...core.multistep import Past, lam, remember, towards_middle


class DPMpp2M(Sampler[Past]):
    """DPM-Solver++(2M), order 2."""

    order = 2

    def step(
        self, denoise: Denoise, x: Tensor, now: Level, then: Level, state: Past | None, context: Context
    ) -> tuple[Tensor, Past]:
        """One step."""
        x0 = denoise(x, now)
        past = remember(x0, lam(now), state, 2)
        if not then.sigma > 0:
            return then.alpha * x0, past
        # lines 8 and 9
        return first_order(x, towards_middle(past, lam(then) - lam(now)), now, then), past
