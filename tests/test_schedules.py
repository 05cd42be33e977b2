"""Every registered schedule against the contract kit; their formulas are in the files beside this one."""

from itertools import pairwise

import numpy as np
import pytest
import torch

from dmf.core import NoiseSchedule
from dmf.registry import build, parts
from dmf.testing import SCHEDULE_CHECKS

SCHEDULES: dict[str, NoiseSchedule] = {p.name: build("schedule", p.name) for p in parts("schedule")}


@pytest.mark.parametrize("check", SCHEDULE_CHECKS, ids=lambda c: c.__name__)
@pytest.mark.parametrize("name", SCHEDULES)
def test_contract(name: str, check: object) -> None:
    check(SCHEDULES[name])  # type: ignore[operator]


def test_the_clean_end_is_the_image() -> None:
    for schedule in SCHEDULES.values():
        clean = schedule.clean
        assert (float(clean.t), float(clean.alpha), float(clean.sigma)) == (schedule.t_min, 1.0, 0.0)
        x = torch.randn(2, 3)
        assert torch.equal(clean.mix(x, torch.randn(2, 3)), x)


def test_fields_of_a_level_fall_and_rise() -> None:
    for schedule in SCHEDULES.values():
        noisiest, cleanest = schedule.ends()
        levels = [schedule.at(t) for t in np.linspace(cleanest, noisiest, 50)]
        for a, b in pairwise(levels):
            assert b.alpha < a.alpha or a.alpha == b.alpha == 1
            assert b.sigma > a.sigma and b.ratio > a.ratio and b.log_snr < a.log_snr
