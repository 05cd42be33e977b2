"""Whose code numbers come of: where a metric, its extractor or a codec are from, and the libraries that they call."""

from __future__ import annotations

import functools
import hashlib
import inspect
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from pathlib import Path
from typing import Any

from ...core import FeatureExtractor, FeatureMetric, Metric

OWN = __name__.partition(".")[0]  # its version stands in every protocol, under its own name
DIGITS = 16  # of a file's digest


def libraries(metric: Metric) -> dict[str, str]:
    """The versions of the code that values come of, besides dmf's own, as a protocol has them.

    That is what a metric and its extractor name in ``libraries``, and the plugins that the two are of.

    Raises:
        ValueError: A library is not installed under that name.
    """
    names = {name for one in _parts(metric) for name in one.libraries}
    plugins = {key: text for one in _parts(metric) for key, text in plugin_of(one).items()}
    try:
        return plugins | {f"version.{name}": version(name) for name in sorted(names)}
    except PackageNotFoundError as error:
        raise ValueError(
            f"no distribution {error.name!r} is installed, which `libraries` names; write there what pip calls it"
        ) from error


def plugin_of(part: object) -> dict[str, str]:
    """The version of the plugin that a part is of, of a plain file its digest; empty for a built-in part."""
    made_by: Any = part if inspect.isfunction(part) else type(part)  # a prediction is a function
    if made_by.__module__.partition(".")[0] == OWN:
        return {}
    return {f"version.{name}": text for name, text in (_sources(made_by) or {}).items()}


def origins(metric: Metric) -> list[str] | None:
    """Distribution and version of a metric, then of its extractor; of a plain file its digest.

    None where one of them cannot be known, such as a class of an interactive session.
    """
    found = [_origin(type(one)) for one in _parts(metric)]
    return None if None in found else [one for one in found if one is not None]


def _parts(metric: Metric) -> Iterator[Metric | FeatureExtractor]:
    yield metric
    if isinstance(metric, FeatureMetric):
        yield metric.features


def _origin(part: type) -> str | None:
    """Of one class; a class on top of another is changed by that one's code too, which has its own version."""
    found = _sources(part)
    return None if found is None else ", ".join(f"{name} {text}" for name, text in found.items())


@functools.cache
def _sources(part: Any) -> Mapping[str, str] | None:
    """The distributions of a class or function, with versions; a plain file with its digest; None without either."""
    owned = _distributions().get(part.__module__.partition(".")[0])
    if owned:
        return {name: version(name) for name in sorted(set(owned))}
    try:
        file = inspect.getsourcefile(part)
        code = None if file is None else Path(file).read_bytes()
    except (OSError, TypeError):
        return None
    return None if code is None else {part.__module__: hashlib.sha256(code).hexdigest()[:DIGITS]}


@functools.cache
def _distributions() -> dict[str, list[str]]:
    return {name: list(owners) for name, owners in packages_distributions().items()}
