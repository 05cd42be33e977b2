"""Where the weights to start from lie (`init_from`): a run, a checkpoint, a file, or a folder with files."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from safetensors import safe_open
from torch import Tensor

from ...files.state_dicts import content_of
from ...registry import InitFrom, UserError
from .. import checkpoints
from ..checkpoints.layout import sha256
from ..folder import RunFolder
from ..runs import runs_there, split, step_of
from ..weights import Weights, find_weights

WHERE = "init_from"
OF_TORCH = (".pt", ".pth", ".ckpt", ".bin")
INDEX = ".index.json"


@dataclass(frozen=True)
class Source:
    """Weights that were found and read.

    Attributes:
        tensors: By the names that they have there.
        about: Where they are from, for people.
        sha256: Of their file, or of the hashes of their files.
        run: The run that they are of; None where it is not known.
        kind: What `dmf export` notes in its files: ``raw``, ``ema`` or an average's label; None where nobody noted it.
    """

    tensors: Mapping[str, Tensor]
    about: str
    sha256: str
    run: RunFolder | None = None
    kind: str | None = None


def read_source(init: InitFrom, runs: Path) -> Source:
    """Read the weights that a recipe names.

    Args:
        init: What the recipe says.
        runs: The folder of runs.

    Raises:
        UserError: There is nothing, or nothing that can be read; the message says what there is.
    """
    wanted, (place, at) = init.weights or "ema", _found(init.source, runs)
    if place.is_file():
        return _of_file(place)
    if is_run(place):
        return _of_run(RunFolder(place), wanted, at)
    return _of_checkpoint(place, wanted) if (place / checkpoints.MANIFEST).is_file() else _of_files(place)


def place_of(init: InitFrom, runs: Path) -> Path:
    """Where the weights lie that a recipe names: a file, a run's folder, or one with files.

    Raises:
        UserError: There is nothing; the message says what there is.
    """
    return _found(init.source, runs)[0]


def check_source(init: InitFrom, runs: Path) -> None:
    """Accept what a recipe names, unread: a run has such weights, whole.

    Raises:
        UserError: There is nothing, or no such weights; the message says what there is.
    """
    place, at = _found(init.source, runs)
    if is_run(place):
        _weights_in(RunFolder(place), init.weights or "ema", at)


def with_step(init: InitFrom, runs: Path) -> InitFrom:
    """The same, with the step of a run: while it is trained, who looks later would find another.

    Raises:
        UserError: As `check_source`.
    """
    place, at = _found(init.source, runs)
    if not is_run(place) or (at is not None and at.isdigit()):
        return init
    return replace(init, source=f"{place}@{_weights_in(RunFolder(place), init.weights or 'ema', at).step}")


def _found(source: str, runs: Path) -> tuple[Path, str | None]:
    """Where it lies, and what stands behind the @ of a run.

    A file comes first, then a run, by folder, then by name under ``runs``; then other folders.
    """
    given = Path(source).expanduser()
    if given.is_file():
        return given, None
    name, at = split(source, runs)
    for place in (Path(name).expanduser(), runs / name):
        if is_run(place):
            return place, at
    if given.is_dir():
        return given, None
    raise UserError(f"{WHERE}: {source} is no run, no file and no folder of weights{runs_there(source, runs)}")


def is_named(source: str, runs: Path) -> bool:
    """Whether it is a run by its name under ``runs``, and no path."""
    name, _ = split(source, runs)
    path = Path(source).expanduser()
    return not path.is_file() and not is_run(Path(name).expanduser()) and is_run(runs / name)


def is_run(place: Path) -> bool:
    """Whether a folder is a run's; what `dmf export` writes has a recipe too, and no checkpoints."""
    return (place / "recipe.yaml").is_file() and (place / "checkpoints").is_dir()


def _of_run(run: RunFolder, kind: str, at: str | None) -> Source:
    found = _weights_in(run, kind, at)
    try:
        return Source(found.read(), f"{run.path}, step {found.step}, {found.kind}", found.sha256, run)
    except (UserError, checkpoints.DamagedCheckpoint) as error:
        raise UserError(f"{WHERE}: {error}") from None


def _weights_in(run: RunFolder, kind: str, at: str | None) -> Weights:
    """Those of a run, not yet read."""
    try:
        return find_weights(run, kind, step_of(run, at))
    except (UserError, checkpoints.DamagedCheckpoint) as error:
        raise UserError(f"{WHERE}: {error}") from None


def _of_checkpoint(path: Path, kind: str) -> Source:
    """A checkpoint by its own folder; of its run where it still lies in it, and alone where it was copied."""
    run = RunFolder(path.resolve().parent.parent)
    step = path.resolve().name.removeprefix("step-")
    if is_run(run.path) and step.isdigit():
        return _of_run(run, kind, step)
    raise UserError(
        f"{WHERE}: {path} is a checkpoint outside its run's folder: name a file in it, {path / 'ema.safetensors'} or "
        f"{path / 'model.safetensors'}"
    )


def _of_file(file: Path) -> Source:
    if file.name.endswith(INDEX):
        return _of_shards(file)
    if file.suffix != ".safetensors" and file.suffix not in OF_TORCH:
        raise UserError(
            f"{WHERE}: {file} is no file of weights: expected .safetensors, an {INDEX} of several, or a state dict as "
            f"torch saves it ({', '.join(OF_TORCH)})"
        )
    try:
        return Source(dict(_tensors(content_of(file, WHERE), "")), str(file), sha256(file), kind=_kind_in(file))
    except (ValueError, OSError) as error:
        raise UserError(str(error)) from None


def _of_files(folder: Path) -> Source:
    """The one index of shards in a folder, or else its one file."""
    indices = sorted(folder.glob(f"*{INDEX}"))
    files = indices or [file for file in sorted(folder.iterdir()) if file.suffix == ".safetensors"]
    files = files or [file for file in sorted(folder.iterdir()) if file.suffix in OF_TORCH]
    if len(files) == 1:
        return _of_file(files[0])
    if files:
        raise UserError(f"{WHERE}: {folder} holds {', '.join(file.name for file in files[:8])}: name one of them")
    raise UserError(f"{WHERE}: {folder} is no run's folder and holds no weights: no .safetensors, no {INDEX} of shards")


def _of_shards(index: Path) -> Source:
    try:
        held = json.loads(index.read_text(encoding="utf-8"))
        names = sorted(set(held["weight_map"].values()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{WHERE}: {index} has no weight_map, names of weights to files: {error!r}") from None
    lost = [name for name in names if not (index.parent / name).is_file()]
    if lost:
        raise UserError(f"{WHERE}: {index} speaks of {', '.join(lost[:8])}, not there in {index.parent}: fetch it too")
    shards = [_of_file(index.parent / name) for name in names]
    digest = hashlib.sha256("".join(shard.sha256 for shard in shards).encode()).hexdigest()
    tensors = {name: value for shard in shards for name, value in shard.tensors.items()}
    return Source(tensors, f"{index} ({len(shards)} files)", digest)


def _kind_in(file: Path) -> str | None:
    """Which weights of their run a file says that it holds."""
    if file.suffix != ".safetensors":
        return None
    with safe_open(file, framework="pt") as held:
        return (held.metadata() or {}).get("dmf.weights")


def _tensors(held: Any, prefix: str) -> Iterator[tuple[str, Tensor]]:
    """The tensors in what a file holds, those of mappings within by dotted names; counters and the like are passed."""
    if isinstance(held, Tensor):
        yield prefix.removesuffix("."), held
    elif isinstance(held, Mapping):
        for key, value in held.items():
            yield from _tensors(value, f"{prefix}{key}.")
