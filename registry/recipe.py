"""Reads recipes: files, what they extend, overrides, and the shipped ones by name."""

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import shipped
from .errors import RecipeError
from .located import Node
from .merge import merged
from .overrides import applied
from .recipe_types import Recipe, plain
from .resolve import resolve
from .skeleton import recipe_schema, skeleton
from .words import cut, got, nearest
from .yaml12 import load_tree, read_text

__all__ = ["differences", "read", "recipe_schema", "unequal"]


def read(source: str | os.PathLike[str], overrides: Iterable[str] = ()) -> Recipe:
    """A recipe, complete and checked: every key, every part's options, the parts themselves imported.

    Args:
        source: A file, or the name of a shipped recipe when there is no such file.
        overrides: ``key.path=value`` texts; values are YAML.

    Raises:
        RecipeError: All that is wrong, each with file, line and column.
    """
    root = _read(_text(os.fspath(source)), ())
    return resolve(*applied(root, overrides, skeleton()))


def differences(old: Recipe, new: Recipe) -> list[str]:
    """Lines like ``backbone.hidden: 128 -> 256``, in the order of the recipe's keys."""
    return [f"{key}: {a} -> {b}" for key, (a, b) in unequal([old, new]).items()]


def unequal(recipes: Sequence[Recipe]) -> dict[str, list[str]]:
    """The keys whose values are not equal in all of the recipes, each with its value in each, as text.

    They are in the order of the last recipe's keys, with those that it does not have behind.
    """
    leaves = [dict(_leaves(plain(recipe, short=False), "")) for recipe in recipes]
    keys = dict.fromkeys(key for one in reversed(leaves) for key in one)
    values = {key: [_shown(key, one) for one in leaves] for key in keys}
    return {key: shown for key, shown in values.items() if len(set(shown)) > 1}


def _shown(key: str, leaves: Mapping[str, Any]) -> str:
    if key not in leaves:
        return "(none)"
    value = leaves[key]
    return value if isinstance(value, str) else json.dumps(value)


@dataclass(frozen=True)
class _Text:
    """A recipe's text.

    Attributes:
        text: The text.
        shown: What messages call the file.
        folder: Where ``extends`` looks first; None for a shipped recipe.
        identity: Equal for the same file, however it is named.
    """

    text: str
    shown: str
    folder: Path | None
    identity: str


def _text(name: str, folder: Path | None = None) -> _Text:
    """The text of a file (relative to ``folder``) or of a shipped recipe."""
    path = (folder or Path()) / name
    is_shipped = name.removesuffix(".yaml") in shipped.shipped()
    if os.path.isfile(path) or (os.path.exists(path) and not is_shipped):  # unlike Path's, false for impossible names
        return _Text(read_text(path), str(path), path.parent, str(path.resolve()))
    if is_shipped:
        place = shipped.place(name)
        return _Text(shipped.text(name), place, None, place)
    where = f" in {folder}" if folder else ""
    raise RecipeError(
        f"{cut(name, 200)}: there is no such file{where}, and no shipped recipe of that name{_suggestions(path)}"
    )


def _suggestions(path: Path) -> str:
    """Files and shipped recipes with names like the one that is missing."""
    files = [name for name in _beside(path) if name.endswith((".yaml", ".yml"))]
    near = [str(path.parent / name) for name in nearest(path.name, files, 2)]
    near += nearest(path.name.removesuffix(".yaml"), shipped.shipped(), 2)
    meant = f"; did you mean {' or '.join(map(repr, near))}?" if near else ""
    return f"{meant}; shipped recipes: {', '.join(shipped.shipped()) or 'none'}"


def _beside(path: Path) -> list[str]:
    """The names in a path's folder; none when there is no such folder, or could not be."""
    try:
        return os.listdir(path.parent)
    except (OSError, ValueError):
        return []


def _read(text: _Text, above: tuple[_Text, ...]) -> Node:
    """The recipe with all that it extends."""
    root = load_tree(text.text, text.shown)
    if not isinstance(root.value, dict):
        what = "the file is empty" if root.value is None else f"got {got(root.value)}"
        raise RecipeError(f"{text.shown}:1:1: {what}, expected a mapping with name, dataset, backbone and so on")
    extends = root.value.pop("extends", None)
    if extends is None:
        return root
    return merged(_read(_base(extends, text, above), (*above, text)), root, skeleton())


def _base(extends: Node, text: _Text, above: tuple[_Text, ...]) -> _Text:
    """The recipe that ``extends`` names."""
    if not isinstance(extends.value, str):
        raise RecipeError(f"{extends.mark}: extends: got {got(extends.value)}, expected a file or a shipped recipe")
    try:
        found = _text(extends.value, text.folder)
    except RecipeError as error:
        raise RecipeError(f"{extends.mark}: extends: {problem}" for problem in error.problems) from error
    if found.identity in [t.identity for t in (*above, text)]:
        circle = " -> ".join(t.shown for t in (*above, text, found))
        raise RecipeError(f"{extends.mark}: extends: goes in a circle: {circle}")
    return found


def _leaves(value: Any, path: str) -> Iterable[tuple[str, Any]]:
    """(dotted path, scalar) of everything in a recipe."""
    if not isinstance(value, (Mapping, list)) or not value:
        yield path, value
        return
    for key, child in value.items() if isinstance(value, Mapping) else enumerate(value):
        yield from _leaves(child, f"{path}.{key}" if path else str(key))
