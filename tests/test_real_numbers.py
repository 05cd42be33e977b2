"""Distances of real images by a real classifier: the held-out ones are near, and noise leads away, step by step."""

from itertools import pairwise
from typing import Any

import pytest
import torch
from conftest import FULL
from data_kit import real_data, real_file
from torch import Tensor

from dmf.core import FeatureExtractor, Metric
from dmf.registry import build

SIGMAS = (0, 4, 8, 16, 32, 64)  # of 255
COUNT = 5000 if FULL else 400
FOLDERS = {"cifar10": "cifar-10-batches-py", "fashion_mnist": "FashionMNIST"}

pytestmark = pytest.mark.slow


def features_of(network: FeatureExtractor, images: Tensor) -> Tensor:
    return torch.cat([network(part, ["features"])["features"] for part in torch.split(images, 100)])


def value(kind: str, network: FeatureExtractor, real: Tensor, made: Tensor, **options: Any) -> dict[str, float]:
    metric: Metric = build("metric", kind, features=network, **options)
    empty = torch.zeros(0, 3, 32, 32, dtype=torch.uint8)
    for features, is_real in ((real, True), (made, False)):
        metric.update(empty, real=is_real, index=torch.arange(len(features)), features={"features": features})
    return metric.compute()


@pytest.mark.parametrize("name", FOLDERS)
def test_noise_leads_away_step_by_step(name: str) -> None:
    """The training set against held-out images, and against copies of other training images with more and more noise.

    Grey images go through the network of colours as three channels, resized to its 32 pixels.
    """
    root = real_data(FOLDERS[name])
    file = real_file("cifar10_resnet20-12fca82f.th")
    network = build("features", "classifier", path=file, architecture="resnet20", size=32, called="resnet20")
    train, _ = build("dataset", name, root=root, download=False).tensors()
    test, _ = build("dataset", name, root=root, download=False, split="test").tensors()
    real, held_out = features_of(network, train[:COUNT]), features_of(network, test[:COUNT])
    copied, random = train[COUNT : 2 * COUNT].float(), torch.Generator().manual_seed(0)
    noise = torch.randn(copied.shape, generator=random)
    noisy = [features_of(network, (copied + s * noise).round().clamp(0, 255).byte()) for s in SIGMAS]
    for kind, options in (("frechet", {}), ("kernel", {"subsets": 20, "subset_size": COUNT // 4})):
        far = [value(kind, network, real, made, **options)[f"{kind}_resnet20"] for made in noisy]
        near = value(kind, network, real, held_out, **options)[f"{kind}_resnet20"]
        steps = [b - a for a, b in pairwise(far)]
        assert min(steps) > 0, f"{kind} of sigma {SIGMAS}: {far}"
        assert max(near, far[0]) < far[4] / 10, f"{kind}: held out {near}, without noise {far[0]}, {far}"
    # precision alone says little: noisy clothes all look alike to this network, at a place where real ones are
    recall = [value("precision_recall", network, real, made)["recall_resnet20"] for made in noisy]
    coverage = [value("density_coverage", network, real, made)["coverage_resnet20"] for made in noisy]
    assert min(recall[0], coverage[0]) > 0.75 and max(recall[-1], coverage[-1]) < 0.2, (recall, coverage)
