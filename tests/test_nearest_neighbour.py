"""Nearest neighbours: distances by hand, copies, any order and ranks; the picture shows what the numbers say."""

from typing import Any

import pytest
import torch
from neighbours_kit import Given, distances
from scoring_kit import Counting, images, scored
from torch import Tensor

from dmf.core import DataSpec, FeatureExtractor, FeatureMetric
from dmf.files.sheets import sheet
from dmf.plugins.metrics.nearest_neighbour import NearestNeighbour
from dmf.plugins.metrics.precision_recall import PrecisionRecall
from dmf.testing.metrics import merged

SPEC = DataSpec((1, 4, 4))


def pictures(n: int, seed: int) -> Tensor:
    return torch.randint(256, (n, 1, 4, 4), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)


def seen(metric: FeatureMetric, made: Tensor, real: Tensor, rank: int = 0, ranks: int = 1) -> Any:
    metric.check(SPEC, len(made))
    for shown, side in ((real, True), (made, False)):
        for index in torch.split(torch.arange(rank, len(shown), ranks), 7):
            metric.update(shown[index], real=side, index=index)
    return metric


def test_distances_are_of_pixels_from_0_to_1() -> None:
    made, real = pictures(30, 1), pictures(90, 2)
    got = seen(NearestNeighbour(images=20), made, real).compute()
    apart = distances(made[:20].flatten(1), real.flatten(1)).min(1).values.sqrt() / 255
    assert got == {
        "nearest_pixels_median": pytest.approx(float(apart.quantile(0.5)), rel=1e-12),
        "nearest_pixels_least": pytest.approx(float(apart.min()), rel=1e-12),
        "nearest_pixels_copies": 0.0,
    }
    assert got["nearest_pixels_median"] > got["nearest_pixels_least"] > 0.3


def test_copies_are_found() -> None:
    made, real = pictures(16, 1), pictures(90, 2)
    made[3], made[7] = real[80], real[2]
    made[9] = real[5] ^ 1  # next to a copy
    got = seen(NearestNeighbour(), made, real).compute()
    assert got["nearest_pixels_copies"] == 2 / 16 and got["nearest_pixels_least"] == 0
    assert seen(NearestNeighbour(images=3), made, real).compute()["nearest_pixels_copies"] == 0  # not among the first


def test_pixels_take_a_byte_each_and_only_the_first_samples_are_kept() -> None:
    metric = seen(NearestNeighbour(images=5), pictures(30, 1), pictures(90, 2))
    assert metric.real.dtype == metric.made.dtype == torch.uint8
    assert (len(metric.real), len(metric.made), len(metric.shown)) == (90, 5, 5)
    assert metric.made_index.tolist() == [0, 1, 2, 3, 4]


def test_ranks_and_order_do_not_matter() -> None:
    """Also where a rank has none of the first samples."""
    made, real = pictures(30, 1), pictures(90, 2)
    whole = seen(NearestNeighbour(images=2), made, real)
    ranks = [seen(NearestNeighbour(images=2), made, real, rank, 4) for rank in range(4)]
    assert len(ranks[3].made) == 0 and ranks[3].made.shape[1:] == whole.made.shape[1:]
    assert ranks[3].shown.shape[1:] == whole.shown.shape[1:]  # or ranks could not exchange them
    together = merged(*ranks)
    assert together.compute() == whole.compute()
    sheets = [one.pictures(lambda numbers: real[numbers])["nearest_pixels"] for one in (together, whole)]
    assert torch.equal(*sheets)


def test_without_numbers_they_come_in_order() -> None:
    made, real = pictures(30, 1), pictures(90, 2)
    metric = NearestNeighbour(images=9)
    metric.update(real, real=True)
    for some in torch.split(made, 4):
        metric.update(some)
    assert metric.compute() == seen(NearestNeighbour(images=9), made, real).compute()


def test_on_features() -> None:
    made, real = torch.rand(10, 3), torch.rand(40, 3)
    metric: Any = NearestNeighbour(features=Given(3), images=6)
    metric.check(SPEC, 10)
    metric.update(pictures(40, 2), real=True, features={"given": real})
    metric.update(pictures(10, 1), features={"given": made})
    apart = distances(made[:6], real).min(1).values.sqrt()
    got = metric.compute()
    assert got["nearest_given_median"] == pytest.approx(float(apart.quantile(0.5)), rel=1e-12)
    assert metric.made.dtype == torch.float32 and len(metric.shown) == 6
    assert "nearest_given" in metric.pictures(lambda numbers: pictures(40, 2)[numbers])


def test_the_picture_has_a_row_a_sample_the_nearest_first(monkeypatch: pytest.MonkeyPatch) -> None:
    made, real = pictures(16, 1), pictures(90, 2)
    made[3], made[5] = real[80], real[2] ^ 1
    drawn: dict[str, Any] = {}

    def watch(images: Tensor, columns: int, captions: list[str]) -> Tensor:
        drawn.update(images=images, columns=columns, captions=captions)
        return sheet(images, columns, captions=captions)

    monkeypatch.setattr("dmf.plugins.metrics.nearest_neighbour.sheet", watch)
    found = seen(NearestNeighbour(k=2), made, real).pictures(lambda numbers: real[numbers])
    assert drawn["columns"] == 3 and len(drawn["images"]) == len(drawn["captions"]) == 16 * 3
    assert drawn["captions"][:2] == ["sample 3", "0"] and drawn["captions"][3:5] == ["sample 5", f"{4 / 255:.3g}"]
    rows = drawn["images"].reshape(16, 3, 1, 4, 4)
    order = [int(text.split()[1]) for text in drawn["captions"][::3]]
    assert torch.equal(rows[:, 0], made[order]) and sorted(order) == list(range(16))
    near = distances(made[order].flatten(1), real.flatten(1)).sort(1).indices[:, :2]
    assert torch.equal(rows[:, 1:], real[near])
    assert found["nearest_pixels"].dtype == torch.uint8 and found["nearest_pixels"].shape[0] == 3


def test_captions_stand_below_each_image() -> None:
    cells = torch.zeros(4, 1, 48, 48, dtype=torch.uint8)
    plain, told = sheet(cells, 2), sheet(cells, 2, captions=["a", "b", "", "d"])
    assert told.shape[1] > plain.shape[1] and told.shape[2] == plain.shape[2]
    below = told[0, 4 + 48 : 4 + 48 + 14]
    assert (below[:, 4:52] < 128).any() and (below[:, 56:104] < 128).any()
    second = told[0, 4 + 68 + 48 : 4 + 68 + 48 + 14]
    assert not (second[:, 4:52] < 128).any() and (second[:, 56:104] < 128).any()


def test_captions_wider_than_their_images_are_whole() -> None:
    small, large = (torch.full((2, 1, side, side), 255, dtype=torch.uint8) for side in (8, 96))  # 8 is drawn as 48
    told = [sheet(cells, 2, captions=["sample 27", "sample 27"])[0] for cells in (small, large)]
    inks = [int((255 - picture.long()).sum()) for picture in told]
    assert inks[0] == inks[1] > 0
    assert (told[0][:, :2] == 255).all()


def test_what_it_refuses() -> None:
    metric = NearestNeighbour(k=5)
    assert metric.least_reference == 5
    with pytest.raises(ValueError, match="at least 1 image"):
        metric.check(SPEC, 0)
    with pytest.raises(ValueError, match="at least 1 generated image and 5 of the reference; got 0 and 0"):
        metric.compute()


def test_asked_again_it_keeps_what_it_has_seen() -> None:
    """One evaluation scores several sets against one reference."""
    made, real = pictures(16, 1), pictures(90, 2)
    metric = seen(NearestNeighbour(), made, real)
    values = metric.compute()
    metric.check(SPEC, 99)
    assert metric.compute() == values


def test_pixels_are_not_worth_a_cache() -> None:
    assert NearestNeighbour().reference_key() == {}
    assert NearestNeighbour(features=Given(3)).reference_key()["states"] == "rows of nearest_neighbour"


def test_its_values_are_of_the_images_that_it_looks_at() -> None:
    few, every = NearestNeighbour(images=7, k=2), NearestNeighbour(images=90, k=2, features=Counting())
    found = scored({"few": few, "all": every}, images(40, 1), images(50, 2)).results
    assert found["nearest_pixels_median"]["protocol"]["images"] == "7"
    assert found["nearest_counting_median"]["protocol"]["images"] == "40"


def test_a_reference_that_takes_much_memory_is_told_before_the_work() -> None:
    imagenet, many = DataSpec((3, 256, 256)), 1_281_167
    pixels, features = NearestNeighbour(), NearestNeighbour(features=Wide())
    (said,) = pixels.cautions(imagenet, 16, many)
    assert "1,281,167 images, 234.6 GiB on the first rank's device" in said and "give features" in said
    (said,) = features.cautions(imagenet, 16, many)
    assert "9.8 GiB" in said and "a part of the reference" in said
    (said,) = PrecisionRecall(features=Wide()).cautions(imagenet, 50_000, many)
    assert "9.8 GiB" in said and "frechet" in said
    for metric in (features, PrecisionRecall(features=Wide())):
        assert metric.cautions(imagenet, 16, 50_000) == metric.cautions(imagenet, 16, None) == []
    assert pixels.cautions(DataSpec((3, 32, 32)), 16, 50_000) == []


class Wide(FeatureExtractor):
    """2048 features, of which only the number is asked for."""

    name = "wide"

    def __init__(self) -> None:
        self.layers = {"all": 2048}

    def __call__(self, images: Tensor, layers: Any) -> dict[str, Tensor]:
        raise NotImplementedError

    def protocol(self) -> dict[str, str]:
        return {"features": self.name}
