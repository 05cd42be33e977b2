"""Fréchet and kernel distance: against torch-fidelity and closed forms, and over batches and ranks."""

import math
from collections.abc import Sequence
from typing import Any

import neighbours_kit
import pytest
import torch
from metrics_kit import DIGITS, Corner, make, pictures, seen
from neighbours_kit import Given
from torch import Tensor
from torch_fidelity.metric_fid import KEY_METRIC_FID, fid_features_to_statistics, fid_statistics_to_metric
from torch_fidelity.metric_kid import KEY_METRIC_KID_MEAN, KEY_METRIC_KID_STD, kid_features_to_metric

from dmf.core import DataSpec, Metric, Statistics
from dmf.plugins.datasets.digits import Digits
from dmf.plugins.features.digits import DigitFeatures
from dmf.plugins.metrics.frechet import Frechet, frechet_distance
from dmf.plugins.metrics.kernel import Kernel, squared_mmd


def merged(metrics: Sequence[Metric]) -> Metric:
    """What the runner makes of the metrics of several ranks: the rules of `Metric.states`, written once more."""
    first = metrics[0]
    for name, reduce in first.states().items():
        held = [getattr(m, name) for m in metrics]
        if reduce == "cat":
            index = torch.cat([getattr(m, f"{name}_index") for m in metrics])
            setattr(first, name, torch.cat(held)[index.argsort()])
            setattr(first, f"{name}_index", index.sort().values)
        else:
            assert reduce == "sum"
            setattr(first, name, torch.stack(held).sum(0))
    return first


BOTH = pytest.mark.parametrize("kind", [Frechet, Kernel])


@BOTH
def test_batches_and_ranks_do_not_matter(kind: type[Metric]) -> None:
    made, real = pictures(50, 1), pictures(70, 2, low=40)
    one = make(kind)
    one.update(made)
    one.update(real, real=True)
    ranks = [make(kind), make(kind), make(kind)]
    for rank, metric in enumerate(ranks):  # rank r has images r, r + 3, ..., in batches of 4
        for part in torch.split(torch.arange(rank, 50, 3), 4):
            metric.update(made[part], index=part)
        for part in torch.split(torch.arange(rank, 70, 3), 4):
            metric.update(real[part], real=True, index=part, labels=part % 3, paired=made)
    both, apart = merged(ranks).compute(), one.compute()
    assert both.keys() == apart.keys()
    for name, value in apart.items():
        assert both[name] == pytest.approx(value, rel=1e-9, abs=1e-12)


@BOTH
def test_the_order_of_the_images_is_that_of_their_index(kind: type[Metric]) -> None:
    """Subsets smaller than the set: without the index, another order would be other subsets."""
    options = {"subset_size": 10, "subsets": 3} if kind is Kernel else {}
    made, real = pictures(50, 1), pictures(70, 2, low=40)
    forward, shuffled = make(kind, **options), make(kind, **options)
    forward.update(made)
    order = torch.randperm(50, generator=torch.Generator().manual_seed(3))
    shuffled.update(made[order], index=order)
    for metric in (forward, shuffled):
        metric.update(real, real=True)
    for name, value in merged([forward]).compute().items():
        assert merged([shuffled]).compute()[name] == pytest.approx(value, rel=1e-9)


@pytest.fixture(scope="module")
def digit_features() -> DigitFeatures:
    return DigitFeatures()


def measured(metric: Metric) -> dict[str, float]:
    metric.check(DIGITS, 300)
    for part in torch.split(Digits(split="test").images, 77):
        metric.update(part)
    metric.update(Digits().images, real=True)
    return metric.compute()


def test_frechet_is_torch_fidelitys(digit_features: DigitFeatures) -> None:
    got = measured(Frechet(features=digit_features))
    sides = (seen(digit_features, Digits(split="test").images).double(), seen(digit_features, Digits().images).double())
    want = fid_statistics_to_metric(*map(fid_features_to_statistics, sides), False)[KEY_METRIC_FID]
    assert got == {"frechet_digits": pytest.approx(want, rel=1e-6)}
    assert want > 0.5  # of another scale than the tolerance


def test_kernel_is_torch_fidelitys(digit_features: DigitFeatures) -> None:
    got = measured(Kernel(features=digit_features, subsets=20, subset_size=200))
    sides = (seen(digit_features, Digits(split="test").images).double(), seen(digit_features, Digits().images).double())
    want = kid_features_to_metric(*sides, kid_subsets=20, kid_subset_size=200, verbose=False)
    assert got == {
        "kernel_digits": pytest.approx(want[KEY_METRIC_KID_MEAN], rel=1e-6),
        "kernel_digits_sd": pytest.approx(want[KEY_METRIC_KID_STD], rel=1e-6),
    }


def test_a_worse_set_is_farther(digit_features: DigitFeatures) -> None:
    for kind in (Frechet, Kernel):
        values = []
        for noise in (0, 40, 120):
            metric = kind(features=digit_features)
            images = Digits(split="test").images
            shaken = images + noise * torch.randn(images.shape, generator=torch.Generator().manual_seed(0))
            metric.update(shaken.clamp(0, 255).to(torch.uint8))
            metric.update(Digits().images, real=True)
            values.append(next(iter(metric.compute().values())))
        assert 3 * max(values[0], 0) < values[1] < values[2] / 2


# Fréchet


def spd(d: int, rank: int, seed: int) -> Tensor:
    root = torch.randn(d, rank, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return root @ root.T


def test_frechet_of_commuting_covariances() -> None:
    a, b = torch.tensor([4.0, 9.0, 0.25]).double(), torch.tensor([1.0, 16.0, 0.25]).double()
    turn = torch.linalg.qr(spd(3, 3, 0))[0]
    mu = torch.tensor([1.0, -2.0, 0.5]).double()
    got = frechet_distance(mu, turn @ a.diag() @ turn.T, 0 * mu, turn @ b.diag() @ turn.T)
    assert got == pytest.approx(float((mu**2).sum() + ((a.sqrt() - b.sqrt()) ** 2).sum()), rel=1e-12)  # 5.25 + 1 + 1


def test_frechet_is_symmetric_and_zero_of_itself_also_when_singular() -> None:
    zero = torch.zeros(12, dtype=torch.float64)
    full, thin = spd(12, 12, 1), spd(12, 5, 2)
    there, back = frechet_distance(zero, full, zero, thin), frechet_distance(zero, thin, zero, full)
    assert there == pytest.approx(back, rel=1e-9) and there > 1
    for cov in (full, thin):
        assert 0 <= frechet_distance(zero, cov, zero, cov) < 1e-9
    assert not math.isnan(frechet_distance(zero, thin - 1e-13 * torch.eye(12).double(), zero, full))


@pytest.mark.parametrize("rank", [3, 40, 60])
def test_frechet_of_commuting_covariances_that_are_singular(rank: int) -> None:
    """Dimensions that only one side has, that both have, that none has: sum (sqrt a - sqrt b)^2, to 1e-9."""
    draw = torch.Generator().manual_seed(rank)
    turn = torch.linalg.qr(torch.randn(60, 60, dtype=torch.float64, generator=draw))[0]
    a, b = (10 ** (3 * torch.rand(60, dtype=torch.float64, generator=draw)) for _ in range(2))
    a[rank:], b[: rank // 3] = 0, 0
    mu = torch.zeros(60, dtype=torch.float64)
    got = frechet_distance(mu, turn @ a.diag() @ turn.T, mu, turn @ b.diag() @ turn.T)
    assert got == pytest.approx(float((a.sqrt() - b.sqrt()).square().sum()), rel=1e-9)


def fed_features(kind: type[Metric], made: Tensor, real: Tensor, batch: int = 13) -> Metric:
    metric = kind(features=Given(made.shape[1]))  # type: ignore[call-arg]
    return neighbours_kit.fed(metric, made, real, batch)  # type: ignore[arg-type]


@pytest.mark.parametrize(("n", "dim"), [(400, 30), (40, 60), (61, 60), (60, 60)])
def test_frechet_of_features_is_torch_fidelitys(n: int, dim: int) -> None:
    """Also of fewer images than features, where theirs takes the eigenvalues of a singular product."""
    mix = torch.randn(dim, dim, generator=torch.Generator().manual_seed(0)) / dim**0.5
    made, real = neighbours_kit.normal(n, dim, 1) @ mix, 1.1 * neighbours_kit.normal(n + 20, dim, 2, 0.1) @ mix
    want = fid_statistics_to_metric(*(fid_features_to_statistics(f.double()) for f in (made, real)), False)
    assert fed_features(Frechet, made, real).compute() == {
        "frechet_given": pytest.approx(want[KEY_METRIC_FID], rel=1e-6)
    }


@pytest.mark.parametrize("away", [0.0, 100.0, 10_000.0])
def test_frechet_with_a_mean_that_is_large_against_the_spread(away: float) -> None:
    """Of sums, beside two passes over the same features."""
    made, real = (1 + 0.1 * s + neighbours_kit.normal(500, 8, s, away) for s in (1, 2))
    metric: Any = fed_features(Frechet, made, real)
    mean, cov = metric.reference_statistics().mu, metric.reference_statistics().sigma
    assert torch.allclose(mean, real.double().mean(0), rtol=1e-14)
    worst = float((cov - real.double().T.cov()).abs().max())
    rounding = torch.finfo(torch.float32).eps * max(away, 1) / 4  # of a feature; its variance is what is lost anyway
    assert worst < rounding**2


def test_frechet_equal_sets_are_at_no_distance() -> None:
    for n, dim in ((300, 20), (15, 20)):
        f = 5 * neighbours_kit.normal(n, dim, 1, 3.0)
        value = fed_features(Frechet, f, f).compute()["frechet_given"]
        assert 0 <= value < 1e-9


def test_frechet_refuses_what_is_not_finite() -> None:
    made = neighbours_kit.normal(30, 4, 1)
    made[3, 2] = float("inf")
    with pytest.raises(ValueError, match="`given` of the generated images are not all finite"):
        fed_features(Frechet, made, neighbours_kit.normal(30, 4, 2)).compute()


def test_frechet_takes_statistics_in_place_of_images() -> None:
    made, real = neighbours_kit.normal(50, 6, 1), 2 * neighbours_kit.normal(70, 6, 2)
    whole: Any = fed_features(Frechet, made, real)
    kept = whole.reference_statistics()
    assert kept.images == 70 and kept.about["layer"] == "given"
    assert torch.allclose(kept.sigma, real.double().T.cov(), rtol=1e-12)
    alone: Any = fed_features(Frechet, made, real[:0])
    alone.take_reference(kept)
    assert alone.compute() == whole.compute()
    with pytest.raises(ValueError, match="5 features, and these are 6"):
        alone.take_reference(Statistics(torch.zeros(5).double(), torch.eye(5).double()))
    alone.reset()
    with pytest.raises(ValueError, match="got 0"):
        alone.compute()


def test_a_metric_of_images_takes_no_statistics() -> None:
    with pytest.raises(ValueError, match=r"Kernel needs the reference's images, and x\.npz holds mean and covariance"):
        make(Kernel).take_reference(Statistics(torch.zeros(4), torch.eye(4), name="x.npz"))


def test_frechet_says_that_images_are_few() -> None:
    metric = Frechet(features=Corner(16))
    metric.check(DIGITS, 2)
    assert metric.cautions(DIGITS, 17, 17) == metric.cautions(DIGITS, 17, None) == []
    assert len(metric.cautions(DIGITS, 16, 16)) == 2
    (sentence,) = metric.cautions(DIGITS, 17, 16)
    assert "the reference's 16 images are not more than the 16 features of `corner`" in sentence
    (sentence,) = metric.cautions(DIGITS, 16, 17)
    assert "16 images are not more than the 16 features of `corner`" in sentence
    with pytest.raises(ValueError, match=r"at least 2 images; got 1: give 2 or more"):
        metric.check(DIGITS, 1)
    metric.update(pictures(1, 0))
    with pytest.raises(ValueError, match="at least 2 images on either side; got 1 generated"):
        metric.compute()


# kernel


def test_kernel_by_hand() -> None:
    x, y = torch.tensor([[1.0, 0.0], [0.0, 1.0]]).double(), torch.tensor([[1.0, 1.0], [0.0, 0.0]]).double()
    # within: k = 1 for both pairs of x, 1 for both of y; between: (3/2)^3 twice, 1 twice
    assert float(squared_mmd(x, y)) == pytest.approx((2 + 2) / 2 - 2 * (2 * 1.5**3 + 2) / 4, rel=1e-12)


def test_kernel_has_no_bias() -> None:
    """Of two halves of one distribution it is 0 on average; the biased estimate would be 0.02 and more."""
    draw = torch.Generator().manual_seed(0)
    x, y = torch.rand(2, 400, 40, 4, generator=draw, dtype=torch.float64)
    values = torch.stack([squared_mmd(a, b) for a, b in zip(x, y, strict=True)])
    assert abs(float(values.mean())) < 3 * float(values.std()) / 20 < 0.003


def test_kernel_takes_what_there_is() -> None:
    metric = make(Kernel, subsets=5)
    metric.update(pictures(6, 1))
    metric.update(pictures(6, 2, low=100), real=True)
    values = metric.compute()  # one subset only: all of them
    assert values["kernel_corner_sd"] == pytest.approx(0, abs=1e-12) and values["kernel_corner"] > 0
    with pytest.raises(ValueError, match=r"at least 2 images; got 1: give 2 or more"):
        metric.check(DIGITS, 1)
    metric.reset()
    with pytest.raises(ValueError, match="got 0 generated, 0 reference"):
        metric.compute()


# both


@BOTH
def test_reset_starts_over(kind: type[Metric]) -> None:
    metric = make(kind)

    def measure() -> dict[str, float]:
        metric.update(pictures(30, 1))
        metric.update(pictures(30, 2, low=60), real=True)
        return metric.compute()

    first = measure()
    metric.reset()
    assert measure() == first


@BOTH
def test_the_extractor_moves_too(kind: type[Metric]) -> None:
    metric = make(kind)
    assert metric.to(torch.device("meta")) is metric
    assert metric.features.device == torch.device("meta")  # type: ignore[attr-defined]
    assert {getattr(metric, name).device.type for name in metric.states()} == {"meta"}


@BOTH
def test_what_a_value_means_is_in_its_protocol(kind: type[Metric], digit_features: DigitFeatures) -> None:
    metric = kind(features=digit_features)  # type: ignore[call-arg]
    assert metric.needs == {"reference"}
    assert metric.protocol().items() >= digit_features.protocol().items()
    with pytest.raises(ValueError, match="`digits` read images"):
        metric.check(DataSpec((3, 32, 32)), 1000)
    settings: list[dict[str, int]] = [{}, {"subsets": 5}, {"subset_size": 50}]
    protocols = [Kernel(features=digit_features, **s).protocol()["subsets"] for s in settings]
    assert len(set(protocols)) == 3


@BOTH
def test_states_survive_inference_mode(kind: type[Metric]) -> None:
    metric = make(kind)
    with torch.inference_mode():
        metric.update(pictures(30, 1))
        metric.to(torch.device("cpu"))
    metric.update(pictures(30, 2))
    metric.update(pictures(30, 3), real=True)
    assert all(math.isfinite(v) for v in metric.compute().values())
