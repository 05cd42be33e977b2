"""Puts pydantic's JSON Schemas into the plain form that the rest of the registry walks: no references, no titles, no
``anyOf`` where a list of types says the same."""

from collections.abc import Iterator, Mapping
from typing import Any

Path = tuple[str | int, ...]
Schema = Mapping[str, Any]


def tidy(schema: Schema) -> dict[str, Any]:
    """The schema with definitions put in place; objects allow no keys but those they list.

    A definition that contains itself stays a reference.
    """
    definitions = schema.get("$defs", {})
    found: dict[str, Any] = _tidy({k: v for k, v in schema.items() if k != "$defs"}, definitions, ())
    if "'$ref'" in repr(found):
        found["$defs"] = {name: _tidy(d, definitions, (name,)) for name, d in definitions.items()}
    return found


def parts_in(schema: Schema, value: Any, path: Path = ()) -> Iterator[tuple[Path, Schema, Any]]:
    """(path, schema, value) of every part that a value holds where its schema has one, outer parts first."""
    if "x-part" in schema and value is not None:
        yield path, schema, value
    if isinstance(value, Mapping):
        for key, below in schema.get("properties", {}).items():
            if key in value:
                yield from parts_in(below, value[key], (*path, key))
    elif isinstance(value, (list, tuple)):
        first = schema.get("prefixItems", [])
        for i, item in enumerate(value):
            yield from parts_in(first[i] if i < len(first) else schema.get("items") or {}, item, (*path, i))


def _tidy(schema: Any, definitions: Schema, inside: tuple[str, ...]) -> Any:
    if isinstance(schema, list):
        return [_tidy(s, definitions, inside) for s in schema]
    if not isinstance(schema, Mapping):
        return schema
    name = str(schema.get("$ref", "")).rpartition("/")[2]
    if name and name not in inside:
        besides = {k: v for k, v in schema.items() if k != "$ref"}
        return {**_tidy(definitions[name], definitions, (*inside, name)), **_tidy(besides, definitions, inside)}
    found = {k: _tidy(v, definitions, inside) for k, v in schema.items() if k not in ("title", "properties", "default")}
    if "default" in schema:
        found["default"] = schema["default"]
    if "properties" in schema:
        found["properties"] = {k: _tidy(v, definitions, inside) for k, v in schema["properties"].items()}
        if "x-part" not in found:
            found.setdefault("additionalProperties", False)
    return _flat(found)


def _flat(schema: dict[str, Any]) -> dict[str, Any]:
    """``anyOf: [X, null]`` as X with one more type: limits on numbers or texts do not concern null."""
    several = schema.get("anyOf", [])
    others = [s for s in several if s.get("type") != "null"]
    if len(several) != 2 or len(others) != 1 or "type" not in others[0] or "anyOf" in others[0]:
        return schema
    besides = {k: v for k, v in schema.items() if k != "anyOf"}
    types = others[0]["type"]
    merged = {**others[0], **besides, "type": [*([types] if isinstance(types, str) else types), "null"]}
    if "const" in merged:
        merged["enum"] = [merged.pop("const")]
    if "enum" in merged:
        merged["enum"] = [*merged["enum"], None]
    return merged
