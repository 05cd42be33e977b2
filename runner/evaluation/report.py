"""What is left of an evaluation: a report in JSON, pictures beside it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from torch import Tensor

from ...files.sheets import save_png
from ..outputs import Outputs
from .results import Results

DIGITS = 10  # of a digest, enough for the evaluations of one run


def digest(results: Results) -> str:
    """Of the protocols of all values, training steps among them: equal ones have one report."""
    protocols = {name: one["protocol"] for name, one in results.items()}
    return hashlib.sha256(json.dumps(protocols, sort_keys=True).encode()).hexdigest()[:DIGITS]


def with_kept(results: Results, file: Path) -> Results:
    """The results, with what a report in the file knows of held-out images and they do not, of equal protocols.

    Args:
        results: Of an evaluation that may have left those images out.
        file: Where the report of another may lie, which would be replaced.
    """
    try:
        kept = json.loads(file.read_text(encoding="utf-8"))
        old = {name: one["held_out"] for name, one in kept.items() if "held_out" in one}
        equal = [name for name in old if name in results and kept[name]["protocol"] == results[name]["protocol"]]
    except (OSError, ValueError, AttributeError, KeyError, TypeError):  # there is none, or none of ours
        return results
    return {name: {**({"held_out": old[name]} if name in equal else {}), **one} for name, one in results.items()}


def write_pictures(files: Outputs, pictures: Mapping[str, Tensor], folder: Path, before: str = "") -> list[Path]:
    """Write pictures as PNG; where those are that could be.

    Args:
        files: Writes each.
        pictures: uint8 (C, H, W) by name.
        folder: Where to; made if it is not there.
        before: What their names begin with.
    """
    places = [(folder / f"{before}{name}.png", picture) for name, picture in pictures.items()]
    return [path for path, picture in places if files.write(path, partial(save_png, picture, path))]
