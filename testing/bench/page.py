"""The part of a page that a benchmark writes, between two marks."""

from __future__ import annotations

from pathlib import Path

from ...registry import UserError


def marks(subject: str) -> tuple[str, str]:
    """The lines before and after what ``dmf bench SUBJECT`` measured."""
    return f"<!-- measured: dmf bench {subject} -->", f"<!-- end of measured: {subject} -->"


def check_page(page: Path, subject: str) -> str:
    """The page's text, which has the two marks.

    Raises:
        UserError: It has not, or there is no such page.
    """
    if not page.is_file():
        raise UserError(f"there is no page {page}; name the file that the tables go into")
    begin, end = marks(subject)
    held = page.read_text(encoding="utf-8")
    if begin not in held or end not in held:
        raise UserError(f"{page} has no place for the tables; write the lines {begin} and {end} into it")
    return held


def into_page(page: Path, subject: str, text: str) -> None:
    """Put the tables between the two marks of a page."""
    held, (begin, end) = check_page(page, subject), marks(subject)
    before, after = held.split(begin)[0], held.split(end)[1]
    page.write_text(f"{before}{begin}\n\n{text}\n{end}{after}", encoding="utf-8")
