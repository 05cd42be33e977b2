"""Euler's method on the probability-flow ODE, with churn.

Source: Karras et al. 2022, "Elucidating the Design Space" (arXiv 2206.00364), algorithm 2 without its correction.
Order 1, one evaluation a step. Without churn it is DDIM at eta = 0.
"""

import math
from typing import Annotated

from annotated_types import Ge
from torch import Tensor

from ...core import Context, Denoise, Level, Sampler
from ...core.churn import Churn


class Euler(Sampler[None]):
    """Euler steps in sigma / alpha, order 1, with churn.

    Args:
        churn: S_churn; 0 is deterministic.
        churn_min: S_tmin, the cleanest sigma / alpha that is churned.
        churn_max: S_tmax, the noisiest.
        churn_noise: S_noise, standard deviation of the fresh noise.
    """

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
        self.order = None if churn > 0 else 1

    def step(
        self, denoise: Denoise, x: Tensor, now: Level, then: Level, state: None, context: Context
    ) -> tuple[Tensor, None]:
        """One step."""
        x, now = self.churn(x, now, context)
        x0 = denoise(x, now)
        # lines 7, 8: x + (t' - t) d with d = eps, which is the same image under the same noise at the new level
        return then.mix(x0, now.noise_in(x, x0)), None
