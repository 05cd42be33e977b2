"""The files of CelebA: which pictures, in which part of the set, with which attributes.

Names and meaning of the files as on the authors' page: ``list_eval_partition.txt`` says of each picture 0, 1 or 2 for
train, valid and test; ``list_attr_celeba.txt`` says of each 1 or -1 for 40 attributes, named in its second line.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Literal, TypeAlias

from ...files.collection import Collection, open_collection
from ...registry import UserError
from ._fetched import Published, Remote

Colour = Literal["Black_Hair", "Blond_Hair", "Brown_Hair", "Gray_Hair"]
Hair = Literal["Bald", "Bangs", "Receding_Hairline", "Straight_Hair", "Wavy_Hair"]
Beard = Literal["5_o_Clock_Shadow", "Goatee", "Mustache", "No_Beard", "Sideburns"]
Eyes = Literal["Arched_Eyebrows", "Bags_Under_Eyes", "Bushy_Eyebrows", "Narrow_Eyes"]
Mouth = Literal["Big_Lips", "Mouth_Slightly_Open", "Smiling"]
Face = Literal["Big_Nose", "Double_Chin", "High_Cheekbones", "Oval_Face", "Pale_Skin", "Pointy_Nose", "Rosy_Cheeks"]
Worn = Literal["Eyeglasses", "Heavy_Makeup", "Wearing_Earrings", "Wearing_Hat", "Wearing_Lipstick"]
AtTheNeck = Literal["Wearing_Necklace", "Wearing_Necktie"]
Whole = Literal["Attractive", "Blurry", "Chubby", "Male", "Young"]
Attribute: TypeAlias = Literal["none", Beard, Hair, Colour, Eyes, Mouth, Face, Worn, AtTheNeck, Whole]
STATES = ("Attractive", "Bald", "Blurry", "Chubby", "Male", "Mouth_Slightly_Open", "Smiling", "Young")

Split: TypeAlias = Literal["train", "valid", "test", "all"]
PARTS: Mapping[str, Sequence[str]] = {"train": "0", "valid": "1", "test": "2", "all": "012"}
PICTURES = 202_599
UNPACKED, ZIP = "img_align_celeba", "img_align_celeba.zip"
PARTITION, ATTRIBUTES = "list_eval_partition.txt", "list_attr_celeba.txt"
PAGE = "http://mmlab.ie.cuhk.edu.hk/projects/CelebA.html"
DRIVE = "https://drive.usercontent.google.com/download?export=download&confirm=t&id="


def open_celeba(root: Path, split: Split, label: Attribute, download: bool) -> Collection:
    """The pictures of a part of the set, read where they lie: unpacked, or else in the zip; fetched if need be.

    Args:
        root: Holds the folder ``celeba``.
        split: Which part.
        label: The attribute that makes two classes, those without it and those with it; ``none`` for no classes.
        download: Whether to fetch what is missing.

    Raises:
        ValueError: The set is not to be had: what was looked for and tried, and what to do.
    """
    from torchvision.datasets import CelebA as Theirs  # seconds to import: only who uses it waits

    folder = root / "celeba"
    known = {name: Remote(folder / name, md5, (DRIVE + number,)) for number, md5, name in Theirs.file_list}
    pictures = replace(known[ZIP], instead=partial(_all_there, folder))
    wanted = [known[PARTITION], *([] if label == "none" else [known[ATTRIBUTES]]), pictures]
    names = ", ".join(one.file.name for one in wanted)
    published = Published(
        title="CelebA",
        folder=folder,
        files=tuple(wanted),
        by_hand=f"fetch {names} with a browser, from Google Drive by the links on {PAGE} (Align&Cropped Images, Eval"
        f" and Anno), and put them into {folder}, the zip as it is or unpacked. Google refuses a file for hours after"
        " many have fetched it; try again the next day",
        parent="celeba",
    )
    return published.opened(partial(_read, wanted, folder, split, label), download)


def class_names(attribute: Attribute) -> tuple[str, ...]:
    """The two classes of an attribute, without and with it: no eyeglasses, eyeglasses; of none, none."""
    if attribute == "none":
        return ()
    words = attribute.replace("_", " ").lower().replace("o clock", "o'clock").removeprefix("wearing ")
    if words.startswith("no "):
        return words.removeprefix("no "), words
    return ("not " if attribute in STATES else "no ") + words, words


def _read(texts: Sequence[Remote], folder: Path, split: Split, label: Attribute) -> Collection:
    """The pictures of a part, with their labels.

    Raises:
        RuntimeError: Something is not there, or damaged.
    """
    lost = [one.file.name for one in texts if one.file.suffix == ".txt" and not one.whole]
    if lost:
        raise RuntimeError(f"{lost[0]} is not there, or damaged")
    rows = (line.split() for line in (folder / PARTITION).read_text().splitlines())
    names = [name for name, part in rows if part in PARTS[split]]
    found, numbers = _pictures(folder, names)
    if label == "none":
        return found.chosen(numbers)
    signs = _signs(folder / ATTRIBUTES, label)
    return found.chosen(numbers, [signs[name] == "1" for name in names], class_names(label))


def _signs(file: Path, attribute: str) -> dict[str, str]:
    """Of each picture, what the file says of an attribute."""
    with open(file) as lines:
        next(lines)  # their number
        column = next(lines).split().index(attribute) + 1
        return {line.split(None, 1)[0]: line.split(None, column + 1)[column] for line in lines}


def _pictures(folder: Path, names: Sequence[str]) -> tuple[Collection, list[int]]:
    """What holds the pictures, and the rows of those named there.

    Raises:
        RuntimeError: Nothing holds all of them.
    """
    refusals = []
    for place in filter(Path.exists, (folder / UNPACKED, folder / ZIP)):
        try:
            found = open_collection(place, "none")
            return found, found.numbers_of(names)
        except (UserError, RuntimeError) as error:
            refusals.append(str(error))
    raise RuntimeError("; ".join(refusals) or f"{ZIP} is not there")


def _all_there(folder: Path) -> str:
    """What holds all pictures of the set, in words; empty for nothing."""
    for place in (folder / UNPACKED, folder / ZIP):
        with contextlib.suppress(UserError):
            count = len(open_collection(place, "none").entries)
            if count >= PICTURES:
                return f"{count} pictures in {place.name}"
    return ""
