"""The pictures of runs, taken along in a page: as they are, or made smaller where they are huge."""

from __future__ import annotations

import base64
import hashlib
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from ...files.words import told_size
from .boards import titles
from .runs import Run

LARGEST = 2048  # pixels of a side
MOST_BYTES = 600_000  # of a picture in the page
STEP = re.compile(r"step-\d+-(.+)")
File = tuple[str, Path, str]  # title, where it is, what is to be said of it
QUALITY = 90  # of WebP, where a picture has more bytes than that without loss


@dataclass(frozen=True)
class Picture:
    """A picture in the page.

    Attributes:
        runs: Numbers of those that it is of.
        about: What else is to be known of it; empty for nothing.
        width: As it is shown, in pixels.
        height: Likewise.
        data: The picture itself, as the page has it.
    """

    runs: Sequence[int]
    about: str
    width: int
    height: int
    data: str


@dataclass(frozen=True)
class Gallery:
    """Pictures beside each other."""

    title: str
    pictures: Sequence[Picture]


def galleries(runs: Sequence[Run], troubles: list[str]) -> list[Gallery]:
    """Samples, pictures by metrics, and training images, of which equal ones are shown once.

    Args:
        runs: Whose pictures.
        troubles: Files that are none are told here.
    """
    settings = titles(runs)
    by_title: dict[str, list[tuple[int, Path, str]]] = {}
    for k, run in enumerate(runs):
        for title, path, about in _files(run.folder, settings):
            by_title.setdefault(title, []).append((k, path, about))
    training = by_title.pop("training images", [])
    for files in by_title.values():
        order = list(dict.fromkeys(about for _, _, about in files))
        files.sort(key=lambda file: order.index(file[2]))  # the runs of one setting stand together
    ordered = [*by_title.items(), *([("training images", training)] if training else [])]
    found = [Gallery(title, _taken(runs, files, troubles)) for title, files in ordered]
    return [gallery for gallery in found if gallery.pictures]


def _files(folder: Path, settings: Mapping[Path, str]) -> Iterator[File]:
    yield from _samples(folder)
    yield from _evaluated(folder, settings)
    for path in sorted((folder / "sweeps").glob("*/plot.png"), key=lambda path: path.stat().st_mtime):
        yield "sweeps", path, ""
    if (folder / "data.png").exists():
        yield "training images", folder / "data.png", ""


def _samples(folder: Path) -> Iterator[File]:
    samples = folder / "samples"
    previews = sorted(samples.glob("step-[0-9]*.png"))
    if (samples / "grid.png").exists():
        yield "samples", samples / "grid.png", ""
    elif previews:
        yield "samples", previews[-1], f"preview, step {_step(previews[-1]):,}"


def _evaluated(folder: Path, settings: Mapping[Path, str]) -> Iterator[File]:
    """Those beside a report have its name before their own; of those made while training the newest of each name."""
    while_training: dict[str, Path] = {}
    for path in sorted((folder / "evaluation").glob("*.png")):
        before, _, after = path.stem.partition("-")
        report = path.with_name(f"{before}.json")
        if found := STEP.fullmatch(path.stem):
            while_training[found[1]] = path
        elif after and report.exists():
            yield f"evaluation: {after}", path, settings.get(report, "")
        else:
            yield f"evaluation: {path.stem}", path, ""
    for name, path in while_training.items():
        yield f"evaluation: {name}", path, f"while training, step {_step(path):,}"


def _step(path: Path) -> int:
    return int(path.stem.split("-")[1])


def _taken(runs: Sequence[Run], files: Sequence[tuple[int, Path, str]], troubles: list[str]) -> list[Picture]:
    same: dict[str, list[int]] = {}
    contents: dict[str, tuple[bytes, str]] = {}
    for k, path, about in files:
        try:
            content = path.read_bytes()
        except OSError as error:
            troubles.append(f"{runs[k].name}: {path.name}: left out: {error.strerror}")
            continue
        digest = hashlib.sha256(content + about.encode()).hexdigest()
        same.setdefault(digest, []).append(k)
        contents.setdefault(digest, (content, about))
    found = []
    for digest, (content, about) in contents.items():
        try:
            found.append(_picture(same[digest], content, about))
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            path = next(path for k, path, _ in files if k == same[digest][0])
            troubles.append(f"{runs[same[digest][0]].name}: {path.name}: left out: {error}")
    return found


def _picture(runs: Sequence[int], content: bytes, about: str) -> Picture:
    with Image.open(io.BytesIO(content)) as opened:
        opened.load()
        width, height = opened.size
        if len(content) <= MOST_BYTES and max(width, height) <= LARGEST and opened.format == "PNG":
            return _as_data(runs, content, "png", about, width, height)
        factor = -(-max(width, height) // LARGEST)
        smaller = opened.convert("RGB").reduce(factor)  # means of whole squares
    said = [*([about] if about else []), *([f"every {factor} x {factor} pixels as one"] if factor > 1 else [])]
    packed = _webp(smaller, lossless=True)
    if len(packed) > MOST_BYTES:
        packed = _webp(smaller, lossless=False)
        said.append(f"compressed from {told_size(len(content))}")
    return _as_data(runs, packed, "webp", ", ".join(said), *smaller.size)


def _webp(picture: Image.Image, lossless: bool) -> bytes:
    out = io.BytesIO()
    picture.save(out, "WEBP", lossless=lossless, quality=QUALITY, method=4)
    return out.getvalue()


def _as_data(runs: Sequence[int], content: bytes, kind: str, about: str, width: int, height: int) -> Picture:
    text = base64.b64encode(content).decode()
    return Picture(runs, about, width, height, f"data:image/{kind};base64,{text}")
