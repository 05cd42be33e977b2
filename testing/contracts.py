"""The checks of every kind of part, and how they are run on a registered one.

A kind's table holds functions that take the part alone (of one that is built for data: what makes it from a `DataSpec`)
and raise AssertionError with a sentence. `OPTION_CHECKS` are for every kind and take the `Setting`.
"""

from __future__ import annotations

import unittest
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from ..registry import load
from ..registry.errors import PartError
from .augmentations import AUGMENTATION_CHECKS
from .averages import AVERAGE_CHECKS
from .backbones import BACKBONE_CHECKS
from .claims import cannot
from .codecs import CODEC_CHECKS
from .datasets import DATASET_CHECKS
from .decays import DECAY_CHECKS
from .densities import DENSITY_CHECKS
from .features import FEATURE_CHECKS
from .grids import GRID_CHECKS
from .guidance import GUIDANCE_CHECKS
from .hooks import HOOK_CHECKS
from .metrics import METRIC_CHECKS
from .objectives import OBJECTIVE_CHECKS
from .optimizers import OPTIMIZER_CHECKS
from .options import OPTION_CHECKS, check_builds
from .predictions import PREDICTION_CHECKS
from .samplers import SAMPLER_CHECKS
from .scans import SCAN_CHECKS
from .schedules import SCHEDULE_CHECKS
from .settings import Setting, full_settings
from .weightings import WEIGHTING_CHECKS

Check = Callable[[Any], None]

CHECKS: Mapping[str, tuple[Check, ...]] = {
    "augmentation": AUGMENTATION_CHECKS,
    "average": AVERAGE_CHECKS,
    "backbone": BACKBONE_CHECKS,
    "codec": CODEC_CHECKS,
    "dataset": DATASET_CHECKS,
    "decay": DECAY_CHECKS,
    "density": DENSITY_CHECKS,
    "features": FEATURE_CHECKS,
    "grid": GRID_CHECKS,
    "guidance": GUIDANCE_CHECKS,
    "hook": HOOK_CHECKS,
    "metric": METRIC_CHECKS,
    "objective": OBJECTIVE_CHECKS,
    "optimizer": OPTIMIZER_CHECKS,
    "prediction": PREDICTION_CHECKS,
    "sampler": SAMPLER_CHECKS,
    "scan": SCAN_CHECKS,
    "schedule": SCHEDULE_CHECKS,
    "weighting": WEIGHTING_CHECKS,
}
IN_EVERY_SETTING = ("sampler", "scan")  # whose whole contract is checked for each choice; of others the smoke test is


@dataclass(frozen=True)
class Case:
    """One check of one part.

    Attributes:
        setting: The part.
        check: The function.
    """

    setting: Setting
    check: Check

    @property
    def name(self) -> str:
        """The check's name without ``check_``."""
        return self.check.__name__.removeprefix("check_")

    def run(self) -> None:
        """Run the check.

        Raises:
            AssertionError: It fails; with a sentence.
            PartError: The part is broken; with a sentence.
            unittest.SkipTest: It cannot be had of this part, or not here.
        """
        try:
            self.check(self.setting if self.check in OPTION_CHECKS else self._built())
        except (RuntimeError, AssertionError) as error:  # torch has no class of its own for either
            if torch.cuda.is_available() or "cuda" not in str(error).lower():
                raise
            cannot(f"{self.setting.name} needs a GPU: {error}")

    def _built(self) -> Any:
        try:
            return self.setting.built
        except PartError as error:
            cannot(f"it cannot be built, which `builds` fails for: {error}")


def cases(kind: str, name: str, options: Mapping[str, Any] | None = None) -> list[Case]:
    """The checks of a registered part.

    Args:
        kind: Its kind.
        name: Its name there.
        options: The one setting to check; None for all that its kind asks for.
    """
    base = Setting(kind, name, options)
    try:
        load(base.part)
        settings = full_settings(base) if kind in IN_EVERY_SETTING and not options else [base]
    except PartError:
        return [Case(base, check_builds)]  # which says what is wrong with it
    found = [Case(base, check) for check in OPTION_CHECKS]
    return found + [Case(setting, check) for setting in settings for check in CHECKS[kind]]


def check_part(kind: str, name: str, **options: Any) -> None:
    """Hold a registered part to its whole contract; what cannot be had here is left out.

    Args:
        kind: Its kind, like ``sampler``.
        name: Its name there.
        options: The setting to check; without any, all that its kind asks for.

    Raises:
        AssertionError: With a sentence, at the first check that fails.
    """
    for case in cases(kind, name, options or None):
        try:
            case.run()
        except unittest.SkipTest:
            continue
