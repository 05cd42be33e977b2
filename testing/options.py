"""What a part of any kind must hold to in its options: the schema builds it, and everything is described."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..registry import describe, kind_of, load
from ..registry.errors import PartError
from ..registry.signature import options_of
from .claims import cannot, require
from .settings import Setting, bounds, choices, insides
from .smoke import SMOKE


def check_builds(setting: Setting) -> None:
    """The part is there, its options have a schema, and with their defaults it builds and works."""
    SMOKE[setting.kind](setting.built)


def check_summary(setting: Setting) -> None:
    """``dmf plugins`` has a line to show for it."""
    described = describe(setting.part)
    require(described.problem is None, f"{setting.name}: {described.problem}")
    require(
        described.summary,
        f"{setting.name} has no summary: begin the docstring of {setting.part.target} with a line on what it is",
    )


def check_descriptions(setting: Setting) -> None:
    """Each option is described, for the reference of recipes."""
    options = options_of(load(setting.part), kind_of(setting.kind))
    silent = [option.name for option in options if not option.description]
    require(not silent, f"{setting.name}: the docstring says nothing of {', '.join(silent)}; add them under `Args:`")


def check_choices(setting: Setting) -> None:
    """Each value of a choice, each example of the schema and each part that may stand inside builds and works."""
    _able(setting)
    for name, value in _each(setting, lambda below: [*choices(below), *insides(below), *below.get("examples", [])]):
        changed = setting.having({name: value})
        try:
            SMOKE[setting.kind](changed.built)
        except ValueError as error:
            clash = bool(setting.options)  # it may not go with what was given, which a text explains
            require(clash, f"{changed.name} is allowed by the schema and does not work: {error}")


def check_bounds(setting: Setting) -> None:
    """A number at the end of its range works, or is refused by a sentence that says which option to change."""
    _able(setting)
    for name, value in _each(setting, bounds):
        changed = setting.having({name: value})
        try:
            SMOKE[setting.kind](changed.built)
        except ValueError as error:
            named = any(option in str(error) for option in setting.schema["properties"])
            require(
                named,
                f"{changed.name} is allowed by the schema, and refused without naming an option: {error}",
            )


OPTION_CHECKS = (check_builds, check_summary, check_descriptions, check_choices, check_bounds)


def _able(setting: Setting) -> None:
    """Skip where not even the defaults can be had; `check_builds` has said so."""
    try:
        _ = setting.built
    except PartError as error:
        cannot(f"it cannot be built, which `builds` fails for: {error}")


def _each(setting: Setting, values: Any) -> Iterator[tuple[str, Any]]:
    """(option, value) for every option, given or not."""
    for name, below in setting.schema["properties"].items():
        yield from ((name, value) for value in values(below))
