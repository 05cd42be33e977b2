"""Density and coverage: the paper's definition by brute force, and what it expects of equal distributions."""

import math

import pytest
import torch
from neighbours_kit import Given, distances, fed, normal, radii
from torch import Tensor

from dmf.core import DataSpec
from dmf.plugins.metrics.density_coverage import DensityCoverage


def values(made: Tensor, real: Tensor, k: int = 5) -> tuple[float, float]:
    found = fed(DensityCoverage(features=Given(made.shape[1]), k=k), made, real).compute()
    assert list(found) == ["density_given", "coverage_given"]
    density, coverage = found.values()
    return density, coverage


def by_definition(made: Tensor, real: Tensor, k: int) -> tuple[float, float]:
    """Naeem et al. 2020, section 3, with every sum written out."""
    apart, reach = distances(made, real).tolist(), radii(real, k).tolist()
    inside = [[d <= r for d, r in zip(row, reach, strict=True)] for row in apart]
    density = sum(sum(row) for row in inside) / (k * len(made))
    coverage = sum(any(row[i] for row in inside) for i in range(len(real))) / len(real)
    return density, coverage


@pytest.mark.parametrize(("dim", "k", "away"), [(2, 5, 0.5), (16, 5, 0.1), (16, 2, 0.3)])
def test_it_is_the_papers(dim: int, k: int, away: float) -> None:
    made, real = normal(300, dim, 1), 1.2 * normal(250, dim, 2, away)
    got = values(made, real, k)
    assert got == pytest.approx(by_definition(made, real, k), rel=1e-12)
    assert 0 < got[1] < 1 and got[0] > 0


def test_whole_numbers_have_ties() -> None:
    made, real = (2 * normal(200, 3, 1)).round(), (2 * normal(200, 3, 2)).round()
    assert values(made, real) == pytest.approx(by_definition(made, real, 5), rel=1e-12)


def expected_coverage(n: int, m: int, k: int) -> float:
    """1 less the chance that of n - 1 other real images and m samples the k nearest are all real."""
    none = math.prod((n - j) / (n + m - j) for j in range(1, k + 1))
    return 1 - none


def test_of_one_distribution_it_is_what_the_paper_expects() -> None:
    """1 - (N-1)...(N-k) / (2N-1)...(2N-k), and 1: over 60 draws, within three standard errors."""
    n, k = 200, 5
    found = torch.tensor([values(normal(n, 4, 2 * s), normal(n, 4, 2 * s + 1), k) for s in range(60)]).double()
    for column, want in zip(found.T, (1.0, expected_coverage(n, n, k)), strict=True):
        assert abs(float(column.mean()) - want) < 3 * float(column.std()) / 60**0.5 < 0.03


def test_crowding_has_density_above_1_and_little_coverage() -> None:
    real = normal(400, 8, 1)
    density, coverage = values(0.1 * normal(400, 8, 2), real)
    assert density > 2 and coverage < 0.9
    assert values(normal(400, 8, 3, 50.0), real) == (0.0, 0.0)


def test_what_it_refuses() -> None:
    metric = DensityCoverage(features=Given(4), k=5)
    assert metric.least_reference == 6 and metric.protocol()["k"] == "5"
    with pytest.raises(ValueError, match=r"at least 6 images; got 5"):
        metric.check(DataSpec((1, 8, 8)), 5)
