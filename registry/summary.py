"""One line about a part, and whether it is there, read from its source: nothing of the part is imported."""

import ast
import importlib.machinery
import os
import sys
import tokenize
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from .discover import Part
from .words import did_you_mean


@dataclass(frozen=True)
class Description:
    """What the source says of a part.

    Attributes:
        summary: First line of the docstring of the class or function, else of its module.
        problem: Why the part cannot work, with the module; None when nothing speaks against it.
    """

    summary: str
    problem: str | None = None


class _Broken(Exception):
    """Why a part cannot be described; the text is for the user."""


def describe(part: Part) -> Description:
    """The part's summary and health. That its imports work only a real import can tell: `check`."""
    module, _, attribute = part.target.partition(":")
    try:
        summary = _summary(module, attribute)
    except _Broken as error:
        return Description("", str(error))
    rivals = f"its name is also claimed by {' and '.join(part.rivals)}" if part.rivals else None
    return Description(summary, rivals)


def _summary(module: str, attribute: str) -> str:
    source = _source(module)
    if source is None:  # compiled: there is nothing to read, which is no fault
        return ""
    tree = _parsed(source, module)
    if not attribute:
        return _first_line(tree)
    found = _lookup(tree, module, attribute)
    moved = _moved(found, module, attribute)
    if moved:
        return _followed(*moved) or _first_line(tree)
    return _first_line(found) or _first_line(tree)


def _followed(module: str, attribute: str) -> str:
    """The summary behind one ``from .x import Name``; further ones are not followed."""
    source = _source(module)
    if source is None:
        return ""
    tree = _parsed(source, module)
    return _first_line(_lookup(tree, module, attribute)) or _first_line(tree)


def _source(module: str) -> str | None:
    """A module's source; None for one that has none to read."""
    spec = _spec(module)
    if spec.loader is None:
        return ""  # a folder without __init__.py
    read = getattr(spec.loader, "get_source", None)
    try:
        return read(module) if read else _text(spec.origin)
    except (ImportError, SyntaxError, UnicodeDecodeError, OSError) as error:
        raise _Broken(f"module {module} cannot be read: {_flat(error)}") from error


def _text(file: str | None) -> str | None:
    """The source of a module whose loader cannot show it, as that of pytest; None for one that is compiled."""
    if file is None or not file.endswith(".py"):
        return None
    with tokenize.open(file) as opened:
        return opened.read()


def _spec(module: str) -> importlib.machinery.ModuleSpec:
    """Where a module lies. `importlib.util.find_spec` would import the packages above it."""
    if not module:
        raise _Broken("its entry point names no module")
    parent, _, _ = module.rpartition(".")
    path = _spec(parent).submodule_search_locations if parent else None
    if parent and path is None:
        raise _Broken(f"there is no module {module}: {parent} is no package")
    found = _ask_finders(module, path)
    if found is None:
        raise _Broken(f"there is no module {module}")
    return found


def _ask_finders(name: str, path: Sequence[str] | None) -> importlib.machinery.ModuleSpec | None:
    for finder in sys.meta_path:
        find = getattr(finder, "find_spec", None)
        try:
            spec = find(name, path) if find else None
        except KeyError:  # for a nested folder without __init__.py Python's own finder wants the parent imported
            spec = _bare_folder(name, path or ())
        if spec is not None:
            found: importlib.machinery.ModuleSpec = spec
            return found
    return None


def _bare_folder(name: str, path: Sequence[str]) -> importlib.machinery.ModuleSpec | None:
    """A package without ``__init__.py`` inside another."""
    folders = [os.path.join(entry, name.rpartition(".")[2]) for entry in path]
    spec = importlib.machinery.ModuleSpec(name, None, is_package=True)
    spec.submodule_search_locations = [folder for folder in folders if os.path.isdir(folder)]
    return spec if spec.submodule_search_locations else None


def _parsed(source: str, module: str) -> ast.Module:
    try:
        return ast.parse(source)
    except (SyntaxError, ValueError, RecursionError) as error:
        line = f" (line {error.lineno})" if isinstance(error, SyntaxError) else ""
        reason = error.msg if isinstance(error, SyntaxError) else _flat(error)
        raise _Broken(f"module {module} has a syntax error: {reason}{line}") from error


def _lookup(tree: ast.Module, module: str, attribute: str) -> ast.stmt | None:
    """The statement that makes the attribute; None when only running the module can tell."""
    body: Sequence[ast.stmt] = tree.body
    found: ast.stmt | None = None
    for name in attribute.split("."):
        known = dict(_made(body))
        if name not in known:
            if "*" in known or "__getattr__" in known:
                return None
            raise _Broken(f"module {module} has no {attribute!r}{did_you_mean(name, known)}")
        found = known[name]
        if not isinstance(found, ast.ClassDef):
            return found
        body = found.body
    return found


def _made(body: Sequence[ast.stmt]) -> Iterator[tuple[str, ast.stmt]]:
    """(name, statement) of all that a block defines, imports or assigns, in branches too."""
    for statement in body:
        if isinstance(statement, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            yield statement.name, statement
        elif isinstance(statement, (ast.Import, ast.ImportFrom)):
            for alias in statement.names:
                yield alias.asname or alias.name.split(".")[0], statement
        elif hasattr(statement, "body"):  # if, try, with, for, while
            for field in ("body", "orelse", "finalbody"):
                yield from _made(getattr(statement, field, []))
            for handler in getattr(statement, "handlers", []):
                yield from _made(handler.body)
        else:
            targets = [n for n in ast.walk(statement) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)]
            yield from ((target.id, statement) for target in targets)


def _moved(statement: ast.stmt | None, module: str, attribute: str) -> tuple[str, str] | None:
    """(module, name) behind ``from .x import Name as attribute``, when it is in the same top-level package."""
    if not isinstance(statement, ast.ImportFrom):
        return None
    package = module if _spec(module).submodule_search_locations is not None else module.rpartition(".")[0]
    above = package.split(".")[: len(package.split(".")) - statement.level + 1] if statement.level else []
    origin = ".".join([*above, *([statement.module] if statement.module else [])])
    name = next(a.name for a in statement.names if (a.asname or a.name) == attribute)
    return (origin, name) if origin.split(".")[0] == module.split(".")[0] else None


def _first_line(node: ast.AST | None) -> str:
    if not isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
        return ""
    text = ast.get_docstring(node) or ""
    return text.strip().splitlines()[0].strip() if text.strip() else ""


def _flat(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
