"""What the tests of collections share."""

import os
import pickle
import shutil
import signal
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import pytest

from dmf.files.collection import Collection, open_collection
from dmf.registry import UserError

T = TypeVar("T")


def opened(root: Path, labels: str = "auto") -> Collection:
    return open_collection(root, labels)


def complaint(root: Path, labels: str = "auto") -> str:
    with pytest.raises(UserError) as error:
        open_collection(root, labels)
    assert str(error.value).isprintable() or "\n" in str(error.value)
    return str(error.value)


def trouble(collection: Collection) -> dict[str, str]:
    assert len({one.name for one in collection.trouble}) == len(collection.trouble), "each is told once"
    return {one.name: one.reason for one in collection.trouble}


def names(collection: Collection) -> list[str]:
    return [one.name for one in collection.entries]


def labelled(collection: Collection) -> dict[str, str | None]:
    """The name of each picture's class."""
    return {one.name: None if one.label is None else collection.classes[one.label] for one in collection.entries}


def files(folder: Path, *named: str) -> Path:
    """Files that hold their own names."""
    for name in named:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode("utf-8", "surrogateescape"))
    return folder


def packed(path: Path, contents: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    """A zip of these members."""
    with zipfile.ZipFile(path, "w", method) as file:
        for name, content in contents.items():
            file.writestr(name, content)
    return path


def as_nobody(action: Callable[[], T]) -> T:
    """What an action gives that one does who may not read everything: for root, nobody in a process of its own."""
    if os.geteuid() != 0:
        return action()
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        _child(action, writing)
    os.close(writing)
    with os.fdopen(reading, "rb") as answer:
        done, value = pickle.loads(answer.read())
    os.waitpid(child, 0)
    if not done:
        raise value
    return value  # type: ignore[no-any-return]


def _child(action: Callable[[], Any], writing: int) -> NoReturn:
    try:
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
        answer = True, action()
    except Exception as error:
        answer = False, error
    with os.fdopen(writing, "wb") as file:
        pickle.dump(answer, file)
    os._exit(0)


@pytest.fixture(name="open_folder")
def open_folder_fixture() -> Iterator[Path]:
    """An empty folder that everybody may look into."""
    folder = Path(tempfile.mkdtemp())  # pytest's own are closed to others
    folder.chmod(0o755)
    if closed := [str(above) for above in folder.parents if not above.stat().st_mode & 0o001]:
        shutil.rmtree(folder)
        pytest.skip(f"needs a TMPDIR that everybody may look into, and {closed[-1]} is closed")
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(name="in_time")
def in_time_fixture() -> Iterator[None]:
    """What hangs fails."""

    def late(*_: object) -> NoReturn:
        raise TimeoutError("it hangs")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(20)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


PETS = ("cat/img1.png", "cat/img2.png", "cat/img10.jpg", "dog/a/x.webp", "dog/b.bmp")


@pytest.fixture(name="pets")
def pets_fixture(tmp_path: Path) -> Path:
    return files(tmp_path / "pets", *PETS, "notes.txt", "cat/.hidden.png", ".git/x.png", "__MACOSX/cat/a.png")
