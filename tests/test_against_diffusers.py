"""Our walks beside those of diffusers: the same denoiser told as eps, the same table, the same levels, the same noise.

Compared is every x that the network is asked about, and the end: the whole trajectory, relative to its size at each
place. Where the two are meant to differ, that is tested too; docs/samplers.md says why.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import pytest
import torch
from scipy.integrate import quad
from torch import Tensor

from dmf.core import Context, Level, NoiseSchedule, generator, grids, levels_of, sample
from dmf.registry import build
from dmf.testing import Gaussian
from dmf.testing.bench import others
from dmf.testing.samplers import BLOBS

diffusers = pytest.importorskip("diffusers")

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # theirs, of numpy

LINEAR = build("schedule", "linear")
CLEANEST = LINEAR.at(LINEAR.ends()[1])
STEPS = [1, 2, 5, 10, 20, 50]
SPACINGS = ["leading", "trailing", "linspace"]
SHAPE = (6, 1, 2)
CLOSE = 1e-5
MULTISTEP = "DPMSolverMultistepScheduler"
Made = Callable[[], Tensor]


class Walk:
    """The closed-form denoiser, which keeps what it was asked."""

    def __init__(self) -> None:
        self.xs: list[Tensor] = []
        self.levels: list[Level] = []

    def __call__(self, x: Tensor, level: Level) -> Tensor:
        self.xs.append(x)
        self.levels.append(level)
        return BLOBS.denoise(x, level)


def stepping(kind: type[others.Other], **keywords: Any) -> type[others.Other]:
    """One whose steps get further arguments."""

    class Stepping(kind):  # type: ignore[misc, valid-type]
        def on_own_grid(self, schedule: NoiseSchedule, steps: int) -> Any:
            scheduler = super().on_own_grid(schedule, steps)
            given = {k: v() if callable(v) else v for k, v in keywords.items()}
            scheduler.step = partial(scheduler.step, **given)
            return scheduler

    return Stepping


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(7)


def noise(dtype: torch.dtype) -> Made:
    """The numbers that diffusers draws from `seeded`."""
    source = seeded()
    return lambda: torch.randn(SHAPE, generator=source, dtype=dtype).double()


def none() -> Tensor:
    raise AssertionError("no noise here")


def both(
    other: others.Other, name: str, steps: int, made: Made = none, last: Level | None = None, **options: Any
) -> tuple[list[Tensor], list[Tensor], list[Level]]:
    """Every x asked about, and the end: theirs on their own grid, ours on the levels that they were found to walk."""
    theirs, ours = Walk(), Walk()
    x = torch.randn(SHAPE, generator=generator(0, "x", 0), dtype=torch.float64)
    end = other(theirs, LINEAR, x, steps=steps)
    levels = [level for level, _ in itertools.groupby(theirs.levels, key=lambda level: float(level.t))]
    levels = [LINEAR.at(torch.tensor(t, dtype=torch.float64)) for t in levels]
    got = sample(build("sampler", name, **options), ours, x, [*levels, last or LINEAR.clean], Context(LINEAR, made))
    return [*theirs.xs, end], [*ours.xs, got], levels


def gap(theirs: Sequence[Tensor], ours: Sequence[Tensor]) -> float:
    """The greatest relative distance along the way."""
    assert len(theirs) == len(ours)
    return max(float((a - b).abs().max() / a.abs().max()) for a, b in zip(theirs, ours, strict=True))


def spaced(spacing: str) -> dict[str, Any]:
    return {"use_karras_sigmas": True} if spacing == "karras" else {"timestep_spacing": spacing}


steps_and = partial(pytest.mark.parametrize, "steps", STEPS)
on_sigmas = pytest.mark.parametrize("spacing", [*SPACINGS, "karras"])


@pytest.mark.parametrize("steps", [*STEPS, 1000])
@pytest.mark.parametrize(
    ("spacing", "variance"), [*((s, "small") for s in SPACINGS), ("leading", "large"), ("linspace", "large")]
)
def test_ddpm(steps: int, spacing: str, variance: str) -> None:
    kind = stepping(others.Table, generator=seeded)
    given = {"clip_sample": False, "variance_type": f"fixed_{variance}", **spaced(spacing)}
    theirs, ours, _ = both(kind("DDPMScheduler", given), "ddpm", steps, noise(torch.float64), variance=variance)
    assert gap(theirs, ours) < CLOSE


@pytest.mark.parametrize("steps", [*STEPS, 1000])
@pytest.mark.parametrize("spacing", ["leading", "trailing"])
@pytest.mark.parametrize("eta", [0.0, 0.4, 1.0])
def test_ddim(steps: int, spacing: str, eta: float) -> None:
    kind = stepping(others.Table, generator=seeded, eta=eta)
    other = kind("DDIMScheduler", {"clip_sample": False, **spaced(spacing)})
    assert gap(*both(other, "ddim", steps, noise(torch.float64), eta=eta)[:2]) < CLOSE


@steps_and()
@on_sigmas
def test_heun(steps: int, spacing: str) -> None:
    other = others.Heun("HeunDiscreteScheduler", spaced(spacing))
    assert gap(*both(other, "heun", steps)[:2]) < CLOSE


@steps_and()
@on_sigmas
def test_dpmpp_2m(steps: int, spacing: str) -> None:
    other = others.Other(MULTISTEP, spaced(spacing))
    assert gap(*both(other, "dpmpp_2m", steps)[:2]) < CLOSE
    assert gap(*both(other, "dpmpp_2m_sde", steps, eta=0.0)[:2]) < CLOSE


@steps_and()
@on_sigmas
@pytest.mark.parametrize("final", [True, False])
def test_dpmpp_3m_as_published(steps: int, spacing: str, final: bool) -> None:
    """Lowered at the end, theirs is only below 15 steps. Its second step is ours with `solver_type="heun"`."""
    given = {"solver_order": 3, "solver_type": "heun", "lower_order_final": final, **spaced(spacing)}
    options = {"as_published": True, "lower_order_final": final and steps < 15}
    assert gap(*both(others.Other(MULTISTEP, given), "dpmpp_3m", steps, **options)[:2]) < CLOSE


@steps_and()
@on_sigmas
def test_dpmpp_2m_sde(steps: int, spacing: str) -> None:
    kind = stepping(others.Other, generator=seeded)
    other = kind(MULTISTEP, {"algorithm_type": "sde-dpmsolver++", **spaced(spacing)})
    assert gap(*both(other, "dpmpp_2m_sde", steps, noise(torch.float32))[:2]) < CLOSE


@steps_and()
@on_sigmas
@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.parametrize("variant", ["bh1", "bh2"])
def test_unipc(steps: int, spacing: str, order: int, variant: str) -> None:
    other = others.Other("UniPCMultistepScheduler", {"solver_order": order, "solver_type": variant, **spaced(spacing)})
    assert gap(*both(other, "unipc", steps, order=order, variant=variant)[:2]) < CLOSE


@pytest.mark.parametrize("steps", [5, 20])
@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.parametrize("variant", ["bh1", "bh2"])
def test_unipc_of_full_order_to_the_end(steps: int, order: int, variant: str) -> None:
    given = {
        "solver_order": order,
        "solver_type": variant,
        "lower_order_final": False,
        "final_sigmas_type": "sigma_min",
    }
    other = others.Other("UniPCMultistepScheduler", given)
    assert gap(*both(other, "unipc", steps, last=CLEANEST, order=order, variant=variant)[:2]) < CLOSE


@steps_and()
@on_sigmas
@pytest.mark.parametrize("order", [1, 2, 3])
def test_deis(steps: int, spacing: str, order: int) -> None:
    """Theirs ends at the cleanest level of the table, which karras repeats: its last step has no length."""
    given = {"solver_order": order, "lower_order_final": False, **spaced(spacing)}
    other = others.DEIS("DEISMultistepScheduler", given)
    if (spacing, steps) == ("karras", 1):
        theirs, *_ = both(other, "deis", 1)
        assert torch.allclose(theirs[0], theirs[1], rtol=0, atol=1e-12), "it does not move"
    else:
        assert gap(*both(other, "deis", steps, last=CLEANEST, order=order)[:2]) < CLOSE


@steps_and()
@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_ipndm(steps: int, order: int) -> None:
    """Theirs has order 4; less by forgetting."""

    class Forgetful(others.IPNDM):
        def on_own_grid(self, schedule: NoiseSchedule, steps: int) -> Any:
            scheduler = super().on_own_grid(schedule, steps)
            step = scheduler.step

            def forgetting(*given: Any) -> Any:
                scheduler.ets = scheduler.ets[max(len(scheduler.ets) - order + 1, 0) :]
                return step(*given)

            scheduler.step = forgetting
            return scheduler

    assert gap(*both(Forgetful("IPNDMScheduler"), "ipndm", steps, order=order)[:2]) < CLOSE


@steps_and()
@on_sigmas
@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_ipndm_with_variable_steps(steps: int, spacing: str, order: int) -> None:
    """LMS integrates the same polynomial, by quadrature."""
    other = stepping(others.Exploding, order=order)("LMSDiscreteScheduler", spaced(spacing))
    assert gap(*both(other, "ipndm", steps, order=order, variable_steps=True)[:2]) < CLOSE


# -- where they are meant to differ -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("spacing", "steps"), [("linspace", 10), ("trailing", 35)])
def test_their_ddim_steps_past_the_grid(spacing: str, steps: int) -> None:
    """It goes to t - T // steps, whatever the next entry of its grid is (diffusers issue 12633)."""
    theirs, ours, levels = both(others.Table("DDIMScheduler", {"clip_sample": False, **spaced(spacing)}), "ddim", steps)
    assert gap(theirs, ours) > 1e-3
    x, then = theirs[0], LINEAR.at(levels[0].t - (1000 // steps) / 1000)
    x0 = BLOBS.denoise(x, levels[0])
    missed = then.mix(x0, levels[0].noise_in(x, x0))
    assert float(then.t - levels[1].t) > 1e-4 or float(levels[1].t - then.t) > 1e-4
    torch.testing.assert_close(theirs[1], missed, rtol=0, atol=1e-9)


@pytest.mark.parametrize("steps", [1, 5, 50])
def test_their_ddpm_with_large_variance_leaves_noise(steps: int) -> None:
    """It leaves the noise out at entry 0 of the table only, where a trailing grid does not end."""
    kind = stepping(others.Table, generator=seeded)
    given = {"clip_sample": False, "variance_type": "fixed_large", "timestep_spacing": "trailing"}
    theirs, ours, levels = both(kind("DDPMScheduler", given), "ddpm", steps, noise(torch.float64), variance="large")
    assert steps == 1 or gap(theirs[:-1], ours[:-1]) < CLOSE
    source = noise(torch.float64)
    left = [source() for _ in range(steps)][-1]
    torch.testing.assert_close(theirs[-1] - ours[-1], levels[-1].sigma * left, rtol=0, atol=1e-6)


def test_their_deis_leaves_noise() -> None:
    point = Gaussian([0.3, -0.7], 0.0)
    x = torch.randn(SHAPE, generator=generator(0, "x", 0), dtype=torch.float64)
    theirs = others.other_samplers()["DEIS 3"](point.denoise, LINEAR, x, steps=10) / CLEANEST.alpha
    ours = sample(
        build("sampler", "deis"), point.denoise, x, levels_of(LINEAR, grids.uniform(LINEAR, 10)), Context(LINEAR, none)
    )
    assert 0.005 < float((theirs - point.means).abs().max()) < 0.05
    assert float((ours - point.means).abs().max()) < 1e-9


@pytest.mark.parametrize("eta", [0, 1])
def test_their_third_order_misses_a_parabola(eta: int) -> None:
    """Were x0_hat a parabola in lambda, three points would give the step exactly. Half of D_2 does not, nor does the
    sign that it has in their SDE (-0.5 for 0.5)."""
    levels = [LINEAR.at(LINEAR.t_at(snr)) for snr in (-6.0, -4.5, -2.5, -1.0)]
    lams = [float(level.half_log_snr) for level in levels]
    h = lams[3] - lams[2]
    given = {"algorithm_type": "sde-dpmsolver++" if eta else "dpmsolver++", "solver_order": 3, "solver_type": "heun"}
    scheduler = others.Other(MULTISTEP, {**given, "lower_order_final": False}).on_grid(
        torch.stack([*(level.ratio for level in levels), torch.tensor(1e-2), torch.tensor(0.0)])
    )
    quiet = {"variance_noise": torch.zeros(SHAPE)} if eta else {}

    def told(x: Tensor, level: Level) -> Tensor:
        return torch.full_like(x, float(level.half_log_snr) ** 2)

    x = torch.ones(SHAPE, dtype=torch.float64)
    ours, halves, theirs = [x], [x], [x]
    for i in range(3):
        eps = levels[i].noise_in(theirs[-1], told(x, levels[i]))
        theirs.append(scheduler.step(eps, scheduler.timesteps[i], theirs[-1], **quiet).prev_sample)
    for walk, options in ((ours, {}), (halves, {"as_published": True})):
        sampler, state = build("sampler", "dpmpp_3m_sde", eta=float(eta), **options), None
        for now, then in itertools.pairwise(levels):
            x, state = sampler.step(told, walk[-1], now, then, state, Context(LINEAR, partial(torch.zeros, SHAPE)))
            walk.append(x)

    def missed(walk: list[Tensor]) -> float:
        grown = quad(lambda lam: (1 + eta) * math.exp(-(1 + eta) * (lams[3] - lam)) * lam**2, lams[2], lams[3])[0]
        kept = float(levels[3].sigma / levels[2].sigma) * math.exp(-eta * h)
        return float((walk[3] - kept * walk[2] - levels[3].alpha * grown).abs().max())

    assert missed(ours) < 1e-12
    assert missed(halves) > 1e-2 and missed(theirs) > 1e-2
    assert (missed(theirs) == pytest.approx(missed(halves), rel=1e-5)) == (eta == 0)
    if eta:
        assert missed(theirs) > 4 * missed(halves)
