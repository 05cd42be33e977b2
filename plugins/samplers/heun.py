"""Heun's method on the probability-flow ODE, with churn.

Source: Karras et al. 2022, "Elucidating the Design Space" (arXiv 2206.00364), algorithm 2, in r = sigma / alpha.
Order 2, two evaluations a step, one in the last.
"""

import math
from typing import Annotated

from annotated_types import Ge
from torch import Tensor

from ...core import Context, Denoise, Level, Sampler
from ...core.churn import Churn


class Heun(Sampler[None]):
    """Heun steps in sigma / alpha (EDM), order 2, with churn.

    Args:
        churn: S_churn; 0 is deterministic.
        churn_min: S_tmin, the cleanest sigma / alpha that is churned.
        churn_max: S_tmax, the noisiest.
        churn_noise: S_noise, standard deviation of the fresh noise.
    """

    evaluations = 2
    grid = "karras"

    def __init__(
        self,
        *,
        churn: Annotated[float, Ge(0)] = 0.0,
        churn_min: Annotated[float, Ge(0)] = 0.0,
        churn_max: Annotated[float, Ge(0)] | None = None,
        churn_noise: Annotated[float, Ge(0)] = 1.0,
    ) -> None:
        self.churn = Churn(churn, churn_min, math.inf if churn_max is None else churn_max, churn_noise)
        self.stochastic = churn > 0
        self.order = None if churn > 0 else 2

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
