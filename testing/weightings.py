"""What any loss weighting must hold to."""

from __future__ import annotations

import torch
from torch import Tensor

from ..core import Attempt, Cond, Denoiser, NoiseSchedule, Prediction, Weighting, training_loss
from ..core import predictions as named
from .claims import called, cannot, hold, require
from .predictions import PREDICTIONS
from .schedules import Arc, unlike_schedules

SIGMA_DATA = 0.6
LOG_SNR = 20.0  # the ends at which core stops
LEVELS = 17


def check_weighting(weighting: Weighting) -> None:
    """Hold a weighting to the interface: every check below.

    Raises:
        AssertionError: With a sentence, at the first that fails.
    """
    hold(WEIGHTING_CHECKS, weighting)


def check_positive(weighting: Weighting) -> None:
    """Positive and finite from log SNR -20 to 20, on x0_hat and on what the network learns, in float32 too."""
    for name, schedule in unlike_schedules().items():
        for predicted, prediction in PREDICTIONS.items():
            for dtype in (torch.float64, torch.float32):
                weight, _ = _weights(weighting, schedule, prediction, dtype)
                said = f"{called(weighting)} on schedule {name}, prediction {predicted}, {dtype}"
                wrong = weight[~((weight > 0) & weight.isfinite())]
                require(len(wrong) == 0, f"{said}: a weight is {wrong[:3].tolist()}; it is to be positive and finite")
                require(weight.shape == (LEVELS,), f"{said}: {LEVELS} levels have weights of {tuple(weight.shape)}")


def check_each(weighting: Weighting) -> None:
    """The weight of a level does not depend on those beside it, nor on its schedule's time."""
    whole, _ = _weights(weighting, Arc(), named.v)
    for k in range(LEVELS):
        alone, _ = _weights(weighting, Arc(), named.v, rows=slice(k, k + 1))
        off = float((alone / whole[k] - 1).abs())
        require(off < 1e-9, f"{called(weighting)}: the weight of a level changes by {off:.1e} with its batch")


def check_log_snr(weighting: Weighting) -> None:
    """On the error of x0_hat it is a function of log SNR alone, whatever schedule or prediction.

    One that depends on what is learnt, as `uniform` does, says so by depending on the prediction at log SNR 0 of a
    schedule that preserves variance.
    """
    if _depends_on_space(weighting):
        cannot(f"{called(weighting)} counts levels alike in what is learnt, so it depends on that")
    for name, schedule in unlike_schedules().items():
        for predicted, prediction in PREDICTIONS.items():
            weight, c_out = _weights(weighting, schedule, prediction)
            want, c_out_there = _weights(weighting, Arc(), named.x0, log_snr=_log_snrs(schedule))
            off = float((weight / c_out**2 / (want / c_out_there**2) - 1).abs().max())
            require(
                off < 1e-6,
                f"{called(weighting)} on schedule {name}, prediction {predicted}: on x0_hat it is {off:.1e} away from"
                " the weight of the same log SNR elsewhere",
            )


WEIGHTING_CHECKS = (check_positive, check_each, check_log_snr)


def _depends_on_space(weighting: Weighting) -> bool:
    zero = torch.zeros(1, dtype=torch.float64)
    found = []
    for prediction in (named.x0, named.v):
        weight, c_out = _weights(weighting, Arc(), prediction, log_snr=zero)
        found.append(float(weight / c_out**2))
    return abs(found[0] / found[1] - 1) > 1e-6


def _log_snrs(schedule: NoiseSchedule) -> Tensor:
    """From end to end, (LEVELS,)."""
    ends = schedule.log_snr(torch.tensor(schedule.ends(), dtype=torch.float64)).clamp(-LOG_SNR, LOG_SNR)
    return torch.linspace(float(ends[0]), float(ends[1]), LEVELS, dtype=torch.float64)


def _weights(
    weighting: Weighting,
    schedule: NoiseSchedule,
    prediction: Prediction,
    dtype: torch.dtype = torch.float64,
    log_snr: Tensor | None = None,
    rows: slice = slice(None),
) -> tuple[Tensor, Tensor]:
    """(factors on the squared error of F as an objective sees them, c_out), one a level: (n,) each."""
    wanted = (_log_snrs(schedule) if log_snr is None else log_snr)[rows]
    level = schedule.at(schedule.clip(schedule.t_at(wanted))).per_image(2)
    seen: list[Attempt] = []

    def objective(attempt: Attempt) -> Tensor:
        seen.append(attempt)
        return attempt.output.flatten(1).mean(1)

    def network(x: Tensor, noise: Tensor, cond: Cond) -> Tensor:
        return torch.zeros_like(x)

    x0 = torch.ones(len(wanted), 1, dtype=dtype)
    training_loss(Denoiser(network, schedule, prediction, SIGMA_DATA), objective, weighting, x0, x0, level, {})
    return seen[0].weight.flatten(), prediction(level, SIGMA_DATA).c_out.flatten()
