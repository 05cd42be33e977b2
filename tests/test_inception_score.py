"""The Inception Score: the paper's formula, its extremes, torch-fidelity's order; its names."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from inception_kit import tiny_inception_fixture as tiny_inception_fixture
from torch import Tensor
from torch_fidelity.metric_isc import isc_features_to_metric

from dmf.core import DataSpec
from dmf.plugins.features.digits import DigitFeatures
from dmf.plugins.metrics.inception_score import InceptionScore, score
from dmf.registry import UserError, build

SPEC = DataSpec((1, 8, 8))


def of(logits: Tensor, order: Tensor | None = None, splits: int = 10) -> dict[str, float]:
    """The metric's values of logits that come in some order."""
    metric = InceptionScore(features=DigitFeatures(), splits=splits)
    for rows in torch.split(torch.arange(len(logits)) if order is None else order, 17):
        metric.take(logits[rows], real=False, labels=None, index=rows)
    metric.append("logits", torch.zeros(0, 10), torch.zeros(0, dtype=torch.int64))
    order = metric.logits_index.argsort()  # type: ignore[attr-defined]
    metric.logits = metric.logits[order]  # as the runner merges them
    return metric.compute()


def random_logits(n: int) -> Tensor:
    return 3 * torch.randn(n, 10, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("n", "splits"), [(100, 10), (103, 10), (29, 4), (10, 10)])
def test_torch_fidelitys_value(n: int, splits: int) -> None:
    logits = random_logits(n)
    want = isc_features_to_metric(logits, splits)
    found = of(logits, splits=splits)
    assert found["inception_score_digits"] == pytest.approx(want["inception_score_mean"], rel=1e-12)
    assert found["inception_score_digits_sd"] == pytest.approx(want["inception_score_std"], rel=1e-10, abs=1e-12)


def test_the_papers_formula() -> None:
    """exp of the mean KL divergence, image by image, class by class."""
    logits = random_logits(12)
    p = [[math.exp(v) / sum(map(math.exp, row)) for v in row] for row in logits.double().tolist()]
    mean = np.mean(p, axis=0)
    kl = [sum(v * math.log(v / mean[c]) for c, v in enumerate(row)) for row in p]
    assert float(score(logits)) == pytest.approx(math.exp(np.mean(kl)), rel=1e-9)


def test_its_extremes() -> None:
    sure = torch.eye(10).repeat(3, 1) * 1e4  # each class as often, no doubt: also where p underflows to 0
    assert float(score(sure)) == pytest.approx(10, rel=1e-12)
    assert float(score(sure[:1].repeat(8, 1))) == pytest.approx(1, rel=1e-12)
    assert float(score(torch.zeros(8, 10))) == pytest.approx(1, rel=1e-12)


def test_the_order_in_which_images_come_does_not_matter() -> None:
    logits = random_logits(50)
    shuffled = torch.randperm(50, generator=torch.Generator().manual_seed(1))
    assert of(logits, shuffled) == of(logits)


def test_real_images_do_not_count() -> None:
    metric = InceptionScore(features=DigitFeatures(), splits=2)
    random = torch.Generator().manual_seed(0)
    images = torch.randint(256, (20, 1, 8, 8), generator=random, dtype=torch.uint8)
    metric.update(images, index=torch.arange(20))
    alone = metric.compute()
    metric.update(255 - images, real=True, index=torch.arange(20))
    assert metric.compute() == alone and not metric.needs


def test_fewer_images_than_splits() -> None:
    metric = InceptionScore(features=DigitFeatures())
    metric.check(SPEC, 10)
    with pytest.raises(ValueError, match=r"give 10 or more, or write splits: 9"):
        metric.check(SPEC, 9)
    with pytest.raises(ValueError, match="an image in each of its 10 splits; got 0"):
        metric.compute()


def test_small_splits_are_told() -> None:
    metric = InceptionScore(features=DigitFeatures())
    (said,) = metric.cautions(SPEC, 49_999, None)
    assert "4999 in each split" in said and not metric.cautions(SPEC, 50_000, 9)


def test_names(tiny_inception: Path) -> None:
    metric = InceptionScore(splits=2)
    random = torch.Generator().manual_seed(0)
    metric.update(torch.randint(256, (20, 3, 8, 8), generator=random, dtype=torch.uint8), index=torch.arange(20))
    assert list(metric.compute()) == ["inception_score", "inception_score_sd"]
    assert metric.layer == "logits_unbiased" and metric.protocol()["features"] == "inception"
    of_digits = InceptionScore(features=DigitFeatures())
    assert of_digits.layer == "logits" and of_digits.protocol()["splits"].startswith("10")


@pytest.mark.parametrize("layer", ["2048", "logits", "64"])
def test_of_another_layer_it_has_another_name(tiny_inception: Path, layer: str) -> None:
    metric = InceptionScore(layer=layer, splits=2)
    metric.update(torch.zeros(4, 3, 8, 8, dtype=torch.uint8), index=torch.arange(4))
    assert list(metric.compute()) == [f"inception_score_inception_{layer}", f"inception_score_inception_{layer}_sd"]


def test_a_layer_that_is_no_logits_is_named() -> None:
    metric = InceptionScore(features=DigitFeatures(), layer="features", splits=2)
    metric.update(torch.zeros(4, 1, 8, 8, dtype=torch.uint8), index=torch.arange(4))
    assert next(iter(metric.compute())) == "inception_score_digits_features"


def test_features_without_logits_need_a_layer() -> None:
    features = DigitFeatures()
    features.layers = {"features": 64}
    with pytest.raises(ValueError, match=r"has no layer logits_unbiased or logits; name one of features as layer"):
        InceptionScore(features=features)
    assert InceptionScore(features=features, layer="features").layer == "features"
    with pytest.raises(UserError, match="layer: features `digits` have features, logits; got 'nothing'"):
        build("metric", "inception_score", features="digits", layer="nothing")
