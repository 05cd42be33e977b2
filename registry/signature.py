"""Reads the options off a part: the parameters of its constructor, or a function's keyword-only ones."""

import functools
import inspect
import types
import typing
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Union

import docstring_parser
import pydantic
from pydantic_core import CoreSchema, core_schema

from .errors import PartError
from .kinds import KINDS, Kind
from .recipe_values import span_schema

RESERVED = {"sampler": ("name", "steps", "guidance", "reference", "grid")}  # keys beside a part's own options
NUMBER_MEANS = {
    "guidance": ("cfg", "scale"),
    "average": ("fixed", "decay"),
}  # a bare number stands for this part with this option
_SEVERAL = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


@dataclass(frozen=True)
class Option:
    """One option of a part.

    Attributes:
        name: The parameter's name.
        annotation: Its type; a base class of parts has become `NestedKind`.
        default: Its default; `inspect.Parameter.empty` when it must be given.
        description: What the docstring says of it.
    """

    name: str
    annotation: Any
    default: Any
    description: str

    @property
    def required(self) -> bool:
        """Whether there is no default."""
        return self.default is inspect.Parameter.empty


@dataclass(frozen=True)
class Nested:
    """A part that is another part's option: its name, a mapping of name and options, or an object built already."""

    kind: str
    value: Any


@dataclass(frozen=True)
class NestedKind:
    """Stands in an annotation for a base class of parts: pydantic wraps what is given there in `Nested`."""

    kind: str

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(self._wrapped)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: Any) -> dict[str, Any]:
        return part_schema(self.kind)

    def _wrapped(self, value: Any) -> Nested:
        if value is None:
            raise ValueError("expected a part")
        return value if isinstance(value, Nested) else Nested(self.kind, value)


def part_schema(kind: str) -> dict[str, Any]:
    """The JSON Schema of a place where a part stands; its options are checked against the part's own."""
    types = ["number"] if kind in NUMBER_MEANS else []
    return {
        "x-part": kind,
        "type": [*types, "string", "object"],
        "required": ["name"],
        "properties": {"name": {"type": "string", "x-name": kind}},
    }


def title(target: Callable[..., Any], kind: str) -> str:
    """How messages call a part of which only the class is known: ``sampler DDIM``."""
    return f"{kind} {getattr(target, '__qualname__', target)}"


def options_of(target: Callable[..., Any], kind: Kind) -> list[Option]:
    """The options, in the order of the signature.

    Raises:
        PartError: ``**kwargs``, a missing leading parameter, a reserved name, an annotation that cannot be resolved.
    """
    function = _constructor(target) if isinstance(target, type) else target
    chosen = _of_class(target, function, kind) if isinstance(target, type) else _of_function(target, kind)
    texts = _descriptions(target)
    found = [
        Option(p.name, _annotation(p, function, title(target, kind.name)), p.default, texts.get(p.name, ""))
        for p in chosen
    ]
    reserved = RESERVED.get(kind.name, ("name",))
    for option in found:
        if option.name in reserved:
            raise PartError(
                f"{title(target, kind.name)}: an option cannot be called {option.name!r}; in recipes "
                f"{', '.join(reserved)} mean something else"
            )
    return found


def _constructor(cls: type) -> Callable[..., Any]:
    """The ``__init__`` of the class; one that torch or Python supplies takes no options."""
    owner = next(c for c in cls.__mro__ if "__init__" in vars(c))
    if owner.__module__.split(".")[0] in ("builtins", "torch", "abc", "typing"):
        return lambda self: None
    init: Callable[..., Any] = vars(owner)["__init__"]
    return init


def _of_class(cls: type, init: Callable[..., Any], kind: Kind) -> list[inspect.Parameter]:
    """The constructor's parameters but for ``self`` and those that the caller supplies."""
    found = list(inspect.signature(init).parameters.values())[1:]
    given, found = found[: len(kind.given)], found[len(kind.given) :]
    if tuple(p.name for p in given) != kind.given:
        raise PartError(f"{title(cls, kind.name)}: its constructor must begin (self, {', '.join(kind.given)}, ...)")
    _refuse_open_ends(found, title(cls, kind.name))
    return [p for p in found if p.kind not in _SEVERAL]


def _of_function(function: Callable[..., Any], kind: Kind) -> list[inspect.Parameter]:
    """A function's keyword-only parameters: the positional ones are the caller's."""
    found = list(inspect.signature(function).parameters.values())
    _refuse_open_ends(found, title(function, kind.name))
    return [p for p in found if p.kind is inspect.Parameter.KEYWORD_ONLY]


def _refuse_open_ends(parameters: list[inspect.Parameter], who: str) -> None:
    for parameter in parameters:
        if parameter.kind is inspect.Parameter.VAR_KEYWORD:
            raise PartError(f"{who}: **{parameter.name} hides its options; each must be spelt out, with its type")


def _annotation(parameter: inspect.Parameter, function: Callable[..., Any], who: str) -> Any:
    """The parameter's type with its ranges, resolved where the function was written."""
    if parameter.annotation is inspect.Parameter.empty:
        return Any

    def alone() -> None: ...

    # resolved one by one: another parameter's type may exist for type checkers only
    alone.__annotations__ = {parameter.name: parameter.annotation}
    try:
        known = getattr(inspect.unwrap(function), "__globals__", {})
        hints = typing.get_type_hints(alone, known, include_extras=True)
    except (NameError, AttributeError, TypeError, SyntaxError) as error:
        raise PartError(
            f"{who}: the type of option {parameter.name!r}, {parameter.annotation!r}, cannot be resolved: {error}"
        ) from error
    return _with_nested(hints[parameter.name])


def _with_nested(annotation: Any) -> Any:
    """The type with each base class of parts replaced by its `NestedKind`, and core's notes on types by schemas."""
    kinds = _kinds_by_base()
    if isinstance(annotation, type) and annotation in kinds:
        return Annotated[Any, NestedKind(kinds[annotation])]
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Annotated:
        inner, notes = _with_nested(arguments[0]), tuple(_schema_of(note) for note in arguments[1:])
        is_same = inner is arguments[0] and notes == arguments[1:]
        return annotation if is_same else Annotated[(inner, *notes)]
    if origin is typing.Literal or not arguments:
        return annotation
    if origin in (Union, types.UnionType):
        return _union(arguments)
    changed = tuple(a if isinstance(a, list) or a is ... else _with_nested(a) for a in arguments)
    return annotation if changed == arguments else origin[changed]


def _schema_of(note: Any) -> Any:
    from ..core.spans import IsSpan  # late: whoever has parts to read has imported core

    return span_schema(note.least) if isinstance(note, IsSpan) else note


def _union(members: tuple[Any, ...]) -> Any:
    """The members that a recipe can hold, in place of all (``float | Tensor``); a part's name is no text beside it."""
    changed = [_with_nested(m) for m in members]
    parts = [c for c, m in zip(changed, members, strict=True) if c is not m]
    kept = [c for c in changed if c in parts or (_writable(c) and not (parts and c is str))]
    return Union[tuple(kept or members)]  # noqa: UP007 - made of a tuple


def _writable(annotation: Any) -> bool:
    try:
        pydantic.TypeAdapter(annotation).json_schema()
    except pydantic.errors.PydanticUserError:
        return False
    return True


@functools.lru_cache(maxsize=1)
def _kinds_by_base() -> dict[type, str]:
    bases = {kind.base_class(): kind.name for kind in KINDS.values() if kind.base}
    return {base: name for base, name in bases.items() if base is not None}


def _descriptions(target: Callable[..., Any]) -> dict[str, str]:
    """Parameter -> what the docstrings say of it: a class's own, its constructor's, and those that it inherits."""
    found: dict[str, str] = {}
    owners = reversed(target.__mro__[:-1]) if isinstance(target, type) else [target]
    for owner in owners:
        texts = [getattr(vars(owner).get("__init__"), "__doc__", None), owner.__doc__]
        for text in filter(None, texts):
            found |= described(text)
    return found


def described(text: str) -> dict[str, str]:
    """The entries under ``Args:`` and ``Attributes:`` of a docstring, each on one line."""
    try:
        entries = docstring_parser.parse(inspect.cleandoc(text), style=docstring_parser.Style.GOOGLE).params
    except docstring_parser.ParseError:  # somebody's docstring in another style describes nothing
        return {}
    return {p.arg_name: " ".join((p.description or "").split()) for p in entries}
