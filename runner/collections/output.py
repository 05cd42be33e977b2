"""The folder that a set is made in: nobody else's, one writer at a time, carried on after any end.

Pictures are written before the lines that tell of them. So whatever was stopped, however it was stopped, a manifest
tells of nothing that is not there, and a picture without a line is written again, the same.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

from ...files.prepared import BEGUN, MANIFEST, PART
from ...files.words import few
from ...files.writing import set_aside
from ...registry import UserError
from .manifest import Record, head_of, line, record_line, records

MANY = 1024  # records checked at a time


class Output:
    """A folder that a set is made in.

    What was begun is kept beside the manifest: its head, and stamps that tell whether a source has changed since.

    Args:
        folder: May be there, if it is empty or was begun by this command.

    Attributes:
        manifest: There when all is done.
        part: The manifest until then.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.manifest = folder / MANIFEST
        self.part = folder / PART
        self._begun: TextIO | None = None
        self._lines: TextIO | None = None

    @property
    def done(self) -> bool:
        """Whether all is done."""
        return self.manifest.exists()

    def __enter__(self) -> Output:
        self._check_ours()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._begun = open(self.folder / BEGUN, "a+", encoding="utf-8")
        except OSError as error:
            raise UserError(
                f"--out {self.folder} cannot be made or written: {error.strerror}; choose another"
            ) from None
        try:
            fcntl.flock(self._begun, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._begun.close()
            raise UserError(f"{self.folder} is being made by another dmf process; wait for it, or stop it") from None
        return self

    def __exit__(self, *error: object) -> None:
        for file in (self._lines, self._begun):
            if file is not None:
                with contextlib.suppress(OSError):  # a full disk was told of already, and takes no last line either
                    file.close()

    def _check_ours(self) -> None:
        """Refuse what holds something else.

        Raises:
            UserError: Saying what.
        """
        if self.folder.exists() and not self.folder.is_dir():
            raise UserError(f"--out {self.folder} is a file; give a folder, a new one or an empty one")
        there = sorted(os.listdir(self.folder)) if self.folder.exists() else []
        if there and BEGUN not in there and head_of(self.manifest) is None:
            raise UserError(
                f"--out {self.folder} holds something else already ({few(there)}); nothing is overwritten: "
                "give a new folder or an empty one"
            )

    # what was begun

    def begin(self, head: Mapping[str, Any], stamps: Sequence[str]) -> None:
        """Begin, or carry on what was begun with the same words.

        Args:
            head: Everything that decides what is written.
            stamps: Of the sources: what changes when a file does.

        Raises:
            UserError: Something else was begun here.
        """
        assert self._begun is not None
        now = {"head": dict(head), "stamps": list(stamps)}
        self._begun.seek(0)
        then = _parsed(self._begun.read())
        if then is None and (self.done or self.part.exists()):
            raise UserError(f"{self.folder / BEGUN} is damaged or gone; begin again with --fresh")
        if then not in (None, now) and self._has_nothing():
            self.manifest.unlink()  # nothing to protect: a mistake in the options that was mended
            then = None
        if then is not None:
            check_same(self.folder, then, now, done=self.done)
            return
        self._begun.truncate(0)
        self._begun.write(json.dumps(now))
        self._begun.flush()
        os.fsync(self._begun.fileno())

    def _has_nothing(self) -> bool:
        """Whether all is done, and no picture was left."""
        return self.done and not any(record.file for record, _ in records(self.manifest))

    def carry_on(self, head: Mapping[str, Any], expected: Sequence[str]) -> list[Record]:
        """Open the manifest for more lines, behind those that hold.

        Args:
            head: Its first line.
            expected: The sources in order: a line that tells of another one does not hold.

        Returns:
            What holds: lines that are whole, whose pictures are there as they were written.
        """
        if self.done:
            os.replace(self.manifest, self.part)  # some of it was lost: it is not done any more
        if head_of(self.part) != head:
            self.part.write_text(line(head), encoding="utf-8")
        held = list(self.held(self.part, expected))
        end = held[-1][1] if held else len(line(head).encode())
        os.truncate(self.part, end)
        self._lines = open(self.part, "a", encoding="utf-8")  # noqa: SIM115 - closed at the end
        return [record for record, _ in held]

    def is_whole(self, expected: Sequence[str]) -> bool:
        """Whether the manifest tells of these sources, of no other, and all that it tells of is there."""
        ends = [end for _, end in self.held(self.manifest, expected)]
        return len(ends) == len(expected) and (not ends or ends[-1] == self.manifest.stat().st_size)

    def held(self, file: Path, expected: Sequence[str]) -> Iterator[tuple[Record, int]]:
        """The lines of a manifest up to the first one that does not hold, each with where it ends in bytes."""
        rows = zip(records(file), expected, strict=False)
        with ThreadPoolExecutor() as pool:
            while many := list(islice(rows, MANY)):
                good = pool.map(lambda row: row[0][0].source == row[1] and self._is_there(row[0][0]), many)
                for (one, _), holds in zip(many, good, strict=True):
                    if not holds:
                        return
                    yield one

    def _is_there(self, record: Record) -> bool:
        if record.file is None:
            return True
        try:
            content = (self.folder / record.file).read_bytes()
        except OSError:
            return False
        return hashlib.sha256(content).hexdigest() == record.file_sha256

    # writing

    def place(self, name: str, content: bytes) -> None:
        """Write a picture."""
        path = self.folder / name
        try:
            path.write_bytes(content)
        except FileNotFoundError:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)

    def tell(self, many: Sequence[Record]) -> None:
        """Add the lines of pictures, which lie there already."""
        assert self._lines is not None
        self._lines.write("".join(map(record_line, many)))
        self._lines.flush()

    def finish(self) -> None:
        """The manifest is whole."""
        assert self._lines is not None
        os.fsync(self._lines.fileno())
        self._lines.close()
        os.replace(self.part, self.manifest)


def _parsed(text: str) -> dict[str, Any] | None:
    try:
        then = json.loads(text)
    except ValueError:
        return None
    return then if isinstance(then, dict) and {"head", "stamps"} <= then.keys() else None


def check_same(folder: Path, then: Mapping[str, Any], now: Mapping[str, Any], *, done: bool) -> None:
    """Refuse to go on with something else than was begun; of what is done, other versions make no difference.

    Raises:
        UserError: Saying what differs.
    """
    wrong = list(_differing(then, now, done))
    if wrong:
        what = "was made" if done else "was begun"
        raise UserError(
            f"{folder} {what} otherwise:\n" + "\n".join(f"  {one}" for one in wrong) + "\ngive the command as it was "
            "then, another --out, or --fresh to begin again (the old folder is kept aside)"
        )


def _differing(then: Mapping[str, Any], now: Mapping[str, Any], done: bool) -> Iterator[str]:
    old, new = then["head"], now["head"]
    for part in ("options",) if done else ("options", "versions"):
        for name in sorted({*old[part], *new[part]}):
            before, after = old[part].get(name), new[part].get(name)
            if before != after:
                yield f"{name}: {before} then, {after} now"
    roots = [[one["root"] for one in head["sources"]] for head in (old, new)]
    if roots[0] != roots[1]:
        yield f"sources: {', '.join(roots[0])} then, {', '.join(roots[1])} now"
        return
    for before, after, *stamps in zip(old["sources"], new["sources"], then["stamps"], now["stamps"], strict=True):
        if before["pictures"] != after["pictures"]:
            yield f"{before['root']}: {before['pictures']:,} pictures then, {after['pictures']:,} now"
        elif before["names"] != after["names"]:
            yield f"{before['root']}: as many pictures, with other names or labels"
        elif stamps[0] != stamps[1]:
            yield f"{before['root']}: files have changed: other sizes or times"


def begin_again(folder: Path) -> Path | None:
    """Rename what was made in a folder, unless somebody writes there or it is something else; where it is now."""
    if not folder.is_dir() or not any(folder.iterdir()):
        return None
    with Output(folder):
        return set_aside(folder)
