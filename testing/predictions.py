"""What any prediction must hold to."""

from __future__ import annotations

import torch
from torch import Tensor

from ..core import Coefficients, Level, Prediction, generator
from ..core import predictions as named
from ..core.level import like
from .claims import called, hold, require
from .schedules import Arc, unlike_schedules

PREDICTIONS: dict[str, Prediction] = {
    "epsilon": named.epsilon,
    "x0": named.x0,
    "v": named.v,
    "flow": named.flow,
    "edm": named.edm,
}
SIGMA_DATA = 0.6
LOG_SNR = 20.0  # the ends at which core stops
ROUNDINGS = 8  # of the largest term, in the dtype of x
FIELDS = ("c_in", "c_skip", "c_out")


def check_prediction(prediction: Prediction) -> None:
    """Hold a prediction to the interface: every check below.

    Raises:
        AssertionError: With a sentence, at the first that fails.
    """
    hold(PREDICTION_CHECKS, prediction)


def check_coefficients(prediction: Prediction) -> None:
    """Three float64 numbers a level, shaped like its fields, finite; c_in and c_out are not 0."""
    for where, level in _everywhere():
        c = Coefficients(*prediction(level, SIGMA_DATA))
        for name, value in zip(FIELDS, c, strict=True):
            said = f"{called(prediction)}: {name} {where}"
            require(value.shape == level.alpha.shape, f"{said} has the shape {tuple(value.shape)}, not the level's")
            require(value.dtype == torch.float64, f"{said} is to be float64; got {value.dtype}")
            require(value.isfinite().all(), f"{said} is not finite")
            require(name == "c_skip" or (value != 0).all(), f"{said} is 0: nothing goes through the network")


def check_level(prediction: Prediction) -> None:
    """Nothing but alpha and sigma of a level counts: the schedule's time means nothing elsewhere."""
    level = Arc().at(torch.linspace(0.1, 0.9, 5, dtype=torch.float64))
    one, other = prediction(level, SIGMA_DATA), prediction(Level(1 - level.t, level.alpha, level.sigma), SIGMA_DATA)
    same = all(torch.equal(a, b) for a, b in zip(one, other, strict=True))
    require(same, f"{called(prediction)} depends on the time of a level; use its alpha and sigma alone")


def check_inverse(prediction: Prediction) -> None:
    """x0_hat of F* is x0 at every level, up to a few roundings of its two terms; F* is finite."""
    random = generator(0, "prediction", 0)
    x0 = SIGMA_DATA * torch.randn(6, dtype=torch.float64, generator=random)
    eps = torch.randn(6, dtype=torch.float64, generator=random)
    for where, level in _everywhere():
        for dtype in (torch.float64, torch.float32):
            _invert(prediction, level, x0.to(dtype), eps.to(dtype), f"{called(prediction)} {where} in {dtype}")


PREDICTION_CHECKS = (check_coefficients, check_level, check_inverse)


def _invert(prediction: Prediction, level: Level, x0: Tensor, eps: Tensor, where: str) -> None:
    x0, eps = (value.reshape(-1, *[1] * level.alpha.ndim).expand(-1, *level.alpha.shape) for value in (x0, eps))
    c = Coefficients(*prediction(level, SIGMA_DATA))
    x = level.mix(x0, eps)
    # F* = (x0 - c_skip x) / c_out, its two parts gathered in float64
    target = like((1 - c.c_skip * level.alpha) / c.c_out, x) * x0 - like(c.c_skip * level.sigma / c.c_out, x) * eps
    require(target.isfinite().all(), f"{where}: the target F* is not finite")
    kept, learnt = like(c.c_skip, x) * x, like(c.c_out, x) * target
    off = (kept + learnt - x0).abs()
    bound = ROUNDINGS * torch.finfo(x0.dtype).eps * (kept.abs() + learnt.abs() + x0.abs())
    worst = float((off / bound).max())
    require(worst <= 1, f"{where}: x0_hat of F* misses x0 by {float(off.max()):.1e}, {worst:.1e} times the rounding")


def _everywhere() -> list[tuple[str, Level]]:
    """Levels of all schedules from end to end, one at a time and one an image."""
    found = []
    for name, schedule in unlike_schedules().items():
        ends = torch.tensor(schedule.ends(), dtype=torch.float64)
        low, high = schedule.log_snr(ends).tolist()
        wanted = torch.linspace(max(low, -LOG_SNR), min(high, LOG_SNR), 9, dtype=torch.float64)
        times = schedule.clip(schedule.t_at(wanted))
        found += [(f"at t = {float(t):.3g} of schedule {name}", schedule.at(t)) for t in times]
        found.append((f"on schedule {name}, a level an image", schedule.at(times).per_image(3)))
    return found
