"""The least use of a part of each kind: does it work at all? For settings too many to hold to the whole contract."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

from ..core import (
    Context,
    Density,
    Grid,
    Sampler,
    generator,
    levels_of,
    sample,
)
from . import (
    augmentations,
    averages,
    codecs,
    decays,
    grids,
    guidance,
    hooks,
    networks,
    objectives,
    optimizers,
    predictions,
    weightings,
)
from .claims import called, require
from .datasets import check_items
from .features import check_form
from .metrics import check_values
from .samplers import BLOBS
from .scans import check_permutation
from .schedules import Arc, check_ends


def _sampler(sampler: Sampler[Any]) -> None:
    schedule = Arc()
    random = generator(0, "smoke", 0)
    levels = levels_of(schedule, schedule.t_at(torch.linspace(-8, 8, 3, dtype=torch.float64)))
    x = levels[0].sigma * torch.randn((3, 2), generator=random, dtype=torch.float64)
    context = Context(schedule, lambda: torch.randn(x.shape, generator=random, dtype=torch.float64))
    end = sample(sampler, BLOBS.denoise, x, levels, context)
    require(end.isfinite().all(), f"{called(sampler)}: not finite after three steps")


def _grid(grid: Grid) -> None:
    refusals = []
    for steps in grids.STEPS:
        try:
            levels_of(Arc(), grid(Arc(), steps))
        except ValueError as error:
            refusals.append(error)
    if len(refusals) == len(grids.STEPS):
        said = [str(error) for error in refusals]
        raise min(refusals, key=lambda error: said.count(str(error)))  # a list refuses every other number of steps


def _density(density: Density) -> None:
    t = density(torch.linspace(0, 0.999, 7, dtype=torch.float64), Arc())
    require(t.isfinite().all(), f"{called(density)}: a time is not finite")


def _backbone(make: networks.MakeBackbone) -> None:
    refusals = []
    for spec in networks.SPECS.values():
        try:
            network = make(spec)
        except ValueError as error:
            refusals.append(error)
            continue
        x, noise, cond = networks.inputs(spec)
        with torch.no_grad():
            require(network(x, noise, cond).isfinite().all(), "the output of a fresh network is not finite")
        return
    raise refusals[0]


SMOKE: Mapping[str, Callable[[Any], None]] = {
    "augmentation": augmentations.check_form,
    "average": averages.check_shares,
    "backbone": _backbone,
    "codec": codecs.check_spec,
    "dataset": check_items,
    "decay": decays.check_factors,
    "density": _density,
    "features": check_form,
    "grid": _grid,
    "guidance": guidance.check_dtypes,
    "hook": hooks.check_names,
    "metric": check_values,
    "objective": objectives.check_losses,
    "optimizer": optimizers.check_descends,
    "prediction": predictions.check_coefficients,
    "sampler": _sampler,
    "scan": check_permutation,
    "schedule": check_ends,
    "weighting": weightings.check_positive,
}
