"""Precision and recall: torch-fidelity's, the paper's definition by brute force, ties, duplicates, size of blocks."""

import os
import subprocess
import sys
from typing import Any

import pytest
import torch
from conftest import FULL
from neighbours_kit import Given, distances, fed, normal, radii
from torch import Tensor
from torch_fidelity.metric_prc import prc_features_to_metric

from dmf.core import DataSpec, neighbours
from dmf.core.neighbours import in_balls, nearest, squared_distances
from dmf.plugins.metrics.precision_recall import PrecisionRecall

SPEC = DataSpec((1, 8, 8))


def values(made: Tensor, real: Tensor, k: int = 3) -> tuple[float, float]:
    found = fed(PrecisionRecall(features=Given(made.shape[1]), k=k), made, real).compute()
    assert list(found) == ["precision_given", "recall_given"]
    precision, recall = found.values()
    return precision, recall


def by_definition(made: Tensor, real: Tensor, k: int) -> tuple[float, float]:
    """Kynkäänniemi et al. 2019, equations 1 and 2, in one line each."""
    apart = distances(made, real)
    precision = (apart <= radii(real, k)[None]).any(1).double().mean()
    recall = (apart <= radii(made, k)[:, None]).any(0).double().mean()
    return float(precision), float(recall)


@pytest.mark.parametrize(
    ("dim", "k", "wider", "away"), [(2, 3, 1.3, 0.5), (8, 3, 1.3, 0.3), (64, 5, 1.05, 0.1), (8, 1, 1.3, 100.0)]
)
def test_it_is_torch_fidelitys(dim: int, k: int, wider: float, away: float) -> None:
    made, real = normal(400, dim, 1), wider * normal(500, dim, 2, away)
    want = prc_features_to_metric(
        made.double(), real.double(), prc_neighborhood=k, prc_batch_size=10000, save_cpu_ram=False, verbose=False
    )
    got = values(made, real, k)
    assert got == (pytest.approx(want["precision"], abs=1e-6), pytest.approx(want["recall"], abs=1e-6))
    if away < 1:
        assert min(got) > 0.02 and max(got) < 1 and got[0] != got[1]


def test_whole_numbers_have_ties() -> None:
    """Integers in few dimensions: most distances are equal to a radius, and float64 has them without rounding."""
    made, real = (2 * normal(300, 3, 1)).round(), (2 * normal(400, 3, 2)).round()
    assert values(made, real) == by_definition(made, real, 3)
    on_the_surface = distances(made, real) == radii(real, 3)[None]
    assert on_the_surface.sum() > 1000


def test_far_from_zero_nothing_is_lost() -> None:
    """|a|^2 + |b|^2 - 2ab about 0 would lose all digits here."""
    made, real = normal(200, 16, 1, 1000.0), normal(250, 16, 2, 1000.1)
    assert values(made, real) == by_definition(made, real, 3)


def test_duplicates_are_neighbours() -> None:
    """Four equal real images have radius 0: a ball that holds a copy of them and nothing else."""
    real = torch.cat([torch.zeros(4, 2), torch.tensor([[10.0, 0], [11, 0], [12, 0], [13, 0]])])
    made = torch.tensor([[0.0, 0], [0, 1e-3], [11, 0.5], [50, 50]])
    assert values(made, real)[0] == 0.5
    assert values(real, real) == (1.0, 1.0)


def test_a_sample_of_part_of_the_images_has_precision_and_no_recall() -> None:
    real = torch.cat([normal(300, 4, 1), normal(300, 4, 2, 20.0)])
    precision, recall = values(normal(300, 4, 3), real)
    assert precision > 0.8 and recall < 0.5


@pytest.mark.parametrize(("queries", "rows"), [(7, 11), (64, 1000), (1000, 64)])
def test_blocks_do_not_matter(monkeypatch: pytest.MonkeyPatch, queries: int, rows: int) -> None:
    made, real = normal(150, 6, 1), normal(170, 6, 2)
    made[3], real[5] = real[9], real[7]
    want = (
        nearest(made, real, 4),
        in_balls(made, real, radii(made, 3), radii(real, 3)),
        nearest(real, real, 2, others=True),
    )
    monkeypatch.setattr(neighbours, "QUERIES", queries)
    monkeypatch.setattr(neighbours, "ROWS", rows)
    ticks: list[int] = []
    got = (
        nearest(made, real, 4, tick=ticks.append),
        in_balls(made, real, radii(made, 3), radii(real, 3), tick=ticks.append),
        nearest(real, real, 2, others=True),
    )
    for ours, theirs in zip(got, want, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))  # type: ignore[arg-type]
    assert sum(ticks) == 2 * len(made)


@pytest.mark.parametrize("precision", ["high", "medium"])
def test_a_training_with_less_precise_products_changes_nothing(precision: str) -> None:
    made, real = normal(300, 32, 1), normal(300, 32, 2)
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(precision)
    try:
        assert values(made, real) == by_definition(made, real, 3)
        assert torch.get_float32_matmul_precision() == precision
    finally:
        torch.set_float32_matmul_precision(before)


def test_nearest_rows() -> None:
    a, b = normal(50, 5, 1), normal(60, 5, 2)
    near, want = nearest(a, b, 3), distances(a, b).sort(1)
    assert torch.equal(near.squared, want.values[:, :3]) and torch.equal(near.numbers, want.indices[:, :3])
    with pytest.raises(ValueError, match="60 nearest of 59 rows cannot be had"):
        nearest(b, b, 60, others=True)


def clusters(spread: float, dim: int = 64, dtype: torch.dtype = torch.float32) -> Tensor:
    """Two tight clusters, at +10 and -10: their common mean is in neither."""
    place = torch.where(torch.arange(2000) < 1000, 10.0, -10.0)[:, None]
    return (place + spread * torch.randn(2000, dim, generator=torch.Generator().manual_seed(3))).to(dtype)


def with_copies(made: Tensor, real: Tensor) -> tuple[Tensor, Tensor]:
    """Every tenth of the one is one of the other; and what they are."""
    numbers = torch.randperm(len(real), generator=torch.Generator().manual_seed(4))[: len(made) // 10]
    made[::10] = real[numbers]
    return made, numbers


@pytest.mark.parametrize("spread", [0.1, 0.03, 0.01, 0.001, 1e-5])
def test_tight_clusters_far_apart(spread: float) -> None:
    """Products in float32 err by more than the distances within a cluster are."""
    real = clusters(spread)
    found, want = nearest(real, real, 3, others=True), radii(real, 3)
    torch.testing.assert_close(found.squared[:, -1], want, rtol=1e-12, atol=0)
    made, numbers = with_copies(clusters(spread).flip(0) + spread / 3, real)
    near = nearest(made, real, 2)
    torch.testing.assert_close(near.squared, distances(made, real).sort(1).values[:, :2], rtol=1e-12, atol=0)
    assert (near.squared[::10, 0] == 0).all()
    assert torch.equal(real[near.numbers[::10, 0]], real[numbers])


def test_more_equal_distances_than_candidates_and_a_nearer_one() -> None:
    """Of each query a shell of 60 rows all but equally far, beyond what products in float64 know: differences do."""
    random = torch.Generator().manual_seed(5)
    shell = torch.randn(60, 64, generator=random, dtype=torch.float64)
    shell = shell / shell.norm(dim=1, keepdim=True) * (1 + 1e-7 * torch.rand(60, 1, generator=random))
    far = torch.full((1, 64), 1e5, dtype=torch.float64)
    rows = torch.cat([far + shell, -far + shell])
    queries = torch.cat([far, -far])
    near, want = nearest(queries, rows, 3), distances(queries, rows).sort(1).values[:, :3]
    assert torch.equal(near.squared, want)
    one_image = torch.cat([clusters(0.001)[:50], clusters(0.001)[:1].expand(50, -1)])
    torch.testing.assert_close(
        nearest(one_image, one_image, 3, others=True).squared[:, -1], radii(one_image, 3), rtol=1e-12, atol=0
    )


@pytest.mark.parametrize("spread", [0.1, 0.001])
def test_precision_and_recall_of_tight_clusters(spread: float) -> None:
    made, real = clusters(spread).flip(0)[:500] + spread / 10, clusters(spread)[::4]
    assert values(made, real) == by_definition(made, real, 3)


def test_float64_rows_are_moved_before_they_are_shortened() -> None:
    real = clusters(1e-6, 16, torch.float64) + 1e6
    torch.testing.assert_close(nearest(real, real, 3, others=True).squared[:, -1], radii(real, 3), rtol=1e-12, atol=0)


@pytest.mark.parametrize("away", [0.0, 3.0])
def test_ordinary_features_are_compared_once(monkeypatch: pytest.MonkeyPatch, away: float) -> None:
    """Float64 is for what needs it: it would cost more than all the rest."""
    seen: list[int] = []
    known = neighbours._by_products

    def watched(some: Tensor, own: Tensor | None, b: Any, k: int) -> Any:
        if b.dtype == torch.float64:
            seen.append(len(some))
        return known(some, own, b, k)

    monkeypatch.setattr(neighbours, "_by_products", watched)
    nearest(normal(500, 512, 1, away), normal(3000, 512, 2, away), 3)
    assert sum(seen) < 10


@pytest.mark.parametrize("spread", [1e-2, 1e-3, 1e-5])
def test_of_tight_clusters_few_pairs_are_measured_one_by_one(spread: float, monkeypatch: pytest.MonkeyPatch) -> None:
    made, real = clusters(spread).flip(0) + spread / 3, clusters(spread)
    ball = nearest(real, real, 3, others=True).squared[:, -1]
    want = (distances(made, real) <= ball[None]).sum(1)
    measured = []

    def counted(a: Tensor, b: Tensor) -> Tensor:
        measured.append(len(a))
        return squared_distances(a, b)

    monkeypatch.setattr(neighbours, "squared_distances", counted)
    count, _, _ = in_balls(made, real, None, ball)
    assert torch.equal(count, want)
    assert sum(measured) <= len(made) * len(real) / 64


def test_what_it_refuses() -> None:
    metric = PrecisionRecall(features=Given(4), k=3)
    assert metric.least_reference == 4
    with pytest.raises(ValueError, match=r"at least 4 images; got 3: give 4 or more"):
        metric.check(SPEC, 3)
    with pytest.raises(ValueError, match="at least 4 images on either side; got 5 generated, 3 reference"):
        fed(metric, normal(5, 4, 1), normal(3, 4, 2)).compute()
    spoilt = normal(5, 4, 1)
    spoilt[2, 1] = float("nan")
    metric.reset()
    with pytest.raises(ValueError, match="`given` of 1 of 5 generated images are not finite"):
        fed(metric, spoilt, normal(5, 4, 2)).compute()


def test_rows_are_kept_once_for_all_metrics_of_an_extractor() -> None:
    from dmf.plugins.metrics.density_coverage import DensityCoverage
    from dmf.plugins.metrics.kernel import Kernel

    keys = [kind(features=Given(4)).reference_key() for kind in (PrecisionRecall, DensityCoverage, Kernel)]
    assert keys[0] == keys[1] == keys[2] == PrecisionRecall(features=Given(4), k=7).reference_key()
    assert PrecisionRecall(features=Given(4), k=7).protocol()["k"] == "7"


MEASURE = """
import sys, torch
sys.path.insert(0, {tests!r})
from neighbours_kit import Given
from dmf.plugins.metrics.precision_recall import PrecisionRecall
from dmf.core import neighbours
from dmf.runner.host_memory import most_taken
count, dim = {count}, {dim}
if count < 50_000:  # blocks that are small beside all pairs
    neighbours.QUERIES, neighbours.ROWS, neighbours.EXACT_NUMBERS = 256, 2048, 1 << 19
metric = PrecisionRecall(features=Given(dim))
before = most_taken()
for side in (True, False):
    for start in range(0, count, 500):
        rows = torch.randn(500, dim)
        metric.update(rows, real=side, index=torch.arange(start, start + 500), features={{"given": rows}})
assert 0 < metric.compute()["precision_given"] <= 1
print(most_taken() - before)
"""


@pytest.mark.slow
def test_memory_is_that_of_the_rows_and_some_blocks() -> None:
    """All pairs at once would take 256 MB here, and 10 GB of 50,000 features on either side."""
    count, dim = (50_000, 2048) if FULL else (8_000, 16)
    code = MEASURE.format(tests=os.path.dirname(__file__), count=count, dim=dim)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    grown, rows = int(done.stdout), 2 * count * dim * 4
    assert 0 < grown < (8e9 if FULL else 2 * rows + 120e6)
