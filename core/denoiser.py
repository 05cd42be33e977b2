"""The denoiser: the one currency between networks and samplers."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from .conditioning import Cond, complete, null_cond
from .guidance import Guidance
from .level import Level, like
from .predictions import Coefficients, Prediction
from .schedule import NoiseSchedule
from .spec import DataSpec

Denoise = Callable[[Tensor, Level], Tensor]
Network = Callable[[Tensor, Tensor, Cond], Tensor]


class Denoiser:
    """A raw network read as x0_hat = c_skip x + c_out F(c_in x, label), whatever it predicts.

    Args:
        network: F: (x, noise (B,), cond) -> (B, C or more, *size); a `Backbone` or anything that wraps one.
        schedule: Turns levels into labels.
        prediction: Row of the table (`dmf.core.predictions`).
        sigma_data: Standard deviation of the data; the codec knows it.
    """

    def __init__(
        self, network: Network, schedule: NoiseSchedule, prediction: Prediction, sigma_data: float = 0.5
    ) -> None:
        self.network, self.schedule = network, schedule
        self.prediction, self.sigma_data = prediction, sigma_data

    def coefficients(self, level: Level) -> Coefficients:
        """(c_in, c_skip, c_out) at ``level``, float64."""
        return self.prediction(level, self.sigma_data)

    def raw(self, x: Tensor, level: Level, cond: Cond) -> Tensor:
        """F(c_in x, label): (B, C or more, *size), in x's dtype."""
        precision = torch.promote_types(x.dtype, torch.float32)  # bfloat16 could not tell 999 from 1000
        label = self.schedule.label(level).reshape(-1).to(device=x.device, dtype=precision)
        output = self.network(like(self.coefficients(level).c_in, x) * x, label.expand(len(x)), cond)
        return output.to(x.dtype)

    def __call__(self, x: Tensor, level: Level, cond: Cond) -> Tensor:
        """The denoised image x0_hat, (B, C, *size)."""
        c = self.coefficients(level)
        return like(c.c_skip, x) * x + like(c.c_out, x) * self.raw(x, level, cond)[:, : x.shape[1]]


class Counted:
    """A denoiser that counts how often it is asked: the network evaluations of a walk.

    A guided evaluation, whatever it costs, is one.

    Args:
        denoise: To be asked.

    Attributes:
        calls: How often it was.
    """

    def __init__(self, denoise: Denoise) -> None:
        self.denoise, self.calls = denoise, 0

    def __call__(self, x: Tensor, level: Level) -> Tensor:
        """The denoised image, (B, C, *size)."""
        self.calls += 1
        return self.denoise(x, level)


def bind(denoiser: Denoiser, cond: Cond, spec: DataSpec, guidance: Guidance | None = None) -> Denoise:
    """The denoiser with conditioning and guidance inside.

    Args:
        denoiser: Conditional, when guided.
        cond: Of the B images, with real classes.
        spec: Of the data the network was built for.
        guidance: Combines the conditional and the unconditional x0_hat; None is the plain conditional denoiser. Both
            come from one batch of 2 B.

    Raises:
        ValueError: Guidance without conditioning.
    """
    given = complete(cond, spec)
    if guidance is None:
        return lambda x, level: denoiser(x, level, given)
    none = null_cond(cond, spec)
    both = {name: torch.cat([given[name], none[name]]) for name in given}

    def guided(x: Tensor, level: Level) -> Tensor:
        conditional, reference = denoiser(torch.cat([x, x]), level.repeated(2), both).chunk(2)
        return guidance(conditional, reference, level)

    return guided
