"""What is left of an evaluation: a report in JSON, pictures beside it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from ...files.sheets import save_png
from .results import Results

DIGITS = 10  # of a digest, enough for the evaluations of one run


def digest(results: Results) -> str:
    """Of the protocols of all values, training steps among them: equal ones have one report."""
    protocols = {name: one["protocol"] for name, one in results.items()}
    return hashlib.sha256(json.dumps(protocols, sort_keys=True).encode()).hexdigest()[:DIGITS]


def write_pictures(pictures: Mapping[str, Tensor], folder: Path, before: str = "") -> dict[str, Path]:
    """Write pictures as PNG; where each is.

    Args:
        pictures: uint8 (C, H, W) by name.
        folder: Where to; made if it is not there.
        before: What their names begin with.
    """
    places = {name: folder / f"{before}{name}.png" for name in pictures}
    for name, picture in pictures.items():
        save_png(picture, places[name])
    return places
