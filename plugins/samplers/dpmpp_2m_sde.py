"""SDE-DPM-Solver++(2M): the second-order multistep solver of the diffusion SDE.

Source: Lu et al. 2022, "DPM-Solver++" (arXiv 2211.01095), equation 18; eta as in Crowson's k-diffusion.
One evaluation a step. No order as an ODE method unless eta = 0, where it is DPM-Solver++(2M), of order 2.
"""

from torch import Tensor

from ...core import Context, Denoise, Level
from ...core.fresh_noise import ReverseSDESampler
from ...core.multistep import Past, lam, remember, towards_middle


class DPMpp2MSDE(ReverseSDESampler[Past]):
    """SDE-DPM-Solver++(2M), stochastic."""

    ode_order = 2

    def step(
        self, denoise: Denoise, x: Tensor, now: Level, then: Level, state: Past | None, context: Context
    ) -> tuple[Tensor, Past]:
        """One step; no noise in the last."""
        x0 = denoise(x, now)
        past = remember(x0, lam(now), state, 2)
        if not then.sigma > 0:
            return then.alpha * x0, past
        return self.arrive(x, towards_middle(past, lam(then) - lam(now)), now, then, context), past
