"""Random changes of training images: flip and crop, and how a recipe and the feed use any of them."""

from pathlib import Path

import numpy
import pytest
import torch
from torch import Tensor

from dmf.core import Augmentation, CondSpec, DataSpec, InMemory, with_labels
from dmf.plugins.augmentations.crop import Crop
from dmf.plugins.augmentations.flip import Flip
from dmf.registry import UserError, build, read
from dmf.runner.assemble import build_model
from dmf.runner.feed import Feed
from dmf.runner.world import World

CPU = torch.device("cpu")
SPEC = DataSpec((3, 6, 9))
IMAGES = torch.arange(64 * 3 * 6 * 9).remainder(251).to(torch.uint8).reshape(64, 3, 6, 9)


def test_flip_mirrors_left_to_right_as_often_as_it_says() -> None:
    draws = torch.rand(64, 1, generator=torch.Generator().manual_seed(0))
    changed, label = Flip(SPEC, probability=0.25)(IMAGES, draws)
    assert label is None
    for image, before, u in zip(changed, IMAGES, draws, strict=True):
        assert torch.equal(image, before[:, :, list(range(9))[::-1]] if u < 0.25 else before)
    assert torch.equal(Flip(SPEC, probability=0.0)(IMAGES, draws)[0], IMAGES)
    assert torch.equal(Flip(SPEC, probability=1.0)(IMAGES, draws)[0], IMAGES.flip(-1))


@pytest.mark.parametrize(("fill", "mode"), [("reflect", "reflect"), ("zeros", "constant")])
@pytest.mark.parametrize("padding", [1, 3, 5])
def test_crop_is_padding_and_cutting(fill: str, mode: str, padding: int) -> None:
    crop: Augmentation = build("augmentation", "crop", SPEC, padding=padding, fill=fill)
    places = 2 * padding + 1
    rows, columns = torch.arange(64) % places, torch.arange(64) // 5 % places
    changed, _ = crop(IMAGES, torch.stack([(rows + 0.5) / places, (columns + 0.5) / places], 1))
    around = [(0, 0), (0, 0), (padding, padding), (padding, padding)]
    padded = torch.as_tensor(numpy.pad(IMAGES.numpy(), around, mode=mode))  # type: ignore[call-overload]
    for image, wide, row, column in zip(changed, padded, rows, columns, strict=True):
        assert torch.equal(image, wide[:, row : row + 6, column : column + 9])


def test_crop_takes_every_place_equally_often() -> None:
    one = torch.zeros(1, 1, 9, 9, dtype=torch.uint8)
    one[:, :, 4, 4] = 255
    draws = torch.rand(20000, 2, generator=torch.Generator().manual_seed(1))
    changed, _ = Crop(DataSpec((1, 9, 9)), padding=2)(one.expand(20000, -1, -1, -1), draws)
    often = (changed == 255).double().mean((0, 1))[2:7, 2:7]
    assert often.sum() == 1
    assert (often - 1 / 25).abs().max() < 5 * (1 / 25 / 20000) ** 0.5


def test_crop_cannot_mirror_more_than_there_is() -> None:
    with pytest.raises(ValueError, match="a side of 6; write padding: 5 or less, or fill: zeros"):
        Crop(SPEC, padding=6)
    assert Crop(SPEC, padding=6, fill="zeros")(IMAGES, torch.zeros(64, 2))[0].shape == IMAGES.shape


# labels join the conditions


class Turned(Augmentation):
    """Half a turn at random, and says so."""

    label = ("turned", CondSpec("vector", (1,), neutral=True))
    draws = 1

    def __call__(self, images: Tensor, draws: Tensor) -> tuple[Tensor, Tensor]:
        turned = draws < 0.5
        return torch.where(turned[:, :, None, None], images.flip(-1, -2), images), turned.float()


def test_labels_are_conditions_beside_those_of_the_data() -> None:
    spec = DataSpec((3, 6, 9), ("cat", "dog"))
    told = with_labels(spec, [Flip(spec), Turned(spec)])
    assert list(told.cond) == ["class", "turned"] and told.cond["turned"].neutral
    assert told.shape == spec.shape and told.classes == spec.classes and list(spec.cond) == ["class"]
    for taken, several in ((told, [Turned(spec)]), (spec, [Turned(spec), Turned(spec)])):
        with pytest.raises(ValueError, match="the condition `turned` is there already"):
            with_labels(taken, several)


def test_the_feed_applies_them_in_order_and_gives_the_labels() -> None:
    spec = DataSpec((3, 6, 9), ("cat", "dog"))
    data = InMemory(spec, IMAGES, {"class": torch.arange(64) % 2})
    changes = [Turned(spec), Crop(spec, padding=2)]
    whole = Feed(data, 0, 24, World(0, 1, CPU), changes).batch(48)
    plain = Feed(data, 0, 24, World(0, 1, CPU)).batch(48)
    assert set(whole.cond) == {"class", "turned"} and set(plain.cond) == {"class"}
    assert torch.equal(whole.numbers, plain.numbers) and not torch.equal(whole.images, plain.images)
    assert 0 < whole.cond["turned"].sum() < 24
    turned = torch.where(whole.cond["turned"][:, :, None, None] > 0, plain.images.flip(-1, -2), plain.images)
    wide = torch.nn.functional.pad(turned.float(), (2, 2, 2, 2), mode="reflect")
    cuts = {(row, column): wide[:, :, row : row + 6, column : column + 9] for row in range(5) for column in range(5)}
    for i, image in enumerate(whole.images):  # turned first, then cut
        assert any(torch.equal(image.float(), cut[i]) for cut in cuts.values())
    parts = [Feed(data, 0, 24, World(rank, 3, CPU), changes).batch(48) for rank in range(3)]
    assert torch.equal(torch.cat([p.images for p in parts]), whole.images)
    assert torch.equal(torch.cat([p.cond["turned"] for p in parts]), whole.cond["turned"])
    again = Feed(data, 0, 24, World(0, 1, CPU), changes).batch(48 + 64)
    assert not torch.equal(again.cond["turned"], whole.cond["turned"]), "each time anew"


def test_augmentations_of_one_list_share_no_draws() -> None:
    data = InMemory(SPEC, IMAGES, {})
    plain = Feed(data, 0, 64, World(0, 1, CPU)).batch(0).images
    twice = Feed(data, 0, 64, World(0, 1, CPU), [Flip(SPEC), Flip(SPEC)]).batch(0).images
    mirrored = [torch.equal(image, before.flip(-1)) for image, before in zip(twice, plain, strict=True)]
    assert 20 < sum(mirrored) < 44  # by one of the two; of shared draws the second would undo the first
    assert all(torch.equal(twice[i], plain[i]) for i, turned in enumerate(mirrored) if not turned)


RECIPE = """\
name: told
dataset: digits
augment: [{name: edm, probability: 0.5}, flip]
backbone: {name: dit, hidden: 16, depth: 1, heads: 2}
schedule: flow
prediction: flow
train: {steps: 1, batch_size: 8, lr: 1e-3}
"""


def test_a_model_is_built_with_the_labels(tmp_path: Path) -> None:
    recipe = tmp_path / "told.yaml"
    recipe.write_text(RECIPE)
    data = build("dataset", "digits").spec
    model = build_model(read(recipe), data)
    assert [type(a).__name__ for a in model.augmentations] == ["EDM", "Flip"]
    assert model.augmentations[0].spec == model.pixels == data and "augmentation" not in data.cond
    assert model.codec.spec.cond["augmentation"] == CondSpec("vector", (9,), neutral=True)
    assert model.backbone.spec == model.codec.spec
    with pytest.raises(UserError, match="augment: the condition `augmentation` is there already"):
        build_model(read(recipe, ["augment=[edm, edm]"]), data)
