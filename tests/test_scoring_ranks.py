"""Any number of ranks is one: each image once, the same batches, reduced to rank 0, which alone computes."""

from typing import Any

import pytest
import torch
from scoring_kit import ALONE, Counting, Everything, images, on_ranks, scored
from torch import Tensor

from dmf.core import Metric
from dmf.plugins.metrics.frechet import Frechet
from dmf.plugins.metrics.kernel import Kernel
from dmf.registry import UserError
from dmf.runner.evaluation.reduce import reduced
from dmf.runner.evaluation.streams import shares
from dmf.runner.world import World


def fed(world: World, count: int) -> Everything:
    metric, data = Everything(), images(count, 0)
    for numbers in shares(count, world, 4):
        metric.update(data.images[numbers], index=numbers)
    return metric


def reduce_on(world: World, count: int) -> None:
    alone = reduced(fed(ALONE, count), ALONE)
    assert alone is not None
    metric = fed(world, count)
    for _ in range(2):  # reducing leaves the metric as it was
        whole = reduced(metric, world)
        assert (whole is not None) == world.first
        assert whole is None or whole.compute() == alone.compute()


@pytest.mark.parametrize("count", [31, 5])  # of 5 images, a rank of three has none
def test_states_of_three_ranks_are_those_of_one(count: int) -> None:
    whole = reduced(fed(ALONE, count), ALONE)
    assert whole is not None and whole.compute()["ordered"] == 1 and whole.compute()["n"] == count
    on_ranks(3, reduce_on, count)


@pytest.mark.parametrize(("count", "ranks", "batch"), [(100, 3, 16), (2, 3, 16), (48, 3, 16), (1, 1, 1), (0, 2, 4)])
def test_each_image_is_dealt_once_in_the_same_batches(count: int, ranks: int, batch: int) -> None:
    dealt = [list(shares(count, World(rank, ranks, torch.device("cpu")), batch)) for rank in range(ranks)]
    alone = [part.tolist() for part in shares(count, ALONE, batch)]
    assert sorted(part.tolist() for one in dealt for part in one) == sorted(alone)
    assert [number for part in alone for number in part] == list(range(count))
    assert max(map(len, dealt)) - min(map(len, dealt)) <= 1


def metrics() -> dict[str, Metric]:
    return {"frechet": Frechet(features=Counting()), "kernel": Kernel(features=Counting(), subsets=5, subset_size=40)}


def score_on(world: World, want: dict[str, Any]) -> None:
    found = scored(metrics(), images(70, 1), images(101, 2, 30), held_out=images(50, 3), world=world)
    assert found.results == want, (world.rank, found.results, want)  # on every rank
    assert found.results["frechet_counting"]["protocol"]["images"] == "70"


def test_values_of_three_ranks_are_those_of_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    """To the last bit: the batches are the same, so the features are; and sums of few are exact enough to be."""
    want = scored(metrics(), images(70, 1), images(101, 2, 30), held_out=images(50, 3)).results
    monkeypatch.setenv("DMF_CACHE", str(tmp_path / "other"))  # nothing of the first evaluation is taken
    on_ranks(3, score_on, rounded(want))


def rounded(results: dict[str, Any]) -> dict[str, Any]:
    class Near(float):
        def __eq__(self, other: object) -> bool:
            return isinstance(other, float) and abs(self - other) <= 1e-9 * abs(self)

        __hash__ = float.__hash__

    def near(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: near(one) for key, one in value.items()}
        return Near(value) if isinstance(value, float) else value

    found: dict[str, Any] = near(results)
    return found


class Refusing(Everything):
    def compute(self) -> dict[str, float]:
        raise ValueError("too much alike")


class Refusing2(Refusing):
    def compute(self) -> dict[str, float]:
        raise ValueError("too unlike")


def refuse_on(world: World) -> None:
    with pytest.raises(UserError, match="one: too much alike; three: too unlike"):
        scored({"one": Refusing(), "two": Everything(), "three": Refusing2()}, images(20, 1), world=world)


def test_what_cannot_be_computed_is_raised_on_every_rank_in_order() -> None:
    on_ranks(2, refuse_on)


class Nans(Counting):
    """Ordinary numbers of few images, and then one that is not."""

    def __call__(self, images: Tensor, layers: Any) -> dict[str, Tensor]:
        found = super().__call__(images, layers)
        bright = images.flatten(1)[:, 0] > 250  # the first pixel
        for f in found.values():
            f[bright, 1] = float("nan")
        return found


def nan_on(world: World) -> None:
    data = images(60, 4)
    data.images[:, :, 0, 0] = 0
    data.images[[17, 3, 40], :, 0, 0] = 255  # on three ranks with batches of 16 on two of them
    with pytest.raises(
        UserError, match="`counting`, layer first: not finite for 3 of 60 images of made noise"
    ) as found:
        scored({"kernel": Kernel(features=Nans())}, data, images(30, 5, spec=data.spec, low=1), world=world)
    assert "of the numbers 3, 17, 40;" in str(found.value)


def test_features_that_are_not_finite_are_told_with_their_images_on_every_rank(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    on_ranks(3, nan_on)
