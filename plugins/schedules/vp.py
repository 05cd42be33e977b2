"""The variance-preserving SDE: linear betas in continuous time.

Source: Song et al. 2021, "Score-Based Generative Modeling through Stochastic Differential Equations"
(arXiv 2011.13456), appendix C, equation 33.
"""

from typing import Annotated

import torch
from annotated_types import Ge, Gt, Le
from torch import Tensor

from ...core import NoiseSchedule


class VP(NoiseSchedule):
    """Linear betas in continuous time (variance-preserving SDE).

    Args:
        beta_min: beta(0).
        beta_max: beta(1), not below beta_min.

    Raises:
        ValueError: beta_max below beta_min.
    """

    def __init__(
        self,
        *,
        beta_min: Annotated[float, Gt(0), Le(1000)] = 0.1,
        beta_max: Annotated[float, Ge(0.01), Le(1000)] = 20.0,
    ) -> None:
        if beta_max < beta_min:
            raise ValueError(f"beta rises from beta_min to beta_max; got {beta_min:g} and {beta_max:g}: swap them")
        self.beta_min, self.beta_max = beta_min, beta_max

    def alpha(self, t: Tensor) -> Tensor:
        """The root of exp(-integral of beta)."""
        return torch.exp(-self._integral(t) / 2)

    def sigma(self, t: Tensor) -> Tensor:
        """The root of 1 - alpha^2."""
        return torch.sqrt(-torch.expm1(-self._integral(t)))

    def t_at(self, log_snr: Tensor | float) -> Tensor:
        """The root of equation 33's quadratic, alpha^2 = sigmoid(log SNR) being given."""
        want = torch.as_tensor(log_snr, dtype=torch.float64)
        integral = -torch.nn.functional.logsigmoid(want)
        integral = integral.clamp(max=(self.beta_min + self.beta_max) / 2)  # that of t = 1
        root = torch.sqrt(self.beta_min**2 + 2 * (self.beta_max - self.beta_min) * integral)
        return 2 * integral / (self.beta_min + root)  # in this form nothing cancels where t is small

    def _integral(self, t: Tensor) -> Tensor:
        """Of beta from 0 to t: the exponents of equation 33, t^2 (beta_max - beta_min) / 2 + t beta_min."""
        return t * (t * (self.beta_max - self.beta_min) / 2 + self.beta_min)
