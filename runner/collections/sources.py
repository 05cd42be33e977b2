"""Several collections of pictures as one row, with one list of classes."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ...files.collection import Collection, Entry, open_collection
from ...files.listing import natural, no_picture
from ...files.places import home
from ...files.words import counted, few, printable
from ...registry import UserError


@dataclass(frozen=True)
class Item:
    """A picture of a source.

    Attributes:
        collection: The source.
        name: What messages and the manifest call it.
        below: Its name below the source's root.
        entry: Where its bytes are; None for what cannot be used, and that is known without opening it.
        label: The name of its class.
        trouble: Why it cannot be used.
        other: It is no picture by its ending.
    """

    collection: Collection
    name: str
    below: str
    entry: Entry | None
    label: str | None = None
    trouble: str = ""
    other: bool = False


class Sources:
    """Collections one after another, each in its own order; classes of one name are one class.

    Args:
        roots: Folders or zips.
        labels: How each is labelled: see `dmf.files.collection.open_collection`.

    Attributes:
        items: All pictures, and what cannot be one.
        others: The files that are no pictures by their endings.
        classes: Names, in natural order; empty for unlabelled pictures.

    Raises:
        UserError: A source given twice, one that cannot be read, or labelled and unlabelled ones together.
    """

    def __init__(self, roots: Sequence[Path], labels: str = "auto") -> None:
        self.roots = [home(root).absolute() for root in roots]
        _check_once(self.roots)
        self.collections = [open_collection(root, labels) for root in self.roots]
        self.classes = _united(self.collections)
        self.items = [item for one in self.collections for item in _items(one)]
        self.others = [_other(one, name) for one in self.collections for name in one.others]

    def facts(self) -> list[dict[str, str | int]]:
        """What they are, in values of JSON: the same wherever and whenever the files were copied."""
        return [
            {"root": str(root), "pictures": len(one.entries), "names": _digest(_names(one))}
            for root, one in zip(self.roots, self.collections, strict=True)
        ]

    def stamps(self) -> list[str]:
        """A digest of each, that changes when one of its files does."""
        return [_digest([f"{entry.size} {entry.stamp}" for entry in one.entries]) for one in self.collections]


def check_apart(roots: Sequence[Path], out: Path) -> None:
    """Refuse to write where is read: the next time, what was made would be a source.

    Raises:
        UserError: One lies in the other.
    """
    target = home(out).resolve()
    for root in roots:
        source = home(root).resolve()
        if target == source:
            raise UserError(f"--out '{out}' is the source itself, and nothing is written there; write elsewhere")
        if source in target.parents:
            raise UserError(f"--out '{out}' lies in the source '{root}', and would be a part of it; write elsewhere")
        if target in source.parents:
            raise UserError(f"the source '{root}' lies in --out '{out}'; write into a folder of its own")


def _check_once(roots: Sequence[Path]) -> None:
    seen: set[Path] = set()
    for root in roots:
        if root.resolve() in seen:
            raise UserError(f"{root} is given twice, and all of it would be a duplicate; give it once")
        seen.add(root.resolve())


def _united(collections: Sequence[Collection]) -> tuple[str, ...]:
    """All classes by name.

    Raises:
        UserError: Only some of the collections have any.
    """
    with_labels = [one for one in collections if one.classes]
    without = [one for one in collections if not one.classes]
    if with_labels and without:
        one = with_labels[0]
        raise UserError(
            f"{one.root} has labels ({counted(len(one.classes), 'class', 'classes')}: {few(one.classes)}), "
            f"{without[0].root} has none; "
            "write --labels none to drop them all, or label the other too: a folder a class, or a JSON file of labels"
        )
    return tuple(sorted({name for one in collections for name in one.classes}, key=natural))


def _items(collection: Collection) -> list[Item]:
    def item(name: str, entry: Entry | None, trouble: str = "") -> Item:
        label = None if entry is None or entry.label is None else collection.classes[entry.label]
        return Item(collection, collection.place.source(name), printable(name), entry, label, trouble)

    usable = [item(one.name, one) for one in collection.entries]
    return usable + [item(one.name, None, one.reason) for one in collection.trouble]


def _other(collection: Collection, name: str) -> Item:
    source = collection.place.source(name)
    return Item(collection, source, printable(name), None, trouble=no_picture(name), other=True)


def _names(collection: Collection) -> list[str]:
    labels = collection.classes
    named = [f"{entry.name}\0{'' if entry.label is None else labels[entry.label]}" for entry in collection.entries]
    return named + [f"{one.name}\0{one.reason}" for one in collection.trouble]


def _digest(lines: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(lines).encode("utf-8", "surrogateescape")).hexdigest()[:16]
