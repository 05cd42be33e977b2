"""rk45: the tolerance is kept, each image goes its own way, and nothing makes it walk for ever."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from dmf.core import Context, Counted, Level, SamplingError, generator, grids, levels_of, sample
from dmf.registry import PartError, build
from dmf.testing import Gaussian, Mixture, order_of, reference_end, unlike_schedules
from dmf.testing.samplers import BLOBS

ARC = unlike_schedules()["arc"]


def walled(*_: object) -> Tensor:
    raise AssertionError("rk45 draws no random numbers")


def between(low: float, high: float) -> tuple[Level, Level]:
    """The levels of two log SNRs."""
    return ARC.at(ARC.t_at(low)), ARC.at(ARC.t_at(high))


def integrated(x: Tensor, now: Level, then: Level, **options: Any) -> tuple[Tensor, int]:
    """Where rk45 takes x in one step, and in how many evaluations."""
    counted = Counted(options.pop("denoise", BLOBS.denoise))
    out, _ = build("sampler", "rk45", **options).step(counted, x, now, then, None, Context(ARC, walled))
    return out, counted.calls


@pytest.fixture(scope="module")
def flowed() -> tuple[Tensor, Level, Level, Tensor]:
    """Sixteen points in noise, the levels, and where the exact ODE takes them."""
    now, then = between(-16.0, 12.0)
    x = BLOBS.sample_at(now, 16, generator(0, "rk45", 0))
    return x, now, then, reference_end(BLOBS.denoise, x, ARC, now, then)


@pytest.mark.parametrize("tolerance", [1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8])
def test_rk45_keeps_its_tolerance(flowed: tuple[Tensor, Level, Level, Tensor], tolerance: float) -> None:
    x, now, then, end = flowed
    got, _ = integrated(x, now, then, rtol=tolerance, atol=tolerance)
    assert float((got - end).square().mean().sqrt()) < 10 * tolerance


def test_rk45_is_of_order_5() -> None:
    """At a tolerance that is never reached, a try takes each step of the grid whole."""
    loose = build("sampler", "rk45", rtol=0.99, atol=0.99)
    assert abs(order_of(loose, BLOBS, ARC, steps=(24, 36, 54)) - 5) < 0.3


def test_a_looser_tolerance_takes_fewer_evaluations_and_the_next_try_begins_where_the_last_ended(
    flowed: tuple[Tensor, Level, Level, Tensor],
) -> None:
    x, now, then, _ = flowed
    calls = [integrated(x, now, then, rtol=t, atol=t)[1] for t in (1e-3, 1e-5, 1e-7)]
    assert calls == sorted(calls) and len(set(calls)) == 3
    assert [n % 6 for n in calls] == [1, 1, 1], "six evaluations a try, and one before the first"
    assert integrated(x, now, then, rtol=1e-8, atol=1e-8)[1] < 320, "few tries in vain"


def test_rk45_with_a_grid_carries_slope_and_step_size() -> None:
    """At every level of the grid a step begins without an evaluation of its own, and with the size it had."""
    levels = [ARC.at(t) for t in ARC.t_at(torch.linspace(-16, 12, 8, dtype=torch.float64))]
    counted, at = Counted(BLOBS.denoise), []
    x = BLOBS.sample_at(levels[0], 4, generator(0, "rk45", 0))
    end = reference_end(BLOBS.denoise, x, ARC, levels[0], levels[-1])
    rk45 = build("sampler", "rk45")
    got = sample(rk45, counted, x, levels, Context(ARC, walled), lambda *_: at.append(counted.calls))
    assert float((got - end).abs().max()) < 1e-3
    assert [n % 6 for n in at] == [1] * 7
    # a step that the grid cuts short says nothing of the next one's size: it costs one try
    short, whole = ([levels[0], *more, levels[-1]] for more in ([ARC.at(ARC.t_at(-15.999))], []))
    costs = []
    for grid in (short, whole):
        counted = Counted(BLOBS.denoise)
        sample(rk45, counted, x, grid, Context(ARC, walled))
        costs.append(counted.calls)
    assert costs[0] <= costs[1] + 6


def test_rk45_ends_at_the_cleanest_level_of_the_schedule() -> None:
    """With one step too: what it gives is the denoised image there, where the ODE has come to."""
    levels = levels_of(ARC, grids.uniform(ARC, 1))
    x = levels[0].sigma * torch.randn((8, 2), generator=generator(0, "end", 0), dtype=torch.float64)
    cleanest = ARC.at(ARC.ends()[1])
    seen: list[float] = []

    def watched(x: Tensor, at: Level) -> Tensor:
        seen.append(float(at.log_snr.max()))
        return BLOBS.denoise(x, at)

    got = sample(build("sampler", "rk45", rtol=1e-8, atol=1e-8), watched, x, levels, Context(ARC, walled))
    want = BLOBS.denoise(reference_end(BLOBS.denoise, x, ARC, levels[0], cleanest), cleanest)
    torch.testing.assert_close(got, want, rtol=0, atol=1e-6)
    assert max(seen) == pytest.approx(float(cleanest.log_snr), abs=1e-6)


def test_rk45_goes_up_and_comes_back() -> None:
    clean, noisy = between(12.0, -12.0)
    x = BLOBS.sample_at(clean, 8, generator(0, "up", 0))
    up, _ = integrated(x, clean, noisy, rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(up, reference_end(BLOBS.denoise, x, ARC, clean, noisy), rtol=0, atol=1e-6)
    back, _ = integrated(up, noisy, clean, rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(back, x, rtol=0, atol=1e-6)


@pytest.mark.parametrize("high", [20.0, 10.0])
def test_rk45_in_float32_from_the_noisiest_level(high: float) -> None:
    """From sigma / alpha = 22026 on, in what float32 has: 7 digits of noise beside the image."""
    now, then = between(-20.0, high)
    data = Gaussian([0.7, -0.4], [0.5, 0.2])
    x = data.sample_at(now, 16, generator(0, "float32", 0))
    got, calls = integrated(x.float(), now, then, rtol=1e-6, atol=1e-6, denoise=data.denoise)
    assert got.dtype == torch.float32 and calls < 400
    torch.testing.assert_close(got.double(), data.solution(x, now, then), rtol=0, atol=2e-5)


def test_the_tolerance_may_be_out_of_reach_of_float32(flowed: tuple[Tensor, Level, Level, Tensor]) -> None:
    x, now, then, end = flowed
    got, calls = integrated(x.float(), now, then, rtol=1e-9, atol=1e-9)
    assert float((got - end).abs().max()) < 1e-4 and calls < 2000


def test_an_image_does_not_wait_nor_hurry_for_its_neighbours() -> None:
    """Alone, beside an easy one, beside a hard one: the same, to the last digits."""
    now, then = between(-16.0, 12.0)
    x = BLOBS.sample_at(now, 3, generator(0, "alone", 0))
    hard = Mixture([[-1.0, -0.5], [1.0, 0.5]], 1e-3)

    def mixed(x: Tensor, at: Level) -> Tensor:
        pick = lambda v, k: v if v.ndim == 0 else v[k : k + 1]  # noqa: E731
        rows = [Level(pick(at.t, k), pick(at.alpha, k), pick(at.sigma, k)) for k in range(len(x))]
        data = [BLOBS, hard, Gaussian([0.0, 0.0], 1.0)]
        return torch.cat([d.denoise(x[k : k + 1], rows[k]) for k, d in zip(range(len(x)), data, strict=False)])

    together, calls = integrated(x, now, then, denoise=mixed)
    alone, own = integrated(x[:1], now, then)
    assert float((together[:1] - alone).abs().max()) < 1e-12 and own < calls


def test_an_image_that_is_lost_is_nan_and_the_others_are_not() -> None:
    now, then = between(-16.0, 12.0)
    x = BLOBS.sample_at(now, 3, generator(0, "nan", 0))

    def broken(x: Tensor, at: Level) -> Tensor:
        out = BLOBS.denoise(x, at)
        return torch.cat([out[:1], out[1:2] * (math.nan if float(at.log_snr.flatten()[-1]) > 0 else 1), out[2:]])

    got, calls = integrated(x, now, then, denoise=broken)
    want, plain = integrated(x, now, then)
    assert got[1].isnan().all() and calls <= plain + 6
    torch.testing.assert_close(got[[0, 2]], want[[0, 2]], rtol=0, atol=1e-12)
    assert integrated(torch.full_like(x, math.nan), now, then)[0].isnan().all()


def test_zero_and_flat_starts_are_no_trap() -> None:
    now, then = between(-16.0, 12.0)
    x = torch.zeros(2, 2, dtype=torch.float64)
    got, calls = integrated(x, now, then)
    assert calls < 200
    torch.testing.assert_close(got, reference_end(BLOBS.denoise, x, ARC, now, then), rtol=0, atol=1e-3)
    assert integrated(x, now, then, denoise=lambda x, at: x * 0)[1] < 250


def test_a_rough_denoiser_is_given_up_with_a_sentence() -> None:
    now, then = between(-16.0, 12.0)

    def rough(x: Tensor, at: Level) -> Tensor:
        return torch.sin(1e9 * at.half_log_snr) * torch.ones_like(x)

    with pytest.raises(SamplingError, match=r"rk45 made 40 tries .*raise rtol and atol \(now 0.0001 and 0.0001\)"):
        integrated(torch.ones(2, 2, dtype=torch.float64), now, then, denoise=rough, max_tries=40)


def test_a_user_reads_that_sentence_alone(tiny: Path, dmf_command: Callable[..., tuple[int, str, str]]) -> None:
    code, _, err = dmf_command("run", tiny, "sampler={name: rk45, steps: 1, max_tries: 1}", "hooks=[]")
    assert code == 2 and "sampler: rk45 made 1 tries" in err and "Traceback" not in err


@pytest.mark.parametrize("options", [{"rtol": 0.0}, {"atol": -1e-3}, {"rtol": 1.0}, {"max_tries": 0}])
def test_options_of_rk45_have_bounds(options: dict[str, Any]) -> None:
    with pytest.raises(PartError, match=next(iter(options))):
        build("sampler", "rk45", **options)
