"""Guidance against its papers' formulas, written again in numpy, on denoisers that are known in closed form."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from dmf.core import (
    Cond,
    Context,
    DataSpec,
    Denoise,
    Denoiser,
    Guidance,
    ImageStreams,
    Level,
    NoiseSchedule,
    bind,
    generator,
    labels_cond,
    levels_of,
    null_cond,
    predictions,
    sample,
)
from dmf.core.guidance import CFG, DynamicThreshold, Interval, Rescale
from dmf.registry import PartError, build
from dmf.testing import Mixture, Straight, unlike_schedules

Formula = Callable[[np.ndarray, np.ndarray, float], np.ndarray]  # (conditional, reference, sigma / alpha) of one image

SPEC = DataSpec((1, 2, 2), ("left", "right"))
UNLABELLED = DataSpec((1, 2, 2))
SHIFTS = [[-0.5, 0.2, 0.1, 0.3], [0.4, -0.3, -0.2, 0.6]]
LABELS = [0, 1, 0, 1, 1]
BLOBS = Mixture([[-1.0, -0.5, 0.7, 0.2], [0.2, 0.9, -0.6, -1.0], [1.0, -0.3, 0.1, 0.4]], 0.5, [0.3, 0.3, 0.4])
WEAK = Mixture([[-0.8, -0.2, 0.5, 0.3], [0.4, 0.6, -0.4, -0.7]], 0.8)
SCHEDULES = unlike_schedules()


def cfg(w: float) -> Formula:
    return lambda a, b, r: w * a + (1 - w) * b


def interval(of: Formula, low: float, high: float) -> Formula:
    return lambda a, b, r: of(a, b, r) if low < r <= high else a


def rescale(of: Formula, phi: float) -> Formula:
    def formula(a: np.ndarray, b: np.ndarray, r: float) -> np.ndarray:
        x = of(a, b, r)
        return phi * (x * np.std(a) / np.std(x)) + (1 - phi) * x

    return formula


def threshold(of: Formula, percentile: float, limit: float) -> Formula:
    def formula(a: np.ndarray, b: np.ndarray, r: float) -> np.ndarray:
        x = of(a, b, r)
        s = max(np.percentile(np.abs(x), 100 * percentile), limit)
        return np.clip(x, -s, s) / s * limit

    return formula


W = 2.5
CASES: dict[str, tuple[Guidance, Formula]] = {
    "cfg": (CFG(scale=W), cfg(W)),
    "unconditional": (CFG(scale=0.0), cfg(0)),
    "interval": (Interval(of=CFG(scale=W), sigma_min=0.3, sigma_max=2.0), interval(cfg(W), 0.3, 2.0)),
    "from below": (Interval(of=CFG(scale=W), sigma_max=2.0), interval(cfg(W), 0, 2.0)),
    "to above": (Interval(of=CFG(scale=W), sigma_min=0.3), interval(cfg(W), 0.3, np.inf)),
    "rescale": (Rescale(of=CFG(scale=W)), rescale(cfg(W), 0.7)),
    "threshold": (
        DynamicThreshold(of=CFG(scale=W), percentile=0.8, limit=0.6),
        threshold(cfg(W), 0.8, 0.6),
    ),
    "threshold alone": (DynamicThreshold(of=CFG(scale=1.0), percentile=0.7, limit=0.4), threshold(cfg(1), 0.7, 0.4)),
    "rescale of interval": (
        Rescale(of=Interval(of=CFG(scale=W), sigma_min=0.3, sigma_max=2.0), amount=0.5),
        rescale(interval(cfg(W), 0.3, 2.0), 0.5),
    ),
    "threshold of rescale": (
        DynamicThreshold(of=Rescale(of=CFG(scale=W)), percentile=0.8, limit=0.5),
        threshold(rescale(cfg(W), 0.7), 0.8, 0.5),
    ),
    "rescale of threshold": (
        Rescale(of=DynamicThreshold(of=CFG(scale=W), percentile=0.8, limit=0.5)),
        rescale(threshold(cfg(W), 0.8, 0.5), 0.7),
    ),
    "interval of threshold": (
        Interval(of=DynamicThreshold(of=CFG(scale=W), percentile=0.8, limit=0.5), sigma_min=0.3, sigma_max=2.0),
        interval(threshold(cfg(W), 0.8, 0.5), 0.3, 2.0),
    ),
    "threshold of interval": (
        DynamicThreshold(of=Interval(of=CFG(scale=W), sigma_min=0.3, sigma_max=2.0), percentile=0.8, limit=0.5),
        threshold(interval(cfg(W), 0.3, 2.0), 0.8, 0.5),
    ),
}
every_case = pytest.mark.parametrize(("guidance", "formula"), CASES.values(), ids=CASES)


def at_ratios(schedule: NoiseSchedule, ratios: list[float]) -> Level:
    """The levels with these sigma / alpha, one an image."""
    return schedule.at(schedule.t_at(-2 * torch.tensor(ratios, dtype=torch.float64).log())).per_image(4)


def one(level: Level, i: int) -> Level:
    """The level of image i alone, 0-d."""
    return Level(*(field.flatten()[i] for field in (level.t, level.alpha, level.sigma)))


def noisy(level: Level, count: int = len(LABELS)) -> Tensor:
    clean = BLOBS.draw(count, generator(0, "clean", 0)).reshape(count, *SPEC.shape)
    return level.mix(clean, torch.randn(clean.shape, generator=generator(0, "noise", 0), dtype=torch.float64))


def perfect(schedule: NoiseSchedule, prediction: str = "v", data: Mixture = BLOBS, labels: bool = True) -> Denoiser:
    predict = getattr(predictions, prediction)
    return Denoiser(data.as_network(schedule, predict, 0.5, SHIFTS if labels else None), schedule, predict, 0.5)


def conditional(x: Tensor, level: Level, data: Mixture = BLOBS) -> Tensor:
    moved = torch.tensor(SHIFTS, dtype=torch.float64)[LABELS].reshape(x.shape)
    return moved + data.denoise(x - level.alpha * moved, level)


def expected(formula: Formula, a: Tensor, b: Tensor, level: Level) -> Tensor:
    """The formula, image by image."""
    ratios = level.ratio.flatten().expand(len(a)).tolist()
    images = [formula(x.numpy(), y.numpy(), r) for x, y, r in zip(a, b, ratios, strict=True)]
    return torch.from_numpy(np.stack(images))


# the formulas


@every_case
@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("ratio", [0.1, 0.3, 0.8, 2.0, 20.0])
def test_each_is_its_papers_formula(guidance: Guidance, formula: Formula, schedule: str, ratio: float) -> None:
    level = one(at_ratios(SCHEDULES[schedule], [ratio * (1 - 1e-9)]), 0)  # rounding must not decide about the bounds
    x = noisy(level)
    denoise = bind(perfect(SCHEDULES[schedule]), labels_cond(LABELS, SPEC), SPEC, guidance)
    want = expected(formula, conditional(x, level), BLOBS.denoise(x, level), level)
    torch.testing.assert_close(denoise(x, level), want, rtol=1e-7, atol=1e-8)


@every_case
def test_a_level_an_image_is_as_every_image_alone(guidance: Guidance, formula: Formula) -> None:
    levels = at_ratios(Straight(), [0.05, 0.5, 1.5, 5.0, 0.31])
    x = noisy(levels)
    cond = labels_cond(LABELS, SPEC)
    got = bind(perfect(Straight()), cond, SPEC, guidance)(x, levels)
    for i in range(len(x)):
        alone = bind(perfect(Straight()), {"class": cond["class"][i : i + 1]}, SPEC, guidance)
        torch.testing.assert_close(got[i : i + 1], alone(x[i : i + 1], one(levels, i)), rtol=1e-9, atol=1e-10)
    want = expected(formula, conditional(x, levels), BLOBS.denoise(x, levels), levels)
    torch.testing.assert_close(got, want, rtol=1e-7, atol=1e-8)


def test_the_order_of_nesting_matters() -> None:
    level = one(at_ratios(Straight(), [1.0]), 0)
    x = noisy(level)
    found = {}
    for name in CASES:
        found[name] = bind(perfect(Straight()), labels_cond(LABELS, SPEC), SPEC, CASES[name][0])(x, level)
    assert not torch.allclose(found["threshold of rescale"], found["rescale of threshold"], atol=1e-3)
    far = one(at_ratios(Straight(), [5.0]), 0)
    x = noisy(far)
    inside, outside = (
        bind(perfect(Straight()), labels_cond(LABELS, SPEC), SPEC, CASES[name][0])(x, far)
        for name in ("interval of threshold", "threshold of interval")
    )
    torch.testing.assert_close(inside, conditional(x, far), rtol=1e-9, atol=1e-9)
    assert outside.abs().max() <= 0.5 < inside.abs().max()


@every_case
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_the_dtype_stays(guidance: Guidance, formula: Formula, dtype: torch.dtype) -> None:
    random = generator(0, "dtypes", 0)
    a, b = (torch.randn(3, 1, 4, 4, generator=random).to(dtype) for _ in range(2))
    for level in (Straight().at(0.5), at_ratios(Straight(), [0.2, 0.8, 4.0])):
        got = guidance.combine(a, b, level)
        assert got.dtype == dtype and got.shape == a.shape and got.isfinite().all()
        tolerance = {"rtol": 1e-5, "atol": 1e-5} if dtype == torch.float32 else {"rtol": 0.1, "atol": 0.1}
        torch.testing.assert_close(got.double(), expected(formula, a.double(), b.double(), level), **tolerance)


def test_rescale_takes_the_conditional_deviation_and_survives_an_even_image() -> None:
    random = generator(0, "rescale", 0)
    a, b = (torch.randn(2, 3, 4, 4, generator=random, dtype=torch.float64) for _ in range(2))
    got = Rescale(of=CFG(scale=7.0), amount=1.0).combine(a, b, Straight().at(0.5))
    torch.testing.assert_close(got.flatten(1).std(1), a.flatten(1).std(1))
    even = torch.full((1, 3, 4, 4), 0.25)
    assert torch.equal(Rescale(of=CFG(scale=7.0)).combine(even, even, Straight().at(0.5)), even)


@pytest.mark.parametrize("share", [0.01, 0.5, 0.9, 0.995, 1.0])
@pytest.mark.parametrize("count", [1, 2, 7, 200])
def test_the_percentile_is_numpys(share: float, count: int) -> None:
    x = 3 * torch.randn(4, 1, 1, count, generator=generator(0, "percentile", count), dtype=torch.float64)
    got = DynamicThreshold(of=CFG(scale=1.0), percentile=share, limit=1e-6).combine(x, x, Straight().at(0.5))
    s = np.percentile(x.abs().numpy(), 100 * share, axis=(1, 2, 3), keepdims=True)
    torch.testing.assert_close(got, torch.from_numpy(np.clip(x.numpy(), -s, s) / s * 1e-6), rtol=1e-9, atol=1e-18)


def test_thresholding_leaves_what_is_within_the_limit() -> None:
    x = torch.linspace(-1, 1, 16, dtype=torch.float64).reshape(1, 1, 4, 4)
    assert torch.equal(DynamicThreshold(of=CFG(scale=1.0)).combine(x, x, Straight().at(0.5)), x)


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
