"""The options of a part, derived by pydantic from its constructor's signature, annotations and docstring.

The JSON Schema checks what a recipe gives; the pydantic model behind it turns that into the constructor's arguments.
"""

import copy
import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pydantic
from pydantic_core import PydanticSerializationError, to_jsonable_python

from .discover import load
from .errors import PartError
from .kinds import Kind, kind_of
from .signature import NUMBER_MEANS, Nested, Option, options_of, title
from .tidy import Path, parts_in, tidy
from .validate import Problem, problems


def schema(target: Callable[..., Any], kind: str | Kind) -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of a part's options: types, ranges, defaults, descriptions.

    Raises:
        PartError: The signature cannot be written in a recipe (``**kwargs``, a type that YAML does not have).
    """
    return copy.deepcopy(_derived(target, _name(kind)).schema)


def check(target: Callable[..., Any], kind: str | Kind, options: Mapping[str, Any]) -> list[Problem]:
    """All that is wrong with the options, those of nested parts included; empty when they will do."""
    derived = _derived(target, _name(kind))
    given, nested = _plain(options), []
    for path, below, value in list(parts_in(derived.schema, given)):
        if is_object(value, below["x-part"]):
            _put(given, path, {"name": type(value).__name__})
        else:
            nested += [p.below(path) for p in part_problems(below["x-part"], value)]
    found = problems(given, derived.schema)
    return found + nested or _refused(derived.model, _plain(options))


def part_problems(kind: str, value: Any) -> list[Problem]:
    """All that is wrong with a part given as its name or as ``{name, **options}``; shapes are the schema's to check."""
    name, options = name_and_options(kind, value)
    if not isinstance(name, str):
        return []
    try:
        return check(load(kind, name), kind, options)
    except PartError as error:
        return [Problem((), str(error), ("name",) if isinstance(value, Mapping) else ())]


def fill(target: Callable[..., Any], kind: str | Kind, options: Mapping[str, Any]) -> dict[str, Any]:
    """The options as a recipe holds them: coerced, every default filled in, nested parts likewise.

    Raises:
        PartError: The options are not what the schema allows.
    """
    found = to_jsonable_python(replaced(arguments(target, kind, options), _filled), inf_nan_mode="constants")
    assert isinstance(found, dict)
    return found


def arguments(target: Callable[..., Any], kind: str | Kind, options: Mapping[str, Any]) -> dict[str, Any]:
    """The options as the constructor takes them, every default filled in; a part among them is a `Nested`.

    Raises:
        PartError: The options are not what the schema allows.
    """
    wrong = check(target, kind, options)
    if wrong:
        raise PartError("\n".join(p.of_part(title(target, _name(kind))) for p in wrong))
    model = _derived(target, _name(kind)).model.model_validate(_plain(options))
    return {info.alias or "": getattr(model, field) for field, info in type(model).model_fields.items()}


def replaced(value: Any, change: Callable[[Nested], Any]) -> Any:
    """The value with each `Nested` in its lists, tuples and mappings changed."""
    if isinstance(value, Nested):
        return change(value)
    if isinstance(value, (list, tuple)):
        return type(value)(replaced(v, change) for v in value)
    return {k: replaced(v, change) for k, v in value.items()} if isinstance(value, dict) else value


@dataclass(frozen=True)
class _Derived:
    """What a signature gives: the pydantic model and the JSON Schema of its options."""

    model: type[pydantic.BaseModel]
    schema: dict[str, Any]


@functools.lru_cache(maxsize=512)
def _derived(target: Callable[..., Any], kind: str) -> _Derived:
    who, options = title(target, kind), options_of(target, kind_of(kind))
    defaults = {o.name: _written_default(o, who) for o in options if not o.required}
    try:
        model = _model(options)
        found = tidy(model.model_json_schema())
    except pydantic.errors.PydanticUserError as error:
        raise PartError(
            f"{who}: an option has a type that recipes cannot hold: {error.message.splitlines()[0]}"
        ) from error
    found.setdefault("properties", {})
    for option in options:
        found["properties"][option.name] |= {"description": option.description} if option.description else {}
    for name, default in defaults.items():
        found["properties"][name]["default"] = default
    _refuse_bad_defaults(model, found, who)
    return _Derived(model, found)


def _model(options: list[Option]) -> type[pydantic.BaseModel]:
    """The fields have names of their own: an option may be called ``copy`` or ``json``, like methods of the model."""
    fields: dict[str, Any] = {
        f"option_{o.name}": (o.annotation, pydantic.Field(... if o.required else o.default, alias=o.name))
        for o in options
    }
    config = pydantic.ConfigDict(extra="forbid", validate_default=True)
    return pydantic.create_model("Options", __config__=config, **fields)


def _written_default(option: Option, who: str) -> Any:
    """The default as a recipe would write it."""
    try:
        return to_jsonable_python(option.default, inf_nan_mode="constants")
    except PydanticSerializationError as error:
        raise PartError(
            f"{who}: the default of option {option.name!r} is {option.default!r}, which no recipe can "
            "hold; expected null, a number, a text, a list or a mapping"
        ) from error


def _refuse_bad_defaults(model: type[pydantic.BaseModel], schema: dict[str, Any], who: str) -> None:
    """A default that the option's own schema refuses is the part's mistake, not the user's."""
    for name, below in schema["properties"].items():
        wrong = problems(below["default"], below) if "default" in below else []
        if wrong:
            raise PartError(f"{who}: the default of option {name!r} is refused by its own type: {wrong[0].text}")


def _refused(model: type[pydantic.BaseModel], given: dict[str, Any]) -> list[Problem]:
    """What pydantic finds beyond the schema: validators of the part's own, numbers out of a float's range."""
    try:
        model.model_validate(given)
    except pydantic.ValidationError as error:
        return [Problem(tuple(e["loc"]), f"got {e['input']!r}; {e['msg']}", tuple(e["loc"])) for e in error.errors()]
    return []


def _filled(nested: Nested) -> Any:
    """A nested part as a recipe holds it: its name, or a mapping with all options."""
    if is_object(nested.value, nested.kind):
        raise PartError(f"a {nested.kind} that is built already cannot be written in a recipe; give its name")
    name, options = name_and_options(nested.kind, nested.value)
    options = fill(load(nested.kind, name), nested.kind, options)
    return {"name": name, **options} if options else name


def name_and_options(kind: str, value: Any) -> tuple[Any, dict[str, Any]]:
    """The two halves of a part given as its name, as ``{name, **options}``, or as a number where that means one."""
    if isinstance(value, Mapping):
        return value.get("name"), {k: v for k, v in value.items() if k != "name"}
    if is_number(value) and kind in NUMBER_MEANS:
        name, option = NUMBER_MEANS[kind]
        return name, {option: value}
    return value, {}


def is_number(value: Any) -> bool:
    """Whether a value is a number as YAML has them: true and false are none."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def is_object(value: Any, kind: str) -> bool:
    """Whether a value is a part that is built already."""
    base = kind_of(kind).base_class()
    return base is not None and isinstance(value, base)


def _plain(value: Any) -> Any:
    """Tuples as lists, as YAML has them; everything else as it is."""
    if isinstance(value, Mapping):
        return {k: _plain(v) for k, v in value.items()}
    return [_plain(v) for v in value] if isinstance(value, (list, tuple)) else value


def _put(value: Any, path: Path, new: Any) -> None:
    *above, last = path
    for key in above:
        value = value[key]
    value[last] = new


def _name(kind: str | Kind) -> str:
    return kind if isinstance(kind, str) else kind.name
