"""The kinds of parts: the entry-point group of each, what it must derive from, and what its caller supplies."""

import importlib
from dataclasses import dataclass

from .errors import PartError
from .words import unknown


@dataclass(frozen=True)
class Kind:
    """One kind of part.

    Attributes:
        name: The kind's name, as in ``build("sampler", ...)``.
        group: The entry-point group that its parts are registered in.
        base: ``module:class`` that each part derives from; None for plain functions and for hooks.
        given: Leading parameters of the constructor that the caller supplies; they are no options.
    """

    name: str
    group: str
    base: str | None = None
    given: tuple[str, ...] = ()

    @property
    def is_class(self) -> bool:
        """Whether every part of this kind is a class."""
        return self.base is not None or self.name == "hook"

    def base_class(self) -> type | None:
        """The class behind ``base``, imported now."""
        if self.base is None:
            return None
        module, _, name = self.base.partition(":")
        found = getattr(importlib.import_module(module), name)
        assert isinstance(found, type), self.base
        return found


_ALL = (
    Kind("backbone", "dmf.backbones", "dmf.core:Backbone", ("spec",)),
    Kind("schedule", "dmf.schedules", "dmf.core:NoiseSchedule"),
    Kind("sampler", "dmf.samplers", "dmf.core:Sampler"),
    Kind("dataset", "dmf.datasets", "dmf.core:Dataset"),
    Kind("metric", "dmf.metrics", "dmf.core:Metric"),
    Kind("features", "dmf.features", "dmf.core:FeatureExtractor"),
    Kind("augmentation", "dmf.augmentations", "dmf.core:Augmentation", ("spec",)),
    Kind("codec", "dmf.codecs", "dmf.core:Codec", ("spec",)),
    Kind("hook", "dmf.hooks"),
    Kind("prediction", "dmf.predictions"),
    Kind("grid", "dmf.grids"),
    Kind("density", "dmf.densities"),
    Kind("weighting", "dmf.weightings"),
    Kind("objective", "dmf.objectives"),
    Kind("guidance", "dmf.guidance", "dmf.core:Guidance"),
    Kind("scan", "dmf.scans", "dmf.core:Scan"),
    Kind("optimizer", "dmf.optimizers"),
    Kind("decay", "dmf.decays"),
    Kind("average", "dmf.averages", "dmf.core:Average"),
)
KINDS: dict[str, Kind] = {kind.name: kind for kind in _ALL}


def kind_of(name: str) -> Kind:
    """The kind called ``name``; `PartError` with the nearest names when there is none."""
    if name not in KINDS:
        raise PartError(unknown("kind of part", name, KINDS))
    return KINDS[name]
