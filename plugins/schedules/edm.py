"""EDM's schedule: the time is the noise.

Source: Karras et al. 2022, "Elucidating the Design Space of Diffusion-Based Generative Models" (arXiv 2206.00364),
table 1, column "Ours".
"""

from typing import Annotated

from annotated_types import Ge, Le
from torch import Tensor

from ._exploding import Exploding


class EDM(Exploding):
    """Sigma = t from sigma_min to sigma_max, alpha = 1 (EDM)."""

    def __init__(
        self,
        *,
        sigma_min: Annotated[float, Ge(1e-4), Le(1e4)] = 0.002,
        sigma_max: Annotated[float, Ge(1e-4), Le(1e4)] = 80.0,
    ) -> None:
        super().__init__(sigma_min, sigma_max)
        self.t_min, self.t_max = sigma_min, sigma_max

    def sigma(self, t: Tensor) -> Tensor:
        """The time itself."""
        return t

    def t_at(self, log_snr: Tensor | float) -> Tensor:
        """The sigma itself."""
        return self.sigma_at(log_snr)
