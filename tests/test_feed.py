"""The order of the images and the randomness of a step: the same for any number of ranks."""

from pathlib import Path

import torch
from feed_kit import Counting

from dmf.core import Augmentation, DataSpec
from dmf.registry import build, read
from dmf.runner.assemble import build_model, part
from dmf.runner.feed import Feed, epoch_order, image_numbers
from dmf.runner.training.draws import Draws
from dmf.runner.world import World

CPU = torch.device("cpu")
FLIP: Augmentation = build("augmentation", "flip", DataSpec((1, 8, 8)))


def test_each_epoch_is_a_permutation_and_nothing_is_dropped() -> None:
    numbers = torch.cat([image_numbers(3, 10, start, 4) for start in range(0, 40, 4)])  # 4 does not divide 10
    epochs = numbers.reshape(4, 10)
    assert all(sorted(e.tolist()) == list(range(10)) for e in epochs)
    assert not torch.equal(epochs[0], epochs[1])


def test_the_order_depends_on_the_seed() -> None:
    assert not torch.equal(image_numbers(0, 100, 0, 100), image_numbers(1, 100, 0, 100))


def test_a_batch_longer_than_the_data_spans_epochs() -> None:
    endless = torch.cat([epoch_order(0, epoch, 5) for epoch in range(4)])
    assert torch.equal(image_numbers(0, 5, 2, 15), endless[2:17])


def test_ranks_share_the_global_batch_in_order() -> None:
    data = Counting(50, True)
    whole = Feed(data, 0, 12, World(0, 1, CPU)).batch(36)
    for size in (2, 3, 4):
        parts = [Feed(data, 0, 12, World(rank, size, CPU)).batch(36) for rank in range(size)]
        assert torch.equal(torch.cat([p.images for p in parts]), whole.images)
        assert torch.equal(torch.cat([p.cond["class"] for p in parts]), whole.cond["class"])


def test_flips_are_shared_out_like_everything_else() -> None:
    data = build("dataset", "digits")
    whole = Feed(data, 0, 12, World(0, 1, CPU), [FLIP]).batch(0)
    halves = [Feed(data, 0, 12, World(rank, 2, CPU), [FLIP]).batch(0) for rank in (0, 1)]
    plain = Feed(data, 0, 12, World(0, 1, CPU)).batch(0)
    assert torch.equal(torch.cat([h.images for h in halves]), whole.images)
    flipped = [bool((a != b).any()) for a, b in zip(plain.images, whole.images, strict=True)]
    assert 0 < sum(flipped) < 12


def test_the_draws_of_a_step_are_those_of_one_rank(tiny: Path) -> None:
    recipe = read(tiny)
    data = build("dataset", "digits")
    model = build_model(recipe, data.spec)
    density = part("density", recipe.train.density)

    def drawn(rank: int, size: int) -> list[torch.Tensor]:
        world = World(rank, size, CPU)
        draws = Draws(model, density, 0, 24, 0.5, world)
        x0, eps, level, cond = draws(Feed(data, 0, 24, world).batch(48), 48)
        return [x0, eps, level.t, cond["class"]]

    whole = drawn(0, 1)
    for size in (2, 3):
        parts = [drawn(rank, size) for rank in range(size)]
        for together, one in zip(zip(*parts, strict=True), whole, strict=True):
            assert torch.equal(torch.cat(together), one)
    dropped = int((whole[3] == 10).sum())
    assert 4 < dropped < 20  # half of 24, give or take
