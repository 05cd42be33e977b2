"""What the network predicts: five rows of one table.

The denoiser is x0_hat = c_skip x + c_out F(c_in x, label), the training target F* = (x0 - c_skip x) / c_out.
The form is equation 7 of Karras et al. 2022 (arXiv 2206.00364), restated for any alpha and sigma. A prediction is a
function of the level and of sigma_data, the standard deviation of the data (the codec's fact; only `edm` uses it).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from .level import Level


class Coefficients(NamedTuple):
    """The three numbers of a level, float64, shaped like the level's fields."""

    c_in: Tensor
    c_skip: Tensor
    c_out: Tensor


Prediction = Callable[[Level, float], Coefficients]


def epsilon(level: Level, sigma_data: float) -> Coefficients:
    """F is the noise eps. Ho et al. 2020 (arXiv 2006.11239), equation 11."""
    return Coefficients(torch.ones_like(level.alpha), 1 / level.alpha, -level.sigma / level.alpha)


def x0(level: Level, sigma_data: float) -> Coefficients:
    """F is the clean image. Salimans & Ho 2022 (arXiv 2202.00512), section 4."""
    one = torch.ones_like(level.alpha)
    return Coefficients(one, torch.zeros_like(one), one)


def v(level: Level, sigma_data: float) -> Coefficients:
    """F is v = alpha eps - sigma x0. Salimans & Ho 2022 (arXiv 2202.00512), section 4 and appendix D."""
    n = level.alpha**2 + level.sigma**2  # 1 where the schedule preserves variance
    return Coefficients(torch.ones_like(n), level.alpha / n, -level.sigma / n)


def flow(level: Level, sigma_data: float) -> Coefficients:
    """F is the velocity u = eps - x0. Liu et al. 2022 (arXiv 2209.03003), equation 1; Lipman et al. 2022."""
    n = level.alpha + level.sigma  # 1 on the straight path
    return Coefficients(torch.ones_like(n), 1 / n, -level.sigma / n)


def edm(level: Level, sigma_data: float) -> Coefficients:
    """F has unit variance at every level. Karras et al. 2022 (arXiv 2206.00364), table 1, with sigma = r."""
    r = level.ratio
    n = r**2 + sigma_data**2
    return Coefficients(1 / (level.alpha * n.sqrt()), sigma_data**2 / (level.alpha * n), r * sigma_data / n.sqrt())
