"""A folder or a zip of pictures with their labels, as one thing."""

from __future__ import annotations

import logging
import os
import posixpath
import unicodedata
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import overload

from ..core import LeftOut
from ..registry import UserError
from .archive import Archive
from .folder import Folder
from .labels import SHAPES, Labels, could_be_labels, folder_classes, read_class_names, read_labels
from .listing import NOT_READ, Listing, ending, inside, natural
from .places import home
from .prepared import pictures_of
from .words import a_line_each, counted, few, printable

LABEL_FILE, NAMES_FILE = "dataset.json", "classes.json"
log = logging.getLogger("dmf")


@dataclass(frozen=True)
class Entry:
    """One picture of a collection.

    Attributes:
        name: Its path below the root, with ``/``.
        size: In bytes, unpacked.
        stamp: Changes when the file does: the time of its last change, or the checksum of a zip's member.
        label: Number of its class; None in an unlabelled collection.
    """

    name: str
    size: int
    stamp: str
    label: int | None


class Entries(Sequence[Entry]):
    """Entries kept as columns, so that a hundred thousand of them are pickled in no time.

    Attributes:
        names: Of each.
        sizes: Of each.
        stamps: Of each, as a number.
        labels: Of each; None in an unlabelled collection.
    """

    def __init__(self, names: list[str], sizes: array[int], stamps: array[int], labels: array[int] | None) -> None:
        self.names, self.sizes, self.stamps, self.labels = names, sizes, stamps, labels

    def __len__(self) -> int:
        return len(self.names)

    @overload
    def __getitem__(self, i: int) -> Entry: ...

    @overload
    def __getitem__(self, i: slice) -> Entries: ...

    def __getitem__(self, i: int | slice) -> Entry | Entries:
        if isinstance(i, slice):
            labels = None if self.labels is None else self.labels[i]
            return Entries(self.names[i], self.sizes[i], self.stamps[i], labels)
        label = None if self.labels is None else self.labels[i]
        return Entry(self.names[i], self.sizes[i], str(self.stamps[i]), label)

    def __iter__(self) -> Iterator[Entry]:
        return (self[i] for i in range(len(self)))


@dataclass(frozen=True)
class Collection:
    """Pictures in a folder or a zip. It can be pickled; threads and processes may read at the same time.

    Attributes:
        root: The folder, or the zip.
        entries: The pictures, in natural order of their names.
        classes: Their names; empty for unlabelled pictures.
        trouble: What was found and cannot be used, known without opening it.
        others: Names of the files that are no pictures by their endings.
        place: What reads them.
    """

    root: Path
    entries: Entries
    classes: tuple[str, ...]
    trouble: tuple[LeftOut, ...]
    others: tuple[str, ...]
    place: Folder | Archive

    def read(self, entry: Entry) -> bytes:
        """The bytes of a picture.

        Raises:
            UserError: It cannot be read, or is damaged; with its name and what to do.
        """
        return self.place.read(entry.name)

    def source(self, entry: Entry) -> str:
        """What a message calls a picture: its path, or animals.zip:cat/1.png."""
        return self.place.source(entry.name)

    def numbers_of(self, names: Sequence[str]) -> list[int]:
        """Where the pictures of these names are in it.

        Raises:
            RuntimeError: Some are not in it.
        """
        row = {name: i for i, name in enumerate(self.entries.names)}
        lost = [name for name in names if name not in row]
        if lost:
            raise RuntimeError(f"{len(lost)} of {len(names)} pictures are not in {self.root}, the first {lost[0]}")
        return [row[name] for name in names]

    def chosen(
        self, numbers: Sequence[int], labels: Sequence[int] | None = None, classes: Sequence[str] = ()
    ) -> Collection:
        """Some of the pictures, in the order of ``numbers``, under labels of their own; without its trouble.

        Args:
            numbers: Which of them.
            labels: The class of each, by number; None for no labels.
            classes: Their names.
        """
        one = self.entries
        names, sizes = [one.names[i] for i in numbers], array("q", (one.sizes[i] for i in numbers))
        stamps = array("q", (one.stamps[i] for i in numbers))
        entries = Entries(names, sizes, stamps, None if labels is None else array("q", labels))
        return replace(self, entries=entries, classes=tuple(classes), trouble=())


def open_collection(root: Path, labels: str = "auto") -> Collection:
    """The pictures below a folder or in a zip, with their labels.

    Args:
        root: The folder or the zip; a folder that `dmf data prepare` made stands for the pictures in it.
        labels: ``folders``: each folder in the root is a class. ``none``. A path: of a JSON file with labels, below
            the root or absolute. ``auto``: by ``dataset.json`` in the root where there is one, else ``folders`` where
            two or more have pictures, else ``none``.

    Raises:
        UserError: It cannot be looked at, has no picture that can be used, or its labels cannot be made out.
    """
    root = pictures_of(home(root).absolute())
    place = Archive(root, classes=labels == "folders") if os.path.isfile(root) else Folder(root)
    found = place.listing()
    source = printable(str(root))
    if not found.names and not found.trouble:
        raise UserError(_nothing(found, source))
    classes, numbers = _labelled(place, found, labels)
    found.trouble.sort(key=lambda one: natural(one[0]))
    found.others.sort(key=natural)
    if not found.names:
        bad = [f"{printable(name)} {reason}" for name, reason in found.trouble]
        raise UserError(f"{source} has no picture that can be used:{a_line_each(bad)}")
    trouble = tuple(LeftOut(printable(name), reason) for name, reason in found.trouble)
    entries = Entries(found.names, found.sizes, found.stamps, numbers)
    _tell_empty(classes, numbers, source)
    return Collection(root, entries, tuple(map(printable, classes)), trouble, tuple(found.others), place)


def _nothing(found: Listing, source: str) -> str:
    """Words for a root without pictures."""
    if not found.others:
        return f"{source} is empty; give a folder or a zip with PNG or JPEG files, or with folders of them"
    zips = ", or the zip itself" if endings(found.others)[".zip"] else ""
    there = f"has no pictures in it, but {told_others(found.others)}"
    return f"{source} {there}; give a folder or a zip with PNG or JPEG files, or with folders of them{zips}"


def endings(names: Iterable[str]) -> Counter[str]:
    """How many files have each ending; "" is that of files without one."""
    return Counter(map(ending, names))


def told_others(names: Sequence[str]) -> str:
    """Files that are no pictures in a few words; empty for none."""
    others = endings(names)
    most = sorted(others.items(), key=lambda one: (-one[1], one[0]))[:4]
    kinds = ", ".join(f"{count} {printable(suffix) or 'without an ending'}" for suffix, count in most)
    pictures = sum(count for suffix, count in others.items() if suffix in NOT_READ)
    convert = f", {pictures} of a format that is not read: write them as PNG or JPEG" if pictures else ""
    return f"{counted(others.total(), 'other file')} ({kinds}){convert}" if others else ""


def _labelled(place: Folder | Archive, found: Listing, labels: str) -> tuple[tuple[str, ...], array[int] | None]:
    """The classes, and the number of each picture's; pictures without one go from the found to the trouble."""
    if labels == "auto" and place.has(LABEL_FILE):
        labels = LABEL_FILE
    if labels in ("auto", "folders"):
        unusable = [name for name, _ in found.trouble if "/" in name]  # a class of nothing else is a class
        classes = folder_classes([*found.names, *unusable], place.source(""), asked=labels == "folders")
        if labels == "auto" and not classes:
            _check_unused(place, found)
        index = {name: i for i, name in enumerate(classes)}
        return classes, array("q", (index[name.partition("/")[0]] for name in found.names)) if classes else None
    if labels == "none":
        return (), None
    where, name = _label_file(place, labels)
    beside = posixpath.join(posixpath.dirname(name), NAMES_FILE)
    names = read_class_names(where.read(beside), where.source(beside)) if where.has(beside) else None
    told = read_labels(where.read(name), where.source(name), names)
    if where is place:  # they are put to use: they are not left out
        found.others = [one for one in found.others if one not in (name, beside)]
    return ((), None) if told is None else (told.classes, _matched(found, told, where.source(name)))


def _check_unused(place: Folder | Archive, found: Listing) -> None:
    """Refuse to pass over what could be the labels of pictures that have none.

    Raises:
        UserError: A JSON file beside them names some of them.
    """
    pictures = frozenset(found.names)
    for name in found.others:
        if "/" in name or ending(name) != ".json" or not pictures:
            continue
        try:
            content = place.read(name)
        except UserError:  # it is passed over, as it lies there for something else
            continue
        if could_be_labels(content, pictures):
            raise UserError(
                f"{place.source(name)} could be the labels of the pictures; write labels: {printable(name)} to train "
                f"with them, or labels: none (as an option of dmf data: --labels {printable(name)})"
            )


def _label_file(place: Folder | Archive, given: str) -> tuple[Folder | Archive, str]:
    """What holds a label file, and its name there."""
    path = home(Path(given))
    if path.is_absolute() and path.is_relative_to(place.root):
        path = path.relative_to(place.root)
    if path.is_absolute() and os.path.isfile(path):
        return Folder(path.parent), path.name
    if path.is_absolute() or not place.has(path.as_posix()):
        raise UserError(
            f"labels: there is no file {place.source(path.as_posix())}; write auto, folders, none or the path of a "
            "JSON file with labels, below the root or absolute"
        )
    source, file = place.source(path.as_posix()), place.root / path  # of a zip there is no such path
    if os.path.isdir(file):
        raise UserError(f"labels: {source} is a folder; give the path of a JSON file with labels")
    if os.path.isfile(file) and not os.path.getsize(file):
        raise UserError(f"{source} is empty; write it as {SHAPES}")
    return place, path.as_posix()


def _matched(found: Listing, told: Labels, source: str) -> array[int]:
    """The labels of the pictures; what is on one side alone goes to the trouble.

    Names that differ in how their accents are composed are the same: a Mac takes them apart.

    Raises:
        UserError: No picture has a label.
    """
    composed = {unicodedata.normalize("NFC", name): name for name in told.number}

    def key(name: str) -> str:
        """The name as the file has it."""
        return name if name in told.number else composed.get(unicodedata.normalize("NFC", inside(name) or name), name)

    keys = [key(name) for name in found.names]
    labels = [told.number.get(one) for one in keys]
    if not told.number:
        raise UserError(f"{source} names no file; write it as {SHAPES}")
    if found.names and all(label is None for label in labels):
        raise UserError(
            f"{source} has a label for none of the {counted(len(labels), 'picture')} ({few(found.names)}), but for "
            f"{few(list(told.number))}; write their paths below the root"
        )
    missing = told.number.keys() - set(keys) - {key(name) for name, _ in found.trouble}
    file = source.rpartition("/")[2]
    found.trouble += [
        (name, f"is in {file}, but there is no such picture; put it there, or take it off the list") for name in missing
    ]
    found.trouble += [
        (name, f"has no label in {file}; give it one, or take it away")
        for name, label in zip(found.names, labels, strict=True)
        if label is None
    ]
    found.keep([row for row, label in enumerate(labels) if label is not None])
    return array("q", (label for label in labels if label is not None))


def _tell_empty(classes: Sequence[str], numbers: Sequence[int] | None, source: str) -> None:
    """Warn of classes that have a name and no picture."""
    used = set(numbers or ())
    empty = [name for i, name in enumerate(classes) if i not in used]
    if empty:
        log.warning("%s has no picture of %s", source, few(empty))
