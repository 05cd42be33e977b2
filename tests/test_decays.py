"""The course of the learning rate: each decay by its formula, spans, the warm-up, and what recipes say of them."""

import math
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from dmf.core import Progress, images_of
from dmf.registry import RecipeError, build, read
from dmf.runner.training.rates import Rates, rates_of

SIZE = 128


def at(name: str, images: int, horizon: int = 12_800, *, warmup: int = 0, size: int = SIZE, **options: Any) -> float:
    """The factor of a decay, ``images`` after the warm-up."""
    return float(build("decay", name, **options)(Progress(images, horizon, size, warmup)))


def test_constant_and_linear() -> None:
    assert [at("constant", n) for n in (0, 6_400, 99_999)] == [1, 1, 1]
    assert [at("linear", n) for n in (0, 3_200, 12_800, 99_999)] == [1, 0.75, 0, 0]
    assert [at("linear", n, final=0.2) for n in (0, 6_400, 12_800)] == pytest.approx([1, 0.6, 0.2])


def test_cosine_is_half_a_cosine_down_to_its_final_value() -> None:
    half = math.cos(math.pi / 8) ** 2  # cos^2(x / 2) = (1 + cos x) / 2, at a quarter of the way
    assert at("cosine", 3_200) == pytest.approx(half)
    assert at("cosine", 3_200, final=0.1) == pytest.approx(0.1 + 0.9 * half)
    assert [at("cosine", n, final=0.1) for n in (0, 12_800, 50_000)] == pytest.approx([1, 0.1, 0.1])


def test_step_falls_at_its_points_and_not_before() -> None:
    every = [at("step", n, every="1k images", factor=0.5) for n in (0, 999, 1_000, 1_999, 2_000)]
    assert every == [1, 1, 0.5, 0.5, 0.25]
    points = [at("step", n, at=[10, "3k images"]) for n in (10 * SIZE - 1, 10 * SIZE, 3_000)]
    assert points == pytest.approx([1, 0.1, 0.01])
    assert at("step", 2_000, every="1k images", at=[1], factor=0.5) == 0.125
    assert [at("step", n * SIZE) for n in (31_999, 32_000, 48_000)] == pytest.approx([1, 0.1, 0.01])


def test_inverse_sqrt_is_flat_and_then_falls_with_the_root() -> None:
    found = [at("inverse_sqrt", n, after="1k images") for n in (0, 1_000, 4_000, 100_000)]
    assert found == pytest.approx([1, 1, 0.5, 0.1])
    assert at("inverse_sqrt", 280_000 * 2_048, size=2_048) == pytest.approx(0.5)  # the paper's 70,000 batches


@pytest.mark.parametrize(
    ("name", "options"), [("inverse_sqrt", {"after": "2k images"}), ("step", {"every": "2k images"})]
)
def test_what_counts_from_the_start_counts_the_warm_up_too(name: str, options: dict[str, Any]) -> None:
    assert at(name, 7_000, warmup=1_000, **options) == at(name, 8_000, **options)
    assert at(name, 1_000, warmup=999, **options) == 1 and at(name, 1_001, warmup=1_000, **options) < 1
    assert Rates(build("decay", name, **options), 1_000, SIZE).factor(8_000, 99_999) == at(name, 8_000, **options)


def test_spans_in_steps_and_in_images_are_one() -> None:
    for size in (32, 128, 512):
        by_steps = at("step", 51_200, size=size, every=25_600 // size)
        assert by_steps == at("step", 51_200, size=size, every="25.6k images") == pytest.approx(0.01)
    assert [images_of(span, 8) for span in (3, "3 images", "0.5k images", "2.5M images", "0 images")] == [
        24,
        3,
        500,
        2_500_000,
        0,
    ]
    assert images_of("0.0001k images", 8) == 1  # what is not 0 is at least an image


@pytest.mark.parametrize("warmup", [1, 100, 128, 1_000])
def test_the_warm_up_rises_evenly_and_never_overshoots(warmup: int) -> None:
    rates = Rates(build("decay", "linear"), warmup, 64)
    factors = [rates.factor(step * 64, 6_400) for step in range(100)]
    rising = [float(min(Fraction((step + 1) * 64, warmup), 1)) for step in range(-(-warmup // 64))]
    assert factors[: len(rising)] == rising
    assert all(a >= b for a, b in pairwise(factors[len(rising) :])) and max(factors) <= 1


def test_the_rate_of_an_image_is_the_same_for_any_batch_size() -> None:
    small = Rates(build("decay", "cosine"), 4_096, 32)
    large = Rates(build("decay", "cosine"), 4_096, 512)
    for seen in range(4_096, 40_960, 512):
        assert small.factor(seen, 40_960) == large.factor(seen, 40_960)


def rates(tiny: Path, *overrides: str) -> Rates:
    return rates_of(read(tiny, [*overrides]))


def test_a_recipe_writes_spans_as_steps_or_images(tiny: Path) -> None:
    by_steps = rates(tiny, "train.warmup=10", "train.decay={name: step, every: 20}")
    by_images = rates(tiny, "train.warmup=240 images", "train.decay={name: step, every: 0.48k images}")
    course = [by_steps.factor(24 * n, 2_400) for n in range(100)]
    assert course == [by_images.factor(24 * n, 2_400) for n in range(100)]
    assert course[9] == 1 and course[19] == 1 and course[20] == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("value", "place"),
    [
        ("{name: step, every: 0}", "train.decay.every"),
        ("{name: step, every: 0k images}", "train.decay.every"),
        ("{name: step, every: 5 epochs}", "train.decay.every"),
        ("{name: step, at: [3, -1]}", "train.decay.at.1"),
        ("{name: inverse_sqrt, after: null}", "train.decay.after"),
    ],
)
def test_a_span_that_means_nothing_is_refused_with_its_place(tiny: Path, value: str, place: str) -> None:
    with pytest.raises(RecipeError, match=rf"{place}: got .*, expected a number of steps of at least 1, or a text as"):
        read(tiny, [f"train.decay={value}"])


@pytest.mark.parametrize("value", ["{name: cosine, final: 1.5}", "{name: linear, final: -0.1}"])
def test_a_final_rate_out_of_range_is_refused(tiny: Path, value: str) -> None:
    with pytest.raises(RecipeError, match=r"train\.decay\.final"):
        read(tiny, [f"train.decay={value}"])
