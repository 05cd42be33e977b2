"""Checks values against a JSON Schema and says in plain words all that is wrong."""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from jsonschema import Draft202012Validator, ValidationError

from .tidy import Path, Schema
from .words import cut, did_you_mean, expected, got


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with a value.

    Attributes:
        path: The key it is about.
        text: What was got and what was expected.
        at: The key to point at: the parent when a key is missing.
        known: For an unknown key, those that there are; None otherwise.
    """

    path: Path
    text: str
    at: Path
    known: tuple[str, ...] | None = None

    def below(self, path: Path) -> "Problem":
        """The same problem, seen from further up."""
        return replace(self, path=(*path, *self.path), at=(*path, *self.at))

    def of_part(self, part: str) -> str:
        """The problem as one of a part's options: ``unknown option 'etaa' of sampler 'ddim'; ...``."""
        if self.known is None:
            return f"option {dotted(self.path)!r} of {part}: {self.text}" if self.path else f"{part}: {self.text}"
        meant = did_you_mean(str(self.path[-1]), self.known) or ";"
        return f"unknown option {dotted(self.path)!r} of {part}{meant} it has: {', '.join(self.known) or 'none'}"


def dotted(path: Path) -> str:
    """``evaluate.metrics.0``."""
    return ".".join(cut(str(key)) for key in path)


def problems(value: Any, schema: Schema) -> list[Problem]:
    """All that is wrong with a value of plain mappings, lists and scalars; each key is complained of once."""
    found = {p.path: p for p in _not_finite(value, ())}
    for error in _validator(json.dumps(schema)).iter_errors(value):
        for problem in _translated(error):
            found.setdefault(problem.path, problem)
    return list(found.values())


@lru_cache(maxsize=256)
def _validator(schema: str) -> Draft202012Validator:
    return Draft202012Validator(json.loads(schema))


def _translated(error: ValidationError) -> Iterator[Problem]:
    path, schema = tuple(error.absolute_path), error.schema
    value: Any = error.instance
    assert isinstance(schema, Mapping)
    if error.validator == "additionalProperties" and "properties" in schema:
        known = tuple(schema["properties"])
        for key in [k for k in value if k not in known]:
            yield unknown_key((*path, key), known)
    elif error.validator == "required":
        for key in [k for k in schema["required"] if k not in value]:
            what = expected(schema.get("properties", {}).get(key, {}))
            yield Problem((*path, key), f"missing, expected {what}", path)
    else:
        yield wrong_value(path, value, schema)


def unknown_key(path: Path, known: tuple[str, ...]) -> Problem:
    """A key that nobody knows."""
    meant = did_you_mean(str(path[-1]), known)
    return Problem(path, f"unknown key, expected one of {', '.join(known) or 'none at all'}{meant}", path, known)


def wrong_value(path: Path, value: object, schema: Schema) -> Problem:
    """A value that its schema refuses."""
    choices = [c for c in schema.get("enum", [schema.get("const")]) if isinstance(c, str)]
    meant = did_you_mean(value, choices) if isinstance(value, str) else ""
    return Problem(path, f"got {got(value)}, expected {expected(schema)}{meant}", path)


def _not_finite(value: Any, path: Path) -> Iterator[Problem]:
    """Numbers that compare as valid and mean nothing."""
    if isinstance(value, float) and not math.isfinite(value):
        yield Problem(path, f"got {value}, expected a finite number", path)
    children = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list) else ()
    for key, child in children:
        yield from _not_finite(child, (*path, key))
