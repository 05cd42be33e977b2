"""An average whose length grows with the training: weights count by a power of their time.

Source: Karras et al. 2023, "Analyzing and Improving the Training Dynamics of Diffusion Models" (arXiv 2312.02696),
section 3.1 and appendix C; equations 121, 123, 126, 127, algorithm 2.
"""

from __future__ import annotations

import math
from typing import Annotated, Literal

import torch
from annotated_types import Gt, Lt

from ..spans import Period
from .base import Average

LONGEST = 12**-0.5
"""The relative width of the mean of all weights, gamma = 0; one below it has gamma > 0."""


class Power(Average):
    """The average with the profile p(tau) = (gamma + 1) tau^gamma / t^(gamma + 1) over 0 < tau <= t.

    Several of them, kept as snapshots, give an average of any other length after the training: `dmf ema`.

    Args:
        length: Relative width sigma_rel of the profile: its standard deviation, in shares of the training so far. 0.05
            is about the last eighth.
        snapshots: Keep the average on disk every so many steps, or images (`500k images`), and at the end; null does
            not.
        dtype: Arithmetic of the snapshots: `float16` rounds to 11 bits and takes half the room of `float32`.
    """

    def __init__(
        self,
        *,
        length: Annotated[float, Gt(0), Lt(LONGEST)] = 0.1,
        snapshots: Period | None = None,
        dtype: Literal["float16", "float32"] = "float16",
    ) -> None:
        self.length, self.snapshots, self.dtype = length, snapshots, dtype
        self._gamma = exponent(length)

    @property
    def label(self) -> str:
        """``power-0.1``."""
        return f"power-{self.length:.15g}"

    def decay(self, step: int, batch_size: int) -> float:
        """beta of the step; 0 in the first."""
        t = step + 1
        # eq. 127
        return float((1 - 1 / t) ** (self._gamma + 1))


def exponent(length: float) -> float:
    """Gamma of a relative width sigma_rel, 0 < sigma_rel < 12^(-1/2).

    Raises:
        ValueError: Another width.
    """
    if not 0 < length < LONGEST:
        raise ValueError(f"a relative length of {length:g} has no profile; expected more than 0, less than 0.288")
    s = length**-2
    # eq. 126, algorithm 2: the largest root of gamma^3 + 7 gamma^2 + (16 - s) gamma + 12 - s, by its companion matrix
    companion = torch.tensor([[-7.0, s - 16, s - 12], [1, 0, 0], [0, 1, 0]], dtype=torch.float64)
    return float(torch.linalg.eigvals(companion).real.max())


def relative_width(gamma: float) -> float:
    """sigma_rel of an exponent."""
    # eq. 123
    return math.sqrt(gamma + 1) / ((gamma + 2) * math.sqrt(gamma + 3))
