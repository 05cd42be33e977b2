"""Batches of moments in the place of images: the same order, the same numbers, the same mirrored ones."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from ...files.cache import told_size
from ...registry.recipe_types import Loading
from ..feed import Batch, Feed, Resident
from ..feed.host import Host
from ..feed.source import GIB, Rows, Source
from .store import Store


class LatentFeed(Feed):
    """Gives each rank its share of every batch as the codec's moments.

    Args:
        feed: Of the images, whose place it takes; all its augmentations mirror, or there are none.
        source: Row i is image i as it is, row N + i the same mirrored.
    """

    def __init__(self, feed: Feed, source: Source) -> None:
        super().__init__(feed.dataset, feed.seed, feed.batch_size, feed.world, feed.augmentations, source=source)

    def batch(self, images_seen: int) -> Batch:
        """The batch that starts after ``images_seen`` images."""
        began = time.perf_counter()
        (moments, cond), numbers = self._rows(images_seen)
        return Batch(moments, cond, numbers, encoded=True, wait_s=time.perf_counter() - began)

    def _order(self, start: int, asked: deque[Tensor]) -> Iterator[Tensor]:
        for place, numbers in enumerate(super()._order(start, asked)):
            mirrored = self._mirrored(start + place * self.batch_size) if self.augmentations else 0
            yield numbers + len(self.dataset) * mirrored

    def _mirrored(self, images_seen: int) -> Tensor:
        """Which images the augmentations mirror, 0 or 1, (b,): seen in what they do to two pixels, 0 and 1."""
        share = self.world.share_of(self.batch_size)
        pair = torch.arange(2, dtype=torch.uint8).expand(share.stop - share.start, self.dataset.spec.shape[0], 1, 2)
        for place, change in enumerate(self.augmentations):
            pair, _ = change(pair, self._drawn(place, change.draws, images_seen))
        return pair[:, 0, 0, 0].to(torch.int64)


def latent_source(stores: Sequence[Store], device: torch.device, loading: Loading) -> Source:
    """The moments of some caches, one after the other.

    Args:
        stores: All there.
        device: Where they go, and stay where they fit.
        loading: How much of it they may take; how many batches are gathered ahead.
    """
    rows = sum(store.contents.images for store in stores)
    size = rows * stores[0].contents.image_bytes
    if size <= loading.device_gib * GIB:
        return Resident(
            *_joined([_tensors(store, shard) for store in stores for shard in range(len(store.shards))]), device
        )
    return Host(_Gather(stores), rows, device, loading.ahead, f"read from disk ({told_size(size)})")


class _Gather:
    """Gathers rows from shards: each is one slice of a mapped file."""

    def __init__(self, stores: Sequence[Store]) -> None:
        self.stores = stores

    def __call__(self, numbers: Tensor) -> Rows:
        return _joined([self._row(number) for number in numbers.tolist()])

    def _row(self, number: int) -> dict[str, Tensor]:
        which, image = divmod(number, self.stores[0].contents.images)
        store = self.stores[which]
        shard, place = divmod(image, store.per_shard)
        return {name: value[place : place + 1] for name, value in _tensors(store, shard).items()}


def _tensors(store: Store, shard: int) -> dict[str, Tensor]:
    found = store.shards[shard]
    assert found is not None, "the cache was filled"
    return found


def _joined(parts: Sequence[dict[str, Tensor]]) -> Rows:
    found = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    return found.pop("moments"), {name.removeprefix("cond."): value for name, value in found.items()}
