"""The denoiser: the one currency between networks and samplers."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from .conditioning import Cond, complete, null_cond
from .guidance import Guidance
from .level import Level, like
from .predictions import Coefficients, Prediction, check_prediction
from .schedule import NoiseSchedule
from .spec import DataSpec

Denoise = Callable[[Tensor, Level], Tensor]
Network = Callable[[Tensor, Tensor, Cond], Tensor]
Pair = Callable[[Tensor, Level], tuple[Tensor, Tensor]]


class Denoiser:
    """A raw network read as x0_hat = c_skip x + c_out F(c_in x, label), whatever it predicts.

    Args:
        network: F: (x, noise (B,), cond) -> (B, C or more, *size); a `Backbone` or anything that wraps one.
        schedule: Turns levels into labels.
        prediction: Row of the table (`dmf.core.predictions`).
        sigma_data: Standard deviation of the data; the codec knows it.

    Raises:
        ValueError: A prediction that cannot go with the schedule (`check_prediction`).
    """

    def __init__(
        self, network: Network, schedule: NoiseSchedule, prediction: Prediction, sigma_data: float = 0.5
    ) -> None:
        check_prediction(schedule, prediction, sigma_data)
        self.network, self.schedule = network, schedule
        self.prediction, self.sigma_data = prediction, sigma_data

    def coefficients(self, level: Level) -> Coefficients:
        """(c_in, c_skip, c_out) at ``level``, float64."""
        return self.prediction(level, self.sigma_data)

    def raw(self, x: Tensor, level: Level, cond: Cond) -> Tensor:
        """F(c_in x, label): (B, C or more, *size), in x's dtype."""
        output = self.network(like(self.coefficients(level).c_in, x) * x, self._labels(x, level), cond)
        return output.to(x.dtype)

    def _labels(self, x: Tensor, level: Level) -> Tensor:
        """What the network is told of each image's level, (B,)."""
        precision = torch.promote_types(x.dtype, torch.float32)  # bfloat16 could not tell 999 from 1000
        label = self.schedule.label(level)
        if label.ndim == 0:  # a number is an argument of the kernel that fills; a copy to a GPU would wait for it
            return torch.full((len(x),), float(label), dtype=precision, device=x.device)
        return label.reshape(-1).to(device=x.device, dtype=precision).expand(len(x))

    def __call__(self, x: Tensor, level: Level, cond: Cond) -> Tensor:
        """The denoised image x0_hat, (B, C, *size)."""
        c = self.coefficients(level)
        return like(c.c_skip, x) * x + like(c.c_out, x) * self.raw(x, level, cond)[:, : x.shape[1]]

    def across(self, x: Tensor, level: Level, cond: Cond) -> Tensor:
        """X0_hat of an x on another schedule: asked where log SNR is the same, of x scaled to this schedule there.

        A level out of this schedule's reach is asked at the nearest that it has.

        Args:
            x: (B, C, *size) at ``level``.
            level: Of the other schedule; 0-d fields, or one an image.
            cond: As for any call.
        """
        here = self.schedule.at(self.schedule.clip(self.schedule.t_at(level.log_snr)))
        # x / alpha is that of any schedule with this sigma / alpha: both factors are then equal. Out of reach the
        # smaller one leaves neither more signal nor more noise than the network has seen
        scale = torch.minimum(here.alpha / level.alpha, here.sigma / level.sigma)
        return self(like(scale, x) * x, here, cond)


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


def bind(
    denoiser: Denoiser,
    cond: Cond,
    spec: DataSpec,
    guidance: Guidance | None = None,
    reference: Denoiser | None = None,
    reference_cond: Cond | None = None,
) -> Denoise:
    """The denoiser with conditioning and guidance inside.

    Without a reference, guidance is away from the denoiser's own answer to the null condition, and both halves are one
    batch of 2 B. With one (autoguidance: Karras et al. 2024, arXiv 2406.02507) each network has a batch of its own.
    Where the guidance does not act only the conditional half is computed.

    Args:
        denoiser: Conditional, when guided without a reference.
        cond: Of the B images, with real classes; empty for unlabelled data.
        spec: Of the data the network was built for.
        guidance: Combines the two x0_hat; None is the plain conditional denoiser.
        reference: A weaker network to guide away from. Its schedule and prediction may be others.
        reference_cond: What the reference is told; ``cond`` when left out. `null_cond` makes it unconditional.

    Raises:
        ValueError: Guidance with neither conditioning nor a reference.
    """
    given = _told(cond, spec)
    if guidance is None:
        return lambda x, level: denoiser(x, level, given(x))
    ask: Pair | None = None
    if guidance.guides and reference is None:
        none = null_cond(cond, spec)
        ask = _doubled(denoiser, complete(cond, spec), none)
    elif guidance.guides and reference is not None:
        told = given if reference_cond is None else _told(reference_cond, spec)
        ask = _side_by_side(denoiser, given, reference, told)

    def guided(x: Tensor, level: Level) -> Tensor:
        if ask is not None and guidance.acts(level):
            return guidance.combine(*ask(x, level), level)
        alone = denoiser(x, level, given(x))
        return guidance.combine(alone, alone, level)

    return guided


def _told(cond: Cond, spec: DataSpec) -> Callable[[Tensor], Cond]:
    """What the network is told of images x, (B, ...): where nothing is given, x tells how many zeros are filled in."""
    if cond or not spec.cond:
        given = complete(cond, spec)
        return lambda x: given
    complete(cond, spec, 1)  # what is missing is told now
    return lambda x: complete(cond, spec, len(x), x.device)


def _doubled(denoiser: Denoiser, given: Cond, none: Cond) -> Pair:
    """Both halves from one batch of 2 B, the conditional one first."""
    both = {name: torch.cat([given[name], none[name]]) for name in given}

    def ask(x: Tensor, level: Level) -> tuple[Tensor, Tensor]:
        conditional, unconditional = denoiser(torch.cat([x, x]), level.repeated(2), both).chunk(2)
        return conditional, unconditional

    return ask


def _side_by_side(
    denoiser: Denoiser, given: Callable[[Tensor], Cond], reference: Denoiser, told: Callable[[Tensor], Cond]
) -> Pair:
    """One batch of each network."""
    answer = reference if reference.schedule is denoiser.schedule else reference.across
    return lambda x, level: (denoiser(x, level, given(x)), answer(x, level, told(x)))
