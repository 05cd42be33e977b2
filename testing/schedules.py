"""Schedules to try a sampler on, unlike each other on purpose; and what any schedule must hold to."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..core import Denoiser, Level, NoiseSchedule, TableSchedule, generator
from ..core.predictions import v
from ..core.schedule import LOG_SNR_LIMIT
from .claims import hold, require
from .exact import Gaussian

POINTS = 201


class Straight(NoiseSchedule):
    """alpha = 1 - t, sigma = t: neither preserves variance nor lets it explode, alpha = 0 at its end.

    It leaves `t_at` to the base, as a new schedule would.
    """

    def alpha(self, t: Tensor) -> Tensor:
        """1 - t."""
        return 1 - t

    def sigma(self, t: Tensor) -> Tensor:
        """The time itself."""
        return t


class Arc(NoiseSchedule):
    """alpha = cos, sigma = sin of pi t / 2: preserves variance."""

    def alpha(self, t: Tensor) -> Tensor:
        """The cosine."""
        return torch.cos(math.pi / 2 * t)

    def sigma(self, t: Tensor) -> Tensor:
        """The sine."""
        return torch.sin(math.pi / 2 * t)

    def t_at(self, log_snr: Tensor | float) -> Tensor:
        """The inverse of log SNR = -2 ln tan(pi t / 2)."""
        return 2 / math.pi * torch.atan(torch.exp(-torch.as_tensor(log_snr, dtype=torch.float64) / 2))


class Exploding(NoiseSchedule):
    """alpha = 1, sigma = t from 0.002 to 80, told to the network as 250 ln sigma: Karras et al. 2022, table 1."""

    t_min, t_max = 0.002, 80.0

    def alpha(self, t: Tensor) -> Tensor:
        """One."""
        return torch.ones_like(t)

    def sigma(self, t: Tensor) -> Tensor:
        """The time itself."""
        return t

    def t_at(self, log_snr: Tensor | float) -> Tensor:
        """The inverse of log SNR = -2 ln t."""
        return torch.exp(-torch.as_tensor(log_snr, dtype=torch.float64) / 2).clamp(self.t_min, self.t_max)

    def label(self, level: Level) -> Tensor:
        """250 ln sigma."""
        return 250 * level.sigma.log()


def unlike_schedules() -> dict[str, NoiseSchedule]:
    """One of each kind; all reach log SNR from -8 to 8."""
    table = TableSchedule(torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64))
    return {"straight": Straight(), "arc": Arc(), "exploding": Exploding(), "table": table}


def check_schedule(schedule: NoiseSchedule) -> None:
    """Hold a schedule to the interface: every check below.

    Raises:
        AssertionError: With a sentence, at the first that fails.
    """
    hold(SCHEDULE_CHECKS, schedule)


def check_ends(schedule: NoiseSchedule) -> None:
    """Parts are called where alpha and sigma are positive and |log SNR| is 20 at most, within t_min ... t_max."""
    noisiest, cleanest = schedule.ends()
    require(
        schedule.t_min <= cleanest < noisiest <= schedule.t_max,
        f"ends() gives (noisiest, cleanest) within {schedule.t_min} ... {schedule.t_max}; got {noisiest}, {cleanest}",
    )
    for t in (noisiest, cleanest):
        level = schedule.at(t)
        require(level.alpha > 0 and level.sigma > 0, f"at t = {t} alpha or sigma is not positive: {level}")
        beyond = float(level.log_snr.abs())
        require(beyond <= LOG_SNR_LIMIT + 1e-6, f"at the end t = {t} |log SNR| is {beyond}, more than {LOG_SNR_LIMIT}")


def check_falls(schedule: NoiseSchedule) -> None:
    """Log SNR falls strictly with t, and is that of alpha and sigma."""
    t = _times(schedule)
    log_snr, level = schedule.log_snr(t), schedule.at(t)
    rises = (log_snr.diff() >= 0).nonzero()
    require(len(rises) == 0, f"log SNR does not fall at t = {[float(t[i]) for i in rises[:3]]}")
    off = float((log_snr - level.log_snr).abs().max())
    require(off < 1e-6, f"log_snr(t) is not ln(alpha^2 / sigma^2): {off} apart")


def check_shapes(schedule: NoiseSchedule) -> None:
    """Alpha, sigma, label and t_at give float64 of the shape they got, a float being 0-d."""
    for shape in ((), (3,), (2, 1, 1, 1)):
        t = torch.full(shape, sum(schedule.ends()) / 2, dtype=torch.float64)
        level = schedule.at(t)
        given = {"alpha": level.alpha, "sigma": level.sigma, "label": schedule.label(level)}
        given |= {"t_at": schedule.t_at(level.log_snr), "log_snr": schedule.log_snr(t)}
        for name, value in given.items():
            require(value.shape == shape, f"{name} of shape {shape} came back as {tuple(value.shape)}")
            require(value.dtype == torch.float64, f"{name} is to be float64; got {value.dtype}")
    require(schedule.at(schedule.ends()[0]).alpha.ndim == 0, "at(float) is to have 0-d fields")


def check_inverse(schedule: NoiseSchedule) -> None:
    """t_at inverts log_snr, and answers the nearer end where a value is out of reach."""
    t = _times(schedule)
    log_snr = schedule.log_snr(t)
    off = float((schedule.log_snr(schedule.t_at(log_snr)) - log_snr).abs().max())
    require(off < 1e-8, f"log_snr(t_at(x)) misses x by {off}")
    off = float((schedule.t_at(log_snr) - t).abs().max()) / (schedule.t_max - schedule.t_min)
    require(off < 1e-8, f"t_at(log_snr(t)) misses t by {off} of the range")
    for far, end in ((-1000.0, schedule.t_max), (1000.0, schedule.t_min)):
        got = float(schedule.t_at(far))
        near = abs(got - end) <= 1e-8 * (schedule.t_max - schedule.t_min)
        require(near, f"t_at({far}) is out of reach and should answer the end {end}; got {got}")


def check_labels(schedule: NoiseSchedule) -> None:
    """What the network is told is finite, and tells levels apart."""
    labels = schedule.label(schedule.at(_times(schedule)))
    require(labels.isfinite().all(), "a label between the ends is not finite")
    step = labels.diff()
    require((step > 0).all() or (step < 0).all(), "two levels have one label, or the labels turn round")


def check_noising(schedule: NoiseSchedule) -> None:
    """The noise that was put into an image at any level is found there again."""
    level = schedule.at(_times(schedule))
    random = generator(0, "schedule", 0)
    x0, eps = torch.randn(2, *level.t.shape, generator=random, dtype=torch.float64)
    off = float((level.noise_in(level.mix(x0, eps), x0) - eps).abs().max())
    require(off < 1e-8, f"of x = alpha x0 + sigma eps, eps comes back {off} away; are alpha and sigma those of at(t)?")


def check_network(schedule: NoiseSchedule) -> None:
    """A network that is told the label alone, in float32, knows the level: a perfect one gives the denoised image."""
    data = Gaussian([0.3, -0.7], 0.5)
    levels = schedule.at(_times(schedule)[:: POINTS // 8])
    x = torch.randn(len(levels.t), 2, generator=generator(0, "schedule", 1), dtype=torch.float64)
    level = levels.per_image(2)
    x = level.sigma * x + level.alpha * data.means
    denoised = Denoiser(data.as_network(schedule, v), schedule, v)(x.float(), level, {})
    off = (denoised - data.denoise(x, level)).abs().amax(1)
    worst = int(off.argmax())
    require(
        off[worst] < 1e-3,
        f"at t = {float(levels.t[worst])} a network that is told the label is {float(off[worst])} off; is it one label"
        " to a level?",
    )


SCHEDULE_CHECKS = (check_ends, check_falls, check_shapes, check_inverse, check_labels, check_noising, check_network)


def _times(schedule: NoiseSchedule) -> Tensor:
    """Times from end to end, even in t and even in log SNR: either alone would skip over one end."""
    noisiest, cleanest = schedule.ends()
    t = torch.linspace(cleanest, noisiest, POINTS, dtype=torch.float64)
    high, low = (float(schedule.log_snr(torch.tensor(end, dtype=torch.float64))) for end in (cleanest, noisiest))
    even = schedule.clip(schedule.t_at(torch.linspace(high, low, POINTS, dtype=torch.float64)))
    both = torch.cat([t, even]).sort().values
    apart = both.diff() > 1e-9 * (noisiest - cleanest)  # or rounding would decide whether two times differ
    return torch.cat([both[:1], both[1:][apart]])
