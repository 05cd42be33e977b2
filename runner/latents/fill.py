"""Encodes what a cache lacks: all ranks at once, a shard each, and other runs beside them."""

from __future__ import annotations

import itertools
import time
from collections import deque
from collections.abc import Generator, Iterator, Sequence

import torch
from torch import Tensor

from ...core import Codec
from ...registry import UserError
from ..console import TaskProgress
from ..feed.source import Rows, Source
from ..signals import Interrupted, Signals
from ..world import World
from .store import Store

PIECE = 64  # images that are read at a time
WAIT_S = 0.2  # for shards that another run makes


class CannotKeep(UserError):
    """Moments that cannot be kept; the text says why."""


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

    def run(self) -> None:
        """Until every shard is there, for all ranks.

        They go round together, a shard a round: none waits long for another, and trouble of one is everybody's.

        Raises:
            CannotKeep: A shard cannot be written.
            UserError: An image cannot be read, or its moments are no numbers.
        """
        total, there = sum(store.contents.images for store in self.stores), sum(store.count() for store in self.stores)
        try:
            with TaskProgress("encode", total, there, 1, self.world.first) as bar:
                while self._more():
                    self.world.together(self._make_one)
                    bar.step(sum(store.look() for store in self.stores))
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

    def _make_one(self) -> None:
        """Write a shard that nobody else makes; where there is none, wait a moment for those who do."""
        if self._stream is None:
            order = self._order()
            first = next(order, None)
            if first is None:
                time.sleep(WAIT_S)
                return
            self._stream = self.source.stream(itertools.chain([first], order))
        made: list[Rows] = []
        for images, cond in self._stream:
            store, shard = self._claimed[0]
            made.append((self._moments(images, store), {name: value.cpu() for name, value in cond.items()}))
            if sum(len(moments) for moments, _ in made) == len(store.numbers(shard)):
                self._claimed.popleft()
                _write(store, shard, made)
                return
            if self.signals.requested:
                return
        self._stream = None

    def _order(self) -> Iterator[Tensor]:
        """The images of one shard after the other, each claimed when its turn to be read comes, (PIECE,) at a time."""
        for store in self.stores:
            for shard in store.missing():
                if store.claim(shard):
                    self._claimed.append((store, shard))
                    yield from torch.split(torch.tensor(store.numbers(shard)), PIECE)

    @torch.no_grad()
    def _moments(self, images: Tensor, store: Store) -> Tensor:
        moments = self.codec.moments(images.flip(-1) if store.contents.mirrored else images)
        assert moments is not None, "a codec with a moment_shape gives moments"
        return moments.to(getattr(torch, store.contents.dtype)).cpu()


def _write(store: Store, shard: int, made: Sequence[Rows]) -> None:
    moments = torch.cat([one for one, _ in made])
    _check_finite(moments, store, shard)
    cond = {name: torch.cat([one[name] for _, one in made]) for name in made[0][1]}
    written = store.write(shard, moments, cond)
    store.release(shard)
    if not written:
        raise CannotKeep(f"{store.path(shard)} cannot be written")


def _check_finite(moments: Tensor, store: Store, shard: int) -> None:
    bad = (~moments.isfinite()).flatten(1).any(1).nonzero().flatten()
    if len(bad):
        dtype = store.contents.dtype
        remedy = "look at that image" if dtype == "float32" else "write latents.dtype: float32"
        raise UserError(
            f"the codec's moments of image {store.numbers(shard)[int(bad[0])]} are no {dtype} numbers; {remedy}"
        )
