"""Churn: a little fresh noise before a step of an ODE solver.

Source: Karras et al. 2022 (arXiv 2206.00364), algorithm 2, lines 4 to 6, in the frame x / alpha where sigma = r.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge
from torch import Tensor

from .level import Level
from .sampler import Context, Sampler


@dataclass(frozen=True)
class Churn:
    """The four constants of the paper.

    Attributes:
        amount: S_churn; 0 is none.
        r_min: S_tmin: below this sigma / alpha there is none.
        r_max: S_tmax: above this there is none.
        noise: S_noise: standard deviation of the fresh noise.
    """

    amount: float = 0.0
    r_min: float = 0.0
    r_max: float = math.inf
    noise: float = 1.0

    def __call__(self, x: Tensor, now: Level, context: Context) -> tuple[Tensor, Level]:
        """X raised from ``now`` to a noisier level, and that level; both unchanged where there is no churn."""
        r = now.ratio
        # line 4: gamma_i = min(S_churn / N, sqrt(2) - 1) for t_i in [S_tmin, S_tmax]
        gamma = min(self.amount / (len(context.levels) - 1), math.sqrt(2) - 1)
        if gamma == 0 or not self.r_min <= r <= self.r_max:
            return x, now
        # line 5: t_hat = t + gamma t, as far as the schedule reaches
        noisier = context.schedule.at(context.schedule.clip(context.schedule.t_at(-2 * (r * (1 + gamma)).log())))
        # line 6: x_hat = x + sqrt(t_hat^2 - t^2) S_noise eps, times the new alpha
        added = (noisier.ratio**2 - r**2).clamp(min=0).sqrt() * self.noise
        return noisier.alpha * (x / now.alpha + added * context.randn()), noisier


class ChurnedSampler(Sampler[None]):
    """A solver of the probability-flow ODE that may be churned; with churn it is stochastic and has no order.

    A subclass sets ``order`` and begins its step with ``x, now = self.churn(x, now, context)``.
    """

    def __init__(
        self,
        *,
        churn: Annotated[float, Ge(0)] = 0.0,
        churn_min: Annotated[float, Ge(0)] = 0.0,
        churn_max: Annotated[float, Ge(0)] | None = None,
        churn_noise: Annotated[float, Ge(0)] = 1.0,
    ) -> None:
        """Set the churn.

        Args:
            churn: S_churn; 0 is deterministic.
            churn_min: S_tmin, the cleanest sigma / alpha that is churned.
            churn_max: S_tmax, the noisiest.
            churn_noise: S_noise, standard deviation of the fresh noise.
        """
        self.churn = Churn(churn, churn_min, math.inf if churn_max is None else churn_max, churn_noise)
        self.stochastic = churn > 0
        if self.stochastic:
            self.order = None
