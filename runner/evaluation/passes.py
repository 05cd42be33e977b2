"""One pass over a stream for all metrics: an extractor sees each batch once, for all the layers that are asked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ...core import FeatureExtractor, FeatureMetric, Metric, ScoredModel
from ...registry import UserError
from ..world import LocalError, World
from .streams import Shown, Stream

MOST_NAMED = 3  # images in a message


class Named(NamedTuple):
    """A metric.

    Attributes:
        name: What it is called, by a recipe and in messages.
        metric: It, as built.
    """

    name: str
    metric: Metric


OnShown = Callable[[Shown], None]


class Pass:
    """One pass over a stream.

    Args:
        metrics: Those that take it in; equal extractors are one object.
        world: The ranks.
        model: For the metrics that need one.
        on_shown: Gets each batch.
    """

    def __init__(
        self,
        metrics: Sequence[Named],
        world: World,
        model: ScoredModel | None = None,
        on_shown: OnShown | None = None,
    ) -> None:
        self.metrics, self.world, self.model, self.on_shown = metrics, world, model, on_shown
        self.layers = layers_of(metrics)
        self.finite = {(id(e), layer): Finite() for e, layers in self.layers for layer in layers}

    def run(self, stream: Stream, batch_size: int, *, real: bool, done: Callable[[int], None]) -> None:
        """Take it in.

        Args:
            stream: The images.
            batch_size: So many at a time.
            real: What metrics are told of them.
            done: Called with the number of images after each batch.

        Raises:
            UserError: A feature is not finite; on every rank, at the end, so that no batch waits for the device.
        """
        for shown in stream.batches(self.world, batch_size):
            if self.on_shown is not None:
                self.on_shown(shown)
            with torch.no_grad():  # not inference mode: some metrics ask for gradients
                self._take(shown, real)
            done(len(shown.images))
        for extractor, layer in ((e, layer) for e, layers in self.layers for layer in layers):
            if bad := self.finite[id(extractor), layer].numbers(self.world):
                named = stream.origin(torch.tensor(bad[:MOST_NAMED])).tolist()
                which = ", ".join(map(str, named)) + (", ..." if len(bad) > MOST_NAMED else "")
                raise UserError(
                    f"features `{extractor.name}`, layer {layer}: not finite for {len(bad)} of {len(stream)} images of "
                    f"{stream.name}, of the numbers {which}; look at those images, and at the extractor's weights"
                )

    def _take(self, shown: Shown, real: bool) -> None:
        features: dict[int, dict[str, Tensor]] = {}
        for extractor, layers in self.layers:
            found = features[id(extractor)] = extractor(shown.images, layers)
            for layer in layers:
                self.finite[id(extractor), layer].see(found[layer], shown.numbers)
        for name, metric in self.metrics:
            later: dict[str, Any] = {"cond": shown.cond}
            if isinstance(metric, FeatureMetric):
                later["features"] = features[id(metric.features)]
            if "pairs" in metric.needs and not real:
                later["paired"] = shown.paired
            if "model" in metric.needs:
                later["model"] = self.model
            try:
                metric.update(shown.images, real=real, labels=shown.cond.get("class"), index=shown.numbers, **later)
            except ValueError as error:
                raise LocalError(f"{name}: {error}") from error


class Finite:
    """Which images have a feature that is not a number or has no bound; asked for without waiting for the device."""

    def __init__(self) -> None:
        self._seen: list[tuple[Tensor, Tensor]] = []

    def see(self, f: Tensor, numbers: Tensor) -> None:
        """Look at features (B, D) of the images of these numbers."""
        self._seen.append((f.isfinite().all(1), numbers))

    def numbers(self, world: World) -> list[int]:
        """Those of all ranks, in order; on every rank."""
        numbers = torch.cat([n for _, n in self._seen]) if self._seen else torch.zeros(0, dtype=torch.int64)
        fine = torch.cat([f for f, _ in self._seen]).cpu() if self._seen else torch.zeros(0, dtype=torch.bool)
        bad = numbers[~fine]
        if not int(world.sum(torch.tensor(len(bad)))):
            return []
        return sorted(int(n) for part in world.gather_rows(bad) for n in part)


def layers_of(metrics: Sequence[Named]) -> list[tuple[FeatureExtractor, tuple[str, ...]]]:
    """The extractors of some metrics, each with the layers that they look at."""
    found: dict[int, tuple[FeatureExtractor, dict[str, None]]] = {}
    for _, metric in metrics:
        if isinstance(metric, FeatureMetric):
            found.setdefault(id(metric.features), (metric.features, {}))[1][metric.layer] = None
    return [(extractor, tuple(layers)) for extractor, layers in found.values()]


def share_extractors(metrics: Sequence[Named]) -> None:
    """Give metrics of equal extractors one of them: of the same type, layers and protocol."""
    kept: list[FeatureExtractor] = []
    for _, metric in metrics:
        if not isinstance(metric, FeatureMetric):
            continue
        same = [one for one in kept if _equal(one, metric.features)]
        if same:
            metric.features = same[0]
        else:
            kept.append(metric.features)


def _equal(a: FeatureExtractor, b: FeatureExtractor) -> bool:
    if a is b:
        return True
    return (type(a), a.name, dict(a.layers), a.protocol()) == (type(b), b.name, dict(b.layers), b.protocol())
