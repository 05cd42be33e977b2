"""The contract kit must say no: every check of schedules is shown one that it has to refuse."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from dmf.core import Level, NoiseSchedule, TableSchedule
from dmf.testing import Arc, Exploding, Straight, check_schedule, unlike_schedules
from dmf.testing import schedules as kit_schedules


@pytest.mark.parametrize("schedule", unlike_schedules().values(), ids=unlike_schedules())
def test_right_schedules_pass(schedule: NoiseSchedule) -> None:
    check_schedule(schedule)


class Backwards(Arc):
    def alpha(self, t: Tensor) -> Tensor:
        return torch.sin(math.pi / 2 * t)

    def sigma(self, t: Tensor) -> Tensor:
        return torch.cos(math.pi / 2 * t)

    def ends(self) -> tuple[float, float]:
        return 0.99, 0.01


class Stalling(TableSchedule):
    """A plateau in the middle."""

    def log_snr(self, t: Tensor) -> Tensor:
        return super().log_snr(torch.where((t > 0.4) & (t < 0.6), torch.full_like(t, 0.4), t))


class OtherLogSnr(Straight):
    """ln(alpha / sigma), without the square."""

    def log_snr(self, t: Tensor) -> Tensor:
        return super().log_snr(t) / 2

    def t_at(self, log_snr: Tensor | float) -> Tensor:
        return torch.sigmoid(-torch.as_tensor(log_snr, dtype=torch.float64))

    def ends(self) -> tuple[float, float]:
        return 0.99, 0.01


class Endless(Straight):
    def ends(self) -> tuple[float, float]:
        return 1.0, 0.0


class TooFar(Straight):
    def ends(self) -> tuple[float, float]:
        return 1 - 1e-6, 1e-6


class Crossed(Straight):
    def ends(self) -> tuple[float, float]:
        return 0.1, 0.9


class Single(Arc):
    def alpha(self, t: Tensor) -> Tensor:
        return super().alpha(t).to(torch.float32)


class Shapeless(Arc):
    def label(self, level: Level) -> Tensor:
        return super().label(level).reshape(-1)


class WrongInverse(Straight):
    """The inverse of ln(alpha / sigma)."""

    def t_at(self, log_snr: Tensor | float) -> Tensor:
        return torch.sigmoid(-torch.as_tensor(log_snr, dtype=torch.float64))

    def ends(self) -> tuple[float, float]:
        return 0.99, 0.01


class Unclamped(Exploding):
    def t_at(self, log_snr: Tensor | float) -> Tensor:
        return torch.exp(-torch.as_tensor(log_snr, dtype=torch.float64) / 2)


class Mute(Arc):
    def label(self, level: Level) -> Tensor:
        return torch.zeros_like(level.t)


class Infinite(Exploding):
    def label(self, level: Level) -> Tensor:
        return 1 / (level.t - self.ends()[1])


class Faint(Arc):
    """Tells levels apart by digits that float32 has not."""

    def label(self, level: Level) -> Tensor:
        return 1e8 + super().label(level)


BETAS = torch.linspace(1e-3, 0.1, 100, dtype=torch.float64)
BAD_SCHEDULES = [
    (Backwards(), kit_schedules.check_falls, "does not fall"),
    (Stalling(BETAS), kit_schedules.check_falls, "does not fall"),
    (OtherLogSnr(), kit_schedules.check_falls, "is not ln"),
    (Endless(), kit_schedules.check_ends, "not positive"),
    (TooFar(), kit_schedules.check_ends, "more than 20"),
    (Crossed(), kit_schedules.check_ends, r"gives \(noisiest, cleanest\)"),
    (Single(), kit_schedules.check_shapes, "is to be float64"),
    (Shapeless(), kit_schedules.check_shapes, "came back as"),
    (WrongInverse(), kit_schedules.check_inverse, "misses"),
    (Unclamped(), kit_schedules.check_inverse, "nearer end|should answer the end"),
    (Mute(), kit_schedules.check_labels, "one label"),
    (Infinite(), kit_schedules.check_labels, "not finite"),
    (Endless(), kit_schedules.check_noising, "eps comes back"),
    (Faint(), kit_schedules.check_network, "told the label is .* off"),
]


@pytest.mark.parametrize(("schedule", "check", "sentence"), BAD_SCHEDULES, ids=lambda v: type(v).__name__)
def test_wrong_schedules_are_refused(schedule: NoiseSchedule, check: Any, sentence: str) -> None:
    with pytest.raises(AssertionError, match=sentence):
        check(schedule)
    with pytest.raises(AssertionError):
        check_schedule(schedule)


def test_every_schedule_check_has_something_that_it_refuses() -> None:
    assert {check for _, check, _ in BAD_SCHEDULES} == set(kit_schedules.SCHEDULE_CHECKS)
