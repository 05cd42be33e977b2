"""Batches of moments in the place of images: the same order, the same numbers, the same mirrored ones."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from ...files.cache import Damaged
from ...files.words import told_size
from ...registry.recipe_types import Loading
from ..console import log
from ..feed import Batch, Feed, Resident
from ..feed.host import Host
from ..feed.source import GIB, Rows, Source
from .shards import SUMS
from .store import Store

Remake = Callable[[Store, int], None]


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


def latent_source(stores: Sequence[Store], device: torch.device, loading: Loading, remake: Remake) -> Source:
    """The moments of some caches, one after the other; each image's are checked whenever they are read.

    Args:
        stores: All there.
        device: Where they go, and stay where they fit.
        loading: How much of it they may take; how many batches are gathered ahead.
        remake: Makes a shard anew that is found damaged.
    """
    rows = sum(store.contents.images for store in stores)
    size, gather = rows * stores[0].contents.image_bytes, _Gather(stores, remake)
    if size <= loading.device_gib * GIB:
        return Resident(*gather.all(), device)
    return Host(gather, rows, device, loading.ahead, f"read from disk ({told_size(size)})")


class _Gather:
    """Gathers rows from shards: each is one slice of a mapped file."""

    def __init__(self, stores: Sequence[Store], remake: Remake) -> None:
        self.stores, self.remake = stores, remake

    def __call__(self, numbers: Tensor) -> Rows:
        return _joined([self._row(number) for number in numbers.tolist()])

    def all(self) -> Rows:
        """All rows."""
        shards = [(store, shard) for store in self.stores for shard in range(len(store.shards))]
        return _joined([self._checked(store, shard, range(len(store.numbers(shard)))) for store, shard in shards])

    def _row(self, number: int) -> dict[str, Tensor]:
        which, image = divmod(number, self.stores[0].contents.images)
        store = self.stores[which]
        shard, place = divmod(image, store.per_shard)
        return {name: value[place : place + 1] for name, value in self._checked(store, shard, [place]).items()}

    def _checked(self, store: Store, shard: int, places: Sequence[int]) -> dict[str, Tensor]:
        try:
            return store.rows(shard, places)
        except Damaged as error:
            log.warning("%s is damaged (%s) and is made anew", store.path(shard), error)
            self.remake(store, shard)
            return store.rows(shard, places)


def _joined(parts: Sequence[dict[str, Tensor]]) -> Rows:
    found = {name: torch.cat([part[name] for part in parts]) for name in parts[0] if name != SUMS}
    return found.pop("moments"), {name.removeprefix("cond."): value for name, value in found.items()}
