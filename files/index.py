"""What is known of the pictures of a collection from one start to the next, so that a start reads only what is new.

A file is the same as long as its name, its size and its stamp are: the time of its last change, or its checksum in a
zip. Of such a file is known the digest of its content, and whether it can be used.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from .cache import Kept, cache_folder, keep, kept
from .collection import Collection, Entries
from .reading import Seen, Treatment, look
from .threads import on_all_cores

WORTH_PICTURES, WORTH_BYTES = 1000, 2**25  # a set with fewer of both is read anew in a second or two


class Index:
    """What is known of each picture of a collection.

    Args:
        collection: The pictures.
        treatment: What is made of them.
        cache: Take what an earlier start has kept, and keep what this one finds. Sets that are read in a second or two
            are not kept.
        part: Of the pictures in the root, for example "train": each part is kept apart.

    Attributes:
        seen: What is known of each; None for nothing.
        worth: Whether anything is kept.
    """

    def __init__(self, collection: Collection, treatment: Treatment, *, cache: bool, part: str = "") -> None:
        entries = collection.entries
        self.collection, self.treatment, self.part = collection, treatment, part
        self.worth = cache and (len(entries) > WORTH_PICTURES or sum(entries.sizes) > WORTH_BYTES)
        self._place = Place("index", collection.root, f"{treatment.decides()}, {part}")
        self.seen: list[Seen | None] = _known(self._place.found(), entries) if self.worth else [None] * len(entries)
        self._as_kept = list(self.seen)

    def read_all(self) -> None:
        """Have the digest of every picture that can be read."""
        self._look_at([i for i, one in enumerate(self.seen) if one is None or not one.digest], None, "read pictures")

    def check_all(self) -> None:
        """Know of every picture whether it can be used."""
        new = [i for i, one in enumerate(self.seen) if one is None or not one.decoded]
        self._look_at(new, self.treatment, "check pictures")

    def _look_at(self, numbers: Sequence[int], treatment: Treatment | None, what: str) -> None:
        place, entries = self.collection, self.collection.entries
        found = on_all_cores(lambda i: look(place, entries[i], treatment)[0], numbers, what)
        for i, one in zip(numbers, found, strict=True):
            self.seen[i] = one
        self.save()

    def save(self) -> None:
        """Keep what is known, if it is worth it and news. What could not be read is not: that may be mended."""
        if not self.worth or self.seen == self._as_kept:
            return
        entries = self.collection.entries
        rows = [
            (entries.names[i], entries.sizes[i], entries.stamps[i], one.digest.hex(), *one[1:])
            for i, one in enumerate(self.seen)
            if one is not None and one.digest
        ]
        self._place.keep([json.dumps(rows).encode()])
        self._as_kept = list(self.seen)


class Place:
    """Where something of a collection is kept; what it was made of stands in the name and in the head of the file.

    Args:
        kind: ``index`` or ``pixels``.
        root: The collection's.
        how: What decides the content, for files that are the same.
    """

    def __init__(self, kind: str, root: Path, how: str) -> None:
        key = hashlib.sha256(f"{root}\0{how}".encode("utf-8", "surrogateescape")).hexdigest()
        self.file, self.head = cache_folder(kind) / key[:32], {"what": kind, "of": str(root), "how": how}

    def found(self) -> Kept | None:
        """What is kept there, of just this."""
        there = kept(self.file)
        return there if there is not None and {**there.head, **self.head} == there.head else None

    def keep(self, body: Iterable[bytes | memoryview], **facts: int) -> bool:
        """Keep bytes there, with further facts in the head."""
        return keep(self.file, {**self.head, **facts}, body)


def _known(found: Kept | None, entries: Entries) -> list[Seen | None]:
    """What a kept index says of those entries that are as they were."""
    if found is None:
        return [None] * len(entries)
    rows = {
        (name, size, stamp): Seen(bytes.fromhex(digest), *known)
        for name, size, stamp, digest, *known in json.loads(found.body.tobytes())
    }
    return [rows.get(one) for one in zip(entries.names, entries.sizes, entries.stamps, strict=True)]
