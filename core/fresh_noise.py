"""How much of the noise a stochastic step keeps, and how much it draws anew; two rules, equal for eta = 0 and 1.

A step from ``now`` to ``then`` goes deterministically to a level ``down``, less noisy than ``then``, and adds fresh
noise of deviation ``fresh``, where down.sigma^2 + fresh^2 = then.sigma^2. Written in r = sigma / alpha and in the
scaling of x, so both rules hold for any schedule. They need ``then`` to be cleaner than ``now``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import torch
from annotated_types import Ge, Le
from torch import Tensor

from .exponential import first_order
from .level import Level
from .sampler import Context, Sampler, State


def ancestral_split(now: Level, then: Level, eta: float) -> tuple[Level, Tensor]:
    """(down, fresh): eta times the deviation of the forward process's posterior, as far as ``then`` has noise.

    Song et al. 2020, "Denoising Diffusion Implicit Models" (arXiv 2010.02502), equations 12 and 16.

    Args:
        now: Level with sigma > 0.
        then: A cleaner one; may have sigma = 0.
        eta: 0 is deterministic, 1 the posterior; above 1 all noise of ``then`` is drawn anew at the end.
    """
    q = (then.ratio / now.ratio) ** 2
    # equation 16: fresh = eta sigma_s sqrt(1 - (r_s / r_t)^2)
    fresh = then.sigma * (eta * (1 - q).sqrt()).clamp(max=1)
    # equation 12: the root of sigma_s^2 - fresh^2, whose digits would cancel for eta = 1 and a long step
    kept = then.sigma * (1 - eta**2 + eta**2 * q).clamp(min=0).sqrt()
    return Level(then.t, then.alpha, kept), fresh


def ancestral_step(
    x: Tensor, x0: Tensor, now: Level, then: Level, eta: float, noise: Callable[[], Tensor], size: float = 1.0
) -> Tensor:
    """X at ``then`` by `ancestral_split`; ``noise`` is asked only where there is some to add.

    Args:
        x: (B, C, *size) at ``now``.
        x0: The denoised image, likewise.
        now: Level with sigma > 0.
        then: A cleaner one; may have sigma = 0.
        eta: Share of fresh noise.
        noise: Gives a standard normal shaped like x.
        size: Factor on the fresh noise; 1 is right.
    """
    down, fresh = ancestral_split(now, then, eta)
    there = first_order(x, x0, now, down)
    return there + size * fresh * noise() if eta * size > 0 and then.sigma > 0 else there


def sde_split(now: Level, then: Level, eta: float) -> tuple[Level, Tensor]:
    """(down, fresh) of the reverse SDE whose noise is sqrt(eta) times the forward process's, solved exactly.

    With x0_hat constant, dy = (1 + eta) (y - x0_hat) / r dr + sqrt(2 eta r) dw for y = x / alpha, r falling, has the
    solution y_t = x0_hat + (r_t / r_s)^(1 + eta) (y_s - x0_hat) + r_t sqrt(1 - (r_t / r_s)^(2 eta)) z: a step in two
    parts is the step at once. Lu et al. 2022b, "DPM-Solver++" (arXiv 2211.01095), equation 12, has eta = 1.

    Args:
        now: Level with sigma > 0.
        then: A cleaner one; may have sigma = 0.
        eta: 0 is the probability-flow ODE, 1 the time reversal of the forward process.
    """
    kept = (then.ratio / now.ratio) ** eta
    return Level(then.t, then.alpha, then.sigma * kept), then.sigma * torch.sqrt(1 - kept**2)


class ReverseSDESampler(Sampler[State]):
    """A solver of that SDE, of which eta = 0 leaves the probability-flow ODE.

    A subclass says in ``ode_order`` of what order it is then; it ends a step with `arrive`, and draws with `fresh`.
    """

    ode_order: int

    def __init__(self, *, eta: Annotated[float, Ge(0), Le(10)] = 1.0, s_noise: Annotated[float, Ge(0)] = 1.0) -> None:
        """Set the noise.

        Args:
            eta: How much fresh noise: 1 is the SDE of the paper, 0 is deterministic.
            s_noise: Factor on the fresh noise; 1 is right for a perfect network.
        """
        self.eta, self.s_noise = eta, s_noise
        self.stochastic = eta > 0 and s_noise > 0
        self.order = None if eta > 0 else self.ode_order

    def fresh(self, size: Tensor, context: Context) -> Tensor:
        """Noise of deviation ``size``, 0-d; a 0-d zero where the method is deterministic, without a draw."""
        return size * self.s_noise * context.randn() if self.stochastic else torch.zeros_like(size)

    def arrive(self, x: Tensor, x0: Tensor, now: Level, then: Level, context: Context) -> Tensor:
        """X at ``then``, had the denoised image been ``x0`` all the way, with fresh noise where old decays."""
        down, size = sde_split(now, then, self.eta)
        return first_order(x, x0, now, down) + self.fresh(size, context)
