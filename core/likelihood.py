"""Likelihood: the exact log density of a model, along its probability-flow ODE.

Source: Song et al. 2021, "Score-Based Generative Modeling" (arXiv 2011.13456), section 4.3 and appendix D.2, equations
39 and 40; the trace by Hutchinson's estimator (Grathwohl et al. 2019, "FFJORD", arXiv 1810.01367, section 3.1), with
Rademacher probes. Order 4, by the classical Runge-Kutta method: 4 evaluations a step, each with a gradient a probe.

The ODE is dy / d ln r = y - x0_hat for y = x / alpha in r = sigma / alpha. It is solved for z = y / sqrt(s^2 + r^2), s
the data's standard deviation, which stands still at both ends, and all the way where the data are such a Gaussian.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from .denoiser import Denoise
from .schedule import NoiseSchedule


class Slope(NamedTuple):
    """Of the state along ln r.

    Attributes:
        z: (B, C, *size).
        log_p: What the clean end's is larger by, one for each probe, (probes, B).
    """

    z: Tensor
    log_p: Tensor


def log_density(
    denoise: Denoise,
    x0: Tensor,
    schedule: NoiseSchedule,
    probes: Tensor | None = None,
    steps: int = 50,
    sigma_data: float = 0.5,
) -> Tensor:
    """ln p(x0) of the model, in nats of the whole image, once for each probe.

    The density is that of the ODE's end at the schedule's cleanest level, begun from N(0, r^2) at its noisiest.

    Args:
        denoise: The denoiser, bound; unguided, or it is the density of nothing. Gradients must flow through it.
        x0: (B, C, *size).
        schedule: Gives the levels; its ends bound the integral.
        probes: Random signs, (probes, B, C, *size): each row gives an unbiased estimate. None is the exact trace, at as
            many gradients as an image has numbers.
        steps: Steps of the Runge-Kutta method, even in log SNR.
        sigma_data: Standard deviation of x0, about: a good one needs fewer steps.

    Returns:
        (probes, B) float64; (1, B) without probes.

    Raises:
        ValueError: No step, or probes of another shape than x0's.
    """
    if steps < 1:
        raise ValueError(f"the integral takes at least one step; got steps = {steps}")
    if probes is not None and (probes.ndim == 0 or not len(probes) or probes.shape[1:] != x0.shape):
        raise ValueError(f"probes are (probes, {', '.join(map(str, x0.shape))}), like x0; got {tuple(probes.shape)}")
    flow = _Flow(denoise, schedule, probes, sigma_data, x0.dtype)
    noisiest, cleanest = schedule.ends()
    first, last = (float(schedule.at(t).ratio.log()) for t in (cleanest, noisiest))
    grid = torch.linspace(first, last, steps + 1, dtype=torch.float64).tolist()
    numbers = x0[0].numel()
    z = x0.to(torch.float64) / flow.width(first)
    log_p = torch.zeros(1 if probes is None else len(probes), len(x0), dtype=torch.float64, device=x0.device)
    for now, then in pairwise(grid):
        z, log_p = _runge_kutta(flow, now, then, z, log_p)
    # the prior N(0, r^2) of y at the noisiest level, and dy = width dz there and at the cleanest
    widths = math.log(flow.width(last)) - math.log(flow.width(first))
    eps = z * flow.width(last) / math.exp(last)
    prior: Tensor = -eps.square().flatten(1).sum(1) / 2 - numbers * (math.log(2 * math.pi) / 2 + last)
    return log_p + prior + numbers * widths


class _Flow:
    """The slope of z and of its log density."""

    def __init__(
        self, denoise: Denoise, schedule: NoiseSchedule, probes: Tensor | None, sigma_data: float, dtype: torch.dtype
    ) -> None:
        self.denoise, self.schedule, self.probes = denoise, schedule, probes
        self.sigma_data, self.dtype = sigma_data, dtype

    def width(self, log_r: float) -> float:
        """sqrt(s^2 + r^2)."""
        return math.hypot(self.sigma_data, math.exp(log_r))

    def __call__(self, log_r: float, z: Tensor) -> Slope:
        """At z, (B, C, *size) float64."""
        width, level = self.width(log_r), self.schedule.at(self.schedule.t_at(-2 * log_r))
        still = (self.sigma_data / width) ** 2
        with torch.enable_grad():
            y = (width * z).to(self.dtype).requires_grad_()
            x0 = self.denoise(level.alpha * y, level)
            trace = _exact_trace(x0, y) if self.probes is None else _trace(x0, y, self.probes)
        # equation 39: ln p at the clean end is that at the noisy end plus the integral of the drift's divergence
        return Slope(still * z - x0.detach().to(z.dtype) / width, z[0].numel() * still - trace)


def _trace(x0: Tensor, y: Tensor, probes: Tensor) -> Tensor:
    """Equation 40: eps^T (d x0_hat / dy) eps for each probe, (probes, B) float64."""
    rows = []
    for eps in probes.to(y.dtype):
        (through,) = torch.autograd.grad(x0, y, eps, retain_graph=True)
        rows.append((through * eps).flatten(1).to(torch.float64).sum(1))
    return torch.stack(rows)


def _exact_trace(x0: Tensor, y: Tensor) -> Tensor:
    """The sum over the diagonal of d x0_hat / dy, an entry a gradient: (1, B) float64."""
    flat = x0.flatten(1)
    total = torch.zeros(len(y), dtype=torch.float64, device=y.device)
    for i in range(flat.shape[1]):
        (through,) = torch.autograd.grad(flat[:, i].sum(), y, retain_graph=True)
        total += through.flatten(1)[:, i]
    return total[None]


def _runge_kutta(flow: _Flow, now: float, then: float, z: Tensor, log_p: Tensor) -> tuple[Tensor, Tensor]:
    """One step of the classical method (Kutta 1901) in ln r."""
    h, middle = then - now, (now + then) / 2
    k1 = flow(now, z)
    k2 = flow(middle, z + h / 2 * k1.z)
    k3 = flow(middle, z + h / 2 * k2.z)
    k4 = flow(then, z + h * k3.z)
    z = z + h / 6 * (k1.z + 2 * k2.z + 2 * k3.z + k4.z)
    return z, log_p + h / 6 * (k1.log_p + 2 * k2.log_p + 2 * k3.log_p + k4.log_p)
