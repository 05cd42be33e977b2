"""SDE-DPM-Solver++, singlestep: the reverse SDE by its midpoint.

Source: Lu et al. 2022, "DPM-Solver++" (arXiv 2211.01095): the SDE is that of its part on SDEs, the stages are those of
algorithm 1 with r1 = 1/2, as in Crowson's k-diffusion, `sample_dpmpp_sde`. Converges in distribution, with order 2;
with eta = 0 it is `dpmpp_2s`. Two evaluations a step, one in the last.

The noise of the two stages belongs together, or the network would be asked of an image that the step never passes.
Here it is one Wiener path, exactly: what the first half has drawn decays over the second, which draws the rest. In
k-diffusion eta between 0 and 1 is a share of the ancestral noise, here a factor in the SDE, as in `dpmpp_2m_sde`.
"""

from torch import Tensor

from ...core import Context, Denoise, Level
from ...core.exponential import first_order
from ...core.fresh_noise import ReverseSDESampler, sde_split


class DPMppSDE(ReverseSDESampler[None]):
    """SDE-DPM-Solver++, singlestep (DPM++ SDE), stochastic."""

    evaluations = 2
    ode_order = 2

    def step(
        self, denoise: Denoise, x: Tensor, now: Level, then: Level, state: None, context: Context
    ) -> tuple[Tensor, None]:
        """One step; no noise in the last."""
        x0 = denoise(x, now)
        if not then.sigma > 0:
            return first_order(x, x0, now, then), None
        mid = context.schedule.between(now, then, 0.5)
        # algorithm 1, line 4, for the SDE
        down, size = sde_split(now, mid, self.eta)
        noise = self.fresh(size, context)
        x0_mid = denoise(first_order(x, x0, now, down) + noise, mid)
        # the same path's noise at `then`: what it was at `mid` decays as x does, and the second half adds its own
        down, size = sde_split(mid, then, self.eta)
        noise = down.sigma / mid.sigma * noise + self.fresh(size, context)
        # lines 5, 6 with r1 = 1/2, where D is x0_mid alone
        down, _ = sde_split(now, then, self.eta)
        return first_order(x, x0_mid, now, down) + noise, None
