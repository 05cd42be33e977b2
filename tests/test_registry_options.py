"""Options come from the signature alone; `build` checks them and says what is wrong in one line."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import jsonschema
import pydantic
import pytest
import torch
from annotated_types import Ge, Gt, Le
from registry_kit import SAMPLER, Install, install_fixture  # noqa: F401

from dmf.core import Codec, DataSpec, FeatureExtractor, Sampler
from dmf.plugins.features.digits import DigitFeatures
from dmf.registry import PartError, build, load, parts
from dmf.registry.options import fill, schema

if TYPE_CHECKING:
    from somewhere import Unknown


class Base:
    """The base.

    Args:
        low: From the base's docstring.
    """


class Part(Base):
    """A part of every type.

    Args:
        count: How many,
            on two lines.
        mode: Which.
    """

    def __init__(
        self,
        *,
        count: Annotated[int, Ge(1)],
        low: float = 1,
        mode: Literal["a", "b"] = "a",
        flag: bool = False,
        pair: tuple[float, Annotated[float, Le(1)]] = (0, 1),
        names: list[str] | None = None,
        path: Path = Path("x"),
        table: dict[str, int] | None = None,
        copy: int = 3,
        json: "Annotated[float, Gt(0)] | None" = None,
    ) -> None:
        """Make one.

        Args:
            flag: From the constructor's docstring.
        """
        self.got = dict(locals())


def test_the_schema_is_derived_from_signature_and_docstrings() -> None:
    found = schema(Part, "schedule")
    jsonschema.Draft202012Validator.check_schema(found)
    assert found["required"] == ["count"] and found["additionalProperties"] is False
    assert found["properties"] == {
        "count": {"type": "integer", "minimum": 1, "description": "How many, on two lines."},
        "low": {"type": "number", "default": 1, "description": "From the base's docstring."},
        "mode": {"type": "string", "enum": ["a", "b"], "default": "a", "description": "Which."},
        "flag": {"type": "boolean", "default": False, "description": "From the constructor's docstring."},
        "pair": {
            "type": "array",
            "minItems": 2,
            "maxItems": 2,
            "default": [0, 1],
            "prefixItems": [{"type": "number"}, {"type": "number", "maximum": 1}],
        },
        "names": {"type": ["array", "null"], "items": {"type": "string"}, "default": None},
        "path": {"type": "string", "format": "path", "default": "x"},
        "table": {"type": ["object", "null"], "additionalProperties": {"type": "integer"}, "default": None},
        "copy": {"type": "integer", "default": 3},
        "json": {"type": ["number", "null"], "exclusiveMinimum": 0, "default": None},
    }


def test_the_schema_handed_out_is_a_copy() -> None:
    schema(Part, "schedule")["properties"].clear()
    assert schema(Part, "schedule")["properties"]


def test_fill_coerces_and_fills_in_every_default_as_plain_values() -> None:
    found = fill(Part, "schedule", {"count": 800.0, "low": 2, "pair": (0, 1), "json": 3, "names": ["x"]})
    assert found == {
        "count": 800,
        "low": 2.0,
        "mode": "a",
        "flag": False,
        "pair": [0.0, 1.0],
        "names": ["x"],
        "path": "x",
        "table": None,
        "copy": 3,
        "json": 3.0,
    }
    assert [type(found[k]) for k in ("count", "low", "json", "pair")] == [int, float, float, list]
    assert type(fill(Part, "schedule", {"count": 1})["low"]) is float


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "option 'count' of schedule Part: missing, expected an integer of at least 1"),
        ({"count": 0}, "option 'count' of schedule Part: got 0, expected an integer of at least 1"),
        ({"count": True}, "option 'count' of schedule Part: got true, expected an integer of at least 1"),
        ({"count": 1.5}, "option 'count' of schedule Part: got 1.5, expected an integer of at least 1"),
        ({"count": "1"}, "option 'count' of schedule Part: got '1', expected an integer of at least 1"),
        ({"count": 1, "low": float("inf")}, "option 'low' of schedule Part: got inf, expected a finite number"),
        ({"count": 1, "low": 10**400}, "option 'low' of schedule Part: got 1000000000"),
        ({"count": 1, "mode": "B"}, "option 'mode' of schedule Part: got 'B', expected one of a, b; did you mean 'b'?"),
        ({"count": 1, "flag": "yes"}, "option 'flag' of schedule Part: got 'yes', expected true or false"),
        ({"count": 1, "pair": [0, 2]}, "option 'pair.1' of schedule Part: got 2, expected a number of at most 1"),
        (
            {"count": 1, "pair": [0]},
            "option 'pair' of schedule Part: got a list of 1, expected a list of 2: a number, a number of at most 1",
        ),
        ({"count": 1, "names": [3]}, "option 'names.0' of schedule Part: got 3, expected a text"),
        ({"count": 1, "table": {"a": "b"}}, "option 'table.a' of schedule Part: got 'b', expected an integer"),
        ({"count": 1, "json": 0}, "option 'json' of schedule Part: got 0, expected a number above 0 or null"),
        ({"count": 1, "path": object}, "option 'path' of schedule Part: got <class 'object'>, expected a text"),
        ({"count": 1, "coun": 2}, "unknown option 'coun' of schedule Part; did you mean 'count'? it has: count, low, "),
        ({"count": 1, "zzz": 2}, "unknown option 'zzz' of schedule Part; it has: count, low, "),
    ],
)
def test_wrong_options_say_what_was_got_and_expected(options: dict[str, Any], message: str) -> None:
    with pytest.raises(PartError) as error:
        fill(Part, "schedule", options)
    assert str(error.value).startswith(message)


def test_all_that_is_wrong_is_said_at_once() -> None:
    with pytest.raises(PartError) as error:
        fill(Part, "schedule", {"low": "x", "mode": 3, "nope": 1})
    assert len(str(error.value).splitlines()) == 4


class Validated:
    def __init__(
        self,
        even: Annotated[int, pydantic.AfterValidator(lambda v: v if v % 2 == 0 else 1 / 0)] = 0,
        small: Annotated[int, pydantic.AfterValidator(lambda v: Validated.refuse(v))] = 0,
    ) -> None: ...

    @staticmethod
    def refuse(value: int) -> int:
        if value > 5:
            raise ValueError("too many")
        return value


def test_a_validator_of_the_parts_own_counts_too() -> None:
    with pytest.raises(PartError, match=r"option 'small' of schedule Validated: got 6; Value error, too many"):
        fill(Validated, "schedule", {"small": 6})


# what a signature may not hold


class Starred:
    def __init__(self, a: int = 1, **kwargs: Any) -> None: ...


class BadType:
    def __init__(self, dtype: torch.dtype) -> None: ...


class BadCallable:
    def __init__(self, f: Callable[[int], int]) -> None: ...


class BadName:
    def __init__(self, name: str = "x") -> None: ...


class BadDefault:
    def __init__(self, count: Annotated[int, Ge(1)] = 0) -> None: ...


class InfiniteDefault:
    def __init__(self, top: float = float("inf")) -> None: ...


NOTHING = object()


class BadObject:
    def __init__(self, anything: Any = NOTHING) -> None: ...


class Unresolved:
    def __init__(self, a: "Unknown" = None) -> None: ...


class NoSpec:
    def __init__(self, hidden: int = 1) -> None: ...


class StepsOption:
    def __init__(self, steps: int = 1) -> None: ...


@pytest.mark.parametrize(
    ("target", "kind", "message"),
    [
        (Starred, "schedule", "schedule Starred: **kwargs hides its options; each must be spelt out, with its type"),
        (BadType, "schedule", "schedule BadType: an option has a type that recipes cannot hold: "),
        (BadCallable, "schedule", "schedule BadCallable: an option has a type that recipes cannot hold: "),
        (BadName, "schedule", "schedule BadName: an option cannot be called 'name'"),
        (StepsOption, "sampler", "sampler StepsOption: an option cannot be called 'steps'; in recipes name, steps, "),
        (
            BadDefault,
            "schedule",
            "schedule BadDefault: the default of option 'count' is refused by its own type: got 0",
        ),
        (InfiniteDefault, "schedule", "schedule InfiniteDefault: the default of option 'top' is refused"),
        (BadObject, "schedule", "schedule BadObject: the default of option 'anything' is <object"),
        (Unresolved, "schedule", "schedule Unresolved: the type of option 'a', 'Unknown', cannot be resolved: "),
        (NoSpec, "backbone", "backbone NoSpec: its constructor must begin (self, spec, ...)"),
    ],
)
def test_a_signature_that_recipes_cannot_write_is_the_parts_mistake(target: type, kind: str, message: str) -> None:
    with pytest.raises(PartError) as error:
        schema(target, kind)
    assert str(error.value).startswith(message)


def test_steps_is_reserved_for_samplers_only() -> None:
    assert fill(StepsOption, "schedule", {}) == {"steps": 1}


# given parameters, functions, modules without a constructor


class GivenOnly:
    def __init__(self, spec: "Unknown", width: int = 2) -> None: ...


class Silent(torch.nn.Module):
    """A module without a constructor of its own."""


def function(x: "Unknown", y: int = 3, *, gain: Annotated[float, Ge(0)] = 1.0) -> float:
    """A function.

    Args:
        gain: How much.
    """
    return y * gain


def test_what_the_caller_gives_is_no_option() -> None:
    assert fill(GivenOnly, "backbone", {}) == {"width": 2}
    assert schema(Silent, "objective")["properties"] == {}
    assert schema(function, "grid")["properties"] == {
        "gain": {"type": "number", "minimum": 0, "default": 1.0, "description": "How much."}
    }


def scaled(*, w: float | torch.Tensor = 1.0) -> None: ...


def test_a_type_beside_a_writable_one_is_left_to_the_library() -> None:
    assert schema(scaled, "grid")["properties"]["w"] == {"type": "number", "default": 1.0}


# parts as options


class Judge:
    def __init__(
        self,
        features: FeatureExtractor,
        second: FeatureExtractor | None = None,
        more: tuple[FeatureExtractor, ...] = (),
        third: "str | FeatureExtractor" = "digits",
    ) -> None:
        self.features, self.second, self.more, self.third = features, second, more, third


def test_a_part_among_the_options_is_a_name_or_a_mapping() -> None:
    found = schema(Judge, "metric")["properties"]
    assert found["features"]["x-part"] == "features"
    assert found["second"]["type"] == ["string", "object", "null"]
    assert found["more"]["items"]["x-part"] == "features"
    given = {"features": "digits", "second": {"name": "digits"}, "more": ["digits"]}
    assert fill(Judge, "metric", given) == {
        "features": "digits",
        "second": "digits",
        "more": ["digits"],
        "third": "digits",
    }


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {},
            "option 'features' of metric Judge: missing, expected the name of features or a mapping with its name and",
        ),
        ({"features": "digit"}, "option 'features' of metric Judge: unknown features 'digit'; did you mean 'digits'?"),
        ({"features": 3}, "option 'features' of metric Judge: got 3, expected the name of features or a mapping"),
        ({"features": {}}, "option 'features.name' of metric Judge: missing, expected the name of features"),
        ({"features": {"name": "digits", "k": 1}}, "unknown option 'features.k' of metric Judge; it has: none"),
        ({"features": "digits", "more": ["digits", "x"]}, "option 'more.1' of metric Judge: unknown features 'x'"),
    ],
)
def test_a_wrong_part_among_the_options(given: dict[str, Any], message: str) -> None:
    with pytest.raises(PartError) as error:
        fill(Judge, "metric", given)
    assert str(error.value).startswith(message)


def test_nested_parts_are_built_and_finished_ones_pass_through(install: Install) -> None:
    source = (
        "from dmf.core import Metric, FeatureExtractor\n"
        "class Judge(Metric):\n"
        "    def __init__(self, features: FeatureExtractor, more: list[FeatureExtractor] | None = None,\n"
        "                 third: str | FeatureExtractor = 'digits'):\n"
        "        super().__init__()\n"
        "        self.features, self.more, self.third = features, more, third\n"
        "    def update(self, images, *, real=False, labels=None, index=None, **later): ...\n"
        "    def compute(self): return {}\n"
    )
    install("zork", {"dmf.metrics": "judge = zork_judge:Judge"}, {"zork_judge.py": source})
    ready = DigitFeatures()
    found = build("metric", "judge", features="digits", more=[{"name": "digits"}, ready])
    assert isinstance(found.features, DigitFeatures) and found.features is not ready
    assert isinstance(found.more[0], DigitFeatures) and found.more[1] is ready
    assert isinstance(found.third, DigitFeatures)  # a default too


# build


def test_build_makes_any_part() -> None:
    assert build("sampler", "ddim", eta=0.5).eta == 0.5
    assert isinstance(build("sampler", "ddim", eta=0), Sampler)
    spec = DataSpec((1, 8, 8), ("a", "b"))
    assert isinstance(build("codec", "pixels", spec), Codec)
    backbone = build("backbone", "dit", spec, hidden=16.0, depth=1, heads=2)
    assert sum(p.numel() for p in backbone.parameters()) > 0


def test_a_function_is_itself_without_options_and_bound_with_them() -> None:
    assert build("grid", "karras") is load("grid", "karras")
    bound = build("grid", "karras", rho=3)
    assert isinstance(bound, functools.partial) and bound.keywords["rho"] == 3.0


def test_an_unknown_option_gets_the_nearest() -> None:
    with pytest.raises(PartError) as error:
        build("sampler", "ddim", etaa=0.0)
    assert str(error.value) == "unknown option 'etaa' of sampler 'ddim'; did you mean 'eta'? it has: eta"


def test_an_error_of_the_constructor_names_the_part(install: Install) -> None:
    install("zork-sampler", {"dmf.samplers": "zork = zork_build:Zork"}, {"zork_build.py": SAMPLER})
    assert build("sampler", "zork").flair == 1.0
    with pytest.raises(PartError) as error:
        build("sampler", "zork", flair=11)
    assert str(error.value) == ("sampler 'zork' of zork-sampler 0.1 (zork_build:Zork): nobody has that much flair")
    assert type(error.value.__cause__) is ValueError


def test_every_part_installed_has_options_that_recipes_can_hold() -> None:
    for part in parts():
        found = schema(load(part), part.kind)
        jsonschema.Draft202012Validator.check_schema(found)
        undescribed = [k for k, v in found["properties"].items() if not v.get("description")]
        assert undescribed == [], f"{part.kind} {part.name}: say what {undescribed} are in the docstring's Args"
