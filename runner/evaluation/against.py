"""The reference's side of an evaluation: what metrics have seen of it, read once, kept for the next time."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ...core import Metric, Statistics
from ...registry import UserError
from ..console import log
from ..world import World
from . import published
from . import reference_cache as cache
from .passes import Named, Pass, Stop, copies
from .reduce import reduced
from .streams import Stream


class Against:
    """What is compared with, and the metrics that have seen it; the states that came of it are on rank 0 alone.

    Metrics whose `reference_key` is the same share one pass and its states. Those that need the model too see the
    reference anew with each model, elsewhere.

    Args:
        metrics: All of an evaluation.
        world: The ranks.
        reference: Images, or statistics alone.
        stop: As of a `Pass`.
    """

    def __init__(
        self,
        metrics: Sequence[Named],
        world: World,
        reference: Stream | Statistics | None,
        stop: Stop | None = None,
    ) -> None:
        self.world, self.reference, self.stop = world, reference, stop
        self.metrics = [one for one in metrics if one.metric.needs & {"reference", "model"} == {"reference"}]
        self.missing: list[list[Named]] = []  # groups that see the same, and have not seen it yet
        self._begun = False
        self._keys: dict[int, cache.Key] = {}

    def recall(self) -> None:
        """Take what is known without a pass: statistics, and what an earlier evaluation has kept."""
        if self._begun or self.reference is None:
            return
        self._begun = True
        seeing = self._take_published()
        if isinstance(self.reference, Statistics):
            return
        kept = []
        for group in self._groups(self.reference, seeing):
            states = cache.read(self._keys[id(group[0])], self.world) if id(group[0]) in self._keys else None
            if self.world.tell(states is not None):
                _give(group, states or {})
                kept += [one.name for one in group]
            else:
                self.missing.append(group)
        if kept:
            about = f"{self.reference.name}, {len(self.reference):,} images"
            log.info("reference statistics of %s: kept from an earlier evaluation (%s)", about, ", ".join(kept))

    def read(self, batch_size: int, done: Callable[[int], None]) -> None:
        """Stream the reference through the metrics that have not seen it.

        Raises:
            UserError: One of them cannot; no image was scored yet, so nothing is lost.
        """
        if not self.missing:
            return
        assert self.reference is not None and not isinstance(self.reference, Statistics)
        seen = copies([group[0] for group in self.missing])
        if failed := Pass(seen, self.world, stop=self.stop).run(self.reference, batch_size, real=True, done=done):
            raise UserError("; ".join(dict.fromkeys(failed.values())))
        for group, one in zip(self.missing, seen, strict=True):
            whole = reduced(one.metric, self.world)
            if whole is not None:
                states = _changed(whole, group[0].metric)
                _give(group, states)
                self._keep(group, states, self.reference)
        self.missing = []

    def protocol(self, metric: Metric | None = None) -> dict[str, str]:
        """What must be equal for two values of a metric, or of any, to be of the same reference."""
        if metric is None:
            return published.whole_protocol(self.reference)
        return published.protocol(metric, self.reference)

    def cautions(self, metric: Metric) -> list[str]:
        """What is not known of what a metric is held against, or which of two things that is."""
        return published.cautions(metric, self.reference)

    def images_of(self, metric: Metric) -> int | None:
        """How many images a metric is held against, where that is known."""
        return published.images_of(metric, self.reference)

    def statistics(self) -> dict[str, Statistics]:
        """Mean and covariance, by metric, where a metric has them; on rank 0."""
        found = {name: metric.reference_statistics() for name, metric, _ in self.metrics} if self.world.first else {}
        return {name: one for name, one in found.items() if one is not None}

    def images(self, numbers: Tensor) -> Tensor:
        """Images of the reference by their numbers, uint8 (n, C, H, W).

        Raises:
            ValueError: There are none.
        """
        if self.reference is None or isinstance(self.reference, Statistics):
            raise ValueError("there is no reference whose images could be shown")
        return self.reference.take(numbers)

    def _take_published(self) -> list[Named]:
        """Give metrics, on rank 0, the statistics that stand for the images; the metrics that see those."""
        taking = {id(one): published.given(one.metric, self.reference) for one in self.metrics}
        seeing = [one for one in self.metrics if taking[id(one)] is None]
        for one in self.metrics if self.world.first else ():
            if (known := taking[id(one)]) is not None:
                one.metric.take_reference(known)
        if seeing and len(seeing) < len(self.metrics) and self.reference is not None:
            names = ", ".join(one.name for one in self.metrics if one not in seeing)
            log.info("%s: its mean and covariance for %s, its images for the others", self.reference.name, names)
        return seeing

    def _groups(self, stream: Stream, metrics: Sequence[Named]) -> list[list[Named]]:
        """Metrics that see the same of the reference; the same on every rank, of which the first knows the keys."""
        keys = self.world.first_only(lambda: [cache.key_of(metric, stream, self.world) for _, metric, _ in metrics])
        told = self.world.tell([key and json.dumps(key, sort_keys=True) for key in keys or []])
        groups: dict[str, list[Named]] = {}
        for place, (one, key) in enumerate(zip(metrics, told, strict=True)):
            groups.setdefault(key or str(place), []).append(one)
        if keys:
            self._keys = {id(one): key for one, key in zip(metrics, keys, strict=True) if key}
        return list(groups.values())

    def _keep(self, group: Sequence[Named], states: cache.States, stream: Stream) -> None:
        key = self._keys.get(id(group[0]))
        if key is not None:
            names = ", ".join(dict.fromkeys(one.name for one in group))
            cache.write(key, states, f"{len(stream):,} images of {stream.name}, for {names}")


def _changed(now: Metric, before: Metric) -> cache.States:
    """The states that a pass changed; of ``cat`` states those that have rows, with their index."""
    found: cache.States = {}
    for name, how in now.states().items():
        value: Tensor = getattr(now, name)
        if how != "cat":
            found |= {} if torch.equal(value, getattr(before, name)) else {name: value}
        elif len(value):
            found |= {name: value, f"{name}_index": getattr(now, f"{name}_index")}
    return found


def _give(group: Sequence[Named], states: cache.States) -> None:
    """Set states of metrics; they share rows, which nobody writes into, and nothing else."""
    for _, metric, _ in group:
        rows = {key for name, how in metric.states().items() if how == "cat" for key in (name, f"{name}_index")}
        for name, value in states.items():
            setattr(metric, name, value if name in rows else value.clone())
