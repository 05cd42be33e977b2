"""Singlestep exponential solvers of order 2: one denoised image at the start of a step, one within it.

Source: Lu et al. 2022, "DPM-Solver" (arXiv 2206.00927), and 2022b, "DPM-Solver++" (arXiv 2211.01095). Theirs are two
methods, for a polynomial of the noise and of the image. Written in the denoised image, only one coefficient differs.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Annotated

from annotated_types import Ge, Le
from torch import Tensor

from .denoiser import Denoise
from .exponential import first_order
from .level import Level
from .sampler import Context, Sampler


class TwoStages(Sampler[None]):
    """A first-order step, corrected by what x0_hat does on the way; a subclass writes `gain`."""

    evaluations = 2
    order = 2

    def __init__(self, *, r1: Annotated[float, Ge(0.05), Le(1)] = 0.5) -> None:
        """Set where the second stage lies.

        Args:
            r1: How far along a step, in log SNR, the network is asked the second time.
        """
        self.r1 = r1

    @abstractmethod
    def gain(self, now: Level, mid: Level, then: Level) -> Tensor:
        """The factor, 0-d, on the change of x0_hat from ``now`` to ``mid``."""

    def step(
        self, denoise: Denoise, x: Tensor, now: Level, then: Level, state: None, context: Context
    ) -> tuple[Tensor, None]:
        """One step; the last has one stage."""
        x0 = denoise(x, now)
        there = first_order(x, x0, now, then)
        if not then.sigma > 0:
            return there, None
        mid = context.schedule.between(now, then, self.r1)
        x0_mid = denoise(first_order(x, x0, now, mid), mid)
        return there + self.gain(now, mid, then) * (x0_mid - x0), None
