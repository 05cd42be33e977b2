"""Builds a part from its kind, its name and its options."""

import functools
from typing import TYPE_CHECKING, Any

from .errors import PartError, UserError

if TYPE_CHECKING:
    from .signature import Nested


def build(kind: str, name: str, /, *given: Any, **options: Any) -> Any:
    """A part, ready to use.

    Args:
        kind: ``sampler``, ``backbone``, ...
        name: The part's name in its registry.
        given: What the caller supplies and a recipe does not: a backbone's or a codec's `DataSpec`.
        options: The part's options. Where one is a part itself, its name, ``{name, **options}`` or a finished object.

    Returns:
        An object of the class. For a function: the function itself, or with options a `functools.partial` of it.

    Raises:
        PartError: The part is unknown or broken, or does not take these options.
    """
    from .discover import find, load  # late: `import dmf.registry` answers at once
    from .options import arguments, check, replaced

    part = find(kind, name)
    target = load(part)
    wrong = check(target, kind, options)
    if wrong:
        raise PartError("\n".join(p.of_part(f"{kind} {name!r}") for p in wrong))
    values = replaced(arguments(target, kind, options), _built)
    if not isinstance(target, type):
        return functools.partial(target, *given, **values) if given or options else target
    try:
        return target(*given, **values)
    except UserError:
        raise
    except ValueError as error:
        raise PartError(f"{kind} {name!r} of {part.source}: {error}") from error


def _built(nested: "Nested") -> Any:
    """The object that a nested part stands for."""
    from .options import is_object, name_and_options

    if is_object(nested.value, nested.kind):
        return nested.value
    name, options = name_and_options(nested.kind, nested.value)
    return build(nested.kind, name, **options)
