"""The contract kit: exact denoisers, measured orders, and checks for a part of any kind, ours or yours.

from dmf.testing import check_sampler

def test_my_sampler():
    check_sampler(MySampler())

Names are loaded when they are first used: pytest loads the plugin here in every run, and must not wait for torch.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .augmentations import AUGMENTATION_CHECKS, check_augmentation
    from .averages import AVERAGE_CHECKS, check_average
    from .backbones import BACKBONE_CHECKS, check_backbone
    from .claims import Broken
    from .codecs import CODEC_CHECKS, check_codec
    from .contracts import CHECKS, Case, cases, check_part
    from .datasets import DATASET_CHECKS, check_dataset
    from .decays import DECAY_CHECKS, check_decay
    from .densities import DENSITY_CHECKS, check_density
    from .exact import Gaussian, Mixture
    from .features import FEATURE_CHECKS, check_features
    from .grids import GRID_CHECKS, check_grid
    from .guidance import GUIDANCE_CHECKS, check_guidance
    from .hooks import HOOK_CHECKS, check_hook
    from .labels import LevelOfLabel
    from .metrics import METRIC_CHECKS, check_metric
    from .moments import exact_moments
    from .objectives import OBJECTIVE_CHECKS, check_objective
    from .ode import reference_end
    from .optimizers import OPTIMIZER_CHECKS, check_optimizer
    from .options import OPTION_CHECKS
    from .orders import errors_of, order_of, smooth_grid
    from .predictions import PREDICTION_CHECKS, PREDICTIONS, check_prediction
    from .samplers import SAMPLER_CHECKS, check_agreement, check_sampler
    from .scans import SCAN_CHECKS, check_scan
    from .schedules import SCHEDULE_CHECKS, Arc, Exploding, Straight, check_schedule, unlike_schedules
    from .settings import Setting
    from .weightings import WEIGHTING_CHECKS, check_weighting

_HOME = {
    "augmentations": ("AUGMENTATION_CHECKS", "check_augmentation"),
    "backbones": ("BACKBONE_CHECKS", "check_backbone"),
    "claims": ("Broken",),
    "codecs": ("CODEC_CHECKS", "check_codec"),
    "contracts": ("CHECKS", "Case", "cases", "check_part"),
    "datasets": ("DATASET_CHECKS", "check_dataset"),
    "densities": ("DENSITY_CHECKS", "check_density"),
    "exact": ("Gaussian", "Mixture"),
    "features": ("FEATURE_CHECKS", "check_features"),
    "grids": ("GRID_CHECKS", "check_grid"),
    "guidance": ("GUIDANCE_CHECKS", "check_guidance"),
    "hooks": ("HOOK_CHECKS", "check_hook"),
    "labels": ("LevelOfLabel",),
    "metrics": ("METRIC_CHECKS", "check_metric"),
    "moments": ("exact_moments",),
    "objectives": ("OBJECTIVE_CHECKS", "check_objective"),
    "ode": ("reference_end",),
    "options": ("OPTION_CHECKS",),
    "orders": ("errors_of", "order_of", "smooth_grid"),
    "predictions": ("PREDICTIONS", "PREDICTION_CHECKS", "check_prediction"),
    "samplers": ("SAMPLER_CHECKS", "check_agreement", "check_sampler"),
    "scans": ("SCAN_CHECKS", "check_scan"),
    "schedules": ("SCHEDULE_CHECKS", "Arc", "Exploding", "Straight", "check_schedule", "unlike_schedules"),
    "settings": ("Setting",),
    "averages": ("AVERAGE_CHECKS", "check_average"),
    "decays": ("DECAY_CHECKS", "check_decay"),
    "optimizers": ("OPTIMIZER_CHECKS", "check_optimizer"),
    "weightings": ("WEIGHTING_CHECKS", "check_weighting"),
}
_MODULE = {name: module for module, names in _HOME.items() for name in names}

__all__ = [
    "AUGMENTATION_CHECKS",
    "AVERAGE_CHECKS",
    "BACKBONE_CHECKS",
    "CHECKS",
    "CODEC_CHECKS",
    "DATASET_CHECKS",
    "DECAY_CHECKS",
    "DENSITY_CHECKS",
    "FEATURE_CHECKS",
    "GRID_CHECKS",
    "GUIDANCE_CHECKS",
    "HOOK_CHECKS",
    "METRIC_CHECKS",
    "OBJECTIVE_CHECKS",
    "OPTIMIZER_CHECKS",
    "OPTION_CHECKS",
    "PREDICTIONS",
    "PREDICTION_CHECKS",
    "SAMPLER_CHECKS",
    "SCAN_CHECKS",
    "SCHEDULE_CHECKS",
    "WEIGHTING_CHECKS",
    "Arc",
    "Broken",
    "Case",
    "Exploding",
    "Gaussian",
    "LevelOfLabel",
    "Mixture",
    "Setting",
    "Straight",
    "cases",
    "check_agreement",
    "check_augmentation",
    "check_average",
    "check_backbone",
    "check_codec",
    "check_dataset",
    "check_decay",
    "check_density",
    "check_features",
    "check_grid",
    "check_guidance",
    "check_hook",
    "check_metric",
    "check_objective",
    "check_optimizer",
    "check_part",
    "check_prediction",
    "check_sampler",
    "check_scan",
    "check_schedule",
    "check_weighting",
    "errors_of",
    "exact_moments",
    "order_of",
    "reference_end",
    "smooth_grid",
    "unlike_schedules",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module("." + _MODULE[name], __name__), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
