"""The reference's side of an evaluation: what metrics have seen of it, read once, kept for the next time."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ...core import Metric, Statistics
from ..console import log
from ..world import World
from . import reference_cache as cache
from .passes import Named, Pass
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
    """

    def __init__(self, metrics: Sequence[Named], world: World, reference: Stream | Statistics | None) -> None:
        self.world, self.reference = world, reference
        self.metrics = [one for one in metrics if one.metric.needs & {"reference", "model"} == {"reference"}]
        self.missing: list[list[Named]] = []  # groups that see the same, and have not seen it yet
        self._begun = False
        self._keys: dict[int, cache.Key] = {}

    def recall(self) -> None:
        """Take what is known without a pass: statistics, and what an earlier evaluation has kept."""
        if self._begun or self.reference is None:
            return
        self._begun = True
        if isinstance(self.reference, Statistics):
            if self.world.first:
                for one in self.metrics:
                    one.metric.take_reference(self.reference)
            return
        kept = []
        for group in self._groups(self.reference):
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
        """Stream the reference through the metrics that have not seen it."""
        if not self.missing:
            return
        assert self.reference is not None and not isinstance(self.reference, Statistics)
        seen = [Named(group[0].name, copy.copy(group[0].metric)) for group in self.missing]
        Pass(seen, self.world).run(self.reference, batch_size, real=True, done=done)
        for group, one in zip(self.missing, seen, strict=True):
            whole = reduced(one.metric, self.world)
            if whole is not None:
                states = _changed(whole, group[0].metric)
                _give(group, states)
                self._keep(group, states, self.reference)
        self.missing = []

    def protocol(self) -> dict[str, str]:
        """What must be equal for two values to be of the same reference."""
        if not isinstance(self.reference, Statistics):
            return {} if self.reference is None else self.reference.protocol("reference")
        digest = hashlib.sha256()
        for value in (self.reference.mu, self.reference.sigma):
            digest.update(value.contiguous().numpy().tobytes())
        images = "an unknown number of" if self.reference.images is None else self.reference.images
        return {
            "reference": f"{self.reference.name}, statistics of {images} images",
            "reference.fingerprint": digest.hexdigest(),
        }

    def cautions(self) -> list[str]:
        """What is not known of it."""
        if not isinstance(self.reference, Statistics) or self.reference.about:
            return []
        return [f"{self.reference.name} does not say of which features it is; only their number was checked"]

    def statistics(self) -> dict[str, Statistics]:
        """Mean and covariance, by metric, where a metric has them; on rank 0."""
        found = {name: metric.reference_statistics() for name, metric in self.metrics} if self.world.first else {}
        return {name: one for name, one in found.items() if one is not None}

    def images(self, numbers: Tensor) -> Tensor:
        """Images of the reference by their numbers, uint8 (n, C, H, W).

        Raises:
            ValueError: There are none.
        """
        if self.reference is None or isinstance(self.reference, Statistics):
            raise ValueError("there is no reference whose images could be shown")
        return self.reference.take(numbers)

    def _groups(self, stream: Stream) -> list[list[Named]]:
        """Metrics that see the same of the reference; the same on every rank, of which the first knows the keys."""
        keys = self.world.first_only(lambda: [cache.key_of(metric, stream, self.world) for _, metric in self.metrics])
        told = self.world.tell([key and json.dumps(key, sort_keys=True) for key in keys or []])
        groups: dict[str, list[Named]] = {}
        for place, (one, key) in enumerate(zip(self.metrics, told, strict=True)):
            groups.setdefault(key or str(place), []).append(one)
        if keys:
            self._keys = {id(one): key for one, key in zip(self.metrics, keys, strict=True) if key}
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
    for _, metric in group:
        rows = {key for name, how in metric.states().items() if how == "cat" for key in (name, f"{name}_index")}
        for name, value in states.items():
            setattr(metric, name, value if name in rows else value.clone())
