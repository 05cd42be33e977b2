"""Images to try a metric on, and what the runner makes of the metrics of several ranks."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor

from ..core import Cond, DataSpec, Denoiser, FeatureMetric, Metric, Pixels, ScoredModel, generator
from ..core.predictions import v
from .claims import called, cannot
from .features import SHAPES
from .schedules import Arc

IMAGES = (160, 80, 400)  # of which the first number that the metric accepts is generated
FEW = 12  # tried first for a metric that asks the model, as often as it likes, of every image
REAL_EXTRA = 37
CLASSES = ("a", "b", "c")

Values = dict[str, float]


def merged(*ranks: Metric) -> Metric:
    """What the runner makes of the metrics of several ranks: each state reduced as it is declared."""
    out = copy.copy(ranks[0])
    for name, how in out.states().items():
        held = [getattr(rank, name) for rank in ranks]
        if how == "cat":
            index = torch.cat([getattr(rank, f"{name}_index") for rank in ranks])
            order = index.argsort(stable=True)
            setattr(out, name, torch.cat(held)[order])
            setattr(out, f"{name}_index", index[order])
        else:
            stacked = torch.stack(held)
            reduced = {"sum": stacked.sum(0), "min": stacked.amin(0), "max": stacked.amax(0)}
            setattr(out, name, reduced[how])
    return out


class Trial:
    """Images, real and generated, to show to fresh copies of a metric.

    Args:
        metric: Never updated itself.
        spec: Of the images; with ``count`` left out, the first that the metric accepts.
        count: Number of generated ones.
    """

    def __init__(self, metric: Metric, spec: DataSpec | None = None, count: int | None = None) -> None:
        self.metric = metric
        if spec is None or count is None:
            spec, count = accepted(metric)
        self.count = count
        random = generator(0, "metric", 0)
        self.made = torch.randint(256, (self.count, *spec.shape), generator=random, dtype=torch.uint8)
        real = torch.randint(40, 256, (self.count + REAL_EXTRA, *spec.shape), generator=random, dtype=torch.uint8)
        self.real, self.model = real, _model(DataSpec(spec.shape, CLASSES))

    def fed(self, rows: Any, batch: int) -> Metric:
        """A fresh copy that has seen some of either side."""
        fresh = copy.deepcopy(self.metric)
        self.feed(fresh, rows, batch)
        return fresh

    def feed(self, metric: Metric, rows: Any, batch: int, *, share: bool = False) -> None:
        """Show some of either side to a metric: the rows of the generated, as many of the real and the rest.

        One that looks at held-out images sees those alone.
        """
        if "held_out" in metric.needs:
            return self._stream(metric, self.real, torch.arange(self.count)[rows], batch, real=True, share=share)
        self.feed_reference(metric, rows, batch, share=share)
        self.feed_made(metric, rows, batch, share=share)

    def feed_reference(self, metric: Metric, rows: Any, batch: int, *, share: bool = False) -> None:
        """Show the real ones to a metric that asks for them."""
        if "reference" in metric.needs:
            everything = torch.arange(len(self.real))
            mine = everything[rows] if isinstance(rows, slice) else torch.cat([rows, everything[self.count :]])
            self._stream(metric, self.real, mine, batch, real=True, share=share)

    def feed_made(self, metric: Metric, rows: Any, batch: int, *, share: bool = False) -> None:
        """Show the generated ones."""
        self._stream(metric, self.made, torch.arange(self.count)[rows], batch, real=False, share=share)

    def whole(self) -> Values:
        """The values of all images."""
        return self.fed(slice(None), batch=50).compute()

    def _stream(self, metric: Metric, images: Tensor, rows: Tensor, batch: int, real: bool, share: bool) -> None:
        for index in torch.split(rows, batch):
            labels = index % len(CLASSES)
            later: dict[str, Any] = {"cond": {"class": labels}}
            if not real and "pairs" in metric.needs:
                later["paired"] = self.real[index]
            if "model" in metric.needs:
                later["model"] = self.model
            if share and isinstance(metric, FeatureMetric):
                later["features"] = metric.features(images[index], tuple(metric.features.layers))
            metric.update(images[index], real=real, labels=labels, index=index, **later)


def accepted(metric: Metric) -> tuple[DataSpec, int]:
    """Images that the metric accepts, and how many."""
    refusal = ""
    for shape in SHAPES:
        for count in (FEW, *IMAGES) if "model" in metric.needs else IMAGES:
            try:
                metric.check(DataSpec(shape, CLASSES), count)
            except ValueError as error:
                refusal = str(error)
                continue
            return DataSpec(shape, CLASSES), count
    cannot(f"{called(metric)} accepts neither {IMAGES} images nor the shapes {SHAPES}: {refusal}")


def _model(spec: DataSpec) -> ScoredModel:
    """A network of pixels that says 0."""

    def network(x: Tensor, noise: Tensor, cond: Cond) -> Tensor:
        return torch.zeros_like(x)

    return ScoredModel(Denoiser(network, Arc(), v), Pixels(spec))
