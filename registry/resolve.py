"""From a recipe's nodes to a `Recipe`: everything is checked before anything is built, and all that is wrong is said at
once."""

from collections.abc import Iterable, Mapping
from typing import Any

import pydantic

from .discover import load
from .errors import RecipeError
from .located import Mark, Node
from .merge import whole
from .options import fill, part_problems
from .recipe_parts import PartRef
from .recipe_types import Recipe
from .skeleton import ADAPTER, skeleton
from .tidy import Path, Schema, parts_in
from .validate import Problem, dotted, problems


def resolve(root: Node, wrong: Iterable[str] = ()) -> Recipe:
    """The recipe that the nodes describe.

    Args:
        root: The recipe, ``extends`` and overrides already in it.
        wrong: What was found to be wrong before; reported with the rest.

    Raises:
        RecipeError: All that is wrong, one a line, in the order of the file.
    """
    root = whole(root, skeleton())
    value, marks = root.plain(), dict(root.places())
    found = _all_problems(value)
    lines = [*wrong, *_lines(found, marks)]
    if lines:
        raise RecipeError(lines)
    try:
        return ADAPTER.validate_python(_with_parts(skeleton(), value))
    except pydantic.ValidationError as error:  # what the schema cannot say, such as an integer beyond a float's range
        late = [Problem(tuple(e["loc"]), f"got {e['input']!r}; {e['msg']}", tuple(e["loc"])) for e in error.errors()]
        raise RecipeError(_lines(late, marks)) from error


def _all_problems(value: Any) -> list[Problem]:
    """Those of the recipe's own keys, then those of each part's options; one for each path."""
    found = {p.path: p for p in problems(value, skeleton())}
    for path, below, part in parts_in(skeleton(), value):
        for problem in part_problems(below["x-part"], _own(part, below)):
            found.setdefault((*path, *problem.path), problem.below(path))
    return list(found.values())


def _own(part: Any, schema: Schema) -> Any:
    """A part's name and options, without what only stands beside them."""
    if not isinstance(part, Mapping):
        return part
    return {k: v for k, v in part.items() if k == "name" or k not in schema["properties"]}


def _with_parts(schema: Schema, value: Any) -> Any:
    """The value with each part as `PartRef`, its options filled in."""
    if value is None:
        return None
    if "x-part" in schema:
        return _part(schema, value)
    if isinstance(value, Mapping) and "properties" in schema:
        return {key: _with_parts(schema["properties"][key], v) for key, v in value.items()}
    if isinstance(value, list) and isinstance(schema.get("items"), Mapping):
        return [_with_parts(schema["items"], v) for v in value]
    return value


def _part(schema: Schema, value: Mapping[str, Any]) -> Any:
    kind, own = schema["x-part"], _own(value, schema)
    name = own.pop("name")
    options = fill(load(kind, name), kind, own)
    beside = {k: _with_parts(s, value[k]) for k, s in schema["properties"].items() if k != "name" and k in value}
    return {"name": name, "options": options, **beside} if beside else PartRef(name, options)


def _lines(found: Iterable[Problem], marks: Mapping[Path, Mark]) -> list[str]:
    """``FILE:LINE:COL: path.to.key: what is wrong``, files first and from top to bottom."""
    placed = [(_mark(p.at, marks), p) for p in found]
    placed.sort(key=lambda mp: (mp[0].line == 0, mp[0], dotted(mp[1].path)))
    return list(dict.fromkeys(f"{mark}: {dotted(p.path)}: {p.text}" for mark, p in placed))


def _mark(path: Path, marks: Mapping[Path, Mark]) -> Mark:
    """The mark of a key, or of the nearest one above it."""
    while path not in marks:
        path = path[:-1]
    return marks[path]
