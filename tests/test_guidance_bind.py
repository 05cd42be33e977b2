"""Guidance bound to networks: what it costs, a scale an image, autoguidance, and its parts by name."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from guidance_kit import (
    BLOBS,
    LABELS,
    SCHEDULES,
    SPEC,
    UNLABELLED,
    WEAK,
    W,
    at_ratios,
    conditional,
    noisy,
    one,
    perfect,
)
from torch import Tensor

from dmf.core import (
    Cond,
    Context,
    Denoise,
    Denoiser,
    Guidance,
    ImageStreams,
    Level,
    bind,
    labels_cond,
    levels_of,
    null_cond,
    predictions,
    sample,
)
from dmf.core.guidance import CFG, DynamicThreshold, Interval, Rescale
from dmf.registry import PartError, build
from dmf.testing import Straight

# the cost


class Recorder:
    """A network that answers its input, and a record of the batches that it saw."""

    def __init__(self) -> None:
        self.batches: list[int] = []

    def __call__(self, x: Tensor, noise: Tensor, cond: Cond) -> Tensor:
        self.batches.append(len(x))
        return x


def batches(guidance: Guidance, level: Level, **given: Any) -> list[int]:
    network = Recorder()
    denoise = bind(Denoiser(network, Straight(), predictions.x0), labels_cond([0, 1], SPEC), SPEC, guidance, **given)
    denoise(torch.zeros(2, *SPEC.shape), level)
    return network.batches


@pytest.mark.parametrize("wrap", [lambda g: g, lambda g: Rescale(of=g), lambda g: DynamicThreshold(of=g)])
def test_the_interval_saves_the_reference_outside(wrap: Callable[[Guidance], Guidance]) -> None:
    exploding = SCHEDULES["exploding"]  # sigma / alpha = t exactly: the bounds themselves can be asked
    guidance = wrap(Interval(of=CFG(scale=3.0), sigma_min=0.5, sigma_max=4.0))
    for ratio, size in ((0.25, 2), (0.5, 2), (0.5001, 4), (4.0, 4), (4.0001, 2), (50.0, 2)):
        assert batches(guidance, exploding.at(ratio)) == [size], ratio
    assert batches(guidance, exploding.at(torch.tensor([0.1, 9.0])).per_image(4)) == [2]
    assert batches(guidance, exploding.at(torch.tensor([0.1, 1.0])).per_image(4)) == [4], "one image needs it"


@pytest.mark.parametrize(
    "guidance",
    [
        CFG(scale=1.0),
        CFG(scale=[1.0, 1]),
        CFG(scale=torch.ones(2)),
        Rescale(of=CFG(scale=1.0)),
        DynamicThreshold(of=Interval(of=CFG(scale=1.0), sigma_max=3.0)),
    ],
)
def test_what_needs_no_reference_is_not_doubled(guidance: Guidance) -> None:
    assert not guidance.guides
    chosen = guidance.for_images(torch.arange(2))
    assert batches(chosen, Straight().at(0.5)) == [2]
    weak = Recorder()
    assert batches(chosen, Straight().at(0.5), reference=Denoiser(weak, Straight(), predictions.x0)) == [2]
    assert weak.batches == []
    x = torch.zeros(1, *SPEC.shape)
    bind(Denoiser(Recorder(), Straight(), predictions.x0), {}, UNLABELLED, CFG(scale=1.0))(x, Straight().at(0.5))


def test_two_networks_have_a_batch_each_and_the_interval_saves_the_weak_one() -> None:
    weak = Recorder()
    reference = Denoiser(weak, Straight(), predictions.x0)
    guidance = Interval(of=CFG(scale=2.0), sigma_max=1.5)
    assert batches(guidance, Straight().at(0.5), reference=reference) == [2] and weak.batches == [2]
    assert batches(guidance, Straight().at(0.9), reference=reference) == [2] and weak.batches == [2]


# scales an image


def test_a_list_of_scales_goes_by_the_images_numbers() -> None:
    scales = [1.0, 2.0, 4.0]
    level = one(at_ratios(Straight(), [1.0]), 0)
    x = noisy(level)
    cond = labels_cond(LABELS, SPEC)
    numbers = torch.tensor([7, 0, 4, 2, 3])
    for wrap in (lambda g: g, lambda g: Rescale(of=Interval(of=g, sigma_max=5.0))):
        got = bind(perfect(Straight()), cond, SPEC, wrap(CFG(scale=scales)).for_images(numbers))(x, level)
        for i, number in enumerate(numbers.tolist()):
            single = bind(perfect(Straight()), cond, SPEC, wrap(CFG(scale=scales[number % 3])))(x, level)
            torch.testing.assert_close(got[i], single[i])
    assert CFG(scale=3.0).for_images(numbers).scale == 3.0


def test_scales_that_fit_no_batch_are_refused() -> None:
    x = torch.zeros(3, 1, 2, 2)
    with pytest.raises(ValueError, match=r"for_images\(numbers\)"):
        CFG(scale=[1.0, 2.0, 3.0]).combine(x, x, Straight().at(0.5))
    with pytest.raises(ValueError, match=r"shape \(2,\), expected one an image: \(3,\)"):
        CFG(scale=torch.ones(2)).combine(x, x, Straight().at(0.5))
    with pytest.raises(ValueError, match="empty list"):
        CFG(scale=[])


# autoguidance


@pytest.mark.parametrize("theirs", SCHEDULES)
@pytest.mark.parametrize("ours", SCHEDULES)
def test_a_reference_on_another_schedule_is_asked_at_the_same_log_snr(ours: str, theirs: str) -> None:
    schedule = SCHEDULES[ours]
    reference = perfect(SCHEDULES[theirs], "edm", WEAK)
    denoise = bind(perfect(schedule, "flow"), labels_cond(LABELS, SPEC), SPEC, CFG(scale=W), reference)
    for ratio in (0.1, 1.0, 20.0):
        level = one(at_ratios(schedule, [ratio]), 0)
        x = noisy(level)
        # Karras et al. 2024: D_w = w D_1 + (1 - w) D_0
        want = W * conditional(x, level) + (1 - W) * conditional(x, level, WEAK)
        torch.testing.assert_close(denoise(x, level), want, rtol=1e-7, atol=1e-8)
    levels = at_ratios(schedule, [0.1, 0.5, 1.0, 4.0, 20.0])
    x = noisy(levels)
    want = W * conditional(x, levels) + (1 - W) * conditional(x, levels, WEAK)
    torch.testing.assert_close(denoise(x, levels), want, rtol=1e-7, atol=1e-8)


def test_a_reference_may_be_asked_without_labels() -> None:
    level = one(at_ratios(Straight(), [1.0]), 0)
    x = noisy(level)
    cond = labels_cond(LABELS, SPEC)
    reference = perfect(SCHEDULES["arc"], "v", WEAK)
    denoise = bind(perfect(Straight()), cond, SPEC, CFG(scale=W), reference, null_cond(cond, SPEC))
    want = W * conditional(x, level) + (1 - W) * WEAK.denoise(x, level)
    torch.testing.assert_close(denoise(x, level), want, rtol=1e-7, atol=1e-8)


def test_unlabelled_data_is_guided_by_a_reference_and_by_nothing_else() -> None:
    level = one(at_ratios(Straight(), [1.0]), 0)
    x = noisy(level)
    strong, weak = perfect(Straight(), labels=False), perfect(Straight(), data=WEAK, labels=False)
    got = bind(strong, {}, UNLABELLED, CFG(scale=W), weak)(x, level)
    torch.testing.assert_close(got, W * BLOBS.denoise(x, level) + (1 - W) * WEAK.denoise(x, level))
    with pytest.raises(ValueError, match="set guidance to 1, or guide away from another network"):
        bind(strong, {}, UNLABELLED, CFG(scale=W))


def test_beyond_its_reach_a_reference_is_asked_at_its_nearest_level() -> None:
    """The table goes from sigma / alpha = 0.01 to 157, the straight schedule further on both sides."""
    table = SCHEDULES["table"]
    reference = perfect(table, "v", WEAK, labels=False)
    noisiest, cleanest = (table.at(t) for t in table.ends())
    for ratio, end, factor in ((2000.0, noisiest, "sigma"), (0.001, cleanest, "alpha")):
        level = one(at_ratios(Straight(), [ratio]), 0)
        x = noisy(level)
        scaled = x * getattr(end, factor) / getattr(level, factor)
        torch.testing.assert_close(reference.across(x, level, {}), WEAK.denoise(scaled, end), rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("sampler", ["heun", "ddim", "ddpm"])
def test_autoguided_samples_agree_across_schedules(sampler: str) -> None:
    def walk(ours: str, theirs: str) -> Tensor:
        schedule = SCHEDULES[ours]
        levels = levels_of(schedule, schedule.t_at(torch.linspace(-7, 7, 12, dtype=torch.float64)))
        streams = ImageStreams(0, range(5), SPEC.shape, dtype=torch.float64)
        guidance = Interval(of=CFG(scale=1.8), sigma_min=0.1, sigma_max=10.0)
        denoise: Denoise = bind(
            perfect(schedule), labels_cond(LABELS, SPEC), SPEC, guidance, perfect(SCHEDULES[theirs], "edm", WEAK)
        )
        x = levels[0].mix(torch.zeros(()), streams.randn())
        return sample(build("sampler", sampler), denoise, x, levels, Context(schedule, streams.randn))

    want = walk("exploding", "exploding")
    for ours, theirs in (("straight", "straight"), ("arc", "table"), ("table", "straight")):
        torch.testing.assert_close(walk(ours, theirs), want, rtol=1e-6, atol=1e-7)


# by name


def test_parts_nest_and_a_number_is_cfg() -> None:
    inner = {"name": "interval", "sigma_min": 0.3, "sigma_max": 5, "of": 3.0}
    got = build("guidance", "rescale", amount=0.6, of=inner)
    assert isinstance(got, Rescale) and isinstance(got.of, Interval) and isinstance(got.of.of, CFG)
    assert (got.amount, got.of.sigma_min, got.of.sigma_max, got.of.of.scale) == (0.6, 0.3, 5.0, 3.0)
    assert build("guidance", "cfg", scale=[1, 2]).scale == [1.0, 2.0]
    assert not build("guidance", "dynamic_threshold", of=1).guides


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("interval", {"of": 2, "sigma_min": 3.0, "sigma_max": 3.0}, "sigma_min is 3.0 and sigma_max 3.0"),
        ("interval", {"of": 2, "sigma_min": -1}, "at least 0"),
        ("interval", {}, "of"),
        ("rescale", {"of": 2, "amount": 1.5}, "at most 1"),
        ("rescale", {"of": {"name": "cfg", "scael": 2}}, "scael"),
        ("dynamic_threshold", {"of": 1, "percentile": 99.5}, "at most 1"),
        ("dynamic_threshold", {"of": 1, "limit": 0}, "above 0"),
        ("cfg", {"scale": []}, "at least 1"),
        ("cfg", {"scale": "strong"}, "a number or a list"),
    ],
)
def test_mistakes_are_told(name: str, options: dict[str, Any], said: str) -> None:
    with pytest.raises(PartError, match=said):
        build("guidance", name, **options)
