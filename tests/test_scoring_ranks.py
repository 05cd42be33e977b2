"""Any number of ranks is one: each image once, the same batches, reduced to rank 0, which alone computes."""

from typing import Any

import pytest
import torch
from fork_kit import on_ranks
from scoring_kit import ALONE, Counting, Everything, images, scored, stream, whole
from torch import Tensor

from dmf.core import Metric, Statistics
from dmf.plugins.metrics.frechet import Frechet
from dmf.plugins.metrics.kernel import Kernel
from dmf.registry import UserError
from dmf.runner.evaluation import Named, Scoring
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


@pytest.mark.parametrize("count", [31, 5])
def test_rows_of_one_rank_are_in_order(count: int) -> None:
    whole = reduced(fed(ALONE, count), ALONE)
    assert whole is not None and whole.compute()["ordered"] == 1 and whole.compute()["n"] == count


@pytest.mark.parametrize(("count", "ranks", "batch"), [(100, 3, 16), (2, 3, 16), (48, 3, 16), (1, 1, 1), (0, 2, 4)])
def test_each_image_is_dealt_once_in_the_same_batches(count: int, ranks: int, batch: int) -> None:
    dealt = [list(shares(count, World(rank, ranks, torch.device("cpu")), batch)) for rank in range(ranks)]
    alone = [part.tolist() for part in shares(count, ALONE, batch)]
    assert sorted(part.tolist() for one in dealt for part in one) == sorted(alone)
    assert [number for part in alone for number in part] == list(range(count))
    assert max(map(len, dealt)) - min(map(len, dealt)) <= 1


def metrics() -> dict[str, Metric]:
    return {"frechet": Frechet(features=Counting()), "kernel": Kernel(features=Counting(), subsets=5, subset_size=40)}


def score_on(world: World, want: dict[str, Any], reference: Statistics | None = None) -> None:
    given = stream(images(101, 2, 30), "real noise") if reference is None else reference
    parts = {name: one for name, one in metrics().items() if name in ("frechet", *([] if reference else ["kernel"]))}
    named = [Named(name, metric) for name, metric in parts.items()]
    scoring = Scoring(named, world, 16, reference=given, held_out=stream(images(50, 3), "held-out noise"))
    found = scoring.score(stream(images(70, 1), "made noise")).results
    assert len(scoring.reference_statistics()) == int(world.first)
    if reference is not None:
        want = {"frechet_counting": want["frechet_counting"]}
        for name, result in found.items():
            result["protocol"] |= {k: v for k, v in want[name]["protocol"].items() if k.startswith("reference")}
    assert found.keys() == want.keys()
    for name, result in found.items():  # on every rank
        assert result["value"] == pytest.approx(want[name]["value"], rel=1e-9), name
        assert result["held_out"]["value"] == pytest.approx(want[name]["held_out"]["value"], rel=1e-9)
        assert result["protocol"] == want[name]["protocol"] and result["protocol"]["images"] == "70"


class Refusing(Everything):
    def compute(self) -> dict[str, float]:
        raise ValueError("too much alike")


class Refusing2(Refusing):
    def compute(self) -> dict[str, float]:
        raise ValueError("too unlike")


def refuse_on(world: World) -> None:
    with pytest.raises(UserError, match="one: too much alike; three: too unlike"):
        whole(scored({"one": Refusing(), "two": Everything(), "three": Refusing2()}, images(20, 1), world=world))


class Nans(Counting):
    """Ordinary numbers of few images, and then one that is not."""

    def __call__(self, images: Tensor, layers: Any) -> dict[str, Tensor]:
        found = super().__call__(images, layers)
        bright = images.flatten(1)[:, 0] > 250  # the first pixel
        for f in found.values():
            f[bright, 1] = float("nan")
        return found


def nan_on(world: World) -> None:
    """Each message on every rank, with images of two ranks."""
    data, real = images(60, 4), images(30, 5)
    for one in (data, real):
        one.images[:, :, 0, 0] = 0
    data.images[[17, 3, 40], :, 0, 0] = 255
    with pytest.raises(
        UserError, match="`counting`, layer first: not finite for 3 of 60 images of made noise"
    ) as found:
        whole(scored({"kernel": Kernel(features=Nans())}, data, real, world=world))
    assert "of the numbers 3, 17, 40;" in str(found.value)


def sums_on(world: World) -> None:
    """Of the same features, whatever the batches were."""
    f = 3 + torch.randn(500, 5, generator=torch.Generator().manual_seed(0))
    wholes = []
    for here, batch in ((ALONE, 500), (world, 7)):
        metric = Frechet(features=Counting())
        for numbers in shares(len(f), here, batch):
            metric.take(f[numbers], real=False, labels=None, index=numbers)
        wholes.append(reduced(metric, here))
    alone, whole = wholes
    assert alone is not None and (whole is None) == (not world.first)
    for name in alone.states() if whole is not None else ():
        assert torch.allclose(getattr(whole, name), getattr(alone, name), rtol=1e-12, atol=0), name


def all_on(world: World, want: dict[str, Any], reference: Statistics) -> None:
    reduce_on(world, 31)
    reduce_on(world, 5)  # a rank has none
    score_on(world, want)
    score_on(world, want)  # of what the first has kept, which rank 0 alone reads
    score_on(world, want, reference)
    sums_on(world)
    refuse_on(world)
    nan_on(world)


def test_three_ranks_are_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    want = scored(metrics(), images(70, 1), images(101, 2, 30), held_out=images(50, 3)).results
    frechet = Frechet(features=Counting())
    frechet.update(images(101, 2, 30).images, real=True)
    reference = frechet.reference_statistics()
    monkeypatch.setenv("DMF_CACHE", str(tmp_path / "other"))  # nothing of the first evaluation is taken
    on_ranks(3, all_on, want, reference)
