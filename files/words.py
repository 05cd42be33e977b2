"""Names of files and numbers of things as a message has them."""

from __future__ import annotations

from collections.abc import Sequence

MOST_NAMED = 10  # lines in one message
LONG_NAME = 256  # characters; most systems allow a file so many bytes


def printable(text: str) -> str:
    """A name with what cannot be shown (control characters, bytes that are no UTF-8) as escapes."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def brief(text: str) -> str:
    """The same for a message: of a name that is longer than names are, its beginning and its end."""
    shown = printable(text)
    return shown if len(shown) <= LONG_NAME else f"{shown[: LONG_NAME // 2]} ... {shown[-LONG_NAME // 4 :]}"


def short(text: str, longest: int) -> str:
    """A text that fits where there is room for so many letters: of a longer one the beginning."""
    return text if len(text) <= longest else text[: longest - 1] + "…"


def few(names: Sequence[str], between: str = ", ", most: int = 4) -> str:
    """The first of them, four unless told, in one line."""
    return between.join([*map(brief, names[:most]), *(["..."] if len(names) > most else [])])


def a_line_each(lines: Sequence[str]) -> str:
    """The first ten of them, and how many more there are; each after a break."""
    more = [f"and {len(lines) - MOST_NAMED} more"] if len(lines) > MOST_NAMED else []
    return "".join(f"\n  {line}" for line in [*lines[:MOST_NAMED], *more])


def counted(number: int, one: str, many: str | None = None) -> str:
    """A number with its noun: 1 file, 2 files.

    Args:
        number: Of things.
        one: What a single one is called.
        many: What several are called; None adds an s.
    """
    return f"{number} {one if number == 1 else many or one + 's'}"


def told_size(length: int) -> str:
    """Bytes as a person reads them: 1.2 GiB."""
    for unit, one in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if length >= one:
            return f"{length / one:.1f} {unit}"
    return f"{length} bytes"
