"""Which picture is of which class: from the folders that they lie in, or from a JSON file.

A label file is ``{file: number}``, ``{file: "name"}``, StyleGAN's ``{"labels": [[file, number], ...]}`` (Karras et al.,
dataset_tool.py of stylegan2-ada-pytorch), or that list alone. ``classes.json`` beside it, a list of names or
``{number: name}``, says what the numbers are called.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..registry import UserError
from ..registry.words import cut
from .listing import inside, natural
from .words import a_line_each, brief, counted, few, printable

SPLITS = frozenset(("train", "training", "val", "valid", "validation", "test", "testing"))
SHAPES = '{"a.png": 0, ...}, {"a.png": "cat", ...} or {"labels": [["a.png", 0], ...]}'
NAMES = '["cat", "dog"] or {"0": "cat", "1": "dog"}'


@dataclass(frozen=True)
class Labels:
    """What a label file says.

    Attributes:
        classes: Their names.
        number: Of each file's class, None where it has none.
    """

    classes: tuple[str, ...]
    number: Mapping[str, int | None]


class Object(tuple[tuple[str, Any], ...]):
    """An object of a JSON text: its pairs, so that a repeated name is seen."""


def folder_classes(names: Collection[str], source: str, *, asked: bool) -> tuple[str, ...]:
    """The folders of the first level, in natural order; empty for unlabelled pictures.

    Args:
        names: Of the files.
        source: What they lie in.
        asked: Labels are asked for; else there are some where two or more folders are.

    Raises:
        UserError: Folders are classes, and pictures lie in none; or the folders look like parts of a set.
    """
    tops = sorted({name.partition("/")[0] for name in names if "/" in name}, key=natural)
    if not asked and len(tops) < 2:  # one folder is a place: there is no other class
        return ()
    loose = [name for name in names if "/" not in name]
    if loose or not tops:
        raise UserError(
            f"{source} has {counted(len(loose), 'picture')} in no folder of a class ({few(loose)}); move each into the "
            "folder of its class, name a label file, or write labels: none"
        )
    if not asked and SPLITS.issuperset(name.lower() for name in tops):
        raise UserError(
            f"{source} has the folders {few(tops)}, which look like parts of a set, not like classes; give one of them "
            f"(in a folder of its own if this is a zip), or labels: none to take all, or labels: folders if they are "
            "classes"
        )
    return tuple(tops)


def read_labels(content: bytes, source: str, names: tuple[str, ...] | None) -> Labels | None:
    """What a label file says; None where it says that there are no labels.

    Args:
        content: Its bytes.
        source: What a message calls it.
        names: Of the classes, where they are given.

    Raises:
        UserError: It cannot be made out, names files outside the set or twice, or has labels that are no class.
    """
    rows = _rows(_parsed(content, source, SHAPES), source)
    if rows is None:
        return None
    number, bad = dict[str, Any](), list[str]()
    for file, label in rows:
        name = inside(file)
        if name is None:
            bad.append(f"{brief(file)!r} leads out of the set; write it as a path below the root")
        elif name in number:
            bad.append(f"{brief(file)!r} is named twice; leave one of the two")
        elif why := _no_label(label):
            shown = cut(json.dumps(label), 40) if isinstance(label, list) else _shown(label)
            bad.append(f"{brief(file)!r} has the label {shown}, {why}")
        number[name or ""] = label
    _refuse(bad, source, "entry", "entries")
    labels = [label for label in number.values() if label is not None]
    classes, index = _classes(labels, source, names)
    return Labels(classes, {name: None if label is None else index[label] for name, label in number.items()})


def could_be_labels(content: bytes, names: Collection[str]) -> bool:
    """Whether a JSON file reads like labels of some of these pictures."""
    try:
        rows = _rows(_parsed(content, "", SHAPES), "")
        return any(inside(file) in names and label is not None and not _no_label(label) for file, label in rows or ())
    except UserError:
        return False


def read_class_names(content: bytes, source: str) -> tuple[str, ...]:
    """The names of the classes, from a list of them or from ``{number: name}``.

    Raises:
        UserError: It is neither, or has a name twice.
    """
    value = _parsed(content, source, NAMES)
    names = _by_number(value, source) if isinstance(value, Object) else value
    if not isinstance(names, list) or not names or not all(isinstance(name, str) and name for name in names):
        raise UserError(f"{source} is to hold the names of the classes, {NAMES}; got {_shown(value)}")
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise UserError(f"{source} names {few(twice)} twice; give each class a name of its own")
    return tuple(map(printable, names))


def _by_number(pairs: Object, source: str) -> list[Any]:
    """The values in order of the numbers that their keys are, 0 to the last."""
    numbers = {key: value for key, value in pairs if key.isdecimal() and key.isascii() and len(key) < 10}
    names = {int(key): value for key, value in numbers.items()}
    if len(names) < len(pairs) or any(i not in names for i in range(len(names))):
        turned = ", not names with their numbers" if all(type(value) is int for _, value in pairs) else ""
        raise UserError(
            f"{source} is to number its {len(pairs)} classes 0 to {len(pairs) - 1}, each once{turned}: {NAMES}"
        )
    return [names[i] for i in range(len(names))]


def _parsed(content: bytes, source: str, shapes: str) -> Any:
    """A JSON text, objects as `Object`."""
    try:
        return json.loads(content.decode("utf-8-sig"), object_pairs_hook=Object)
    except UnicodeDecodeError as error:
        bad = f"byte {content[error.start]:#04x} at {error.start}"
        raise UserError(f"{source} is no text in UTF-8 ({bad}); save it anew as UTF-8") from None
    except (ValueError, RecursionError) as error:  # text that is no JSON, one of deep nesting
        raise UserError(f"{source} is no JSON ({error}); write it as {shapes}") from None


def _rows(value: Any, source: str) -> Iterable[tuple[str, Any]] | None:
    """Files with their labels, whatever the shape; None for unlabelled."""
    place = ""
    if isinstance(value, Object):
        held = [labels for key, labels in value if key == "labels" and (labels is None or isinstance(labels, list))]
        if any(key == "labels" and isinstance(labels, Object) for key, labels in value):
            raise UserError(f"{source} holds an object as 'labels', which is to be a list; write {SHAPES}")
        if len(held) != 1:
            return value
        value, place = held[0], "labels"
        if value is None:
            return None
    if not isinstance(value, list):
        raise UserError(f"{source} holds {_shown(value)}; write {SHAPES}")
    bad = [
        f"{place}[{i}] is {_shown(row)}, not a file with its label, like ['a.png', 0]"
        for i, row in enumerate(value)
        if not (isinstance(row, list) and len(row) == 2 and isinstance(row[0], str))
    ]
    _refuse(bad, source, "entry", "entries")
    return [(file, label) for file, label in value]


def _no_label(label: Any) -> str:
    """Why it is no label; empty when it is one. None is one: of no class."""
    if isinstance(label, bool) or not isinstance(label, int | str | None):
        several = "; of several, as of one-hot labels, write the one that it is" if isinstance(label, list) else ""
        return f"which is no whole number and no name{several}"
    if isinstance(label, int) and label < 0:
        return "which is negative; numbers start at 0"
    return "which is empty; name the class" if label == "" else ""


def _classes(
    labels: Sequence[int | str], source: str, names: tuple[str, ...] | None
) -> tuple[tuple[str, ...], Mapping[int | str, int]]:
    """The classes, and the number of each label."""
    used = set(labels)
    numbers = sorted(label for label in used if isinstance(label, int))
    texts = sorted((label for label in used if isinstance(label, str)), key=natural)
    if numbers and texts:
        raise UserError(
            f"{source} has both numbers ({few([str(n) for n in numbers])}) and names ({few(texts)}) as labels; write "
            "either"
        )
    if names is None:
        return (
            (tuple(map(printable, texts)), {name: i for i, name in enumerate(texts)})
            if texts
            else _numbered(numbers, source)
        )
    beyond = [n for n in numbers if n >= len(names)]
    if beyond:
        known = f"names {counted(len(names), 'class', 'classes')}, 0 to {len(names) - 1}"
        raise UserError(
            f"{source} has labels up to {beyond[-1]}, but classes.json beside it {known}; name them all there"
        )
    index = {name: i for i, name in enumerate(names)}
    unknown = [name for name in texts if printable(name) not in index]
    if unknown:
        raise UserError(
            f"{source} has labels that classes.json beside it does not name: {few(unknown)}; add them there"
        )
    return names, {**{n: n for n in numbers}, **{name: index[printable(name)] for name in texts}}


def _numbered(numbers: Sequence[int], source: str) -> tuple[tuple[str, ...], Mapping[int | str, int]]:
    """Classes without names, 0 to the last."""
    if numbers and numbers[-1] >= len(numbers):
        used = set(numbers)
        missing = [str(n) for n in range(min(numbers[-1], len(numbers) + 4)) if n not in used]
        raise UserError(
            f"{source} has {counted(len(numbers), 'label')} up to {numbers[-1]}, and no image of {few(missing)}; "
            "number the classes from 0 without a gap, or name all of them in classes.json beside it"
        )
    return tuple(map(str, numbers)), {n: n for n in numbers}


def _shown(value: Any) -> str:
    """A value of a JSON text in a few characters."""
    if isinstance(value, Object | list):
        return f"{'an object' if isinstance(value, Object) else 'a list'} of {len(value)}"
    return cut(json.dumps(value, ensure_ascii=False), 40)


def _refuse(bad: Sequence[str], source: str, one: str, many: str) -> None:
    if bad:
        raise UserError(f"{source} has {counted(len(bad), one, many)} that cannot be used:{a_line_each(bad)}")
