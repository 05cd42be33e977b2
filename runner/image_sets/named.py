"""Sets of images that a command line names: a folder or a zip, an ``.npz`` file, a registered data set."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from ...core import Dataset, DataSpec, Statistics
from ...files.listing import NOT_READ, SUFFIXES
from ...files.places import home
from ...files.words import printable
from ...registry import PartRef, UserError, parts
from ...registry.options import part_problems
from ...registry.words import did_you_mean
from ...registry.yaml12 import parse_value
from ..assemble import part
from ..world import World
from .arrays import IMAGES, MU, SIGMA, Arrays, names_in, read_statistics
from .folder import OnError, Pictures
from .unfinished import check_finished

KINDS = "a folder or a zip of pictures, an .npz file, or a data set by its name"


def open_set(
    words: str, flag: str, world: World, labels: str | None = None, on_error: OnError | None = None
) -> Dataset:
    """The images that ``words`` name.

    Args:
        words: A path, a data set's name, or ``{name: ..., **options}`` in YAML.
        flag: Where they stand, for messages.
        world: The ranks: rank 0 downloads what is missing.
        labels: Of a folder or a zip: see `open_collection`; None is ``auto``.
        on_error: Of a folder or a zip: what becomes of files that cannot be used; None is ``raise``.

    Raises:
        UserError: They name nothing, or what cannot be used.
    """
    try:
        path = place_of(words)
        if path is None:
            return _registered(words, world)
        return Arrays(path) if path.suffix.lower() == ".npz" else Pictures(path, labels or "auto", on_error or "raise")
    except UserError as error:
        raise UserError(f"{flag}: {error}") from error


def open_reference(
    words: str, flag: str, world: World, labels: str | None = None, on_error: OnError | None = None
) -> Dataset | Statistics:
    """As `open_set`; an ``.npz`` file with statistics gives those: alone, or beside the images that it has too."""
    try:
        path = place_of(words)
        if path is not None and path.suffix.lower() == ".npz":
            there = names_in(path)
            known = None if IMAGES in there and not there & {MU, SIGMA} else read_statistics(path)
            return known if known is not None and IMAGES not in there else Arrays(path, known)
    except UserError as error:
        raise UserError(f"{flag}: {error}") from error
    return open_set(words, flag, world, labels, on_error)


def check_words(words: str, flag: str) -> None:
    """Accept what names something that is there, without looking into it.

    Args:
        words: As of `open_set`.
        flag: Where they stand, for messages.

    Raises:
        UserError: They name nothing.
    """
    try:
        if place_of(words) is None:
            _named(words)
    except UserError as error:
        raise UserError(f"{flag}: {error}") from error


def called(words: str) -> str:
    """What a set is called in a protocol: the last part of its path, or its name with its options."""
    path = place_of(words)
    if path is not None:
        return printable(path.absolute().name)
    ref = _named(words)
    return words.strip() if ref.options else ref.name


def place_of(words: str) -> Path | None:
    """The path that is meant; None where it is a registered data set.

    Raises:
        UserError: It is neither, or could be both.
    """
    if words.lstrip().startswith("{"):
        return None
    if not words.strip():
        raise UserError(f"the text is empty; give {KINDS}")
    path, names = home(Path(words)), [one.name for one in parts("dataset")]
    there = os.path.lexists(path)
    if words in names:
        if there:
            raise UserError(f"{words} is a data set and a path that is there; write ./{words} or {{name: {words}}}")
        return None
    if not there:
        like = did_you_mean(words, names).removesuffix("?") if "/" not in words else ""
        raise UserError(f"{printable(words)} is not there, and no data set has that name{like}; give {KINDS}")
    if path.is_file() and path.suffix.lower() in SUFFIXES | NOT_READ:
        raise UserError(f"{printable(words)} is one picture; give {KINDS}")
    check_finished(path, "give a whole set")
    return path


def check_same(generated: DataSpec, reference: DataSpec, names: tuple[str, str]) -> None:
    """Accept images of one kind.

    Args:
        generated: Of the images that are scored, in pixels.
        reference: Of those that they are held against.
        names: Of both, for messages.

    Raises:
        UserError: They differ in size or in channels; naming both.
    """
    if generated.shape == reference.shape:
        return
    a, b = ((name, _kind(spec)) for name, spec in zip(names, (generated, reference), strict=True))
    size = generated.shape[1:] != reference.shape[1:]
    advice = (
        "make both of one size first, with dmf data prepare or as an option of the data set"
        if size
        else "write the grey ones as colour, or the coloured ones as grey, if that is what you mean"
    )
    raise UserError(f"the images differ: {a[0]} has {a[1]}, {b[0]} has {b[1]}; {advice}")


def _kind(spec: DataSpec) -> str:
    colour = {1: "grey", 3: "colour"}.get(spec.shape[0], f"{spec.shape[0]} channels")
    return f"{' x '.join(map(str, reversed(spec.shape[1:])))} pixels (width x height), {colour}"


def _registered(words: str, world: World) -> Dataset:
    """A data set by its name, or by ``{name: ..., **options}``."""
    ref = _named(words)
    found: Dataset = world.first_alone(lambda: part("dataset", ref))
    if len(found) == 0:
        raise UserError(f"{words}: the data set is empty")
    return found


def _named(words: str) -> PartRef:
    value: Any = parse_value(words)
    if isinstance(value, str):
        value = {"name": value}
    if not isinstance(value, dict) or not isinstance(value.get("name"), str):
        raise UserError(f"{words}: a data set is {{name: cifar10, split: test}}")
    if wrong := part_problems("dataset", value):
        raise UserError("; ".join(one.of_part(f"dataset {value['name']!r}") for one in wrong))
    return PartRef(value["name"], {key: one for key, one in value.items() if key != "name"})
