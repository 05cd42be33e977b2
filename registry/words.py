"""Plain words for error messages: what was got, what a schema expects, what was probably meant."""

import difflib
from collections.abc import Iterable, Mapping
from typing import Any


def nearest(name: str, known: Iterable[str], count: int = 1) -> list[str]:
    """Up to ``count`` of the ``known`` names that look like ``name``, whatever its case."""
    by_lower = {k.lower(): k for k in sorted(known)}
    return [by_lower[k] for k in difflib.get_close_matches(name.lower(), by_lower, n=count, cutoff=0.6)]


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """``; did you mean 'x'?`` or nothing."""
    found = nearest(name, known)
    return f"; did you mean {found[0]!r}?" if found else ""


def unknown(what: str, name: str, known: Iterable[str], hint: str = "") -> str:
    """``unknown sampler 'hein'; did you mean 'heun'? known: ddim, heun`` and a hint."""
    known = sorted(known)
    meant = did_you_mean(name, known) or ";"
    return f"unknown {what} {got(name)}{meant} known: {', '.join(known) or 'none'}{hint}"


def got(value: object) -> str:
    """A value as its author wrote it, cut short."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, (Mapping, list, tuple)):
        what = "mapping" if isinstance(value, Mapping) else "list"
        return f"a {what} of {len(value)}" if value else f"an empty {what}"
    return cut(repr(value))


def cut(text: str, longest: int = 60) -> str:
    """A text that fits in a message: one line, not too long."""
    text = text if text.isprintable() else repr(text)[1:-1]
    return text if len(text) <= longest else text[: longest - 4] + "..." + text[-1]


def a(noun: str) -> str:
    """The noun with its article; a plural has none."""
    if noun.endswith("s"):
        return noun
    return ("an " if noun[0] in "aeiou" else "a ") + noun


_TYPES = {
    "integer": "an integer",
    "number": "a number",
    "string": "a text",
    "boolean": "true or false",
    "null": "null",
    "array": "a list",
    "object": "a mapping",
}


def expected(schema: Mapping[str, Any], definitions: Mapping[str, Any] | None = None) -> str:
    """What a JSON Schema asks for, in words: ``an integer of at least 1``."""
    definitions = schema.get("$defs", {}) if definitions is None else definitions
    if "x-words" in schema:
        return f"{schema['x-words']}{', or null' if 'null' in schema.get('type', []) else ''}"
    if "$ref" in schema:
        return expected(definitions.get(schema["$ref"].rpartition("/")[2], {}), definitions)
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(expected(s, definitions) for s in schema["anyOf"]))
    if "enum" in schema or "const" in schema:
        choices = schema.get("enum", [schema.get("const")])
        return ("one of " if len(choices) > 1 else "") + ", ".join(got(c).strip("'") for c in choices)
    types = schema.get("type", [])
    types = [types] if isinstance(types, str) else types
    return " or ".join(dict.fromkeys(_typed(t, schema, definitions) for t in types)) or "another value"


def _typed(name: str, schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> str:
    """One of the types that a schema allows, with the limits that concern it."""
    if name in ("string", "object") and "x-part" in schema:
        return f"the name of {a(schema['x-part'])} or a mapping with its name and options"
    if name in ("integer", "number"):
        return _TYPES[name] + _limits(schema)
    if name == "array":
        return _TYPES[name] + _items(schema, definitions)
    if name == "string":
        return f"the name of {a(schema['x-name'])}" if "x-name" in schema else _TYPES[name] + _text(schema)
    return _TYPES[name]


def _limits(schema: Mapping[str, Any]) -> str:
    words = {
        "minimum": "of at least",
        "exclusiveMinimum": "above",
        "maximum": "of at most",
        "exclusiveMaximum": "below",
        "multipleOf": "that is a multiple of",
    }
    found = [f"{text} {_number(schema[key])}" for key, text in words.items() if key in schema]
    return " " + " and ".join(found) if found else ""


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else str(value)


def _items(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> str:
    if "prefixItems" in schema:
        each = [expected(s, definitions) for s in schema["prefixItems"]]
        return f" of {len(each)}" + (f", each {each[0]}" if len(set(each)) == 1 else ": " + ", ".join(each))
    few, many = schema.get("minItems"), schema.get("maxItems")
    size = f" of {few}" if few == many and few is not None else ""
    size = size or (f" of at least {few}" if few else "") + (f" of at most {many}" if many is not None else "")
    item = schema.get("items")
    return size + (f", each {expected(item, definitions)}" if item else "")


def _text(schema: Mapping[str, Any]) -> str:
    limits = [f"of at least {schema['minLength']} letters"] if schema.get("minLength") else []
    limits += [f"of at most {schema['maxLength']} letters"] if "maxLength" in schema else []
    limits += [f"like {schema['pattern']}"] if "pattern" in schema else []
    return " " + " and ".join(limits) if limits else ""
