"""The single-step samplers beside diffusers' schedulers: the same model, levels and noise, the same whole trajectory.

Their tables are float32; so that rounding does not hide a difference, each scheduler is given our levels in float64.
"""

import math
from collections.abc import Callable, Iterable
from itertools import pairwise

import diffusers  # with torchsde, or it leaves DPMSolverSDEScheduler out
import pytest
import torch
from torch import Tensor

from dmf.core import Context, Level, NoiseSchedule, generator, grids, levels_of, sample
from dmf.registry import build
from dmf.testing import Exploding, unlike_schedules
from dmf.testing.samplers import BLOBS

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")  # their own
ARC, PLAIN = unlike_schedules()["arc"], Exploding()
COUNTS = [1, 2, 5, 20]
Grid = Callable[[NoiseSchedule, int], Tensor]


def levels_on(schedule: NoiseSchedule, steps: int, grid: Grid) -> list[Level]:
    """Levels from r = 80 to 0.02, where every schedule is, and the image."""
    return levels_of(schedule, grid(schedule, steps, sigma_min=0.02, sigma_max=80.0))  # type: ignore[call-arg]


def stages_of(schedule: NoiseSchedule, levels: list[Level]) -> list[Level]:
    """The levels, and between each two of them with sigma > 0 the one halfway in log SNR."""
    out = [levels[0]]
    for now, then in pairwise(levels[:-1]):
        out += [schedule.between(now, then, 0.5), then]
    return out


def ratios(levels: list[Level]) -> Tensor:
    return torch.stack([level.ratio for level in levels])


def eps_at(x: Tensor, level: Level) -> Tensor:
    """The model as epsilon; x = alpha x0 + sigma eps."""
    return level.noise_in(x, BLOBS.denoise(x, level))


def ours(name: str, schedule: NoiseSchedule, levels: list[Level], noise: Iterable[Tensor] = ()) -> list[Tensor]:
    """Every x / alpha on the way, from a start of the levels' own."""
    path, draws = [start(levels)], iter(noise)
    context = Context(schedule, lambda: next(draws))
    watch = lambda i, x, level: path.append(x / level.alpha)  # noqa: E731
    sample(build("sampler", name), BLOBS.denoise, levels[0].alpha * path[0], levels, context, watch)
    return path


def start(levels: list[Level]) -> Tensor:
    """x / alpha at the noisiest level, (6, 2)."""
    z = torch.randn((6, 2), generator=generator(0, "start", 0), dtype=torch.float64)
    return levels[0].ratio * z


def close(got: list[Tensor], want: list[Tensor], within: float = 1e-9) -> None:
    """Whole trajectories, each point in units of its size."""
    assert len(got) == len(want)
    for a, b in zip(got, want, strict=True):
        assert float((a - b).abs().max()) < within * max(1.0, float(b.abs().max()))


@pytest.mark.parametrize("grid", [grids.karras, grids.log_snr], ids=lambda g: g.__name__)
@pytest.mark.parametrize("steps", COUNTS)
def test_euler_ancestral_is_theirs(steps: int, grid: Grid) -> None:
    """Theirs casts x to float32 in every step, so 1e-5 is all that can be asked."""
    levels = levels_on(PLAIN, steps, grid)
    theirs = diffusers.EulerAncestralDiscreteScheduler()
    theirs.set_timesteps(steps)
    theirs.sigmas, theirs.is_scale_input_called = ratios(levels), True
    x, path, random = start(levels), [start(levels)], generator(0, "theirs", 0)
    for level, t in zip(levels, theirs.timesteps, strict=False):
        x = theirs.step(eps_at(x, level), t, x, generator=random).prev_sample
        path.append(x)
    random = generator(0, "theirs", 0)
    noise = (torch.randn(x.shape, generator=random, dtype=x.dtype) for _ in levels)
    close(ours("euler_ancestral", PLAIN, levels, noise), path, 1e-5)


@pytest.mark.parametrize("grid", [grids.karras, grids.log_snr], ids=lambda g: g.__name__)
@pytest.mark.parametrize("steps", COUNTS)
def test_dpm_solver_2_is_their_kdpm2(steps: int, grid: Grid) -> None:
    """Karras's DPM2 is algorithm 1 of DPM-Solver in x / alpha: the slope in sigma is the noise."""
    levels = levels_on(PLAIN, steps, grid)
    theirs = diffusers.KDPM2DiscreteScheduler()
    theirs.set_timesteps(steps)
    r = ratios(levels)
    between = r.log().lerp(r.roll(1).log(), 0.5).exp()
    theirs.sigmas = torch.cat([r[:1], r[1:].repeat_interleave(2), r[-1:]])
    theirs.sigmas_interpol = torch.cat([between[:1], between[1:].repeat_interleave(2), between[-1:]])
    x, path = start(levels), [start(levels)]
    for k, (level, t) in enumerate(zip(stages_of(PLAIN, levels), theirs.timesteps, strict=True)):
        x = theirs.step(eps_at(x, level), t, x).prev_sample
        if k % 2 == 1 or k == 2 * steps - 2:
            path.append(x)
    close(ours("dpm_solver_2", PLAIN, levels), path)


@pytest.mark.parametrize(("name", "kind"), [("dpm_solver_2", "dpmsolver"), ("dpmpp_2s", "dpmsolver++")])
@pytest.mark.parametrize("steps", COUNTS)
def test_two_stages_are_their_singlestep(name: str, kind: str, steps: int) -> None:
    """Their second stage is whatever level the grid has next; so that it is ours, the grid has ours in between."""
    levels = levels_on(ARC, steps, grids.karras)
    stages = stages_of(ARC, levels)
    theirs = diffusers.DPMSolverSinglestepScheduler(
        algorithm_type=kind, final_sigmas_type="zero" if kind == "dpmsolver++" else "sigma_min", lower_order_final=True
    )
    theirs.set_timesteps(len(stages))
    theirs.sigmas = torch.cat([ratios(stages), torch.tensor([1e-30 if kind == "dpmsolver" else 0.0])])
    x, path = levels[0].alpha * start(levels), [start(levels)]
    for k, (level, t) in enumerate(zip(stages, theirs.timesteps, strict=True)):
        x = theirs.step(eps_at(x, level), t, x).prev_sample
        if k % 2 == 1:
            path.append(x / stages[k + 1].alpha)
    path.append(x)
    # with the noise their last step, to sigma = 1e-30, has a difference of two numbers of e^69 times the image's size
    close(
        ours(name, ARC, levels)[: None if kind == "dpmsolver++" else -1], path[: None if kind == "dpmsolver++" else -1]
    )


@pytest.mark.parametrize("grid", [grids.karras, grids.log_snr], ids=lambda g: g.__name__)
@pytest.mark.parametrize("steps", COUNTS)
def test_dpmpp_sde_is_theirs_with_the_noise_of_one_path(steps: int, grid: Grid) -> None:
    """Theirs asks a Brownian tree in sigma for the noise of each stage; here both get what the SDE has."""
    levels = levels_on(PLAIN, steps, grid)
    draws = [torch.randn((6, 2), generator=generator(0, "sde", k), dtype=torch.float64) for k in range(2 * steps)]
    told: list[Tensor] = []
    for k, (s, t) in enumerate(pairwise(levels[:-1])):
        z1, z2, half = draws[2 * k], draws[2 * k + 1], t.ratio / PLAIN.between(s, t, 0.5).ratio
        # r falls by the same factor in either half
        told += [z1, (half * z1 + z2) * ((1 - half**2) / (1 - half**4)).sqrt()]
    theirs = diffusers.DPMSolverSDEScheduler()
    theirs.set_timesteps(steps)
    r, queue = ratios(levels), iter(told)
    theirs.sigmas = torch.cat([r[:1], r[1:-1].repeat_interleave(2), r[-1:]])
    theirs.noise_sampler = lambda now, then: next(queue)
    x, path = start(levels), [start(levels)]
    for k, (level, t) in enumerate(zip(stages_of(PLAIN, levels), theirs.timesteps, strict=True)):
        x = theirs.step(eps_at(x, level), t, x).prev_sample
        if k % 2 == 1 or k == 2 * steps - 2:
            path.append(x)
    close(ours("dpmpp_sde", PLAIN, levels, draws), path)


def test_their_brownian_tree_is_not_the_path_of_the_sde() -> None:
    """The difference written down in docs/samplers.md: the correlation of the two stages' noise.

    A tree in sigma gives sqrt((r_s - r_m) / (r_s - r_t)), the SDE what is left of the first half's noise at the end.
    """
    r_s, r_t = 10.0, 1.0
    r_m = math.sqrt(r_s * r_t)
    tree = math.sqrt((r_s - r_m) / (r_s - r_t))
    exact = r_t / r_m * math.sqrt((1 - (r_m / r_s) ** 2) / (1 - (r_t / r_s) ** 2))
    path, eye = Exploding(), iter(torch.eye(2, dtype=torch.float64))
    seen: list[Tensor] = []

    def flat(x: Tensor, level: Level) -> Tensor:
        seen.append(x)
        return torch.zeros_like(x)

    now, then = path.at(r_s), path.at(r_t)
    zero = torch.zeros(2, dtype=torch.float64)
    end, _ = build("sampler", "dpmpp_sde").step(flat, zero, now, then, None, Context(path, lambda: next(eye)))
    measured = float((seen[1] * end).sum() / (seen[1].norm() * end.norm()))
    assert measured == pytest.approx(exact, abs=1e-9) and abs(measured - tree) > 0.4
