"""Moments in the place of images: the same order, mirrored ones and numbers; draws of the posterior by images seen."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from latents_kit import ALONE, ON_DISK, SPEC, Pooled, filled, pictures, source, store

from dmf.core import Augmentation, InMemory
from dmf.registry import build, read
from dmf.registry.recipe_types import Loading
from dmf.runner.assemble import Model, build_path
from dmf.runner.feed import Batch, Feed, Resident
from dmf.runner.feed.host import Host
from dmf.runner.latents.feed import LatentFeed
from dmf.runner.training.draws import Draws
from dmf.runner.world import World

BATCH = 12


def flips(**options: Any) -> Augmentation:
    found: Augmentation = build("augmentation", "flip", SPEC, **options)
    return found


def feeds(
    data: InMemory, folder: Path, world: World = ALONE, loading: Loading = ON_DISK, *changes: Augmentation
) -> tuple[Feed, LatentFeed]:
    """Of images, and of their moments."""
    ways = (False, True) if changes else (False,)
    stores = filled(data, [store(data, folder, mirrored=mirrored) for mirrored in ways])
    images = Feed(data, 3, BATCH, world, changes, source=Resident(*data.tensors(), world.device))
    return images, LatentFeed(images, source(data, stores, loading=loading))


def same(latents: Batch, images: Batch) -> bool:
    found = Pooled(SPEC).moments(images.images)
    assert latents.encoded and not images.encoded and set(latents.cond) == set(images.cond) == {"class"}
    return bool(
        torch.equal(latents.images, found)
        and torch.equal(latents.numbers, images.numbers)
        and torch.equal(latents.cond["class"], images.cond["class"])
    )


@pytest.mark.parametrize("loading", [ON_DISK, Loading()], ids=["mapped", "resident"])
@pytest.mark.parametrize("changes", [(), ("flip",), ("flip", "flip")], ids=len)
def test_batches_are_the_moments_of_the_images(tmp_path: Path, loading: Loading, changes: tuple[str, ...]) -> None:
    data = pictures()
    images, latents = feeds(data, tmp_path, ALONE, loading, *(flips() for _ in changes))
    assert isinstance(latents.source, Host if loading is ON_DISK else Resident)
    for seen in (0, 12, 24, 36, 1200, 12):  # over the end of the epoch, and out of order
        assert same(latents.batch(seen), images.batch(seen))
    latents.close()


@pytest.mark.parametrize("probability", [0.0, 0.2, 1.0])
def test_mirrored_as_often_as_the_recipe_says(tmp_path: Path, probability: float) -> None:
    images, latents = feeds(pictures(), tmp_path, ALONE, ON_DISK, flips(probability=probability))
    for seen in range(0, 120, BATCH):
        assert same(latents.batch(seen), images.batch(seen))
    mirrored = torch.cat([latents._mirrored(seen) for seen in range(0, 6000, BATCH)])
    assert float(mirrored.double().mean()) == pytest.approx(probability, abs=0.02)
    latents.close()


@pytest.mark.parametrize("ranks", [2, 3])
def test_ranks_share_the_batch(tmp_path: Path, ranks: int) -> None:
    data = pictures()
    whole = feeds(data, tmp_path, ALONE, ON_DISK, flips())[1]
    parts = [feeds(data, tmp_path, World(r, ranks, ALONE.device), ON_DISK, flips())[1] for r in range(ranks)]
    for seen in (0, 12, 24):
        expected, found = whole.batch(seen), [part.batch(seen) for part in parts]
        assert torch.equal(expected.images, torch.cat([one.images for one in found]))
        assert torch.equal(expected.cond["class"], torch.cat([one.cond["class"] for one in found]))
    for one in (whole, *parts):
        one.close()


def test_a_resumed_feed_reads_no_earlier_image(tmp_path: Path) -> None:
    _, latents = feeds(pictures(), tmp_path)
    source, asked = latents.source, []
    assert isinstance(source, Host)
    gather = source.gather
    source.gather = lambda numbers: (asked.append(numbers), gather(numbers))[1]  # type: ignore[func-returns-value, assignment]
    seen = 10**6 * BATCH
    latents.batch(seen)
    assert torch.equal(asked[0], latents.numbers(seen)) and len(asked) <= source.ahead + 1
    latents.close()


# draws


def draws(world: World = ALONE, batch_size: int = BATCH, codec: Any = None, seed: int = 3, **how: Any) -> Draws:
    recipe = read("digits_dit")
    schedule, prediction = build_path(recipe)
    model = Model(torch.nn.Linear(1, 1), codec or Pooled(SPEC), schedule, prediction, SPEC)  # type: ignore[arg-type]
    return Draws(model, build("density", "uniform"), seed, batch_size, 0.1, world, **how)


def batch_of(data: InMemory, count: int) -> Batch:
    return Batch(
        data.images[:1].expand(count, -1, -1, -1), {"class": torch.zeros(count, dtype=torch.int64)}, torch.zeros(count)
    )


def test_draws_have_the_mean_and_the_variance_of_the_posterior() -> None:
    data, count = pictures(), 20000
    x0 = draws(batch_size=count)(batch_of(data, count), 0)[0]
    mean, log_variance = Pooled(SPEC).moments(data.images[:1])[0].chunk(2)
    deviation = (log_variance / 2).exp()
    assert ((x0.mean(0) - mean) / deviation).abs().max() < 5 / count**0.5
    assert (x0.var(0) / log_variance.exp() - 1).abs().max() < 5 * (2 / count) ** 0.5


def test_a_draw_is_a_function_of_seed_and_images_seen() -> None:
    data = pictures()
    first, again, later = (draws()(batch_of(data, BATCH), seen)[0] for seen in (0, 0, BATCH))
    assert torch.equal(first, again) and not torch.isclose(first, later).any(dim=0).all()
    assert not torch.equal(first, draws(seed=4)(batch_of(data, BATCH), 0)[0])
    assert not torch.equal(first[0], first[1]), "each place of a batch has its own"


@pytest.mark.parametrize("ranks", [2, 3])
def test_ranks_draw_as_one(ranks: int) -> None:
    data, each = pictures(), BATCH // ranks
    whole = draws()(batch_of(data, BATCH), 24)[0]
    parts = [draws(World(r, ranks, ALONE.device))(batch_of(data, each), 24)[0] for r in range(ranks)]
    assert torch.equal(whole, torch.cat(parts))


def test_the_draw_is_not_the_noise_of_the_step() -> None:
    data = pictures()
    x0, eps, *_ = draws()(batch_of(data, BATCH), 0)
    mean, log_variance = Pooled(SPEC).moments(data.images[:1]).chunk(2, 1)
    drawn = ((x0 - mean) / (log_variance / 2).exp()).flatten()
    assert torch.corrcoef(torch.stack([drawn, eps.flatten()]))[0, 1].abs() < 0.1


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_encoded_or_not_x0_is_the_same(tmp_path: Path, dtype: torch.dtype) -> None:
    data = pictures()
    stores = filled(data, [store(data, tmp_path, dtype=str(dtype).removeprefix("torch."))])
    images = Feed(data, 3, BATCH, ALONE, source=Resident(*data.tensors(), ALONE.device))
    latents = LatentFeed(images, source(data, stores))
    of_both = draws(moment_dtype=dtype)
    assert torch.equal(of_both(latents.batch(24), 24)[0], of_both(images.batch(24), 24)[0])
    rounded = of_both(images.batch(24), 24)[0] - draws()(images.batch(24), 24)[0]
    assert (rounded == 0).all() == (dtype is torch.float32) and rounded.abs().max() < 2e-3
    latents.close()


def test_a_codec_without_moments_is_asked_to_encode() -> None:
    data = pictures()
    batch = replace(batch_of(data, BATCH), images=data.images[:BATCH])
    codec: Any = build("codec", "pixels", SPEC)
    assert torch.equal(draws(codec=codec)(batch, 0)[0], data.images[:BATCH] / 127.5 - 1)
