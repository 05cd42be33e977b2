"""What tells the contents of many GiB of pictures apart, for a fraction of the reading.

Of a zip that is the checksum of each picture, which stands in its directory. Of a folder it is a digest of three pieces
of each file, kept from one start to the next as in `dmf.files.index`.
"""

from __future__ import annotations

import json

from ..registry import UserError
from .collection import Collection, Entries
from .folder import SAMPLE_BYTES, Folder
from .index import Place
from .threads import on_all_cores
from .words import a_line_each, counted


def samples_of(collection: Collection, *, cache: bool, part: str = "") -> list[str]:
    """The checksum of each picture of a zip; of each file of a folder a digest of its beginning, middle and end.

    Args:
        collection: The pictures.
        cache: Take what an earlier start has kept of files that are as they were, and keep what this one finds.
        part: Of the pictures in the root: each is kept apart.

    Raises:
        UserError: Files cannot be read; with all of them.
    """
    place, entries = collection.place, collection.entries
    if not isinstance(place, Folder):
        return [place.sample(name) for name in entries.names]
    keeper = Place("index", collection.root, f"3 x {SAMPLE_BYTES} bytes of each, {part}")
    found = _known(keeper, entries) if cache else [""] * len(entries)
    new, bad = [i for i, one in enumerate(found) if not one], list[str]()

    def work(i: int) -> str | UserError:
        try:
            return place.sample(entries.names[i])
        except UserError as error:
            return error

    for i, one in zip(new, on_all_cores(work, new, "look into pictures"), strict=True):
        if isinstance(one, UserError):
            bad.append(str(one))
        else:
            found[i] = one
    if bad:
        raise UserError(f"{counted(len(bad), 'picture')} cannot be read:{a_line_each(bad)}")
    if cache and new:
        rows = list(zip(entries.names, entries.sizes, entries.stamps, found, strict=True))
        keeper.keep([json.dumps(rows).encode()])
    return found


def _known(keeper: Place, entries: Entries) -> list[str]:
    """What is kept of files that are as they were; empty for the others."""
    kept = keeper.found()
    if kept is None:
        return [""] * len(entries)
    rows = {(name, size, stamp): sample for name, size, stamp, sample in json.loads(kept.body.tobytes())}
    return [rows.get(one, "") for one in zip(entries.names, entries.sizes, entries.stamps, strict=True)]
