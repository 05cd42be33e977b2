"""What must be equal for two values to be compared."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from ... import __version__
from ...core.arithmetic import shortened
from ...registry import PartRef, Recipe
from ..assemble import ReferenceModel, grid_of, is_unguided
from ..facts import codec_facts, plugins_of
from .origins import plugin_of
from .trained import Trained


def generation(
    recipe: Recipe, trained: Trained, reference: ReferenceModel | None, labels: Mapping[str, str], evaluations: int
) -> dict[str, str]:
    """How images were made.

    Args:
        recipe: Gives the sampler and the seed.
        trained: The network, on its device.
        reference: What guidance led away from, if the recipe has it.
        labels: Where the labels are from, as a protocol has it.
        evaluations: How often the network was asked for a batch.
    """
    sampler = recipe.sampler
    unguided, grid = is_unguided(sampler), grid_of(sampler)
    parts = {"sampler": sampler, "grid": grid, "guidance": sampler.guidance}
    return {
        **labels,
        "sampler": called(sampler),
        "steps": str(sampler.steps),
        "grid": called(grid),
        "evaluations": str(evaluations),
        "guidance": "none" if unguided and sampler.guidance.name == "cfg" else called(sampler.guidance),
        "guidance.reference": "none" if unguided else reference.about if reference else "no labels",
        "seed": str(recipe.evaluate.seed),
        **{key: version for kind, ref in parts.items() for key, version in plugins_of(kind, ref).items()},
        **of_model(trained),
    }


def of_model(trained: Trained) -> dict[str, str]:
    """What a network is, and how it computes."""
    model = trained.model
    return {
        **codec_facts(model.codec),
        **plugin_of(model.codec),
        **plugin_of(model.backbone),
        **plugin_of(model.schedule),
        **plugin_of(model.prediction),
        "weights": trained.weights,
        "trained_steps": str(trained.step),
        **computed(next(trained.network.parameters()).device),
    }


def computed(device: torch.device) -> dict[str, str]:
    """What code and what arithmetic values come of."""
    return {**arithmetic(device), "dmf": __version__, "version.torch": torch.__version__}


def arithmetic(device: torch.device) -> dict[str, str]:
    """In what networks compute here: scoring is done in float32, which a GPU may be allowed to shorten to TF32."""
    short = shortened(device) if device.type == "cuda" else []
    return {"arithmetic": f"float32, TF32 in {' and '.join(short)}" if short else "float32"}


def called(ref: PartRef) -> str:
    """A part as it would be called: heun(churn=0.0), rescale(of=cfg(scale=2.0), amount=0.7)."""
    return f"{ref.name}({', '.join(f'{key}={_value(value)}' for key, value in ref.options.items())})"


def _value(value: Any) -> str:
    """An option; a part with options of its own as it would be called."""
    if not (isinstance(value, Mapping) and "name" in value):
        return str(value)
    return called(PartRef(value["name"], {key: v for key, v in value.items() if key != "name"}))
