"""Finds plugins, reads and validates recipes, builds objects.

Names are loaded when they are first used: listing plugins and recipes must not wait for torch or pydantic.
"""

import importlib
from typing import TYPE_CHECKING, Any

from .build import build  # eager and light, so that the name means the function, never the module
from .errors import PartError, RecipeError, UserError

if TYPE_CHECKING:
    from .discover import Part, find, load, parts
    from .hooks import HookCaller, Hooks, RunInfo
    from .kinds import KINDS, Kind, kind_of
    from .marks import hookimpl, hookspec
    from .recipe import differences, read, recipe_schema
    from .recipe_parts import PartRef, SamplerRef
    from .recipe_types import Compute, Recipe
    from .recipe_values import InitFrom, Reference
    from .summary import Description, describe

_HOME = {
    "discover": ("Part", "find", "load", "parts"),
    "hooks": ("HookCaller", "Hooks", "RunInfo"),
    "kinds": ("KINDS", "Kind", "kind_of"),
    "marks": ("hookimpl", "hookspec"),
    "recipe": ("differences", "read", "recipe_schema"),
    "recipe_parts": ("PartRef", "SamplerRef"),
    "recipe_types": ("Compute", "Recipe"),
    "recipe_values": ("InitFrom", "Reference"),
    "summary": ("Description", "describe"),
}
_MODULE = {name: module for module, names in _HOME.items() for name in names}

__all__ = [
    "KINDS",
    "Compute",
    "Description",
    "HookCaller",
    "Hooks",
    "InitFrom",
    "Kind",
    "Part",
    "PartError",
    "PartRef",
    "Recipe",
    "RecipeError",
    "Reference",
    "RunInfo",
    "SamplerRef",
    "UserError",
    "build",
    "describe",
    "differences",
    "find",
    "hookimpl",
    "hookspec",
    "kind_of",
    "load",
    "parts",
    "read",
    "recipe_schema",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module("." + _MODULE[name], __name__), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
