"""What all registered schedules share; test_contracts.py holds them to the kit, the files beside to formulas."""

import re
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from dmf.core import NoiseSchedule
from dmf.registry import build, parts

SCHEDULES: dict[str, NoiseSchedule] = {p.name: build("schedule", p.name) for p in parts("schedule")}


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


def test_the_page_has_every_built_in_schedule_and_its_range() -> None:
    text = (Path(__file__).resolve().parent.parent / "docs/schedules.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \|.*\| (−[\d.]+) \.\.\. ([\d.]+) \|$", text, re.MULTILINE)
    told = {name: (float(noisy.replace("−", "-")), float(clean)) for name, noisy, clean in rows}
    assert set(told) == {p.name for p in parts("schedule") if p.distribution == "dmf"}
    for name, ends in told.items():
        t = torch.tensor(SCHEDULES[name].ends(), dtype=torch.float64)
        assert SCHEDULES[name].log_snr(t).tolist() == pytest.approx(ends, abs=0.0501), name
