"""Whose code a metric's numbers come of: where it and its extractor are from, and the libraries that they call."""

from __future__ import annotations

import functools
import hashlib
import inspect
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from pathlib import Path

from ...core import FeatureExtractor, FeatureMetric, Metric

DIGITS = 16  # of a file's digest


def libraries(metric: Metric) -> dict[str, str]:
    """The versions of what a metric and its extractor name in ``libraries``, as a protocol has them.

    Raises:
        ValueError: One of them is not installed under that name.
    """
    names = {name for one in _parts(metric) for name in one.libraries}
    try:
        return {f"version.{name}": version(name) for name in sorted(names)}
    except PackageNotFoundError as error:
        raise ValueError(
            f"no distribution {error.name!r} is installed, which `libraries` names; write there what pip calls it"
        ) from error


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


@functools.cache
def _origin(part: type) -> str | None:
    """Of one class; a class on top of another is changed by that one's code too, which has its own version."""
    owned = _distributions().get(part.__module__.partition(".")[0])
    if owned:
        return ", ".join(f"{name} {version(name)}" for name in sorted(set(owned)))
    try:
        file = inspect.getsourcefile(part)
        code = None if file is None else Path(file).read_bytes()
    except (OSError, TypeError):
        return None
    return None if code is None else f"{part.__module__} {hashlib.sha256(code).hexdigest()[:DIGITS]}"


@functools.cache
def _distributions() -> dict[str, list[str]]:
    return {name: list(owners) for name, owners in packages_distributions().items()}
