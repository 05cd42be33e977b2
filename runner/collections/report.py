"""What `dmf data prepare` says when all is done."""

from __future__ import annotations

import logging
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

from ...files.collection import open_collection
from ...files.prepared import IMAGES, MANIFEST, SAMPLES
from ...files.words import counted, few, told_size
from ...registry import UserError
from ...registry.yaml12 import written
from .bars import bars
from .manifest import Record, records
from .one_picture import OTHER, SMALL, UNUSABLE, Options
from .prepare import CONFLICT, DUPLICATE, Prepared

log = logging.getLogger("dmf")
EXAMPLES = 3  # of each reason
KINDS = (UNUSABLE, SMALL, DUPLICATE, CONFLICT, OTHER)


def report(prepared: Prepared, options: Options, out: Path, classes: Sequence[str]) -> None:
    """Say what was made, what was left out and why, and how to train on it.

    Raises:
        UserError: Nothing is left.
    """
    kept: Counter[str] = Counter()
    left_out: dict[str, list[Record]] = defaultdict(list)
    several: list[Record] = []
    for record, _ in records(prepared.output.manifest):
        if record.left_out is None:
            kept[record.label or ""] += 1
            several += [record] if record.frames else []
        else:
            left_out[record.left_out].append(record)
    found = kept.total() + _pictures(left_out)
    lines = [*_left_out(left_out, out)]
    if not kept:
        raise UserError("\n".join([f"none of {counted(found, 'picture')} could be used, {out} has none", *lines[1:]]))
    colour = "colour" if options.channels == 3 else "grey"
    log.info(
        "%s: %s of %s pictures, %dx%d, %s, %s%s",
        out,
        f"{kept.total():,}",
        f"{found:,}",
        options.size,
        options.size,
        colour,
        told_size(_bytes(prepared.output.folder / IMAGES)),
        _took(prepared),
    )
    for text in [*bars({name: kept[name] for name in classes}), *lines]:
        log.info("%s", text)
    if several:
        names = few([record.source for record in several])
        log.info("of %s with several frames the first is taken: %s", counted(len(several), "picture"), names)
    _warn(classes, kept, left_out)
    log.info("every picture: %s; samples: %s; to train on it, write", out / MANIFEST, out / SAMPLES)
    log.info("  dataset: %s", written(recipe(options, out, classes)))


def recipe(options: Options, out: Path, classes: Sequence[str]) -> dict[str, str | int]:
    """The value of a recipe's ``dataset``."""
    grey: dict[str, str | int] = {"channels": 1} if options.channels == 1 else {}
    return {"name": "image_folder", "root": str(out), "size": options.size, **grey, **_labels(out, classes)}


def _labels(out: Path, classes: Sequence[str]) -> dict[str, str | int]:
    """What the folders must be called, where they do not say it: one class alone, or classes called train and test."""
    try:
        seen = open_collection(out).classes
    except ValueError:
        seen = ()
    return {} if bool(seen) == bool(classes) else {"labels": "folders" if classes else "none"}


def _left_out(left_out: dict[str, list[Record]], out: Path) -> Iterator[str]:
    """A table of reasons, with some of each."""
    if not left_out:
        return
    others = left_out.get(OTHER)
    beside = f" and {counted(len(others), 'other file')}" if others else ""
    yield f"left out {counted(_pictures(left_out), 'picture')}{beside}"
    for kind in KINDS:
        some = left_out.get(kind, [])
        if some:
            yield f"  {len(some):>7,}  {kind}"
            yield from (f"           {record.source} {record.reason}" for record in some[:EXAMPLES])
            if len(some) > EXAMPLES:
                yield f"           ... all in {out / MANIFEST}"


def _pictures(left_out: dict[str, list[Record]]) -> int:
    return sum(len(some) for kind, some in left_out.items() if kind != OTHER)


def _warn(classes: Sequence[str], kept: Counter[str], left_out: dict[str, list[Record]]) -> None:
    conflicts = left_out.get(CONFLICT, [])
    if conflicts:
        log.warning(
            "%s under two classes: the first stays. Look at them: one of the labels may be wrong",
            counted(len(conflicts), "picture is", "pictures are"),
        )
    empty = [name for name in classes if not kept[name]]
    if empty:
        log.warning("no picture is left of %s: %s", counted(len(empty), "class", "classes"), few(empty))


def _took(prepared: Prepared) -> str:
    if not prepared.pictures:
        return "; all of it was done before"
    rate = prepared.pictures / max(prepared.seconds, 1e-9)
    return f", {prepared.seconds:.1f} s, {rate:,.0f} pictures/s"


def _bytes(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*.png"))
