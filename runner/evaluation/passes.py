"""One pass over a stream for all metrics: an extractor sees each batch once, for all the layers that are asked for."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ...core import FeatureExtractor, FeatureMetric, Metric, ScoredModel
from ...registry import UserError
from ..world import World
from .streams import Shown, Stream, shares
from .trouble import as_mistake, of_all, why

MOST_NAMED = 3  # images in a message


class Named(NamedTuple):
    """A metric.

    Attributes:
        name: What it is called, by a recipe and in messages.
        metric: It, as built.
        called: With its options, as a protocol has it.
    """

    name: str
    metric: Metric
    called: str = ""

    def protocol(self, metric: Metric) -> dict[str, str]:
        """What of ``metric``, in any state of it, must be equal for two values to be compared.

        One that declares nothing of its own is told apart by all its options: better two values too few than two that
        cannot be compared.
        """
        silent = type(metric).protocol in (Metric.protocol, FeatureMetric.protocol)
        return {**metric.protocol(), **({"metric": self.called} if silent and self.called else {})}


OnShown = Callable[[Shown], None]
Stop = Callable[[], None]


class Pass:
    """One pass over a stream.

    A metric that fails leaves it, on the rank where it does, and the others go on.

    Args:
        metrics: Those that take it in; equal extractors are one object.
        world: The ranks.
        model: For the metrics that need one.
        on_shown: Gets each batch.
        wanted: Whether the images are wanted for the sake of ``on_shown``, when no metric is left.
        stop: Called on every rank after each round of batches; may raise, on all of them.
    """

    def __init__(
        self,
        metrics: Sequence[Named],
        world: World,
        model: ScoredModel | None = None,
        on_shown: OnShown | None = None,
        *,
        wanted: bool = False,
        stop: Stop | None = None,
    ) -> None:
        self.metrics, self.world, self.model, self.on_shown = metrics, world, model, on_shown
        self.wanted, self.stop = wanted, stop
        self.layers = layers_of(metrics)
        self.finite = {(id(e), layer): Finite() for e, layers in self.layers for layer in layers}
        self.failed: dict[int, str] = {}  # on this rank

    def run(self, stream: Stream, batch_size: int, *, real: bool, done: Callable[[int], None]) -> dict[int, str]:
        """Take it in.

        Args:
            stream: The images.
            batch_size: So many at a time.
            real: What metrics are told of them.
            done: Called with the number of images after each batch.

        Returns:
            Why a metric failed, a sentence each, by its place; the same on every rank. That a feature is not finite is
            told at the end, so that no batch waits for the device.

        Raises:
            UserError: There are no more images, or no metric is left; on every rank.
        """
        batches = stream.batches(self.world, batch_size)
        # rank 0 has the most batches: in each round all ranks hear of it when one cannot go on
        mine, most = (_batches(stream, replace(self.world, rank=rank), batch_size) for rank in (self.world.rank, 0))
        for turn in range(most):
            self.world.together(partial(self._turn, batches if turn < mine else iter(()), real, done))
            if self.stop is not None:
                self.stop()
        for _ in batches:
            raise AssertionError("a stream gives no more batches than `shares` cuts")
        failed = of_all(self.world, self.failed)
        return {**self._not_finite(stream), **failed}

    def _turn(self, batches: Iterator[Shown], real: bool, done: Callable[[int], None]) -> None:
        """This rank's batch of a round, if it has one."""
        try:
            shown = next(batches, None)
            if shown is not None and self.on_shown is not None:
                self.on_shown(shown)
        except Exception as error:
            raise as_mistake(error) from error
        if shown is None:
            return
        with torch.no_grad():  # not inference mode: some metrics ask for gradients
            self._take(shown, real)
        done(len(shown.images))
        if not self.wanted and self.failed and len(self.failed) == len(self.metrics):
            raise UserError("; ".join(dict.fromkeys(self.failed.values())))

    def _take(self, shown: Shown, real: bool) -> None:
        features: dict[int, dict[str, Tensor]] = {}
        for extractor, layers in self.layers:
            users = [place for place in self._left() if _looks_through(self.metrics[place].metric, extractor)]
            if not users:
                continue
            try:
                found = features[id(extractor)] = extractor(shown.images, layers)
                for layer in layers:
                    self.finite[id(extractor), layer].see(found[layer], shown.numbers)
            except Exception as error:
                self._fail(users, f"features `{extractor.name}`: {why(error)}")
        for place in self._left():
            metric = self.metrics[place].metric
            later: dict[str, Any] = {"cond": shown.cond}
            if isinstance(metric, FeatureMetric):
                later["features"] = features[id(metric.features)]
            if "pairs" in metric.needs and not real:
                later["paired"] = shown.paired
            if "model" in metric.needs:
                later["model"] = self.model
            try:
                metric.update(shown.images, real=real, labels=shown.cond.get("class"), index=shown.numbers, **later)
            except Exception as error:
                self._fail([place], why(error))

    def _left(self) -> list[int]:
        """Places of the metrics that have not failed."""
        return [place for place in range(len(self.metrics)) if place not in self.failed]

    def _fail(self, places: Iterable[int], sentence: str) -> None:
        """They need their rows no more, whose memory may be what lacks."""
        for place in places:
            self.failed[place] = f"{self.metrics[place].name}: {sentence}"
            self.metrics[place].metric.reset()

    def _not_finite(self, stream: Stream) -> dict[int, str]:
        """The metrics that saw a feature that is not finite, on any rank."""
        found: dict[int, str] = {}
        for extractor, layer in ((e, layer) for e, layers in self.layers for layer in layers):
            if not (bad := self.finite[id(extractor), layer].numbers(self.world)):
                continue
            named = stream.origin(torch.tensor(bad[:MOST_NAMED])).tolist()
            which = ", ".join(map(str, named)) + (", ..." if len(bad) > MOST_NAMED else "")
            sentence = (
                f"features `{extractor.name}`, layer {layer}: not finite for {len(bad)} of {len(stream)} images of "
                f"{stream.name}, of the numbers {which}; look at those images, and at the extractor's weights"
            )
            for place, (_, metric, _) in enumerate(self.metrics):
                if _looks_through(metric, extractor) and getattr(metric, "layer", None) == layer:
                    found[place] = sentence
        return found


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
    for _, metric, _ in metrics:
        if isinstance(metric, FeatureMetric):
            found.setdefault(id(metric.features), (metric.features, {}))[1][metric.layer] = None
    return [(extractor, tuple(layers)) for extractor, layers in found.values()]


def share_extractors(metrics: Sequence[Named]) -> None:
    """Give metrics of equal extractors one of them: of the same type, layers and protocol."""
    kept: list[FeatureExtractor] = []
    for _, metric, _ in metrics:
        if not isinstance(metric, FeatureMetric):
            continue
        same = [one for one in kept if _equal(one, metric.features)]
        if same:
            metric.features = same[0]
        else:
            kept.append(metric.features)


def _looks_through(metric: Metric, extractor: FeatureExtractor) -> bool:
    return isinstance(metric, FeatureMetric) and metric.features is extractor


def _batches(stream: Stream, world: World, batch_size: int) -> int:
    """How many batches a rank has."""
    return sum(1 for _ in shares(len(stream), world, batch_size))


def _equal(a: FeatureExtractor, b: FeatureExtractor) -> bool:
    if a is b:
        return True
    return (type(a), a.name, dict(a.layers), a.protocol()) == (type(b), b.name, dict(b.layers), b.protocol())


def copies(metrics: Sequence[Named]) -> list[Named]:
    """They go on from what was seen; rows that are there, and extractors, they share."""
    return [one._replace(metric=copy.copy(one.metric)) for one in metrics]


def move(metrics: Sequence[Named], device: torch.device) -> None:
    """To a device; what metrics share stays shared.

    Raises:
        UserError: Too little memory.
    """
    moved: dict[int, tuple[Tensor, Tensor]] = {}
    try:
        for _, metric, _ in metrics:
            for name in metric.states():
                value: Tensor = getattr(metric, name)
                if id(value) not in moved:
                    moved[id(value)] = value, value.to(device)
                setattr(metric, name, moved[id(value)][1])
            metric.to(device)  # what else it holds
    except Exception as error:
        raise as_mistake(error) from error
