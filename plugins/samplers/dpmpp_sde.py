"""SDE-DPM-Solver++, singlestep: the reverse SDE by its midpoint.

Source: Lu et al. 2022, "DPM-Solver++" (arXiv 2211.01095): the SDE is that of its part on SDEs, the stages are those of
algorithm 1 with r1 = 1/2, as in Crowson's k-diffusion, `sample_dpmpp_sde`. Converges in distribution; with eta = 0 it
is `dpmpp_2s`, order 2. Two evaluations a step, one in the last.

The noise of the two stages belongs together, or the network would be asked of an image that the step never passes.
Here it is one Wiener path, exactly: what the first half has drawn decays over the second, which draws the rest. In
k-diffusion eta between 0 and 1 is a share of the ancestral noise, here a factor in the SDE, as in `dpmpp_2m_sde`.
"""

from typing import Annotated

from annotated_types import Ge
from torch import Tensor

from ...core import Context, Denoise, Level, Sampler
from ...core.exponential import first_order
from ...core.fresh_noise import sde_split


class DPMppSDE(Sampler[None]):
    """SDE-DPM-Solver++, singlestep (DPM++ SDE), with fresh noise at each stage.

    Args:
        eta: Noise of the reverse SDE: 0 is the probability-flow ODE, 1 the time reversal of the forward process.
        s_noise: Standard deviation of the fresh noise; 1 is right for a perfect network.
    """

    evaluations = 2
    grid = "karras"

    def __init__(self, *, eta: Annotated[float, Ge(0)] = 1.0, s_noise: Annotated[float, Ge(0)] = 1.0) -> None:
        self.eta, self.s_noise = eta, s_noise
        self.stochastic = eta * s_noise > 0
        self.order = 2 if eta == 0 else None

    def step(
        self, denoise: Denoise, x: Tensor, now: Level, then: Level, state: None, context: Context
    ) -> tuple[Tensor, None]:
        """One step; no noise in the last."""
        x0 = denoise(x, now)
        if not then.sigma > 0:
            return first_order(x, x0, now, then), None
        mid = context.schedule.between(now, then, 0.5)
        down_mid, fresh = sde_split(now, mid, self.eta)
        noise = self._noise(fresh, context)
        # algorithm 1, line 4, for the SDE
        x0_mid = denoise(first_order(x, x0, now, down_mid) + noise, mid)
        # lines 5, 6 with r1 = 1/2, where D is x0_mid alone
        down, _ = sde_split(now, then, self.eta)
        # the same path's noise at `then`: what it was at `mid` decays like x, and the second half adds its own
        rest, fresh = sde_split(mid, then, self.eta)
        noise = rest.sigma / mid.sigma * noise + self._noise(fresh, context)
        return first_order(x, x0_mid, now, down) + noise, None

    def _noise(self, size: Tensor, context: Context) -> Tensor:
        return self.s_noise * size * context.randn() if self.stochastic else size * 0
