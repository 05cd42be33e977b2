"""A part in one setting of its options; and which settings its schema says that there are."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator, Mapping
from typing import Any

from ..registry import Part, build, find, kind_of, load, parts
from ..registry.errors import PartError
from ..registry.options import schema
from .claims import cannot

INSIDE = 1e-3  # how far from a bound that is itself out, on the bound's own scale
MOST_COMBINATIONS = 12
FROM_FILES = ("dataset", "features", "metric")  # what these refuse to be built for is what is not on this machine

Options = Mapping[str, Any]


class Setting:
    """A registered part with some of its options given.

    Args:
        kind: Its kind.
        name: Its name there.
        options: Given; the rest has its defaults, or, where there is none, a value that the schema allows.
    """

    def __init__(self, kind: str, name: str, options: Options | None = None) -> None:
        self.kind, self.part_name, self.options = kind, name, dict(options or {})

    @property
    def name(self) -> str:
        """As it is written after ``--dmf-part``: ``sampler:ddim,eta=0.5``."""
        given = [f"{key}={_yaml(value)}" for key, value in self.options.items()]
        return ",".join([f"{self.kind}:{self.part_name}", *given])

    @property
    def part(self) -> Part:
        """What the registry knows of it."""
        return find(self.kind, self.part_name)

    @functools.cached_property
    def schema(self) -> dict[str, Any]:
        """The schema of its options; `PartError` where it cannot be had."""
        return schema(load(self.part), self.kind)

    def having(self, options: Options) -> Setting:
        """The same part with further options."""
        return Setting(self.kind, self.part_name, {**self.options, **options})

    @functools.cached_property
    def built(self) -> Any:
        """The part; of a kind whose caller supplies something, a function that makes it of that.

        Raises:
            PartError: It cannot be built.
            unittest.SkipTest: What it needs is not on this machine, or an option has no default.
        """
        options = {**self._invented(), **self.options}
        if kind_of(self.kind).given:
            load(self.part)
            return functools.partial(build, self.kind, self.part_name, **options)
        try:
            return build(self.kind, self.part_name, **options)
        except OSError as error:
            cannot(f"{self.name} needs a file: {error}")
        except PartError as error:
            if self.kind in FROM_FILES and isinstance(error.__cause__, ValueError):
                cannot(str(error))
            raise

    def _invented(self) -> dict[str, Any]:
        """Values for the options that have no default and were not given."""
        missing = [name for name in self.schema.get("required", []) if name not in self.options]
        found = {name: next(_values(self.schema["properties"][name]), None) for name in missing}
        unknown = [name for name, value in found.items() if value is None]
        if unknown and set(self.options) <= set(self.schema["properties"]):  # else building it says what is wrong
            cannot(f"{self.name} has no default for {', '.join(unknown)}; write {self.name},{unknown[0]}=...")
        return {name: value for name, value in found.items() if value is not None}


def choices(below: Options) -> list[Any]:
    """The values of an option that is a choice: of a Literal, of true and false."""
    if "enum" in below:
        return list(below["enum"])
    if below.get("type") == "boolean":
        return [False, True]
    return []


def insides(below: Options) -> list[Any]:
    """The parts that may stand in an option without options of their own; where a list of them does, lists of one."""
    if "items" in below:
        return [[one] for one in insides(below["items"])]
    kind = below.get("x-part")
    return [] if kind is None else [part.name for part in parts(kind) if _builds(kind, part.name)]


def full_settings(setting: Setting) -> list[Setting]:
    """Every combination of a part's choices; where there are too many, each choice alone beside the defaults."""
    several = {name: choices(below) for name, below in setting.schema["properties"].items()}
    several = {name: values for name, values in several.items() if values and name not in setting.options}
    product = [dict(zip(several, values, strict=True)) for values in itertools.product(*several.values())]
    if len(product) > MOST_COMBINATIONS:
        product = [{}, *({name: value} for name, values in several.items() for value in values)]
    return [setting.having(options) for options in product]


def bounds(below: Options) -> Iterator[float | int]:
    """The values at the ends of an option's range, just inside where the end itself is out."""
    whole = "integer" in _types(below)
    for key in ("minimum", "maximum"):
        if key in below:
            yield int(below[key]) if whole else float(below[key])
    for key, sign in (("exclusiveMinimum", 1), ("exclusiveMaximum", -1)):
        if key in below:
            end = below[key]
            yield int(end) + sign if whole else float(end) + sign * INSIDE * max(1.0, abs(end))


def _types(below: Options) -> list[str]:
    found = below.get("type", [])
    return [found] if isinstance(found, str) else list(found)


def _values(below: Options) -> Iterator[Any]:
    """Values that an option without a default may have."""
    yield from below.get("examples", [])
    yield from choices(below)
    yield from insides(below)
    for one in below.get("anyOf", [below]):
        number = {"integer", "number"} & set(_types(one))
        if number:
            yield from bounds(one)
            yield 2 if "integer" in number else 1.5


def _builds(kind: str, name: str) -> bool:
    """Whether a part can be had without any option."""
    try:
        build(kind, name)
    except (PartError, OSError):
        return False
    return True


def _yaml(value: Any) -> str:
    """A value as it is typed."""
    words = {None: "null", True: "true", False: "false"}
    return words[value] if value is None or isinstance(value, bool) else str(value)
