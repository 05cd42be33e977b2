"""Data whose denoiser is known in closed form: the yardstick for samplers, schedules, predictions and guidance.

For data from sum_k w_k N(mu_k, s^2) the marginal at a level is a mixture again, and the posterior mean of x0 given
x = alpha x0 + sigma eps follows from Bayes' rule (Bishop 2006, equations 2.113 to 2.117). All in float64.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ..core import Cond, Level, NoiseSchedule, Prediction
from ..core.denoiser import Network
from ..core.level import like
from .labels import LevelOfLabel


class Mixture:
    """A mixture of K Gaussians in D dimensions, alike but for their means; with ``std = 0``, K points.

    Args:
        means: mu_k, (K, D).
        std: s, one for all or (D,), one an axis.
        weights: w_k, (K,), summing to 1; equal when left out.
    """

    def __init__(
        self,
        means: Tensor | Sequence[Sequence[float]],
        std: Tensor | Sequence[float] | float = 0.0,
        weights: Tensor | Sequence[float] | None = None,
    ) -> None:
        self.means = torch.as_tensor(means, dtype=torch.float64)
        if self.means.ndim != 2:
            raise ValueError(f"the means of a mixture are (K, D); got the shape {tuple(self.means.shape)}")
        count, self.dim = self.means.shape
        self.std = torch.as_tensor(std, dtype=torch.float64).expand(self.dim)
        equal = torch.full((count,), 1 / count, dtype=torch.float64)
        self.weights = equal if weights is None else torch.as_tensor(weights, dtype=torch.float64)
        if self.weights.shape != (count,) or not math.isclose(float(self.weights.sum()), 1):
            raise ValueError(f"a mixture of {count} has as many weights, summing to 1; got {self.weights.tolist()}")

    def denoise(self, x: Tensor, level: Level) -> Tensor:
        """The posterior mean of x0, (B, *shape), in x's dtype: a `dmf.core.Denoise`.

        Args:
            x: (B, *shape) with D numbers an image.
            level: With sigma > 0; 0-d fields, or one an image.
        """
        flat = x.flatten(1).to(torch.float64)  # (B, D)
        alpha, sigma = (field.reshape(-1, 1).to(x.device) for field in (level.alpha, level.sigma))  # (1 or B, 1)
        means, std, weights = (value.to(x.device) for value in (self.means, self.std, self.weights))
        variance = (alpha * std) ** 2 + sigma**2  # of x's components, (1 or B, D)
        distance = (flat[:, None] - alpha[..., None] * means) ** 2 / variance[:, None]  # (B, K, D)
        belongs = torch.softmax(weights.log() - distance.sum(-1) / 2, dim=1)  # (B, K): log-sum-exp inside
        # mu + alpha s^2 / variance (x - alpha mu), with 1 - alpha^2 s^2 / variance = sigma^2 / variance
        x0 = alpha * std**2 / variance * flat + sigma**2 / variance * (belongs @ means)
        return x0.reshape(x.shape).to(x.dtype)

    def marginal(self, level: Level) -> Mixture:
        """The distribution of x at a level (0-d fields)."""
        std = ((level.alpha * self.std) ** 2 + level.sigma**2).sqrt()
        return Mixture(level.alpha * self.means, std, self.weights)

    def log_density(self, x: Tensor) -> Tensor:
        """ln p(x) in nats, (B,), for points (B, *shape); needs std > 0. Bishop 2006, equation 2.193."""
        flat = x.flatten(1).to(torch.float64)
        distance = ((flat[:, None] - self.means) / self.std).square().sum(-1)  # (B, K)
        volume = (math.log(2 * math.pi) / 2 + self.std.log()).sum()
        return torch.logsumexp(self.weights.log() - distance / 2, dim=1) - volume

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """``count`` points, (count, D)."""
        k = torch.multinomial(self.weights, count, replacement=True, generator=generator)
        noise = torch.randn((count, self.dim), generator=generator, dtype=torch.float64)
        return self.means[k] + self.std * noise

    def sample_at(self, level: Level, count: int, generator: torch.Generator) -> Tensor:
        """``count`` points x at a level, (count, D)."""
        return self.marginal(level).draw(count, generator)

    def mean(self) -> Tensor:
        """The mean, (D,)."""
        return self.weights @ self.means

    def covariance(self) -> Tensor:
        """The covariance, (D, D)."""
        off = self.means - self.mean()
        return torch.diag(self.std**2) + off.T @ (self.weights[:, None] * off)

    def as_network(
        self,
        schedule: NoiseSchedule,
        prediction: Prediction,
        sigma_data: float = 0.5,
        shifts: Tensor | Sequence[Sequence[float]] | None = None,
        level_of: LevelOfLabel | None = None,
    ) -> Network:
        """The raw network F that a perfect model would be: ``Denoiser`` of it, with the same arguments, is `denoise`.

        It works its level out from the label alone, as a network must, so a wrong label gives a wrong image.

        Args:
            schedule: Whose labels it reads.
            prediction: What it predicts.
            sigma_data: As the `Denoiser` has it.
            shifts: (K, D): for class k, ``cond["class"] == k``, the data lie moved by row k; for "none", unmoved.
            level_of: Of the same schedule, to share what it has solved between networks.
        """
        read = LevelOfLabel(schedule) if level_of is None else level_of
        none = torch.zeros(1, self.dim, dtype=torch.float64)
        rows = none if shifts is None else torch.cat([torch.as_tensor(shifts, dtype=torch.float64), none])

        def network(x_in: Tensor, noise: Tensor, cond: Cond) -> Tensor:
            level = read(noise).per_image(x_in.ndim)
            wide = x_in.to(torch.float64)
            c_in, c_skip, c_out = (like(c, wide) for c in prediction(level, sigma_data))
            x = wide / c_in
            moved = rows.to(x.device)[cond["class"]].reshape(x.shape) if shifts is not None else torch.zeros_like(x)
            x0 = moved + self.denoise(x - like(level.alpha, x) * moved, level)
            return ((x0 - c_skip * x) / c_out).to(x_in.dtype)

        return network


class Gaussian(Mixture):
    """One Gaussian, whose probability flow is solved in closed form; with ``std = 0``, one point.

    Args:
        mean: mu, (D,).
        std: s, one for all or (D,), one an axis.
    """

    def __init__(self, mean: Tensor | Sequence[float], std: Tensor | Sequence[float] | float) -> None:
        super().__init__(torch.as_tensor(mean, dtype=torch.float64)[None], std)

    def solution(self, x: Tensor, now: Level, then: Level) -> Tensor:
        """Where the probability-flow ODE takes x, (B, *shape), from one level to another, exactly.

        Each image keeps its place in the marginal, measured in standard deviations.
        """
        here, there = self.marginal(now), self.marginal(then)
        place = (x.flatten(1).to(torch.float64) - here.means) / here.std
        return (there.means + there.std * place).reshape(x.shape).to(x.dtype)
