"""What lies where in a folder of checkpoints, and how it is known to be whole.

A checkpoint is a folder. It is written aside and flushed; a manifest with the sha256 of every file is written last;
then the folder is renamed into place.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from ...core.shards import is_sharded

MANIFEST = "manifest.json"
STATE = "state.json"
SUFFIX = ".safetensors"
NAME = re.compile(r"step-(\d{8,})")
ASIDE = ".tmp-"
"""How the names begin of what is on its way in or out; left behind, it is half of a checkpoint."""

Tensors = Mapping[str, Tensor]


class DamagedCheckpoint(Exception):
    """A checkpoint whose files are not those that were written; the text names the file."""


def place(folder: Path, step: int) -> Path:
    """Where the checkpoint of a step is, or would be."""
    return folder / f"step-{step:08d}"


def paths(folder: Path) -> list[Path]:
    """The checkpoints in a folder, in the order of their steps."""
    return [place(folder, step) for step in steps(folder)]


def steps(folder: Path) -> list[int]:
    """The steps that have a checkpoint, in order; a folder of any other name, as somebody's copy, is none of ours."""
    found = [(path, int(name[1])) for path in folder.glob("step-*") if (name := NAME.fullmatch(path.name))]
    return sorted(step for path, step in found if path == place(folder, step) and path.is_dir())


def in_parts(group: Tensors) -> bool:
    """Whether a rank holds but a part of some of the tensors."""
    return any(map(is_sharded, group.values()))


def file_of(path: Path, group: str) -> Path:
    """The file of a group that is in one."""
    return path / f"{group}{SUFFIX}"


def digests_of(path: Path) -> dict[str, str]:
    """The sha256 of each file of a checkpoint, by its place in it.

    Raises:
        DamagedCheckpoint: There is no manifest that can be read.
    """
    try:
        found: dict[str, str] = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise DamagedCheckpoint(f"checkpoint {path} has no readable {MANIFEST}: {error}") from None
    if not (isinstance(found, dict) and STATE in found and all(isinstance(one, str) for one in found.values())):
        raise DamagedCheckpoint(f"checkpoint {path} has no readable {MANIFEST}: it lists no files with their sha256")
    return found


def groups_in(path: Path) -> list[str]:
    """The groups of tensors of a checkpoint: each one file, or a folder of shards.

    Raises:
        DamagedCheckpoint: There is no manifest that can be read.
    """
    tops = dict.fromkeys(name.split("/")[0].removesuffix(SUFFIX) for name in digests_of(path))
    return [name for name in tops if name != STATE]


def verify(path: Path) -> None:
    """Hold every file of a checkpoint against the manifest.

    Raises:
        DamagedCheckpoint: Naming the file.
    """
    for name, digest in digests_of(path).items():
        try:
            found = sha256(path / name)
        except OSError as error:
            raise DamagedCheckpoint(f"checkpoint {path} lacks {name}: {error.strerror}") from None
        if found != digest:
            raise DamagedCheckpoint(f"checkpoint {path} is damaged: {name} has sha256 {found[:12]}, not {digest[:12]}")


def digested(path: Path, files: list[Path]) -> dict[str, str]:
    """Flush files, and tell the sha256 of each by its place under ``path``."""
    digests = {}
    for file in sorted(files):
        digests[file.relative_to(path).as_posix()] = sha256(file)
        flush(file)
    return digests


def seal(path: Path, digests: Mapping[str, str]) -> None:
    """Write the manifest, and flush it and the folder."""
    manifest = path / MANIFEST
    manifest.write_text(json.dumps(digests, indent=1), encoding="utf-8")
    flush(manifest)
    flush(path)


def discard(path: Path) -> None:
    """Remove a checkpoint, never leaving half of one under its name."""
    aside = path.with_name(f"{ASIDE}old-{path.name}-{os.getpid()}")
    os.rename(path, aside)
    _remove(aside)


def sweep(folder: Path) -> None:
    """Remove what was left on its way in or out, by a process that ended or was killed."""
    for left in folder.glob(f"{ASIDE}*"):
        _remove(left)


def _remove(path: Path) -> None:
    """A folder with all that is in it; of a link, the link alone."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def sha256(file: Path) -> str:
    """Of a file's content."""
    digest = hashlib.sha256()
    with open(file, "rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def flush(path: Path) -> None:
    """Wait until a file, or a folder's list of names, is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
