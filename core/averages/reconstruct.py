"""An average of any length as a sum of power-function averages that were kept: least squares on their profiles.

Source: Karras et al. 2023 (arXiv 2312.02696), section 3.2 and appendix C.3; equations 121, 151, algorithm 3. As in its
code the weights of the sum are scaled to add up to 1, so that what does not change in training stays as it is.
O(n^3) of n profiles, in float64.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .power import exponent


@dataclass(frozen=True)
class Profiles:
    """Some averages with the profiles p_i(tau) = (gamma_i + 1) tau^gamma_i / t_i^(gamma_i + 1), 0 < tau <= t_i.

    Attributes:
        t: When each was taken, in any unit, (n,) float64, above 0.
        gamma: Their exponents, (n,) float64.
    """

    t: Tensor
    gamma: Tensor

    def dot(self, other: Profiles) -> Tensor:
        """The integrals of p_i q_j over tau, (n, m)."""
        t_a, t_b = self.t[:, None], other.t[None, :]
        a, b = self.gamma[:, None], other.gamma[None, :]
        # eq. 151: (a + 1) (b + 1) / (a + b + 1) times (t_a / t_b)^b / t_b, or with a and b changed over if t_a > t_b
        power = torch.where(t_a < t_b, b, -a)
        return (a + 1) * (b + 1) * (t_a / t_b) ** power / ((a + b + 1) * torch.maximum(t_a, t_b))


@dataclass(frozen=True)
class Solution:
    """How the wanted average is made.

    Attributes:
        shares: Of the averages that are there, (n,) float64; their sum is 1.
        residual: The distance of the profile so made from the wanted one, in shares of the wanted one's norm.
        noise: By how much rounding errors of the averages, independent of each other, grow: the norm of the shares.
    """

    shares: Tensor
    residual: float
    noise: float


def profiles(times: list[float], lengths: list[float]) -> Profiles:
    """Those of averages that were taken at ``times``, with relative widths ``lengths``.

    Raises:
        ValueError: A width that has no profile.
    """
    gamma = torch.tensor([exponent(length) for length in lengths], dtype=torch.float64)
    return Profiles(torch.tensor(times, dtype=torch.float64), gamma)


def reconstruct(there: Profiles, wanted: Profiles) -> Solution:
    """The shares whose profile is nearest to the wanted one.

    Args:
        there: The averages that are there, at least one.
        wanted: One profile.
    """
    A, b, c = there.dot(there), there.dot(wanted)[:, 0], wanted.dot(wanted)[0, 0]
    # algorithm 3: minimise x A x - 2 x b + c; equal scales first, as A holds profiles of very different heights
    scale = A.diagonal().rsqrt()
    solved = torch.linalg.lstsq(scale[:, None] * A * scale, scale * b, driver="gelsd").solution
    x = scale * solved
    x = x / x.sum()
    residual = ((x @ A @ x - 2 * x @ b + c) / c).clamp(min=0).sqrt()
    return Solution(x, float(residual), float(x.norm()))
