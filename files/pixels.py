"""The decoded pictures of a collection, kept from one start to the next by the digest of each file's content."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import torch
from torch import Tensor

from .cache import PIECE, Kept
from .index import Index, Place
from .reading import Seen, look
from .threads import on_all_cores
from .words import told_size

DIGEST_BYTES = 32
log = logging.getLogger("dmf")


def pixels_of(index: Index) -> Tensor:
    """The pixels of all pictures that can be used, uint8 (n, C, size, size), in order; now it is known which.

    Those that were decoded before are mapped from the disk; of others the new ones are decoded, on all cores.
    """
    place = Place("pixels", index.collection.root, f"{index.treatment.makes()}, {index.part}")
    digests, old = _rows(place.found() if index.worth else None, index)
    if all(one is not None and one.decoded for one in index.seen) and digests == _digests(index):
        log.info("the pictures were decoded before: %s, %s", told_size(old.nbytes), place.file)
        return old
    images = _decoded(index, old, {digest: row for row, digest in enumerate(digests)})
    index.save()
    if index.worth and place.keep(_pieces(_digests(index), images), images=len(images)):
        log.info("kept the decoded pictures for the next start: %s, %s", told_size(images.nbytes), place.file)
    return images


def _rows(found: Kept | None, index: Index) -> tuple[list[bytes], Tensor]:
    """The digests and pixels of a kept file; of none, none."""
    one = index.treatment
    shape = (one.channels, one.size, one.size)
    if found is None:
        return [], torch.empty(0, *shape, dtype=torch.uint8)
    count = found.head["images"]
    digests = found.body[: count * DIGEST_BYTES].tobytes()
    pixels = torch.from_numpy(found.body[count * DIGEST_BYTES :]).view(count, *shape)
    return [digests[at : at + DIGEST_BYTES] for at in range(0, len(digests), DIGEST_BYTES)], pixels


def _digests(index: Index) -> list[bytes]:
    """Of the pictures that can be used."""
    return [one.digest for one in index.seen if one is not None and not one.reason]


def _decoded(index: Index, old: Tensor, row_of: dict[bytes, int]) -> Tensor:
    """All that can be used, from the old ones where the content is the same."""
    place, entries = index.collection, index.collection.entries
    images = torch.empty(len(entries), *old.shape[1:], dtype=torch.uint8)
    into = images.permute(0, 2, 3, 1).squeeze(-1).numpy()  # the same memory, as numpy has pictures

    def work(i: int) -> Seen:
        seen, made = index.seen[i], None
        if seen is not None and seen.decoded and seen.reason:
            return seen
        if seen is None or seen.digest not in row_of:
            seen, made = look(place, entries[i], index.treatment, row_of.__contains__)
        if made is not None:
            into[i] = made.picture
        elif not seen.reason:
            images[i] = old[row_of[seen.digest]]
        return seen._replace(decoded=seen.decoded or not seen.reason)

    index.seen[:] = on_all_cores(work, range(len(entries)), "read pictures")
    good = [i for i, one in enumerate(index.seen) if one is not None and not one.reason]
    return images if len(good) == len(images) else images[good]


def _pieces(digests: list[bytes], images: Tensor) -> Iterator[bytes | memoryview]:
    yield b"".join(digests)
    content = images.flatten().numpy().data
    yield from (content[at : at + PIECE] for at in range(0, len(content), PIECE))
