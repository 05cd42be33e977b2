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
from .schedule import NoiseSchedule


class Coefficients(NamedTuple):
    """The three numbers of a level, float64, shaped like the level's fields."""

    c_in: Tensor
    c_skip: Tensor
    c_out: Tensor


Prediction = Callable[[Level, float], Coefficients]
LARGEST_C_OUT = 1000.0  # epsilon's is 22026 at log SNR -20, every other one's about 1


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


def check_prediction(schedule: NoiseSchedule, prediction: Prediction, sigma_data: float = 0.5) -> None:
    """Refuse a prediction that divides by alpha on a schedule with a step that has no signal.

    Lin et al. 2023 (arXiv 2305.08891), section 3.2: there x is the noise itself, and saying so says nothing of x0.

    Args:
        schedule: Only one with ``zero_terminal_snr`` is looked at: where the end is a point that continuous time
            comes near, not a step of its own, epsilon has its use, as in cosine schedules.
        prediction: Row of the table.
        sigma_data: Standard deviation of the data.

    Raises:
        ValueError: ``|c_out|`` is beyond 1000 at the noisiest level.
    """
    if not schedule.zero_terminal_snr:
        return
    c_out = float(prediction(schedule.at(schedule.ends()[0]), sigma_data).c_out)
    if not abs(c_out) <= LARGEST_C_OUT:
        raise ValueError(
            "the schedule has zero terminal SNR, and this prediction says nothing of the image where there is noise"
            f" alone: an error of the network counts {abs(c_out):.0f} times in x0_hat. Write prediction v, x0 or flow,"
            " or leave zero_terminal_snr out of the schedule"
        )
