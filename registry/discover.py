"""Finds the parts that are installed, from packaging metadata alone, and imports one when it is asked for.

Built-in parts come through the same door as anybody's: entry points in the groups of `kinds.KINDS`. ``DMF_PLUGINS=a,b``
limits third-party distributions to those named; ``DMF_PLUGINS=`` leaves the built-in parts only.
"""

import email
import functools
import importlib
import importlib.metadata
import os
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from .errors import PartError
from .kinds import KINDS, Kind, kind_of
from .words import unknown

BUILT_IN = "dmf"
LIMIT = "DMF_PLUGINS"


@dataclass(frozen=True)
class Part:
    """One part as its distribution's metadata names it; nothing of it is imported.

    Attributes:
        kind: The kind's name, ``sampler``.
        name: What recipes call it.
        target: ``module:attribute``.
        distribution: The installed distribution it comes from.
        version: That distribution's version.
        rivals: The sources of other parts with this kind and name; such a part cannot be used.
    """

    kind: str
    name: str
    target: str
    distribution: str
    version: str
    rivals: tuple[str, ...] = ()

    @property
    def source(self) -> str:
        """``acme-sampler 0.1 (acme_sampler:Acme)``."""
        return f"{self.distribution} {self.version} ({self.target})"


def parts(kind: str | None = None) -> list[Part]:
    """Every part (of one kind) that is installed and not shut out by ``DMF_PLUGINS``, by kind and name."""
    kinds = list(KINDS) if kind is None else [kind_of(kind).name]
    limits = _limits()
    allowed = [p for p in _installed() if p.kind in kinds and _allowed(p, limits)]
    return sorted(map(functools.partial(_with_rivals, allowed), allowed), key=lambda p: (kinds.index(p.kind), p.name))


def find(kind: str, name: str) -> Part:
    """The part of that name; `PartError` when there is none, or more than one."""
    known = parts(kind)
    found = [p for p in known if p.name == name]
    if not found:
        limited = f"; {LIMIT} shuts others out" if LIMIT in os.environ else ""
        hint = f" (parts come from installed packages: `dmf plugins` lists them{limited})"
        raise PartError(unknown(kind, name, {p.name for p in known}, hint))
    if found[0].rivals:
        sources = " and ".join(p.source for p in found)
        raise PartError(f"{kind} {name!r} is claimed by {sources}: uninstall one, or choose with {LIMIT}=NAME")
    return found[0]


def load(part: Part | str, name: str | None = None) -> Any:
    """Import a part, given as a `Part` or as kind and name: its class or function, checked against its kind."""
    if isinstance(part, str):
        assert name is not None, "load(kind, name)"
        part = find(part, name)
    target = _import(part)
    _fits(part, kind_of(part.kind), target)
    return target


def unknown_limits() -> list[str]:
    """The names in ``DMF_PLUGINS`` that no installed distribution with parts has."""
    known = {_normal(p.distribution) for p in _installed()}
    return [name for name in _limits() or () if _normal(name) not in known]


def _import(part: Part) -> Any:
    module, _, path = part.target.partition(":")
    try:
        found: Any = importlib.import_module(module)
        return functools.reduce(getattr, path.split(".") if path else [], found)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # also sys.exit() at import: whatever it is, it is the part's fault
        raise PartError(
            f"{part.kind} {part.name!r} of {part.source} cannot be imported: {type(error).__name__}: {error}"
        ) from error


def _fits(part: Part, kind: Kind, target: Any) -> None:
    """`PartError` when what was imported is not of its kind."""
    base = kind.base_class()
    fits = isinstance(target, type) if kind.is_class else callable(target)
    if fits and (base is None or issubclass(target, base)):
        return
    wanted = f"a class derived from {kind.base}" if kind.base else "a class" if kind.is_class else "a function"
    what = f"the class {target.__qualname__}" if isinstance(target, type) else f"a {type(target).__name__}"
    raise PartError(f"{part.kind} {part.name!r} of {part.source} is {what}, expected {wanted}")


def _with_rivals(known: list[Part], part: Part) -> Part:
    """The part, with the sources of others of its name."""
    others = {p.source for p in known if (p.kind, p.name) == (part.kind, part.name)} - {part.source}
    return replace(part, rivals=tuple(sorted(others)))


def _limits() -> list[str] | None:
    """The names in ``DMF_PLUGINS``; None when it is not set."""
    text = os.environ.get(LIMIT)
    return None if text is None else [n.strip() for n in text.split(",") if n.strip()]


def _allowed(part: Part, limits: list[str] | None) -> bool:
    name = _normal(part.distribution)
    return limits is None or name == BUILT_IN or name in map(_normal, limits)


def _normal(name: str) -> str:
    """A distribution's name as PEP 503 compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _installed() -> tuple[Part, ...]:
    """All parts; scanned again only when a folder of ``sys.path`` has changed."""
    return _scan(tuple((path, _changed(path)) for path in sys.path))


def _changed(path: str) -> int:
    try:
        return os.stat(path or ".").st_mtime_ns
    except OSError:
        return 0


@functools.lru_cache(maxsize=8)
def _scan(_state: tuple[tuple[str, int], ...]) -> tuple[Part, ...]:
    """The parts of every distribution; of two with one name the first on ``sys.path`` counts, as for imports."""
    kinds = {kind.group: kind.name for kind in KINDS.values()}
    found: dict[str, list[Part]] = {}
    for installed in importlib.metadata.distributions():
        text = installed.read_text("entry_points.txt") or ""
        if "dmf." not in text:
            continue
        name, version = _identity(installed)
        entries = [(kinds[group], *rest) for group, *rest in _entries(text) if group in kinds]
        found.setdefault(_normal(name), [Part(kind, part, target, name, version) for kind, part, target in entries])
    return tuple(dict.fromkeys(p for several in found.values() for p in several))


def _entries(text: str) -> Iterator[tuple[str, str, str]]:
    """(group, name, target) of an ``entry_points.txt``; a mangled line must not hide the others, as the library's
    own reading lets it."""
    group = ""
    for line in map(str.strip, text.splitlines()):
        if line.startswith("["):
            group = line.strip("[]").strip()
        elif line and not line.startswith(("#", ";")):
            name, _, target = line.partition("=")
            yield group, name.strip(), target.partition("[")[0].replace(" ", "").strip()


def _identity(installed: importlib.metadata.Distribution) -> tuple[str, str]:
    """Name and version, also from metadata that lacks them."""
    headers = email.message_from_string(installed.read_text("METADATA") or installed.read_text("PKG-INFO") or "")
    return str(headers["Name"] or "unknown"), str(headers["Version"] or "unknown")
