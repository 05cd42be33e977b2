"""A piece of the sigmoid, in continuous time: gamma = alpha^2 falls steeply in the middle.

Source: Jabri et al. 2022, "Scalable Adaptive Computation for Iterative Generation" (arXiv 2212.11972), appendix;
Chen 2023, "On the Importance of Noise Scheduling for Diffusion Models" (arXiv 2301.10972), algorithm 1. Both draw t
from [0, 1] and step through any times, so this is no table. Their gamma is cut off at 1e-9, log SNR -20.7; here core
keeps away from there.
"""

from typing import Annotated

import torch
from annotated_types import Ge, Le
from torch import Tensor

from ...core import NoiseSchedule


class Sigmoid(NoiseSchedule):
    """A piece of the sigmoid in continuous time, alpha^2 = gamma(t).

    Args:
        start: Where the piece begins, at the clean end.
        end: Where it ends, above start.
        tau: Temperature: larger makes the piece straighter.

    Raises:
        ValueError: end not above start.
    """

    def __init__(
        self,
        *,
        start: Annotated[float, Ge(-6), Le(6)] = -3.0,
        end: Annotated[float, Ge(-6), Le(6)] = 3.0,
        tau: Annotated[float, Ge(0.1), Le(10)] = 1.0,
    ) -> None:
        if not start < end:
            raise ValueError(f"the sigmoid runs from start up to end; got {start:g} and {end:g}: make end larger")
        self.start, self.end = start / tau, end / tau

    def alpha(self, t: Tensor) -> Tensor:
        """The root of gamma."""
        return _fall(1 - t, -self.end, -self.start).sqrt()

    def sigma(self, t: Tensor) -> Tensor:
        """The root of 1 - gamma: the same seen from the other end, so that neither loses its digits."""
        return _fall(t, self.start, self.end).sqrt()

    def t_at(self, log_snr: Tensor | float) -> Tensor:
        """The inverse, from whichever end is nearer."""
        want = torch.as_tensor(log_snr, dtype=torch.float64)
        from_clean = _way(torch.sigmoid(-want), self.start, self.end)
        from_noisy = _way(torch.sigmoid(want), -self.end, -self.start)
        return torch.where(want > 0, from_clean, 1 - from_noisy)


def _fall(t: Tensor, a: float, b: float) -> Tensor:
    """How far the sigmoid has come at u = a + (b - a) t: (sigmoid(u) - sigmoid(a)) / (sigmoid(b) - sigmoid(a)).

    Chen 2023, algorithm 1, has gamma as 1 minus this. A difference of sigmoids is written as
    sigmoid(u) - sigmoid(a) = sigmoid(u) sigmoid(-a) (1 - exp(a - u)), in which nothing cancels.
    """
    end = torch.tensor(b, dtype=torch.float64)
    there = torch.sigmoid(a + (b - a) * t) / torch.sigmoid(end)
    return there * torch.expm1((a - b) * t) / torch.expm1(end.new_tensor(a - b))


def _way(share: Tensor, a: float, b: float) -> Tensor:
    """The inverse of `_fall`: logit(sigmoid(a) + share (sigmoid(b) - sigmoid(a))) - a, as a part of b - a."""
    start, end = (torch.tensor(x, dtype=torch.float64) for x in (a, b))
    rise = -torch.sigmoid(end) * torch.expm1(start - end)  # (sigmoid(b) - sigmoid(a)) / sigmoid(-a)
    return (torch.log1p(share * rise * torch.exp(-start)) - torch.log1p(-share * rise)) / (b - a)
