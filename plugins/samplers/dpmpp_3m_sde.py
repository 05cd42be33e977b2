"""SDE-DPM-Solver++(3M): a third-order multistep solver of the diffusion SDE.

Source: the parabola of DPM-Solver++(3M) in the SDE of Lu et al. 2022 (arXiv 2211.01095), equation 12; Crowson's
k-diffusion, `sample_dpmpp_3m_sde`, which takes half of its second difference: `as_published`.
One evaluation a step. No order as an ODE method unless eta = 0, where it is DPM-Solver++(3M), of order 3.
"""

from typing import Annotated

from annotated_types import Ge, Le
from torch import Tensor

from ...core import Context, Denoise, Level
from ...core.fresh_noise import ReverseSDESampler
from ...core.multistep import Past, beyond_first, lam, parabola_moments, remember, steps_left


class DPMpp3MSDE(ReverseSDESampler[Past]):
    """SDE-DPM-Solver++(3M), stochastic.

    Args:
        eta: How much fresh noise: 1 is the SDE of the paper, 0 is deterministic.
        s_noise: Factor of the fresh noise, 1 for none.
        as_published: Take half of the second difference, as k-diffusion does; order 2 at eta = 0.
        lower_order_final: Take the last step but one before sigma = 0 with order 2.
    """

    ode_order = 3

    def __init__(
        self,
        *,
        eta: Annotated[float, Ge(0), Le(10)] = 1.0,
        s_noise: Annotated[float, Ge(0)] = 1.0,
        as_published: bool = False,
        lower_order_final: bool = True,
    ) -> None:
        self.as_published, self.lower_order_final = as_published, lower_order_final
        if as_published:
            self.ode_order = 2
        super().__init__(eta=eta, s_noise=s_noise)

    def step(
        self, denoise: Denoise, x: Tensor, now: Level, then: Level, state: Past | None, context: Context
    ) -> tuple[Tensor, Past]:
        """One step; no noise in the last."""
        x0 = denoise(x, now)
        past = remember(x0, lam(now), state, 3)
        if not then.sigma > 0:
            return then.alpha * x0, past
        used = past[:2] if self.lower_order_final and steps_left(context) <= 2 else past
        moments = parabola_moments(lam(then) - lam(now), self.eta, halved=self.as_published)
        return self.arrive(x, x0, now, then, context) + then.alpha * beyond_first(used, moments), past
