"""The letters on sheets: DejaVu Sans, which matplotlib brings, with Latin, Greek, Cyrillic and some others."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from PIL import ImageFont

from .words import short

LONG_NAME = 24  # letters of a name


def font(size: int) -> ImageFont.FreeTypeFont:
    """The letters, in pixels."""
    return ImageFont.truetype(_file(), size)


def written_names(classes: Sequence[str]) -> list[str]:
    """Names of classes as they are written on a sheet: long ones cut, ``class 7`` where a letter is missing.

    Args:
        classes: All of them, in order of their numbers.
    """
    return [
        short(unicodedata.normalize("NFC", name), LONG_NAME) if _has(name) else f"class {k}"
        for k, name in enumerate(classes)
    ]


def _has(name: str) -> bool:
    return bool(name.strip()) and all(ord(letter) in _letters() for letter in unicodedata.normalize("NFC", name))


@lru_cache(maxsize=1)
def _file() -> Path:
    import matplotlib  # takes a while, and is needed for sheets alone

    return Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf")


@lru_cache(maxsize=1)
def _letters() -> frozenset[int]:
    """Those that it has, by their numbers; Pillow draws boxes for all others and does not tell."""
    from matplotlib.ft2font import FT2Font

    return frozenset(FT2Font(str(_file())).get_charmap())
