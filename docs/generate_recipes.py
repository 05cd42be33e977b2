"""Writes the tables of recipes.md from the schemas that check recipes: ``python docs/generate_recipes.py``.

What stands above the mark in the page is written by hand and kept. Only parts of dmf itself are listed, whatever else
is installed.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from dmf.registry import KINDS, Part, describe, load, parts, recipe_schema
from dmf.registry.discover import BUILT_IN
from dmf.registry.options import schema
from dmf.registry.words import expected
from dmf.registry.yaml12 import written

PAGE = Path(__file__).resolve().parent / "recipes.md"
PART = re.compile("the name of ((?:an? )?[a-z]+)(?: or a mapping with its name and options)?")
MARK = "<!-- From here on this page is written by docs/generate_recipes.py; change the code that it reads. -->"


def page() -> str:
    """The whole page: the head that is there, and the tables as they should be."""
    head = PAGE.read_text(encoding="utf-8").partition(MARK)[0]
    return "\n".join([head + MARK, "", *keys(), *all_parts()])


def keys() -> Iterator[str]:
    """A table of the recipe's own keys, and one for each mapping among them."""
    recipe = recipe_schema()
    yield from ("## Keys", "", *table("key", recipe), "")
    yield from sections(recipe)


def sections(schema: Mapping[str, Any]) -> Iterator[str]:
    """A heading and a table for each mapping, those within it next."""
    for name, below in schema["properties"].items():
        if is_section(below):
            yield from (f"### {name}", "", below["description"], "", *table("key", below), "")
            yield from sections(below)


def all_parts() -> Iterator[str]:
    """A heading for each kind, a table for each part."""
    for kind in KINDS:
        yield from (f"## Parts of kind {kind}", "")
        for part in parts(kind):
            if part.distribution == BUILT_IN:
                yield from one_part(part)


def one_part(part: Part) -> Iterator[str]:
    """A part with its options."""
    options = schema(load(part), part.kind)
    yield f"**`{part.name}`**: {plain(describe(part).summary)}{'' if options['properties'] else ' No options.'}"
    yield ""
    if options["properties"]:
        yield from (*table("option", options), "")


def table(what: str, schema: Mapping[str, Any]) -> Iterator[str]:
    """One row a key: what it takes, its default, what it means."""
    yield f"| {what} | value | default | meaning |"
    yield "|---|---|---|---|"
    for name, below in schema["properties"].items():
        cells = [f"`{name}`", value(name, below), default(name, below, schema), plain(below.get("description", ""))]
        yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def value(name: str, below: Mapping[str, Any]) -> str:
    """What may stand there, in the words of the error messages."""
    if is_section(below):
        return f"see [{name}](#{name})" + (" or null" if "null" in below.get("type", ()) else "")
    return PART.sub(lambda found: f"[{found[1]}](#parts-of-kind-{found[1].split()[-1]})", expected(below))


def default(name: str, below: Mapping[str, Any], schema: Mapping[str, Any]) -> str:
    """The default as a recipe would write it."""
    if name in schema.get("required", ()):
        return "required"
    if "default" not in below or (is_section(below) and below["default"] is not None and "x-part" not in below):
        return ""
    return f"`{written(below['default'])}`"


def is_section(below: Mapping[str, Any]) -> bool:
    """Whether a key holds a mapping with keys of its own beside a part's name."""
    return set(below.get("properties", {})) > {"name"} or ("properties" in below and "x-part" not in below)


def plain(text: str) -> str:
    """A docstring's text as Markdown."""
    return text.replace("``", "`")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
