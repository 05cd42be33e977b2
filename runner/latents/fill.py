"""Encodes what a cache lacks: all ranks at once, a shard each, and other runs beside them."""

from __future__ import annotations

import itertools
import time
from collections import deque
from collections.abc import Generator, Iterator, Mapping, Sequence

import torch
from torch import Tensor

from ...core import Codec
from ...registry import UserError
from ..console import TaskProgress
from ..feed.source import Rows, Source
from ..signals import Interrupted, Signals
from ..world import World
from .store import CannotKeep, Store

PIECE = 64  # images that are read at a time
WAIT_S = 0.2  # for shards that another run makes
LOOK_S = 2.0  # to look for what others have made takes a while too


class Filler:
    """Makes the shards that are missing.

    Args:
        stores: The caches.
        source: Gives the images, as they are.
        codec: Encodes them.
        world: The ranks: each makes other shards.
        signals: A request to stop ends the work after the present images; whole shards stay.
    """

    def __init__(self, stores: Sequence[Store], source: Source, codec: Codec, world: World, signals: Signals) -> None:
        self.stores, self.source, self.codec, self.world, self.signals = stores, source, codec, world, signals
        self._claimed: deque[tuple[Store, int]] = deque()  # shards whose images the stream gives, in its order
        self._stream: Generator[Rows] | None = None
        self._looked = time.monotonic()

    def run(self) -> None:
        """Until every shard is there, for all ranks.

        They go round together, a shard a round: none waits long for another, and trouble of one is everybody's.

        Raises:
            CannotKeep: A shard cannot be written.
            UserError: An image or a shard cannot be read, or moments are no numbers.
        """
        total, there = sum(store.contents.images for store in self.stores), sum(store.count() for store in self.stores)
        try:
            with TaskProgress("encode", total, there, 1, self.world.first) as bar:
                while self._more():
                    bar.step(self.world.together(self._round))
        finally:
            if self._stream is not None:
                self._stream.close()
            for store, shard in self._claimed:
                store.release(shard)

    def _more(self) -> bool:
        """Whether any rank lacks a shard.

        Raises:
            Interrupted: A rank was asked to stop.
        """
        lacks = any(store.missing() for store in self.stores)
        more, asked = self.world.max(torch.tensor([int(lacks), self.signals.requested])).tolist()
        if asked:
            raise Interrupted(asked)
        return bool(more)

    def _round(self) -> int:
        """Write a shard, and look now and then at what others have written; how many images have come."""
        before = self._count()
        if not self._make_one() or time.monotonic() > self._looked + LOOK_S:
            for store in self.stores:
                store.look()
            self._looked = time.monotonic()
        return self._count() - before

    def _count(self) -> int:
        return sum(store.count() for store in self.stores)

    def _make_one(self) -> bool:
        """Write a shard that nobody else makes; where there is none, wait a moment for those who do, and say False."""
        if self._stream is None:
            order = self._order()
            first = next(order, None)
            if first is None:
                time.sleep(WAIT_S)
                return False
            self._stream = self.source.stream(itertools.chain([first], order))
        made: list[Rows] = []
        for images, cond in self._stream:
            store, shard = self._claimed[0]
            made.append(_encoded(self.codec, store, images, cond))
            if sum(len(moments) for moments, _ in made) == len(store.numbers(shard)):
                self._claimed.popleft()
                self._write(store, shard, made)
                return True
            if self.signals.requested:
                return True
        self._stream = None
        return False

    def _order(self) -> Iterator[Tensor]:
        """The images of one shard after the other, each claimed when its turn to be read comes, (PIECE,) at a time."""
        for store in self.stores:
            for shard in store.missing():
                if store.claim(shard):
                    self._claimed.append((store, shard))
                    yield from torch.split(torch.tensor(store.numbers(shard)), PIECE)

    def _write(self, store: Store, shard: int, made: Sequence[Rows]) -> None:
        try:
            if not store.write(shard, *_joined(made, store, shard)):
                raise CannotKeep(f"{store.path(shard)} cannot be written")
        finally:
            store.release(shard)


def remake(store: Store, shard: int, source: Source, codec: Codec) -> None:
    """Make a damaged shard anew, now; where it cannot be written it is in memory as long as the store.

    Raises:
        UserError: An image cannot be read.
    """
    parts = torch.split(torch.tensor(store.numbers(shard)), PIECE)
    made = [_encoded(codec, store, *source.take(numbers)) for numbers in parts]
    store.write(shard, *_joined(made, store, shard))


@torch.no_grad()
def _encoded(codec: Codec, store: Store, images: Tensor, cond: Mapping[str, Tensor]) -> Rows:
    """Moments as they are kept, and conditions, on the CPU."""
    moments = codec.moments(images.flip(-1) if store.contents.mirrored else images)
    assert moments is not None, "a codec with a moment_shape gives moments"
    dtype = getattr(torch, store.contents.dtype)
    return moments.to(dtype).cpu(), {name: value.cpu() for name, value in cond.items()}


def _joined(made: Sequence[Rows], store: Store, shard: int) -> Rows:
    moments = torch.cat([one for one, _ in made])
    _check_finite(moments, store, shard)
    return moments, {name: torch.cat([one[name] for _, one in made]) for name in made[0][1]}


def _check_finite(moments: Tensor, store: Store, shard: int) -> None:
    bad = (~moments.isfinite()).flatten(1).any(1).nonzero().flatten()
    if len(bad):
        dtype = store.contents.dtype
        remedy = "look at that image" if dtype == "float32" else "write latents.dtype: float32"
        raise UserError(
            f"the codec's moments of image {store.numbers(shard)[int(bad[0])]} are no {dtype} numbers; {remedy}"
        )
