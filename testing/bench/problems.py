"""Data with a known answer: what a perfect sampler makes of given noise."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ...core import Context, NoiseSchedule, generator, sample
from ...registry import build
from ..exact import Mixture
from ..ode import reference_end
from ..orders import smooth_grid

CLEAN_LOG_SNR = 19.0  # where the reference solver stops: sigma / alpha = 7e-5
RTOL = 1e-9
BORDER, BORDER_STEPS = 0.02, 60  # in standard deviations of the noise; steps of the walk that looks for the border


@dataclass(frozen=True)
class Problem:
    """A mixture, noise, and where the probability-flow ODE takes it.

    Noise that ends in another Gaussian when it is moved by `BORDER` is left out: a single such point, whose answer
    hangs on the last digits of any method, would outweigh all others in a mean of squares.

    Attributes:
        name: For tables.
        mixture: The data.
        schedule: Where the ODE begins and the levels in between.
        noise: Standard normal, (points, D).
        end: The exact end of each, (points, D).
        std: Standard deviation of the data, root of the mean variance of an axis.
        left_out: Points that lay too near a border.
    """

    name: str
    mixture: Mixture
    schedule: NoiseSchedule
    noise: Tensor
    end: Tensor
    std: float
    left_out: int

    def error(self, x: Tensor) -> float:
        """Root-mean-square distance of (points, D) from the exact ends, in standard deviations of the data."""
        return float((x - self.end).square().mean().sqrt()) / self.std


def many_dimensions() -> Mixture:
    """192 dimensions: 8 Gaussians of standard deviation 0.25 about means 0.6 N(0, 1)."""
    means = 0.6 * torch.randn(8, 192, generator=generator(0, "means of the 192-d mixture", 0), dtype=torch.float64)
    return Mixture(means, 0.25)


def two_dimensions() -> Mixture:
    """8 Gaussians of standard deviation 0.1 on a circle of radius 1."""
    angle = torch.arange(8, dtype=torch.float64) * torch.pi / 4
    return Mixture(torch.stack([angle.cos(), angle.sin()], dim=1), 0.1)


MIXTURES = {"2-d": two_dimensions, "192-d": many_dimensions}


def problem(name: str, schedule: NoiseSchedule, points: int, seed: int = 0) -> Problem:
    """The problem of one of `MIXTURES`, solved.

    Args:
        name: Which.
        schedule: On which the noise lies at the noisiest level.
        points: How many.
        seed: Of the noise.
    """
    mixture = MIXTURES[name]()
    random = generator(seed, f"noise of the {name} mixture", 0)
    noise = torch.randn(points, mixture.dim, generator=random, dtype=torch.float64)
    inside = ~_borderline(mixture, schedule, noise)
    end = exact_end(mixture, schedule, noise[inside])
    std = float(mixture.covariance().diagonal().mean().sqrt())
    return Problem(name, mixture, schedule, noise[inside], end, std, points - int(inside.sum()))


def exact_end(mixture: Mixture, schedule: NoiseSchedule, noise: Tensor) -> Tensor:
    """Where the ODE takes (points, D) noise, by SciPy's solver."""
    first, last = schedule.at(schedule.ends()[0]), schedule.at(schedule.t_at(CLEAN_LOG_SNR))
    x = reference_end(mixture.denoise, first.sigma * noise, schedule, first, last, RTOL)
    return mixture.denoise(x, last)


def _borderline(mixture: Mixture, schedule: NoiseSchedule, noise: Tensor) -> Tensor:
    """Which points end elsewhere when moved a little towards one of the other Gaussians, (points,) bool."""
    home = _nearest(mixture, schedule, noise)
    changes = torch.zeros(len(noise), dtype=torch.bool)
    for mean in mixture.means:
        towards = mean - mixture.means[home]
        moved = noise + BORDER * towards / towards.norm(dim=1, keepdim=True).clamp(min=1e-9)
        changes |= _nearest(mixture, schedule, moved) != home
    return changes


def _nearest(mixture: Mixture, schedule: NoiseSchedule, noise: Tensor) -> Tensor:
    """The Gaussian in which noise ends, (points,), by a fine walk; the figures themselves rest on `exact_end`."""
    levels = smooth_grid(schedule, BORDER_STEPS)
    walk = Context(schedule, lambda: torch.zeros_like(noise))
    x = sample(build("sampler", "heun"), mixture.denoise, levels[0].sigma * noise, levels, walk)
    return torch.cdist(x / levels[-1].alpha, mixture.means).argmin(1)
