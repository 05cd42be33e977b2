"""Your own pictures: a folder or a zip of them, with labels from folders or from a file, or with none.

Files are taken as they are: any size, any format and mode that Pillow reads. Each image is the middle square of its
picture, scaled to ``size`` (see `dmf.files.pictures`).
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated, Literal

from annotated_types import Ge

from ...files.collection import Collection, open_collection, told_others
from ...files.pictures import Background
from ...files.reading import Treatment
from ...files.words import counted, few, printable
from ...registry import UserError
from ._picture_set import MemoryGiB, OnError, PictureSet

log = logging.getLogger("dmf")


class ImageFolder(PictureSet):
    """Pictures of your own, in a folder or a zip, with labels or without, cut square and scaled.

    Up to ``memory_gib`` of pixels are decoded once, on all cores, and kept in memory; a larger set is read file by
    file. Classes and files are in natural order: img2 before img10. Nothing is held out.

    Args:
        root: Folder or zip with the pictures, or what `dmf data prepare` made; hidden files in it and files with other
            endings are passed over.
        size: Side of the images in pixels. The shorter side of a picture becomes this, and the middle is cut out.
        channels: 3 for colour, 1 for grey.
        labels: ``folders``: each folder in ``root`` is a class, with all pictures below it. ``none``: no labels; all
            pictures below ``root``. A JSON file, below ``root`` or absolute: what it says. ``auto``: ``dataset.json``
            where it is in ``root``, else ``folders`` where two or more have pictures, else ``none``.
        background: Colour behind transparent parts; grey is (128, 128, 128).
        on_error: ``raise``: a file that cannot be used ends it, and all of them are named. ``skip``: those are left
            out, listed in ``left_out.txt`` of the run; a set beyond its memory is decoded once to know them.
        memory_gib: Keep the decoded images in memory if they need at most so many GiB; 0 always reads file by file.
        cache: Keep the decoded images, and what is known of the files, for the next start, in DMF_CACHE,
            XDG_CACHE_HOME/dmf or ~/.cache/dmf. What has changed is read anew.
    """

    advice = "\nmend them, or leave them out with on_error: skip"

    def __init__(
        self,
        *,
        root: str,
        size: Annotated[int, Ge(1)] = 64,
        channels: Literal[3, 1] = 3,
        labels: str = "auto",
        background: Background = "white",
        on_error: OnError = "raise",
        memory_gib: MemoryGiB = 2.0,
        cache: bool = True,
    ) -> None:
        if not root.strip():
            raise UserError("root is empty; give the folder or the zip that holds the pictures")
        collection = open_collection(Path(root), labels)
        treatment = Treatment(size, channels, background)
        super().__init__(collection, treatment, on_error=on_error, memory_gib=memory_gib, cache=cache)
        _tell(self, collection)


def _tell(data: PictureSet, collection: Collection) -> None:
    classes, others = data.spec.classes, told_others(collection.others)
    kinds = f"{counted(len(classes), 'class', 'classes')} ({few(classes)})" if classes else "no labels"
    left = f"; left out {others}" if others else ""
    log.info("%s with %s in %s%s", counted(len(data), "picture"), kinds, printable(str(collection.root)), left)
    size = data.treatment.size
    for what, numbers in (
        ("of %s with several frames the first is taken: %s", data.several),
        (f"enlarged %s with fewer than {size} pixels a side, which dmf data prepare leaves out: %s", data.small),
        ("took less than a tenth, the middle, of %s so much longer than wide: %s", data.long),
    ):
        if numbers:
            names = few([data.name_of(i) for i in numbers])
            log.info(what, counted(len(numbers), "picture"), names)
    if data.left_out:
        names = few([one.name for one in data.left_out])
        log.warning("left out %s that cannot be used: %s", counted(len(data.left_out), "picture"), names)
