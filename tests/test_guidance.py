"""Guidance against its papers' formulas, written again in numpy, on denoisers that are known in closed form."""

import numpy as np
import pytest
import torch
from guidance_kit import (
    BLOBS,
    LABELS,
    SCHEDULES,
    SPEC,
    Formula,
    W,
    at_ratios,
    conditional,
    expected,
    noisy,
    one,
    perfect,
)

from dmf.core import (
    Guidance,
    bind,
    generator,
    labels_cond,
)
from dmf.core.guidance import CFG, DynamicThreshold, Interval, Rescale
from dmf.testing import Straight


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
