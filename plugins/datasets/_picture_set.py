"""Sets of picture files: decoded once into memory where they fit, else read file by file."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from typing import Annotated, Literal, TypeAlias

import torch
from annotated_types import Ge
from torch import Tensor

from ...core import Cond, Dataset, DataSpec, Example, LeftOut
from ...files.collection import Collection
from ...files.folder import Folder
from ...files.index import Index
from ...files.listing import natural
from ...files.pixels import pixels_of
from ...files.reading import Seen, Treatment, decoded_rows
from ...files.samples import samples_of
from ...files.words import a_line_each, counted, printable, told_size
from ...registry import UserError

OnError: TypeAlias = Literal["raise", "skip"]
MemoryGiB: TypeAlias = Annotated[float, Ge(0)]
LONG = 10  # times as long as wide, and a tenth of a picture is left
CHEAP_BYTES = 2**30  # of files that are read whole for the fingerprint
log = logging.getLogger("dmf")


class PictureSet(Dataset):
    """Picture files with their labels, as square images. Nothing is held out, unless a subclass does.

    Attributes:
        several: Images whose files have several frames, of which the first is taken, so far as is known.
        small: Images whose files have fewer pixels a side, so that they are enlarged, so far as is known.
        long: Images of which less than a tenth is left, as their files are so wide or high, so far as is known.
        advice: What else to do about files that cannot be used, after a list of them.

    Args:
        collection: The files.
        treatment: What is made of each.
        on_error: ``raise``: what cannot be used is an error, that names all of it. ``skip``: it is left out and listed
            in ``left_out``; where the images are not kept in memory, all files are decoded once to know.
        memory_gib: Keep the decoded images in memory if they need at most so many GiB; 0 reads file by file.
        cache: Keep what is known of the files, and the decoded images, on disk for the next start.
        part: Of the pictures in the collection's root, where a set has several: they are kept apart.

    Raises:
        UserError: For ``raise``, files that cannot be used: of those known without opening them, and where the images
            are kept in memory of all. For ``skip``, none that can be.
    """

    advice = ""

    def __init__(
        self,
        collection: Collection,
        treatment: Treatment,
        *,
        on_error: OnError = "raise",
        memory_gib: float = 2.0,
        cache: bool = True,
        part: str = "",
    ) -> None:
        shape = (treatment.channels, treatment.size, treatment.size)
        self.spec, self.treatment = DataSpec(shape, collection.classes), treatment
        index, images = Index(collection, treatment, cache=cache, part=part), None
        if len(collection.entries) * shape[0] * shape[1] * shape[2] <= memory_gib * 2**30:
            images = pixels_of(index)
        elif on_error == "skip":
            index.check_all()
        self.left_out = _left_out(index, on_error, self.advice)
        self._collection, seen = _usable(index)
        self.several = [i for i, one in enumerate(seen) if one is not None and one.several]
        sides = [(0, 0) if one is None else (one.shorter, one.longer) for one in seen]
        self.small = [i for i, (shorter, _) in enumerate(sides) if 0 < shorter < treatment.size]
        self.long = [i for i, (shorter, longer) in enumerate(sides) if longer > LONG * shorter]
        digests = [one.digest for one in seen if one is not None and one.digest]
        self._digests = digests if len(digests) == len(seen) else None
        self._images, self._cache, self._part = images, cache, part
        labels = self._collection.entries.labels
        self._labels = None if labels is None else torch.tensor(labels, dtype=torch.int64)

    def __len__(self) -> int:
        return len(self._collection.entries)

    def __getitem__(self, i: int) -> Example:
        if not -len(self) <= i < len(self):
            raise IndexError(f"image {i} of {len(self)}")
        images, cond = self.rows([i])
        return Example(images[0], {name: value[0] for name, value in cond.items()})

    def rows(self, numbers: Sequence[int]) -> tuple[Tensor, Cond]:
        """From memory, or decoded one after the other by this thread."""
        where = torch.as_tensor(numbers, dtype=torch.int64)
        images = (
            decoded_rows(self._collection, numbers, self.treatment) if self._images is None else self._images[where]
        )
        return images, {name: value[where] for name, value in self.conditions().items()}

    def tensors(self) -> tuple[Tensor, Cond] | None:
        """All of it, if it is in memory."""
        return None if self._images is None else (self._images, self.conditions())

    def name_of(self, i: int) -> str:
        """The name of its file, below the root of the set."""
        return printable(self._collection.entries.names[i])

    def conditions(self) -> dict[str, Tensor]:
        """The labels, which are known of every file."""
        return {} if self._labels is None else {"class": self._labels}

    def _digest(self) -> str:
        """Of the names, labels and contents of the files, and of the rules that they are decoded by.

        Of many GiB, of a sample of the contents: `samples_of`, and sizes. Which of them the files alone decide: never
        the memory, or what an earlier start has kept.
        """
        entries = self._collection.entries
        digest = hashlib.sha256(repr((self.spec.shape, self.spec.classes, len(self))).encode())
        digest.update(self.treatment.known_by().encode())
        contents = self._contents() if sum(entries.sizes) <= CHEAP_BYTES else self._samples()
        labels = entries.labels or [None] * len(entries)
        for name, label, content in zip(entries.names, labels, contents, strict=True):
            digest.update(f"{name}\0{label}\0{content}\0".encode("utf-8", "surrogateescape"))
        return digest.hexdigest()

    def _samples(self) -> list[str]:
        """The size of each file, and a sample of its content."""
        folder = isinstance(self._collection.place, Folder)
        what = "by 4 KiB each of the beginning, middle and end of every file" if folder else "by the zip's checksums"
        log.info("more than %s of pictures are told from others %s, and sizes", told_size(CHEAP_BYTES), what)
        samples = samples_of(self._collection, cache=self._cache, part=self._part)
        return [f"{size} {one}" for size, one in zip(self._collection.entries.sizes, samples, strict=True)]

    def _contents(self) -> list[str]:
        """The digest of each file, read now where it is not known yet."""
        if self._digests is None:
            index = Index(self._collection, self.treatment, cache=self._cache, part=self._part)
            index.read_all()
            bad = _bad(index)
            if bad:
                raise UserError(f"{counted(len(bad), 'picture')} cannot be read:{a_line_each(bad)}")
            self._digests = [one.digest for one in index.seen if one is not None]
        return [one.hex() for one in self._digests]


def _bad(index: Index) -> list[str]:
    """Each file that cannot be used: what a message calls it, and why."""
    place = index.collection
    bad = [(place.entries[i], one.reason) for i, one in enumerate(index.seen) if one is not None and one.reason]
    return [f"{place.source(entry)} {reason}" for entry, reason in bad]


def _left_out(index: Index, on_error: OnError, advice: str) -> tuple[LeftOut, ...]:
    """What of the collection is no image of the set.

    Raises:
        UserError: There is something, and ``on_error`` is ``raise``; or nothing else is left.
    """
    place = index.collection
    found, read = list(place.trouble), _bad(index)
    trouble = [f"{place.place.source(one.name)} {one.reason}" for one in found]
    count = len(found) + len(read)
    if count and (on_error == "raise" or len(read) == len(place.entries)):
        of = f"{count} of {counted(len(place.entries) + len(found), 'picture')} cannot be used"
        raise UserError(f"{of}:{a_line_each([*read, *trouble])}{advice if len(read) < len(place.entries) else ''}")
    names, seen = place.entries.names, index.seen
    found += [LeftOut(printable(names[i]), one.reason) for i, one in enumerate(seen) if one is not None and one.reason]
    return tuple(sorted(found, key=lambda one: natural(one.name)))


def _usable(index: Index) -> tuple[Collection, list[Seen | None]]:
    """The pictures that can be used, so far as is known, and what is known of them."""
    good = [i for i, one in enumerate(index.seen) if one is None or not one.reason]
    labels = index.collection.entries.labels
    chosen_labels = None if labels is None else [labels[i] for i in good]
    usable = index.collection.chosen(good, chosen_labels, index.collection.classes)
    return usable, [index.seen[i] for i in good]
