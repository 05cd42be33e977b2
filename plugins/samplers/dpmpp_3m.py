"""DPM-Solver++(3M): the third-order multistep solver of the probability-flow ODE in lambda.

Source: Lu et al. 2022, "DPM-Solver++" (arXiv 2211.01095), equation 8 with the parabola through three x0_hat, and
appendix B; the authors' code. Order 3, one evaluation a step; orders 1 and 2 in the first steps, 1 in the one to
sigma = 0. The authors' code takes half of the parabola's second difference, which makes it a method of order 2:
`as_published`.
"""

from torch import Tensor

from ...core import Context, Denoise, Level, Sampler
from ...core.exponential import first_order
from ...core.multistep import Past, beyond_first, lam, parabola_moments, remember, steps_left


class DPMpp3M(Sampler[Past]):
    """DPM-Solver++(3M), order 3.

    Args:
        as_published: Take half of the second difference, as the authors' code does; order 2.
        lower_order_final: Take the last step but one before sigma = 0 with order 2.
    """

    def __init__(self, *, as_published: bool = False, lower_order_final: bool = True) -> None:
        self.as_published, self.lower_order_final = as_published, lower_order_final
        self.order = 2 if as_published else 3

    def step(
        self, denoise: Denoise, x: Tensor, now: Level, then: Level, state: Past | None, context: Context
    ) -> tuple[Tensor, Past]:
        """One step."""
        x0 = denoise(x, now)
        past = remember(x0, lam(now), state, 3)
        if not then.sigma > 0:
            return then.alpha * x0, past
        used = past[:2] if self.lower_order_final and steps_left(context) <= 2 else past
        moments = parabola_moments(lam(then) - lam(now), halved=self.as_published)
        # equation 8: the parabola through the latest x0_hat, its constant part by itself
        return first_order(x, x0, now, then) + then.alpha * beyond_first(used, moments), past
