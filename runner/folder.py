"""The folder of a run: what lies where, and that only one run writes in it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from ..files.writing import NO_ROOM, set_aside, write_text
from ..registry import UserError

LOOKS_S = 0.5  # longer than anybody needs to look whether a folder is held, which is by a lock, too


@dataclass(frozen=True)
class Holder:
    """The process that writes in a run's folder.

    Attributes:
        pid: Its number; 0 where it is not known.
        host: Its machine.
    """

    pid: int
    host: str

    def __str__(self) -> str:
        return f"pid {self.pid or 'unknown'} on {self.host or 'an unknown machine'}"


class InUse(UserError):
    """Another process writes in a run's folder.

    Args:
        path: The folder.
        holder: That process.
    """

    def __init__(self, path: Path, holder: Holder) -> None:
        super().__init__(
            f"{path} is in use by another dmf process ({holder}); wait for it, stop it, let this one take its place "
            "(--restart), or give this run another name: name=..."
        )


class RunFolder:
    """`runs/<name>/`.

    Attributes:
        path: The folder.
        recipe: The resolved recipe.
        network: What the network consists of.
        left_out: Data that could not be read, if there are any.
        started: What became of the weights that it began with, if it did with some.
        checkpoints: One folder a checkpoint.
        averages: Averages that were kept while training went on, and what was made of them.
        samples: Pictures.
        metrics: The results of the evaluation.
        history: A line per logged step.
        evaluations: A line per evaluation while training went on.
        log: What the screen said.
        lock: Locked by its only writer, and says who that is.
        request: There while another process asks the writer to stop.
        heeded: What becomes of it once the writer has heard it, until it has left.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.recipe = path / "recipe.yaml"
        self.facts = path / "facts.json"
        self.spec = path / "spec.json"
        self.examples = path / "examples.safetensors"
        self.done = path / "done.json"
        self.network = path / "network.txt"
        self.left_out = path / "left_out.txt"
        self.started = path / "init_from.txt"
        self.checkpoints = path / "checkpoints"
        self.averages = path / "averages"
        self.samples = path / "samples"
        self.metrics = path / "metrics.json"
        self.history = path / "history.jsonl"
        self.evaluations = path / "evaluations.jsonl"
        self.log = path / "log.txt"
        self.lock = path / ".lock"
        self.request = path / ".stop"
        self.heeded = path / ".stop.heeded"
        self._lock: TextIO | None = None

    @property
    def recipe_as_trained(self) -> Path:
        """The recipe as it was before the best setting of a sweep was written into it."""
        first = self.path / "recipe.1.yaml"
        return first if first.exists() else self.recipe

    def hold(self) -> None:
        """Make the folder, and be its only writer until the process ends, however it ends.

        Raises:
            InUse: Another process holds it.
            UserError: Nothing can be written there.
        """
        with self._made():
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock = open(self.lock, "a+", encoding="utf-8")  # noqa: SIM115 - held as long as the run
        until = time.monotonic() + LOOKS_S
        while not _locked(self._lock, fcntl.LOCK_EX):
            if time.monotonic() > until:
                self._let_go()
                raise InUse(self.path, self._named())
            time.sleep(0.01)
        if not (self.lock.exists() and os.path.samestat(os.fstat(self._lock.fileno()), self.lock.stat())):
            self._lock.close()  # who held it has just removed the folder: see release
            return self.hold()
        with self._made():
            self.samples.mkdir(exist_ok=True)
            self.checkpoints.mkdir(exist_ok=True)
            os.ftruncate(self._lock.fileno(), 0)
            os.write(self._lock.fileno(), f"{os.getpid()} {socket.gethostname()}\n".encode())
            for file in (self.request, self.heeded):
                file.unlink(missing_ok=True)  # it was for who held the folder before

    @contextlib.contextmanager
    def _made(self) -> Iterator[None]:
        """Around what makes the folder: refused, it leaves nothing.

        Raises:
            UserError: The system refuses.
        """
        try:
            yield
        except OSError as error:
            self.release()
            room = "make room there, or " if error.errno in NO_ROOM else ""
            raise UserError(
                f"{self.path} cannot be made or written: {error.strerror}; {room}choose another --runs"
            ) from None

    def writer(self) -> Holder | None:
        """Who holds the folder; None where nobody does."""
        if not self.lock.exists():
            return None
        with open(self.lock, encoding="utf-8") as file:
            return None if _locked(file, fcntl.LOCK_SH) else self._named()  # several may look at once

    def _named(self) -> Holder:
        """Who holds the folder, or did last, by its own word."""
        pid, host = (*self.lock.read_text(encoding="utf-8", errors="replace").split(), "", "")[:2]
        return Holder(int(pid) if pid.isdecimal() else 0, host)

    def heed(self) -> bool:
        """Take the request of another process to stop, for the writer; whether there is one.

        By a name that it gets at once or not at all: either it is withdrawn, or it is heeded. Of a process that was
        killed while it waited there is nobody left who would carry on.
        """
        try:
            self.request.rename(self.heeded)
        except OSError:  # there is none; or the file system is away, and it is looked for again
            return False
        if _is_gone(self.heeded):
            self.heeded.unlink(missing_ok=True)
            return False
        return True

    def ask(self) -> None:
        """Request that the writer stops, in the name of this process.

        Raises:
            OSError: It cannot be written.
        """
        write_text(self.request, f"{os.getpid()} {_here()}\n")

    def withdraw(self) -> bool:
        """Take a request back; whether it was not too late, since the writer has heeded it."""
        with contextlib.suppress(OSError):  # there is none; or nothing can be written there
            self.request.unlink()
        return not self.heeded.exists()

    def release(self) -> None:
        """Let others write; a folder that is still empty, of a run that was refused, goes."""
        if self._lock is not None:
            self.heeded.unlink(missing_ok=True)
            self._remove_if_empty()
            self._let_go()

    def _let_go(self) -> None:
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def _remove_if_empty(self) -> None:
        folders = (self.samples, self.checkpoints)
        if not self.path.exists() or set(self.path.iterdir()) - {self.lock, self.request, *folders}:
            return
        if not any(folder.is_dir() and any(folder.iterdir()) for folder in folders):
            for folder in folders:
                if folder.is_dir():
                    folder.rmdir()
            self.request.unlink(missing_ok=True)  # it was for who leaves now
            self.lock.unlink()
            with contextlib.suppress(OSError):  # another process asks for it in this moment, and makes it its own
                self.path.rmdir()

    def set_aside(self) -> Path | None:
        """Rename the folder, so that a new run can start; nothing is lost.

        It is held meanwhile: who waits for it then finds that it has gone, and makes one of its own.

        Returns:
            Where it is now; None if there was none, or an empty one.

        Raises:
            InUse: Another process holds it.
            UserError: It cannot be renamed.
        """
        if not self.path.exists():
            return None
        self.hold()
        try:
            self._remove_if_empty()
            return set_aside(self.path)
        finally:
            self._let_go()  # not `release`: a folder of that name is another's by now


def _locked(file: TextIO, how: int) -> bool:
    """Lock a file, until it is closed, for one alone or for all that look; whether nobody else has."""
    try:
        fcntl.flock(file, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _here() -> str:
    """This machine, as far as the number of a process means the same: containers may share a name."""
    names = Path("/proc/self/ns/pid")
    return f"{socket.gethostname()} {os.readlink(names) if names.is_symlink() else '-'}"


def _is_gone(request: Path) -> bool:
    """Whether the process that wrote a request has ended; of one elsewhere that is not known."""
    try:
        pid, _, where = request.read_text(encoding="utf-8").strip().partition(" ")
        if where == _here():
            os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except (OSError, ValueError):  # another user's; or nothing that could be read
        return False
    return False
