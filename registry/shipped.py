"""The recipes that come with the package."""

import importlib.resources
from typing import TYPE_CHECKING

from .errors import RecipeError
from .words import unknown

if TYPE_CHECKING:
    from importlib.abc import Traversable

_SUFFIX = ".yaml"


def shipped() -> list[str]:
    """Their names, without ``.yaml``."""
    return sorted(f.name.removesuffix(_SUFFIX) for f in _folder().iterdir() if f.name.endswith(_SUFFIX))


def text(name: str) -> str:
    """A recipe's text; the name may end in ``.yaml``.

    Raises:
        RecipeError: There is no such recipe.
    """
    plain = name.removesuffix(_SUFFIX)
    if plain not in shipped():
        raise RecipeError(unknown("recipe", name, shipped()))
    return _folder().joinpath(plain + _SUFFIX).read_text(encoding="utf-8")


def place(name: str) -> str:
    """Where a recipe's file lies, for messages."""
    return str(_folder().joinpath(name.removesuffix(_SUFFIX) + _SUFFIX))


def headline(name: str) -> str:
    """The first comment line: what the recipe is for."""
    comments = (line.strip() for line in text(name).splitlines())
    return next((line.lstrip("# ").rstrip() for line in comments if line.startswith("#") and line.strip("# ")), "")


def _folder() -> "Traversable":
    return importlib.resources.files(__package__.partition(".")[0]).joinpath("recipes")
