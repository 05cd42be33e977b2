"""A recipe as MLflow parameters: flat names, values as on the command line, within MLflow's limits."""

import hashlib
import json
import posixpath
import re
from collections.abc import Mapping
from typing import Any

from ...files.words import short

PARAM_CHARS = 6000
NAME_CHARS = 250
DIGEST_CHARS = 8
CHANGED = "dmf.changed."


def flatten(tree: Any, prefix: str = "") -> dict[str, str]:
    """Every leaf of nested mappings and lists by its dotted path: `{"a": {"b": [1]}}` gives `{"a.b.0": "1"}`."""
    children: list[tuple[Any, Any]] = []
    if isinstance(tree, Mapping):
        children = list(tree.items())
    elif isinstance(tree, list | tuple):
        children = list(enumerate(tree))
    if not children:
        return {as_name(prefix): short(_value(tree), PARAM_CHARS)}
    flat: dict[str, str] = {}
    for key, child in children:
        flat.update(flatten(child, f"{prefix}.{key}" if prefix else str(key)))
    return flat


def as_name(text: str, longest: int = NAME_CHARS) -> str:
    """The text as a name that MLflow takes for a metric, parameter, tag or image.

    Args:
        text: Any.
        longest: The length that a name may have; a longer one ends in a digest of all of it, so that no two become one.
    """
    plain = re.sub(r"[^A-Za-z0-9_\-. :/]", "_", text)
    # MLflow reads names as paths, and refuses those with an empty, `.` or `..` part
    name = posixpath.normpath(plain).lstrip("./") or "_"
    if len(name) <= longest:
        return name
    return f"{name[: longest - DIGEST_CHARS - 1]}-{hashlib.sha256(text.encode()).hexdigest()[:DIGEST_CHARS]}"


def changed_tags(
    known: Mapping[str, str], known_tags: Mapping[str, str], params: Mapping[str, str]
) -> tuple[dict[str, str], list[str]]:
    """Tags to set for parameters that differ from MLflow's (it lets none change), and such tags that are outdated."""
    changed = {as_name(CHANGED + key): value for key, value in params.items() if known.get(key, value) != value}
    outdated = [tag for tag in known_tags if tag.startswith(CHANGED) and tag not in changed]
    return changed, outdated


def _value(leaf: Any) -> str:
    return leaf if isinstance(leaf, str) else json.dumps(leaf, default=str)
