"""One clean, square, numbered set out of collections of pictures of any sizes and formats.

What is written depends on the sources and the options alone: not on the number of workers, and not on whether, where
or how often the work was stopped. Pictures are made in any order and placed in that of the sources.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import PIL
from PIL import features

from ... import __version__
from ...files.prepared import IMAGES
from ...files.threads import in_order
from ...registry import UserError
from ..console import TaskProgress, log
from ..signals import Interrupted, Signals
from .manifest import MADE_BY, Record
from .one_picture import Options, make
from .output import Output
from .samples import write_samples
from .sources import Item, Sources

DIGITS = 6  # of a number, at least
DUPLICATE, CONFLICT = "duplicate", "duplicate of another class"


@dataclass(frozen=True)
class Prepared:
    """A set that is done.

    Attributes:
        output: Where it lies.
        pictures: Of the sources, that were looked at in this run; 0 if all was done before.
        seconds: That this took.
    """

    output: Output
    pictures: int
    seconds: float


def prepare(sources: Sources, options: Options, out: Path, workers: int) -> Prepared:
    """Make the set, or carry on with it.

    Args:
        sources: Where pictures come from.
        options: What is made of them.
        out: The folder of the set, new or empty, or begun by the same command.
        workers: Threads.

    Raises:
        UserError: The folder holds something else, or the disk is full.
        Interrupted: After Ctrl-C or SIGTERM, at a place where the same command carries on.
    """
    _check_folders(sources.classes)
    with Output(out) as output, Signals() as signals:
        try:
            return _carry_out(sources, options, output, workers, signals)
        except OSError as error:
            raise UserError(
                f"{out}: {error.strerror or error}; make room or mend that, and give the same command again: it "
                "carries on"
            ) from error


def _carry_out(sources: Sources, options: Options, output: Output, workers: int, signals: Signals) -> Prepared:
    head, items = _head(sources, options), [*sources.items, *sources.others]
    names = [item.name for item in items]
    output.begin(head, sources.stamps())
    if output.done and output.is_whole(names):
        return Prepared(output, 0, 0.0)
    before = output.carry_on(head, names)
    if before:
        log.info("carrying on: %s of %s pictures are done", f"{len(before):,}", f"{len(items):,}")
    began, so_far = time.perf_counter(), _Set(items, output)
    for record in before:
        so_far.count(record)
    _stop(signals, so_far)
    with TaskProgress("prepare", len(items), len(before), images=1) as bar:
        for many in in_order(lambda item: make(item, options), items[len(before) :], workers):
            output.tell([so_far.place(record, packed) for record, packed in many])
            bar.step(len(many))
            bar.note()
            _stop(signals, so_far)
    write_samples(output)
    output.finish()
    return Prepared(output, len(items) - len(before), time.perf_counter() - began)


def _stop(signals: Signals, so_far: _Set) -> None:
    try:
        signals.check()
    except Interrupted:
        done, of = f"{so_far.done:,}", f"{len(so_far.items):,}"
        log.info("stopped after %s of %s pictures; the same command carries on", done, of)
        raise


class _Set:
    """The pictures so far: their numbers, and which were seen.

    Args:
        items: All pictures of the sources.
        output: Where they go.
    """

    def __init__(self, items: Sequence[Item], output: Output) -> None:
        self.items, self.output = items, output
        self.digits = max(DIGITS, len(str(len(items))))
        self.done = self.kept = 0
        self.first: dict[str, int] = {}  # by what it decodes to: the first item

    def place(self, record: Record, packed: bytes) -> Record:
        """Write the next picture under its number, unless it is left out; the record says which."""
        if record.left_out is None:
            record = self._placed(record, packed)
        self.count(record)
        return record

    def _placed(self, record: Record, packed: bytes) -> Record:
        before = self.first.get(record.pixels or "")
        if before is not None:
            return _duplicate(record, self.items[before])
        parts = [IMAGES, *([record.label] if record.label is not None else []), f"{self.kept:0{self.digits}d}.png"]
        record = replace(record, file="/".join(parts))
        self.output.place("/".join(parts), packed)
        return record

    def count(self, record: Record) -> None:
        """Take a picture into account."""
        if record.file is not None:
            self.first[record.pixels or ""] = self.done
            self.kept += 1
        self.done += 1


def _duplicate(record: Record, first: Item) -> Record:
    if record.label == first.label:
        return replace(record, left_out=DUPLICATE, reason=f"has the same pixels as {first.name}", file_sha256=None)
    reason = f"has the same pixels as {first.name}, which is {first.label!r}, and this one {record.label!r}"
    return replace(record, left_out=CONFLICT, reason=reason, file_sha256=None)


def _head(sources: Sources, options: Options) -> dict[str, Any]:
    """All that decides what is written."""
    zlib = str(features.version("zlib_ng") or features.version("zlib"))
    versions = {"dmf": __version__, "pillow": PIL.__version__, "zlib": zlib, "jpeg": str(features.version("jpg"))}
    return {
        "made_by": MADE_BY,
        "options": asdict(options),
        "sources": sources.facts(),
        "classes": list(sources.classes),
        "versions": versions,
    }


def _check_folders(classes: Sequence[str]) -> None:
    """Refuse a class whose name cannot be that of a folder.

    Raises:
        UserError: Naming it.
    """
    for name in classes:
        long = len(name.encode("utf-8", "surrogateescape")) > 255
        if not name or name.startswith(".") or "/" in name or "\0" in name or long:
            raise UserError(
                f"the class {name!r} cannot be a folder's name (hidden, with a slash, empty or too long); give it "
                "another in the file of labels or in classes.json, or write --labels none"
            )
