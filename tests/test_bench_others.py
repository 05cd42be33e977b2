"""The schedulers of diffusers as the benchmark drives them: on our levels as ours, and at the cost that they say."""

import sys

import pytest
import torch

from dmf.core import Context, NoiseSchedule, generator, grids, levels_of, sample
from dmf.core.denoiser import Counted
from dmf.registry import UserError, build
from dmf.testing import Exploding, Straight
from dmf.testing.bench import others
from dmf.testing.samplers import BLOBS

pytest.importorskip("diffusers")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # theirs, of numpy

LINEAR = build("schedule", "linear")
START = torch.randn((6, 1, 2), generator=generator(0, "x", 0), dtype=torch.float64)

SAME = {
    "DDIM": ("ddim", {}),
    "Euler": ("euler", {}),
    "Heun": ("heun", {}),
    "KDPM2": ("dpm_solver_2", {}),
    "LMS": ("ipndm", {"order": 4, "variable_steps": True}),
    "DPM++ 2M": ("dpmpp_2m", {}),
    "EDM DPM++ 2M": ("dpmpp_2m", {}),
    "UniPC 2": ("unipc", {"order": 2}),
    "UniPC 3": ("unipc", {"order": 3}),
    "iPNDM 4": ("ipndm", {"order": 4}),
}


@pytest.mark.parametrize("schedule", [LINEAR, Straight(), Exploding()], ids=lambda s: type(s).__name__)
@pytest.mark.parametrize("name", SAME)
def test_the_same_on_our_levels_of_any_schedule(name: str, schedule: NoiseSchedule) -> None:
    sampler, options = SAME[name]
    levels = levels_of(schedule, grids.log_snr(schedule, 12))
    x = levels[0].sigma * START
    ours = sample(build("sampler", sampler, **options), BLOBS.denoise, x, levels, Context(schedule, lambda: START))
    theirs = others.other_samplers()[name](BLOBS.denoise, schedule, x, levels=levels)
    torch.testing.assert_close(theirs, ours, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("scheduler", ["DPMSolverMultistep", "UniPCMultistep", "DEISMultistep"])
@pytest.mark.parametrize("spacing", ["leading", "trailing", "linspace", "karras"])
def test_the_network_is_told_their_timesteps(scheduler: str, spacing: str) -> None:
    """To the digit where their grid is one of entries; karras' levels lie between, and theirs are rounded."""
    given = {"use_karras_sigmas": True} if spacing == "karras" else {"timestep_spacing": spacing}
    other = others.Other(f"{scheduler}Scheduler", given)
    made = other.on_own_grid(LINEAR, 20)
    ours = torch.stack([LINEAR.label(level) for level in other.evaluated(made, LINEAR)])
    off = float((ours - made.timesteps).abs().max())
    assert 0.1 < off < 0.51 if spacing == "karras" else off < 1e-3


@pytest.mark.parametrize("name", others.other_samplers())
def test_evaluations_are_as_said(name: str) -> None:
    other = others.other_samplers()[name]
    for most in (3, 10, 35):
        steps = other.steps_for(most)
        levels = levels_of(LINEAR, grids.log_snr(LINEAR, steps))
        for way in ({"steps": steps}, {"levels": levels}):
            counted = Counted(BLOBS.denoise)
            end = other(counted, LINEAR, START, **way)  # type: ignore[arg-type]
            assert counted.calls == steps * other.per_step + other.besides <= most < counted.calls + other.per_step
            assert end.isfinite().all() and (most < 35 or (end - BLOBS.mean()).abs().max() < 5)


def test_what_cannot_be_walked_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    euler, x = others.other_samplers()["Euler"], START
    with pytest.raises(ValueError, match="a number of steps, or levels; got neither"):
        euler(BLOBS.denoise, LINEAR, x)
    with pytest.raises(UserError, match="tables of betas, which Straight is not; take a table"):
        euler(BLOBS.denoise, Straight(), x, steps=3)
    monkeypatch.setitem(sys.modules, "diffusers", None)
    with pytest.raises(UserError, match=r"needs diffusers.*pip install 'dmf\[test\]'"):
        euler(BLOBS.denoise, LINEAR, x, steps=3)
