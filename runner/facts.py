"""What must be known to repeat a run: versions, commit, data, machine."""

from __future__ import annotations

import platform
import subprocess
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from typing import Any

import torch

from .. import __version__
from ..core import Codec, Dataset
from ..files.writing import read_json
from ..registry import PartRef, Recipe, UserError, find, load
from ..registry.discover import BUILT_IN, Part
from ..registry.options import name_and_options, schema
from ..registry.tidy import parts_in
from .assemble import Model, grid_of
from .console import log
from .folder import RunFolder
from .summary import parameters
from .world import World


def run_facts(recipe: Recipe, dataset: Dataset, model: Model, world: World) -> dict[str, str]:
    """Everything as text, by name; the backbone is on the device already. Called by all ranks."""
    backbone = model.backbone
    return {
        "recipe.digest": recipe.digest(),
        "dataset.name": recipe.dataset.name,
        "dataset.images": str(len(dataset)),
        "dataset.fingerprint": dataset.fingerprint(),
        **codec_facts(model.codec),
        **{f"network.{name}": text for name, text in backbone.facts().items()},
        "network.parameters": str(parameters(backbone)),
        **{f"part.{part}": made_by for part, made_by in _parts(recipe)},
        **_machine(world),
        **_commit(),
    }


def codec_facts(codec: Codec) -> dict[str, str]:
    """What the codec says of itself, such as its weights' sha256, by names that begin with ``codec.``."""
    return {f"codec.{name}": text for name, text in codec.facts().items()}


def check_codec(codec: Codec, folder: RunFolder) -> None:
    """Accept a codec that is the one that a run was trained through, though its files may have changed.

    Raises:
        UserError: It is another one.
    """
    before = read_json(folder.facts) or {}
    for name, now in codec_facts(codec).items():
        if before.get(name, now) != now:
            raise UserError(
                f"{folder.path} was trained through another codec: its {name} was {before[name][:16]}, and is "
                f"{now[:16]} now. Bring the old files back, or train another run (name=...) on the new ones"
            )


def _machine(world: World) -> dict[str, str]:
    libraries = {f"version.{name}": version(name) for name in ("torch", "torchvision", "numpy", "mlflow")}
    return {
        "version.dmf": __version__,
        "version.python": platform.python_version(),
        **libraries,
        "machine.system": platform.platform(),
        "machine.device": devices(world),
        "machine.ranks": str(world.size),
        "machine.threads": str(torch.get_num_threads()),
    }


def devices(world: World) -> str:
    """The model of GPU that ranks compute on, or ``cpu``; of several models all, and a warning. Called by all ranks."""
    if world.device.type != "cuda":
        return "cpu"
    own = torch.cuda.get_device_name(world.device).encode()
    rows = world.gather_rows(torch.frombuffer(bytearray(own), dtype=torch.uint8))
    models = sorted({bytes(row.tolist()).decode() for row in rows})
    if len(models) > 1:
        log.warning(
            "ranks compute on GPUs of several models, %s: from one seed each draws noise of its own, so this recipe "
            "on other GPUs, or on one, has other noise",
            " and ".join(models),
        )
    return ", ".join(models)


def _commit() -> dict[str, str]:
    """The commit of the folder that the command was given in; nothing outside a git checkout."""
    try:
        head = _git("rev-parse", "HEAD")
        return {
            "git.commit": head,
            "git.changed": "yes" if _git("status", "--porcelain", "--untracked-files=no") else "no",
        }
    except (OSError, subprocess.CalledProcessError, subprocess.TimeoutExpired):
        return {}


def _git(*words: str) -> str:
    done = subprocess.run(["git", *words], capture_output=True, text=True, check=True, timeout=10)
    return done.stdout.strip()


def _parts(recipe: Recipe) -> Iterator[tuple[str, str]]:
    """("sampler:heun", "dmf 0.1.0") for every part of the recipe."""
    train = recipe.train
    single = {
        "dataset": recipe.dataset,
        "codec": recipe.codec,
        "backbone": recipe.backbone,
        "schedule": recipe.schedule,
        "prediction": recipe.prediction,
        "sampler": recipe.sampler,
        "objective": train.objective,
        "weighting": train.weighting,
        "density": train.density,
        "optimizer": train.optimizer,
        "decay": train.decay,
        "guidance": recipe.sampler.guidance,
        "grid": grid_of(recipe.sampler),
    }
    named: list[tuple[str, PartRef]] = [
        *single.items(),
        *([("prediction", train.loss_space)] if train.loss_space else []),
        *(("augmentation", a) for a in recipe.augment),
        *(("average", a) for a in train.ema),
        *(("metric", m) for m in recipe.evaluate.metrics),
        *(("hook", h) for h in recipe.hooks),
    ]
    for kind, ref in named:
        for found in _with_options(kind, ref.name, ref.options):
            yield f"{found.kind}:{found.name}", f"{found.distribution} {found.version}"


def plugins_of(kind: str, ref: PartRef) -> dict[str, str]:
    """The versions of the plugins that a part and those that its options name are of, as a protocol has them."""
    there = _with_options(kind, ref.name, ref.options)
    return {f"version.{one.distribution}": one.version for one in there if one.distribution != BUILT_IN}


def _with_options(kind: str, name: str, options: Mapping[str, Any]) -> Iterator[Part]:
    """A part, and those that its options name."""
    yield find(kind, name)
    for _, below, value in parts_in(schema(load(kind, name), kind), dict(options)):
        yield from _with_options(below["x-part"], *name_and_options(below["x-part"], value))
