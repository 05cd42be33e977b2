"""An exponential average by its half-life in images.

Source: Karras et al. 2022, "Elucidating the Design Space of Diffusion-Based Generative Models" (arXiv 2206.00364),
table 7 and appendix F.2; the ramp-up is that of its code.
"""

from typing import Annotated

from annotated_types import Ge

from ..spans import Period, images_of
from .base import Average

RAMPUP = 0.05


class HalfLife(Average):
    """2^(-batch / H), where H is the half-life, or early on a share of the images seen so far, where that is less.

    Args:
        length: The half-life, in images (`500k images`) or in steps: a set of weights counts half as much once so many
            more have been seen.
        rampup: Share of the images seen so far that H is at most: 0.05 as in the source; 0 has no ramp-up, and the
            first weights stay in the average as long as any others.
    """

    def __init__(self, *, length: Period = "500k images", rampup: Annotated[float, Ge(0)] = RAMPUP) -> None:
        self._length, self._rampup = length, rampup

    @property
    def label(self) -> str:
        """``half-life-500k-images``, or ``half-life-100`` of steps, and another ramp-up than the source's."""
        rampup = ["rampup", f"{self._rampup:.15g}"] if self._rampup != RAMPUP else []
        return "-".join(["half-life", *str(self._length).split(), *rampup])

    def decay(self, step: int, batch_size: int) -> float:
        """0 in the first step, where there is a ramp-up."""
        half_life = float(images_of(self._length, batch_size))
        if self._rampup:
            half_life = min(half_life, self._rampup * step * batch_size)
        return float(0.5 ** (batch_size / half_life)) if half_life else 0.0
