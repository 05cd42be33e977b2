"""Reads the project's pages: fenced blocks, links, headings and the commands that they name."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
FENCE = re.compile(r"^```(\w+)(?: file=(\S+))?\n(.*?)^```$", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


@dataclass(frozen=True)
class Block:
    """A fenced block.

    Attributes:
        page: Where it stands.
        line: Number of its first line in the page.
        language: The word after the fence.
        file: The file that it quotes; empty for none.
        text: What is in it.
    """

    page: Path
    line: int
    language: str
    file: str
    text: str


def blocks(page: Path, *languages: str) -> list[Block]:
    """The blocks in these languages that quote no file, in order."""
    return [b for b in every_block(page) if b.language in languages and not b.file]


def every_block(page: Path) -> Iterator[Block]:
    """All blocks of a page."""
    text = page.read_text(encoding="utf-8")
    for found in FENCE.finditer(text):
        language, file, content = found.groups()
        yield Block(page, text.count("\n", 0, found.start()) + 2, language, file or "", content)


def run(block: Block, names: dict[str, object]) -> None:
    """Run a Python block; a failure names the page's line."""
    exec(compile("\n" * (block.line - 1) + block.text, str(block.page), "exec"), names)


def prose(page: Path) -> str:
    """A page without its blocks."""
    return FENCE.sub("", page.read_text(encoding="utf-8"))


def anchors(page: Path) -> set[str]:
    """What ``page.md#...`` may name: the headings as GitHub spells them."""
    headings = re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def commands(page: Path) -> list[list[str]]:
    """The words after each ``dmf`` in shell blocks and in `code`, those that are a whole command."""
    lines = [line for block in blocks(page, "sh", "bash", "console") for line in block.text.splitlines()]
    lines += re.findall(r"`([^`\n]*)`", prose(page))
    return [words for line in lines for words in _dmf(line)]


def _dmf(line: str) -> Iterator[list[str]]:
    """The words of each dmf command in a line: ``A=b dmf x && dmf y``, ``torchrun ... -m dmf x``."""
    try:
        words = shlex.split(line, comments=True)
    except ValueError:  # a piece of prose in backticks, not a command
        return
    for command in _split(words, "&&"):
        while command and re.fullmatch(r"[A-Z_]+=\S*", command[0]):
            command = command[1:]
        if command[:1] in (["torchrun"], ["python"]) and "dmf" in command:
            command = command[command.index("dmf") :]
        if len(command) > 1 and command[0] == "dmf":
            yield command[1:]


def _split(words: list[str], at: str) -> Iterator[list[str]]:
    while at in words:
        yield words[: words.index(at)]
        words = words[words.index(at) + 1 :]
    yield words
