"""How a folder made by `dmf data prepare` is laid out, and where its pictures are."""

from __future__ import annotations

import os
from pathlib import Path

from ..registry import UserError

IMAGES = "images"
MANIFEST = "manifest.jsonl"  # there when all is done
SAMPLES = "samples.png"
PART = "manifest.part.jsonl"  # until then
BEGUN = ".begun.json"


def pictures_of(root: Path) -> Path:
    """Where the pictures are: below ``images`` of a prepared set, in the root itself of anything else.

    Raises:
        UserError: The set was begun and is not finished.
    """
    if os.path.isfile(root / MANIFEST) and os.path.isdir(root / IMAGES):
        return root / IMAGES
    if os.path.isfile(root / PART) and os.path.isfile(root / BEGUN):
        raise UserError(
            f"{root} is a set that dmf data prepare has begun and not finished; give that command again: it carries on"
        )
    return root
