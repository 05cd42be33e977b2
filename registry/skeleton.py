"""The JSON Schema of a recipe, derived from `recipe_types`: all but the options of parts, which each part's own schema
checks."""

import copy
import dataclasses
import functools
import types
import typing
from typing import Any

import pydantic

from .recipe_parts import PartRef
from .recipe_types import Recipe, plain
from .signature import described
from .tidy import tidy

EXTENDS = {
    "type": "string",
    "description": "Another recipe to start from: a path relative to this file, or the name "
    "of a shipped recipe. Mappings are merged, lists replaced.",
}
ADAPTER = pydantic.TypeAdapter(Recipe)


def recipe_schema() -> dict[str, Any]:
    """The schema; ``x-part: KIND`` marks where a part stands."""
    return copy.deepcopy(skeleton())


@functools.lru_cache(maxsize=1)
def skeleton() -> dict[str, Any]:
    """The schema itself, for reading only."""
    found = tidy(ADAPTER.json_schema())
    _complete(Recipe, found)
    first, *others = found["properties"].items()
    found["properties"] = dict([first, ("extends", EXTENDS), *others])
    return found


def _complete(cls: type, schema: dict[str, Any]) -> None:
    """Descriptions from the docstrings, and defaults as a recipe would write them."""
    texts, properties = described(cls.__doc__ or ""), schema["properties"]
    if issubclass(cls, PartRef):  # its options stand beside its name
        del properties["options"]
        properties["name"]["x-name"] = schema["x-part"]
    for field in dataclasses.fields(cls):
        if field.name not in properties:
            continue
        below = properties[field.name]
        below["description"] = texts.get(field.name, "the part's name")
        if field.default is not dataclasses.MISSING:
            below["default"] = plain(field.default)
        if field.default_factory is not dataclasses.MISSING:
            below["default"] = plain(field.default_factory())
        wrapped = typing.get_origin(field.type) in (typing.Annotated, types.UnionType)  # of X | None too X is first
        inner = typing.get_args(field.type)[0] if wrapped else field.type
        if isinstance(inner, type) and dataclasses.is_dataclass(inner) and inner is not PartRef:
            _complete(inner, below)
