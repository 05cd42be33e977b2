"""Scoring: samples, the reference and held-out images stream through every metric, on every rank, without files."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .. import __version__
from ..core import Cond, Dataset, Metric
from ..core.sampler import Watch
from ..registry import PartRef, Recipe, UserError
from .assemble import Model, ReferenceModel, build_sampling, grid_of, is_unguided, part
from .console import TaskProgress
from .facts import codec_facts
from .feed import Source, each, image_numbers, source_of
from .generate import Generator
from .reduce import reduced
from .world import World

GIVEN = frozenset({"reference", "model"})
Results = dict[str, dict[str, Any]]
Streamed = tuple[Tensor, Tensor | None, Tensor]  # images (B, C, H, W), labels (B,) or None, numbers (B,)


@dataclass(frozen=True)
class Trained:
    """A network to score.

    Attributes:
        model: Around it.
        network: The weights, in eval mode.
        weights: ``ema`` or ``raw``: which they are.
        step: Training steps behind them.
    """

    model: Model
    network: torch.nn.Module
    weights: str
    step: int


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
            _check(ref.name, metric, dataset, self.wanted.images)
        self.reference = source or source_of(dataset, world.device, recipe.loading)

    def run(self, trained: Trained, reference: ReferenceModel | None) -> tuple[Results, dict[str, Tensor]]:
        """Score ``trained``.

        Args:
            trained: Whose samples.
            reference: The network to guide away from, if the recipe has one.

        Returns:
            On every rank: the results by name (value, the held-out images' value, protocol), and pictures by name.
        """
        metrics = [metric.to(self.world.device) for metric in self.metrics]
        asked: list[int] = []  # network evaluations, by batch
        held_out = self.dataset.held_out() if self.wanted.held_out else None
        streamed = len(self.dataset) if any("reference" in m.needs for m in metrics) else 0
        total = -(-(self.wanted.images + streamed + len(held_out or ())) // self.world.size)
        with TaskProgress("evaluate", total, shown=self.world.first) as bar, torch.inference_mode():
            self._feed([m for m in metrics if "reference" in m.needs], self._real(self.reference), bar, True)
            others = copy.deepcopy(metrics)  # they have seen the reference, and now see other images
            self._feed(metrics, self._generated(trained, reference, asked), bar, False, trained)
            scores = self._scores(metrics)
            evaluations = int(self.world.max(torch.tensor(max(asked, default=0))))
            real: dict[str, float] = {}
            if held_out is not None:
                source = source_of(held_out, self.world.device, self.recipe.loading)
                able = [m for m in others if "model" not in m.needs]
                self._feed(able, self._real(source), bar, False)
                real = {name: value for name, (value, _) in self._scores(able).items()}
        results = {
            name: self._result(value, self._protocol(metric, trained, reference, evaluations), real.get(name), held_out)
            for name, (value, metric) in scores.items()
        }
        return results, {name: p for metric in metrics for name, p in reduced(metric, self.world).pictures().items()}

    def _batch_size(self) -> int:
        return max(1, self.wanted.batch_size // self.world.size)

    def _feed(
        self,
        metrics: Sequence[Metric],
        stream: Iterable[Streamed],
        bar: TaskProgress,
        real: bool,
        trained: Trained | None = None,
    ) -> None:
        if not metrics:
            return
        for images, labels, numbers in stream:
            for metric in metrics:
                later = (
                    {"model": trained.model.denoiser(trained.network)} if trained and "model" in metric.needs else {}
                )
                metric.update(images, real=real, labels=labels, index=numbers, **later)
            bar.step(len(images))

    def _real(self, source: Source) -> Iterator[Streamed]:
        batches = list(self._batches(len(source)))
        for numbers, (images, cond) in zip(batches, each(source, batches), strict=True):
            yield images, cond.get("class"), numbers

    def _generated(self, trained: Trained, reference: ReferenceModel | None, asked: list[int]) -> Iterator[Streamed]:
        """Samples, each with the condition of a real image: the labels have the real distribution.

        The network evaluations of each batch are added to ``asked``.
        """
        sampling = build_sampling(self.recipe.sampler, trained.model.schedule, reference)
        maker = Generator(trained.model, trained.network, sampling, self.world.device, self.watch)
        whose = image_numbers(self.wanted.seed, len(self.dataset), 0, max(self.wanted.images, 1))
        batches = list(self._batches(self.wanted.images))
        for numbers, cond in zip(batches, self._told(whose[numbers] for numbers in batches), strict=True):
            made = maker.batch(self.wanted.seed, numbers.tolist(), cond)
            asked.append(made.evaluations)
            yield made.images, cond.get("class"), made.numbers

    def _told(self, order: Iterable[Tensor]) -> Iterator[Cond]:
        """The conditions of some real images at a time, on the device; the images are read only where they must be."""
        known = self.dataset.conditions()
        if known is None:
            yield from (cond for _, cond in each(self.reference, order))
        else:
            device = self.world.device
            yield from ({name: value[rows].to(device) for name, value in known.items()} for rows in order)

    def _batches(self, count: int) -> Iterator[Tensor]:
        """This rank's numbers of 0 ... count - 1, a batch at a time: disjoint, each in one place."""
        mine, size = torch.arange(self.world.rank, count, self.world.size), self._batch_size()
        return (mine[start : start + size] for start in range(0, len(mine), size))

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

    def _result(
        self, value: float, protocol: dict[str, str], real: float | None, held_out: Dataset | None
    ) -> dict[str, Any]:
        result: dict[str, Any] = {"value": value, "protocol": protocol}
        if real is not None and held_out is not None:
            result["held_out"] = {"value": real, "images": len(held_out)}
        return result

    def _protocol(
        self, metric: Metric, trained: Trained, reference: ReferenceModel | None, evaluations: int
    ) -> dict[str, str]:
        """All that must be equal for two values to be compared."""
        sampler = self.recipe.sampler
        unguided = is_unguided(sampler)
        return {
            **metric.protocol(),
            "images": str(self.wanted.images),
            "reference": f"{self.recipe.dataset.name}, {len(self.dataset)} images",
            "reference.fingerprint": self.dataset.fingerprint(),
            **codec_facts(trained.model.codec),
            "labels": "real distribution" if self.dataset.spec.classes else "none",
            "sampler": _call(sampler),
            "steps": str(sampler.steps),
            "grid": _call(grid_of(sampler)),
            "evaluations": str(evaluations),
            "guidance": "none" if unguided and sampler.guidance.name == "cfg" else _call(sampler.guidance),
            "guidance.reference": "none" if unguided else reference.about if reference else "no labels",
            "weights": trained.weights,
            "trained_steps": str(trained.step),
            "seed": str(self.wanted.seed),
            "dmf": __version__,
        }


def table(results: Results) -> str:
    """The results as a person reads them; the held-out images' values stand beside, for scale."""
    rows = [("metric", "generated", "held-out real")]
    for name, result in results.items():
        real = result.get("held_out")
        beside = f"{real['value']:.4g} ({real['images']} images)" if real else "-"
        rows.append((name, f"{result['value']:.4g} ({result['protocol']['images']} images)", beside))
    widths = [max(len(row[i]) for row in rows) for i in range(3)]
    return "\n".join("  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows)


def _call(ref: PartRef) -> str:
    """A part as it would be called: heun(churn=0.0), rescale(of=cfg(scale=2.0), amount=0.7)."""
    return f"{ref.name}({', '.join(f'{key}={_value(value)}' for key, value in ref.options.items())})"


def _value(value: Any) -> str:
    """An option; a part with options of its own as it would be called."""
    if not (isinstance(value, Mapping) and "name" in value):
        return str(value)
    return _call(PartRef(value["name"], {key: v for key, v in value.items() if key != "name"}))


def _check(name: str, metric: Metric, dataset: Dataset, images: int) -> None:
    if lacking := metric.needs - GIVEN:
        raise UserError(
            f"evaluate.metrics: {name} needs {', '.join(sorted(lacking))}; "
            f"this evaluation gives {', '.join(sorted(GIVEN))}"
        )
    if "reference" in metric.needs and len(dataset) < metric.least_reference:
        raise UserError(
            f"evaluate.metrics: {name} needs a reference of at least {metric.least_reference} images, and the data set "
            f"has {len(dataset)}; add images to it, or leave the metric out"
        )
    try:
        metric.check(dataset.spec, images)
    except ValueError as error:
        raise UserError(f"evaluate.metrics: {name}: {error}") from error
