"""What is kept of a set of pictures: the next start reads what has changed, and gives what it would give without."""

import logging
import os
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import PIL
import pytest
import torch
from data_kit import paint
from torch import Tensor

from dmf.files import cache, index, reading
from dmf.files.collection import Collection
from dmf.files.folder import Folder
from dmf.files.listing import BadFile
from dmf.files.pictures import Decoded
from dmf.files.reading import Treatment
from dmf.plugins.datasets import _picture_set
from dmf.plugins.datasets.image_folder import ImageFolder
from dmf.registry import UserError


class Work:
    """What was read and decoded since it was asked last."""

    def __init__(self) -> None:
        self.read: list[str] = []
        self.decoded: list[str] = []

    def done(self) -> tuple[list[str], list[str]]:
        found = sorted(self.read), sorted(self.decoded)
        self.read, self.decoded = [], []
        return found


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> Iterator[Work]:
    """Counts, with a cache for small sets too."""
    counted, read, treat = Work(), Collection.read, Treatment.__call__
    last = threading.local()

    def reading(self: Collection, entry: Any) -> bytes:
        counted.read.append(entry.name)
        last.name = entry.name
        return read(self, entry)

    def treating(self: Treatment, content: bytes, source: str) -> Decoded:
        counted.decoded.append(last.name)
        return treat(self, content, source)

    monkeypatch.setattr(index, "WORTH_PICTURES", 0)
    monkeypatch.setattr(Collection, "read", reading)
    monkeypatch.setattr(Treatment, "__call__", treating)
    yield counted


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number in range(4):
        paint(tmp_path / f"set/{number}.png", seed=number)
    return tmp_path / "set"


def opened(root: Path, **options: Any) -> ImageFolder:
    return ImageFolder(root=str(root), **{"size": 8, **options})


def images(data: ImageFolder) -> Tensor:
    return torch.stack([data[i].image for i in range(len(data))])


def as_without(root: Path, data: ImageFolder, **options: Any) -> bool:
    """Whether a set is what it would be if nothing had been kept."""
    plain = opened(root, cache=False, **options)
    same_names = [plain.name_of(i) for i in range(len(plain))] == [data.name_of(i) for i in range(len(data))]
    same_images = torch.equal(images(plain), images(data)) and plain.fingerprint() == data.fingerprint()
    return same_names and same_images and plain.left_out == data.left_out


def kept_files() -> list[Path]:
    return sorted(file for file in Path(os.environ["DMF_CACHE"]).rglob("*") if file.is_file())


ALL = [f"{number}.png" for number in range(4)]


def test_the_second_start_reads_and_decodes_nothing(folder: Path, work: Work, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "dmf"):
        first = opened(folder)
        assert work.done() == (ALL, ALL) and "kept the decoded pictures for the next start: 768 bytes, " in caplog.text
        second = opened(folder)
    assert "the pictures were decoded before: 768 bytes, " in caplog.text
    assert second.fingerprint() == first.fingerprint() and torch.equal(images(second), images(first))
    assert work.done() == ([], []) and as_without(folder, second)


def test_a_changed_file_alone_is_read(folder: Path, work: Work) -> None:
    first = opened(folder)
    paint(folder / "2.png", seed=99)
    work.done()
    second = opened(folder)
    assert work.done() == (["2.png"], ["2.png"])
    assert second.fingerprint() != first.fingerprint() and as_without(folder, second)
    work.done()
    assert torch.equal(images(opened(folder)), images(second)) and work.done() == ([], [])


def test_a_file_of_the_same_size_and_another_time_is_read(folder: Path, work: Work) -> None:
    first, file = opened(folder), folder / "1.png"
    content = file.read_bytes()
    (folder / "3.png").write_bytes(content)
    os.utime(folder / "3.png", ns=(1, 1))
    work.done()
    second = opened(folder)
    assert work.done() == (["3.png"], []), "its content has been decoded already, under another name"
    assert second.fingerprint() != first.fingerprint() and as_without(folder, second)


def test_a_touched_file_keeps_pixels_and_fingerprint(folder: Path, work: Work) -> None:
    first = opened(folder)
    os.utime(folder / "1.png", ns=(5, 5))
    work.done()
    second = opened(folder)
    assert work.done() == (["1.png"], []) and second.fingerprint() == first.fingerprint()
    assert as_without(folder, second)


@pytest.mark.parametrize("change", ["added", "removed", "renamed", "swapped"])
def test_every_change_of_the_files_is_seen(folder: Path, work: Work, change: str) -> None:
    first = opened(folder)
    work.done()
    if change == "added":
        paint(folder / "00.png", seed=50)
    elif change == "removed":
        (folder / "1.png").unlink()
    elif change == "renamed":
        (folder / "1.png").rename(folder / "9.png")
    else:  # each keeps its own time: both are of another name and time than they were
        (folder / "1.png").rename(folder / "x")
        (folder / "2.png").rename(folder / "1.png")
        (folder / "x").rename(folder / "2.png")
    second = opened(folder)
    decoded = {"added": ["00.png"]}.get(change, [])
    assert work.done()[1] == decoded
    assert second.fingerprint() != first.fingerprint() and as_without(folder, second)


def test_the_fingerprint_does_not_depend_on_what_is_kept(folder: Path, work: Work) -> None:
    options: list[dict[str, Any]] = [{"cache": False}, {}, {}, {"memory_gib": 0}, {"memory_gib": 0, "cache": False}]
    assert len({opened(folder, **one).fingerprint() for one in options}) == 1
    work.done()
    lazy = opened(folder, memory_gib=0)
    lazy.fingerprint()
    assert work.done() == ([], []), "digests come from the index"


def large(root: Path, **options: Any) -> str:
    """The fingerprint of a set that is beyond the cheap."""
    return opened(root, memory_gib=0, **options).fingerprint()


@pytest.mark.parametrize(("at", "noticed"), [(4095, True), (9000, False), (15_000, True), (25_905, True), (-1, True)])
def test_beyond_the_cheap_a_folder_is_known_by_beginning_middle_and_end_of_each_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int, noticed: bool
) -> None:
    monkeypatch.setattr(_picture_set, "CHEAP_BYTES", 0)
    file = tmp_path / "a.bmp"
    content = bytearray(range(250)) * 120
    file.write_bytes(content)
    options: list[dict[str, Any]] = [{"cache": False}, {}, {}]
    first = {large(tmp_path, **one) for one in options}
    assert len(first) == 1, "kept or not"
    content[at] ^= 1
    file.write_bytes(content)
    os.utime(file, ns=(1, 1))
    assert (large(tmp_path) not in first) == noticed
    assert large(tmp_path) == large(tmp_path, cache=False)


def test_of_what_is_kept_only_other_files_are_looked_into(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_picture_set, "CHEAP_BYTES", 0)
    looked, sample = list[str](), Folder.sample
    monkeypatch.setattr(Folder, "sample", lambda self, name: looked.append(name) or sample(self, name))
    first = large(folder)
    assert sorted(looked) == ["0.png", "1.png", "2.png", "3.png"] and large(folder) == first and len(looked) == 4
    os.utime(folder / "2.png", ns=(1, 1))
    assert large(folder) == first and looked[4:] == ["2.png"]


def test_beyond_the_cheap_a_zip_is_known_by_its_checksums(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_picture_set, "CHEAP_BYTES", 0)
    monkeypatch.setattr(Collection, "read", None)
    found = []
    for last in (0, 1, 0):
        with zipfile.ZipFile(tmp_path / "a.zip", "w") as packed:
            packed.writestr("a.bmp", bytes(9000) + bytes([last]) + bytes(21_000))
        found.append(large(tmp_path / "a.zip"))
    assert found[0] == found[2] != found[1]


def test_what_cannot_be_read_for_the_fingerprint_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_picture_set, "CHEAP_BYTES", 0)
    data = opened(folder, memory_gib=0)
    (folder / "1.png").unlink()
    with pytest.raises(UserError, match=r"1 picture cannot be read:(.|\n)*1\.png is not there \(no such file"):
        data.fingerprint()


def test_other_rules_of_decoding_are_other_data_another_pillow_is_not(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = opened(folder).fingerprint()
    monkeypatch.setattr(PIL, "__version__", "99")
    assert opened(folder).fingerprint() == first
    monkeypatch.setattr(reading, "RULES", 99)
    assert opened(folder).fingerprint() != first


def test_the_fingerprint_is_of_the_background_and_the_labels_too(tmp_path: Path) -> None:
    for name in ("a/1.png", "b/2.png"):
        paint(tmp_path / name)
    found = [opened(tmp_path, **one) for one in ({}, {"background": "black"}, {"labels": "none"}, {"channels": 1})]
    assert len({one.fingerprint() for one in found}) == 4


@pytest.mark.parametrize("other", [{"size": 9}, {"channels": 1}, {"background": "grey"}])
def test_other_options_have_pixels_of_their_own(folder: Path, work: Work, other: dict[str, Any]) -> None:
    paint(folder / "clear.png", mode="RGBA")
    first = opened(folder)
    work.done()
    second = opened(folder, **other)
    assert len(work.done()[1]) == 5 and as_without(folder, second, **other)
    work.done()
    assert torch.equal(images(opened(folder)), images(first)) and work.done() == ([], [])


def test_bad_files_are_remembered_until_they_change(folder: Path, work: Work) -> None:
    (folder / "2.png").write_bytes(b"text")
    for memory_gib in (2.0, 0.0):
        first = opened(folder, on_error="skip", memory_gib=memory_gib)
        assert [one.name for one in first.left_out] == ["2.png"] and len(first) == 3
    work.done()
    again = opened(folder, on_error="skip")
    assert work.done() == ([], []) and as_without(folder, again, on_error="skip")
    work.done()
    with pytest.raises(UserError, match=r"1 of 4 pictures cannot be used:\n  .*/2\.png cannot be read as a picture"):
        opened(folder)
    assert work.done() == ([], [])
    paint(folder / "2.png", seed=2)
    mended = opened(folder)
    assert work.done() == (["2.png"], ["2.png"]) and as_without(folder, mended)


def test_what_could_not_be_read_is_not_remembered(folder: Path, work: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    read = Collection.read

    def closed(self: Collection, entry: Any) -> bytes:
        if entry.name == "1.png":
            raise BadFile(self.source(entry), "cannot be read (Permission denied); make it readable")
        return read(self, entry)

    with monkeypatch.context() as patched:
        patched.setattr(Collection, "read", closed)
        first = opened(folder, on_error="skip")
        assert [one.name for one in first.left_out] == ["1.png"]
    assert len(opened(folder, on_error="skip")) == 4


def test_to_skip_in_a_set_that_is_read_file_by_file_is_one_pass(folder: Path, work: Work) -> None:
    opened(folder, memory_gib=0)
    assert work.done() == ([], []), "to raise, nothing is read before its turn"
    opened(folder, memory_gib=0, on_error="skip")
    assert work.done() == (ALL, ALL)
    opened(folder, memory_gib=0, on_error="skip")
    assert work.done() == ([], [])


def test_what_was_read_for_the_fingerprint_alone_is_still_looked_at(folder: Path, work: Work) -> None:
    (folder / "2.png").write_bytes(b"text")
    opened(folder, memory_gib=0).fingerprint()
    assert [one.name for one in opened(folder, memory_gib=0, on_error="skip").left_out] == ["2.png"]


@pytest.mark.parametrize("damage", ["cut", "changed", "empty"])
def test_what_is_damaged_is_told_and_made_anew(
    folder: Path, work: Work, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    first = opened(folder)
    for file in kept_files():
        content = bytearray(file.read_bytes())
        content[-1] ^= 1
        file.write_bytes({"cut": content[:-1], "changed": content, "empty": b""}[damage])
    work.done()
    second = opened(folder)
    assert caplog.text.count("is damaged (") == 2 and work.done() == (ALL, ALL)
    assert torch.equal(images(second), images(first)) and second.fingerprint() == first.fingerprint()
    caplog.clear()
    opened(folder)
    assert "is damaged (" not in caplog.text and work.done() == ([], [])


def test_what_is_kept_of_something_else_is_not_taken(folder: Path, work: Work) -> None:
    first, other = opened(folder), opened(folder, size=9)
    small, large = (file for file in kept_files() if file.parent.name == "pixels")
    content = small.read_bytes()
    small.write_bytes(large.read_bytes())
    large.write_bytes(content)  # each is whole, under the other's name
    assert torch.equal(images(opened(folder)), images(first)) and torch.equal(
        images(opened(folder, size=9)), images(other)
    )


def test_of_one_alone_the_other_is_made_again(folder: Path, work: Work) -> None:
    opened(folder)
    pixels, known = (next(file for file in kept_files() if file.parent.name == kind) for kind in ("pixels", "index"))
    work.done()
    known.unlink()
    assert as_without(folder, opened(folder)) and work.done()[0][:4] == ALL[:1] + ALL[:1] + ALL[1:2] + ALL[1:2]
    pixels.unlink()
    assert as_without(folder, opened(folder))


def test_nothing_is_kept_where_that_is_not_wanted(folder: Path, work: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    opened(folder, cache=False).fingerprint()
    opened(folder, cache=False, memory_gib=0, on_error="skip").fingerprint()
    assert kept_files() == []
    monkeypatch.setattr(index, "WORTH_PICTURES", 1000)
    opened(folder).fingerprint()
    assert kept_files() == [], "a small set"
    monkeypatch.setattr(index, "WORTH_BYTES", 100)
    opened(folder)
    assert len(kept_files()) == 2, "few pictures, of many bytes"


def test_where_nothing_can_be_kept_it_goes_on(
    folder: Path, work: Work, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (folder.parent / "in the way").write_text("no folder")
    monkeypatch.setenv("DMF_CACHE", str(folder.parent / "in the way"))
    assert as_without(folder, opened(folder))
    assert "cannot keep" in caplog.text and caplog.text.count("WARNING") == 2


def test_a_zip_is_known_by_its_checksums(folder: Path, work: Work) -> None:
    def pack() -> Path:
        with zipfile.ZipFile(folder.parent / "set.zip", "w") as file:
            for name in sorted(os.listdir(folder)):
                file.write(folder / name, name)
        return folder.parent / "set.zip"

    first = opened(pack())
    work.done()
    assert opened(pack()).fingerprint() == first.fingerprint() and work.done() == ([], [])
    paint(folder / "2.png", seed=77)
    second = opened(pack())
    assert work.done()[0] == ["2.png"] and as_without(folder.parent / "set.zip", second)
    assert second.fingerprint() == opened(folder).fingerprint(), "the same pictures in a folder are the same data"


def test_names_of_all_kinds_are_kept(tmp_path: Path, work: Work) -> None:
    for name in ("Zürich/ä b.png", "猫/1.png", os.fsdecode(b"\xff\xfe/x.png"), "a\nb/1.png", "a'\"\\/1.png"):
        paint(tmp_path / "set" / name)
    first = opened(tmp_path / "set")
    work.done()
    assert opened(tmp_path / "set").fingerprint() == first.fingerprint() and work.done() == ([], [])
    assert all(first.name_of(i).isprintable() for i in range(5))


def test_several_at_once_do_each_other_no_harm(folder: Path, work: Work, caplog: pytest.LogCaptureFixture) -> None:
    found: list[str] = []

    def start() -> None:
        for _ in range(5):
            data = opened(folder)
            found.append(f"{data.fingerprint()} {images(data).sum()}")

    threads = [threading.Thread(target=start) for _ in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert len(found) == 20 and len(set(found)) == 1 and "is damaged (" not in caplog.text
    assert as_without(folder, opened(folder))


def test_what_is_mapped_can_be_written_without_harm(folder: Path, work: Work) -> None:
    first = images(opened(folder))
    held = opened(folder).tensors()
    assert held is not None
    held[0].zero_()
    assert torch.equal(images(opened(folder)), first) and cache.PAGE
