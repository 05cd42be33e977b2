"""The classes that a command line asks for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...registry.errors import UserError

if TYPE_CHECKING:
    from ...core import DataSpec

NONE = "none"
HELP = "classes by index or name, as 0,1,2, or none: image k has the (k mod length)-th of them"


def chosen_labels(text: str | None, spec: DataSpec) -> list[int]:
    """The labels of a list as a user writes it; empty for no list. "none" is the null class.

    Raises:
        UserError: Not a class, or data without classes.
    """
    if text and not spec.classes:
        raise UserError("--labels was given, but this run's data has no classes")
    return [_label(word.strip(), spec) for word in text.split(",")] if text else []


def wanted_labels(chosen: list[int], count: int | None, spec: DataSpec) -> list[int]:
    """The label of each image: those chosen, over and over; without any, the classes in turn."""
    if not spec.classes:
        return []
    turn = chosen or list(range(len(spec.classes)))
    return spread(turn, count or 10 * len(turn))


def spread(labels: list[int], count: int) -> list[int]:
    """Label k mod n of n for image k; none of none."""
    return [labels[k % len(labels)] for k in range(count)] if labels else []


def check_unlabelled(labels: list[int], spec: DataSpec, label_dropout: float) -> None:
    """Accept images without a class.

    Raises:
        UserError: The network never saw one.
    """
    if label_dropout == 0 and spec.classes and spec.null_class in labels:
        raise UserError(
            "an image without a class needs a network that was also trained without labels, and train.label_dropout is "
            "0; say with --labels what the images show"
        )


def _label(word: str, spec: DataSpec) -> int:
    if word in spec.classes and not word.isdigit():
        return spec.classes.index(word)
    if word.isdigit() and int(word) < len(spec.classes):
        return int(word)
    if word == NONE:
        return spec.null_class
    listed = ", ".join(spec.classes[:12]) + (", ..." if len(spec.classes) > 12 else "")
    raise UserError(
        f"--labels: {word!r} is no class; write indices 0 to {len(spec.classes) - 1} or names ({listed}), or {NONE}"
    )
