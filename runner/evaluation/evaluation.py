"""The evaluation that a recipe asks for."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ...core import Dataset, DataSpec, Metric, ScoredModel
from ...core.sampler import Watch
from ...registry import Recipe, UserError
from ..assemble import ReferenceModel, part
from ..console import TaskProgress
from ..feed import Source, source_of
from ..world import World
from .reduce import reduced
from .results import Results
from .streams import Generated, Real, Stream
from .trained import Trained

GIVEN = frozenset({"reference", "model"})


class Evaluation:
    """The evaluation that a recipe asks for.

    Args:
        recipe: Gives images, metrics, sampler.
        dataset: The reference, and source of the labels.
        world: The ranks.
        watch: Called after each sampling step; may raise, to stop.
        source: Gives the reference's images; None makes one.

    Raises:
        UserError: A metric cannot be had of this data or this many images; before the long work.
    """

    def __init__(
        self,
        recipe: Recipe,
        dataset: Dataset,
        world: World,
        watch: Watch | None = None,
        source: Source | None = None,
    ) -> None:
        self.recipe, self.dataset, self.world, self.watch = recipe, dataset, world, watch
        self.wanted = recipe.evaluate
        self.metrics: list[Metric] = [part("metric", ref) for ref in self.wanted.metrics]
        self.names = {type(metric): ref.name for ref, metric in zip(self.wanted.metrics, self.metrics, strict=True)}
        for ref, metric in zip(self.wanted.metrics, self.metrics, strict=True):
            _check(ref.name, metric, dataset.spec, len(dataset), self.wanted.images)
        self.reference = Real(dataset, source or source_of(dataset, world.device, recipe.loading), recipe.dataset.name)

    def run(self, trained: Trained, reference: ReferenceModel | None) -> tuple[Results, dict[str, Tensor]]:
        """Score ``trained``.

        Args:
            trained: Whose samples.
            reference: The network to guide away from, if the recipe has one.

        Returns:
            On every rank: the results by name (value, the held-out images' value, protocol), and pictures by name.
        """
        metrics = [metric.to(self.world.device) for metric in self.metrics]
        made = Generated(self.recipe, self.dataset, self.reference.source, trained, reference, self.watch)
        held_out = self._held_out()
        streamed = len(self.reference) if any("reference" in m.needs for m in metrics) else 0
        total = -(-(len(made) + streamed + (len(held_out) if held_out else 0)) // self.world.size)
        with TaskProgress("evaluate", total, shown=self.world.first) as bar, torch.inference_mode():
            self._feed([m for m in metrics if "reference" in m.needs], self.reference, bar, True)
            others = copy.deepcopy(metrics)  # they have seen the reference, and now see other images
            self._feed(metrics, made, bar, False, trained)
            scores = self._scores(metrics)
            made.evaluations = int(self.world.max(torch.tensor(made.evaluations)))
            real: dict[str, float] = {}
            if held_out is not None:
                able = [m for m in others if "model" not in m.needs]
                self._feed(able, held_out, bar, False)
                real = {name: value for name, (value, _) in self._scores(able).items()}
        protocol = {"images": str(len(made)), **self.reference.protocol(), **made.protocol()}
        results = {
            name: _result(value, {**metric.protocol(), **protocol}, real.get(name), held_out)
            for name, (value, metric) in scores.items()
        }
        return results, self._pictures(metrics)

    def _held_out(self) -> Real | None:
        dataset = self.dataset.held_out() if self.wanted.held_out else None
        if dataset is None:
            return None
        return Real(dataset, source_of(dataset, self.world.device, self.recipe.loading), "held-out images")

    def _feed(
        self,
        metrics: Sequence[Metric],
        stream: Stream,
        bar: TaskProgress,
        real: bool,
        trained: Trained | None = None,
    ) -> None:
        if not metrics:
            return
        model = None if trained is None else ScoredModel(trained.model.denoiser(trained.network), trained.model.codec)
        for images, cond, numbers, _ in stream.batches(self.world, self.wanted.batch_size):
            for metric in metrics:
                later = {"model": model} if "model" in metric.needs else {}
                metric.update(images, real=real, labels=cond.get("class"), index=numbers, cond=cond, **later)
            bar.step(len(images))

    def _pictures(self, metrics: Sequence[Metric]) -> dict[str, Tensor]:
        found: dict[str, Tensor] = {}
        for metric in metrics:
            found |= reduced(metric, self.world).pictures(lambda numbers: self.reference.source.take(numbers)[0])
        return found

    def _scores(self, metrics: Sequence[Metric]) -> dict[str, tuple[float, Metric]]:
        scores: dict[str, tuple[float, Metric]] = {}
        for metric in metrics:
            for name, value in self._computed(reduced(metric, self.world)).items():
                if name in scores:
                    raise UserError(f"evaluate.metrics: two metrics give a value called {name}; leave one of them out")
                scores[name] = (float(value), metric)
        return scores

    def _computed(self, metric: Metric) -> dict[str, float]:
        try:
            return metric.compute()
        except ValueError as error:
            kept = "the checkpoints are kept, and `dmf run` with other metrics or images goes on from here"
            raise UserError(f"evaluate.metrics: {self.names[type(metric)]}: {error}; {kept}") from error


def _result(value: float, protocol: dict[str, str], real: float | None, held_out: Real | None) -> dict[str, Any]:
    result: dict[str, Any] = {"value": value, "protocol": protocol}
    if real is not None and held_out is not None:
        result["held_out"] = {"value": real, "images": len(held_out)}
    return result


def _check(name: str, metric: Metric, spec: DataSpec, reference: int, images: int) -> None:
    """Accept a metric of ``images`` images of ``spec``, with a reference of so many."""
    if lacking := metric.needs - GIVEN:
        raise UserError(
            f"evaluate.metrics: {name} needs {', '.join(sorted(lacking))}; "
            f"this evaluation gives {', '.join(sorted(GIVEN))}"
        )
    if "reference" in metric.needs and reference < metric.least_reference:
        raise UserError(
            f"evaluate.metrics: {name} needs a reference of at least {metric.least_reference} images, and the data set "
            f"has {reference}; add images to it, or leave the metric out"
        )
    try:
        metric.check(spec, images)
    except ValueError as error:
        raise UserError(f"evaluate.metrics: {name}: {error}") from error
