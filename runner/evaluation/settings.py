"""What was changed for an evaluation, in short words: values of other settings never share a curve."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from ...registry import PartRef, Recipe, SamplerRef, differences, load
from ..average_rules import in_numbers
from .protocol import called
from .results import Results

OTHER_KEYS = ("dataset", "codec", "backbone", "schedule", "prediction", "augment")


def numbered(results: Results, images: int) -> Results:
    """The results with their number of images in their names: ``fid`` is ``fid_n1000``."""
    return {f"{name}_n{images}": result for name, result in results.items()}


def settings(own: Recipe, now: Recipe) -> list[str]:
    """What differs for all values, all but the number of images: ``["ddim", "steps:50", "guidance:1.5", "raw"]``.

    Args:
        own: The run's recipe.
        now: What is scored with.
    """
    words = sampler_words(own.sampler, now.sampler)
    if in_numbers(own.evaluate.weights) != in_numbers(now.evaluate.weights):
        words.append(in_numbers(now.evaluate.weights))
    if own.evaluate.seed != now.evaluate.seed:
        words.append(f"seed:{now.evaluate.seed}")
    lines = [line.partition(": ") for line in differences(own, now)]
    words += [f"{key}:{change.rpartition(' -> ')[2]}" for key, _, change in lines if key.split(".")[0] in OTHER_KEYS]
    return words


def sampler_words(own: SamplerRef, now: SamplerRef) -> list[str]:
    """What differs between two samplers, with grid and guidance."""
    words = _part_words("sampler", own, now)
    if own.steps != now.steps:
        words.append(f"steps:{now.steps}")
    if own.guidance != now.guidance:
        words.append(f"guidance:{guidance_word(now.guidance)}")
    if own.reference != now.reference:
        there = now.reference
        words.append("away_from:none" if there is None else f"away_from:{there.run or ''}:{there.step or 'newest'}")
    if own.grid != now.grid:
        words.append(f"grid:{'own' if now.grid is None else called(now.grid)}")
    return words


def guidance_word(guidance: PartRef) -> str:
    """The scale of plain guidance, else the guidance as it would be called."""
    scale = guidance.options.get("scale")
    return f"{scale:g}" if guidance.name == "cfg" and isinstance(scale, int | float) else called(guidance)


def _part_words(kind: str, own: PartRef, now: PartRef) -> list[str]:
    """The name, if it is another, and the options that are other than the old part's, or than a new one's defaults."""
    known: Mapping[str, Any] = own.options if own.name == now.name else defaults(kind, now.name)
    words = [] if own.name == now.name else [now.name]
    return words + [f"{key}:{value}" for key, value in now.options.items() if known.get(key) != value]


def metric_words(own: Recipe, ref: PartRef) -> list[str]:
    """What differs for the values of a metric alone: ``["kernel.subsets:50"]``.

    Args:
        own: The run's recipe; where it has no such metric, its defaults count.
        ref: The metric that is scored with.
    """
    if ref in own.evaluate.metrics:
        return []
    named = [one for one in own.evaluate.metrics if one.name == ref.name]
    known = named[0].options if named else defaults("metric", ref.name)
    return [f"{ref.name}.{key}:{v}" for key, v in ref.options.items() if key in known and known[key] != v]


def defaults(kind: str, name: str) -> dict[str, Any]:
    """The options of a part that have defaults."""
    found = inspect.signature(load(kind, name)).parameters.values()
    return {one.name: one.default for one in found if one.default is not one.empty}
