"""What the tests of prepared sets share: collections in a bad state, and what was made of them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from data_kit import paint
from PIL import Image

HIDDEN = ".begun.json"  # holds times of files, and is for continuing alone


def tree(folder: Path) -> dict[str, bytes]:
    """Every file below a folder but the hidden one."""
    files = (file for file in folder.rglob("*") if file.is_file() and file.name != HIDDEN)
    return {str(file.relative_to(folder)): file.read_bytes() for file in files}


def manifest(folder: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Its head and its lines."""
    head, *lines = [json.loads(line) for line in (folder / "manifest.jsonl").read_text(encoding="utf-8").splitlines()]
    return head, lines


def by_source(folder: Path) -> dict[str, dict[str, Any]]:
    """The lines by the name of the file that they tell of."""
    return {line["source"].rpartition("/")[2]: line for line in manifest(folder)[1]}


def turned(upright: Path, file: Path) -> Path:
    """The same picture on its side, with the EXIF note that turns it back."""
    lying = Image.open(upright).transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    lying.save(file, exif=exif)
    return file


def zoo(root: Path) -> Path:
    """Two classes in many formats, with duplicates, a conflict, a small one, and some that are no pictures."""
    paint(root / "cat/1.png", 90, 70, seed=1)
    paint(root / "cat/2.jpg", 100, 200, seed=2, quality=90)
    Image.open(root / "cat/1.png").save(root / "cat/3.bmp")  # the same pixels
    turned(root / "cat/1.png", root / "cat/4.png")  # once more, on its side
    paint(root / "cat/5.gif", 40, 40, seed=5, mode="L")
    paint(root / "cat/6.webp", 64, 65, seed=6, mode="RGBA", lossless=True)
    paint(root / "cat/7.tiff", 50, 80, seed=7, mode="CMYK")
    paint(root / "dog/1.png", 20, 300, seed=8)
    Image.open(root / "cat/1.png").save(root / "dog/2.png", compress_level=0)  # another class
    paint(root / "dog/3.png", 9, 50, seed=9)  # too small for 32
    (root / "dog/4.png").write_text("no picture")
    (root / "dog/5.jpg").write_bytes((root / "cat/2.jpg").read_bytes()[:2000])
    (root / "dog/6.png").write_bytes(b"")
    values = np.random.RandomState(10).randint(65536, size=(60, 60)).astype(np.uint16)
    Image.fromarray(values).save(root / "dog/10.png")
    (root / "notes.txt").write_text("other")
    return root
