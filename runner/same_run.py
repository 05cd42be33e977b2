"""Whether a recipe goes on with a run: what may have changed in it, and what may not."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..registry import Recipe, UserError, differences, load, read

# a run may go on under another value of these: they do not change what has been trained
FREE = (
    "name",
    "dataset",  # where the data lies may change, its name not; that it is the same is checked by its fingerprint
    "device",
    "loading",
    "latents.cache",  # kept or encoded anew, moments are the same to rounding
    "latents.shard_mib",
    "train.steps",
    "train.micro_batch",  # the same gradient to rounding
    "compute",  # likewise
    "train.activation_checkpointing",
    "preview",
    "sampler",
    "sample",
    "evaluate",
    "checkpoint",
    "log",
    "hooks",
    "distributed",
    "train.stop_after_bad_steps",
)
NOT_FREE = "dataset.name"  # told before other data are read, or even fetched


def recipe_so_far(file: Path, step: int) -> Recipe:
    """That by which a run was trained.

    Args:
        file: In the run's folder.
        step: Of the newest checkpoint.

    Raises:
        UserError: It is not there, or cannot be read.
    """
    if not file.exists():
        raise UserError(
            f"{file.parent} has checkpoints, the newest of step {step}, and no {file.name}: nobody can say by which "
            f"recipe they were trained. Put that recipe there, as {file}; or start afresh with --fresh (the old folder "
            "is kept aside)"
        )
    return read(file)


def check_same(old: Recipe, new: Recipe, path: Path) -> None:
    """Accept a recipe to go on with.

    Args:
        old: The run's.
        new: The one that is given.
        path: The run's folder.

    Raises:
        UserError: What has been trained would be of another recipe; each difference is listed, of another part its
            name alone.
    """
    free = (*FREE, *(f"codec.{name}" for name in _free_of_codec(old, new)))
    unlike = {line.split(":")[0]: line for line in differences(old, new)}
    others = tuple(key.removesuffix("name") for key in unlike if key.endswith(".name"))
    changed = {key: line for key, line in unlike.items() if key == NOT_FREE or not _is_free(key, free)}
    told = [line for key, line in changed.items() if key.endswith(".name") or not key.startswith(others)]
    if told:
        listed = "\n  ".join(told)
        raise UserError(
            f"{path} holds a run of another recipe:\n  {listed}\n"
            "Give the new run a name of its own (name=...), start afresh with --fresh (the old folder is kept aside), "
            "or take the changes back to go on with the old run."
        )


def _free_of_codec(old: Recipe, new: Recipe) -> tuple[str, ...]:
    """Its free options; that they make the same codec is checked by facts once it is built: `facts.check_codec`."""
    if old.codec.name != new.codec.name:
        return ()
    free: tuple[str, ...] = getattr(load("codec", new.codec.name), "free", ())  # it may be a function that makes one
    return free


def _is_free(path: str, free: Sequence[str]) -> bool:
    return any(path == key or path.startswith(f"{key}.") for key in free)
