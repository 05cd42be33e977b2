"""Stopped in any way and given again, `dmf data prepare` ends with the bytes of one that was never stopped."""

import errno
import itertools
import json
import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import FULL
from data_kit import paint
from prepare_kit import manifest, tree, zoo
from process_kit import start

from dmf.registry import UserError, build
from dmf.runner.collections.output import Output

Command = Callable[..., tuple[int, str, str]]
KILLS = 20 if FULL else 5
PICTURES = 1200 if FULL else 400
WORDS = ["data", "prepare", "zoo", "--out", "set", "--size", "32"]


@pytest.fixture
def pets(workdir: Path) -> Path:
    return zoo(workdir / "zoo")


@pytest.fixture
def whole(pets: Path, dmf_command: Command) -> dict[str, bytes]:
    """What an undisturbed run makes; the folder is taken away."""
    assert dmf_command(*WORDS)[0] == 0
    made = tree(Path("set"))
    shutil.rmtree("set")
    return made


def again(dmf_command: Command, *words: object, code: int = 0) -> str:
    got, out, err = dmf_command(*WORDS, *words)
    assert got == code, out + err
    return out + err


# kills


@pytest.mark.slow
def test_killed_at_random_moments(workdir: Path) -> None:
    for k in range(0, PICTURES, 2):  # every other one is a duplicate
        folder = workdir / "zoo" / ("cat" if k % 3 else "dog")
        os.link(paint(folder / f"{k}.png", 500, 300 + k % 50, seed=k, compress_level=1), folder / f"{k + 1}.png")
    moment, kills = random.Random(0), 0
    for _ in range(KILLS):
        process = start(*WORDS)
        kills += kill_at_work(process, workdir / "set/manifest.part.jsonl", moment)
    for out in ("set", "straight"):
        process = start(*WORDS, "--out", out)
        said, err = process.communicate(timeout=300)
        assert process.returncode == 0, said + err
    assert kills == KILLS, "it was done before it could be killed: take more pictures"
    assert tree(workdir / "set") == tree(workdir / "straight")
    assert len(tree(workdir / "set")) == PICTURES // 2 + 2


def kill_at_work(process: "subprocess.Popen[str]", part: Path, moment: random.Random) -> bool:
    """Kill it a moment after it has begun to write; False if it was done before."""
    before = part.stat().st_size if part.exists() else 0
    until = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < until:
        if part.exists() and part.stat().st_size != before:
            break
        time.sleep(0.002)
    time.sleep(moment.uniform(0, 0.15))
    if process.poll() is not None:
        return False
    process.kill()
    process.communicate()
    return True


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_asked_to_stop(workdir: Path, dmf_command: Command, number: int, code: int) -> None:
    for k in range(120):
        paint(workdir / f"zoo/{k}.png", 500, 500, seed=k, compress_level=1)
    process = start(*WORDS)
    part = workdir / "set/manifest.part.jsonl"
    while process.poll() is None and not (part.exists() and part.read_bytes().count(b"\n") > 1):
        time.sleep(0.002)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == code and "Traceback" not in err, err
    assert "the same command carries on" in out
    assert not (workdir / "set/manifest.jsonl").exists()
    with pytest.raises(UserError, match="begun and not finished"):
        build("dataset", "image_folder", root="set", size=32)
    assert "carrying on" in again(dmf_command)
    stopped = tree(workdir / "set")
    shutil.rmtree(workdir / "set")
    again(dmf_command)
    assert stopped == tree(workdir / "set")


# every state that a stop can leave behind


def begun(made: dict[str, bytes], lines: int, pictures: int, rest: int) -> None:
    """As if stopped with so many lines and pictures written; half of one more picture, ``rest`` bytes of a line."""
    part = made["manifest.jsonl"].splitlines(keepends=True)
    files = sorted((name for name in made if name.startswith("images/")), key=lambda name: name[-10:])
    for name in files[: pictures + 1]:
        whole = name in files[:pictures]
        Path("set", name).parent.mkdir(parents=True, exist_ok=True)
        Path("set", name).write_bytes(made[name] if whole else made[name][: len(made[name]) // 2])
    Path("set/manifest.part.jsonl").write_bytes(b"".join(part[:lines]) + b"".join(part[lines : lines + 1])[:rest])


def test_any_state_is_carried_on(whole: dict[str, bytes], dmf_command: Command) -> None:
    again(dmf_command)
    pictures = [json.loads(line).get("file") for line in whole["manifest.jsonl"].splitlines()]
    for lines, rest in itertools.product(range(len(pictures) + 1), (0, 20, -1)):
        for name in [*(Path("set") / name for name in whole)]:
            name.unlink(missing_ok=True)
        begun(whole, lines, sum(1 for name in pictures[:lines] if name) + lines % 2, rest)
        again(dmf_command)
        assert tree(Path("set")) == whole, f"after {lines} lines"


@pytest.mark.parametrize("damage", ["gone", "cut", "changed"])
@pytest.mark.parametrize("finished", [True, False])
def test_a_picture_lost_later_is_made_again(
    whole: dict[str, bytes], dmf_command: Command, damage: str, finished: bool
) -> None:
    again(dmf_command)
    file = Path("set/images/cat/000002.png")
    content = file.read_bytes()
    if not finished:
        Path("set/manifest.jsonl").rename("set/manifest.part.jsonl")
    if damage == "gone":
        file.unlink()
    else:
        file.write_bytes(content[:-20] if damage == "cut" else content[:-20] + bytes(20))
    assert "carrying on" in again(dmf_command)
    assert tree(Path("set")) == whole


def test_a_full_disk_is_told_and_carried_on(
    whole: dict[str, bytes], dmf_command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = Output.place

    def full(output: Output, name: str, content: bytes) -> None:
        if "000004" in name:
            (output.folder / name).write_bytes(content[:10])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        place(output, name, content)

    with monkeypatch.context() as patch:
        patch.setattr(Output, "place", full)
        said = again(dmf_command, code=2)
    assert "No space left on device" in said and "give the same command again" in said
    again(dmf_command)
    assert tree(Path("set")) == whole


# not the same words


def test_done_is_done(whole: dict[str, bytes], dmf_command: Command) -> None:
    again(dmf_command)
    before = {file: file.stat().st_mtime_ns for file in Path("set").rglob("*.*")}
    said = again(dmf_command)
    assert "all of it was done before" in said and "7 of 14 pictures" in said
    assert before == {file: file.stat().st_mtime_ns for file in Path("set").rglob("*.*")}


CHANGES: list[tuple[list[Any], str]] = [
    (["--size", 16], "size: 32 then, 16 now"),
    (["--channels", 1], "channels: 3 then, 1 now"),
    (["--min-side", 3], "min_side: 16 then, 3 now"),
    (["--background", "black"], "background: white then, black now"),
    (["--labels", "folders"], "labels: auto then, folders now"),
    (["other"], "sources: "),
]


@pytest.mark.parametrize("finished", [True, False])
@pytest.mark.parametrize(("words", "sentence"), CHANGES, ids=lambda value: str(value)[:20])
def test_other_options_are_refused(
    pets: Path, dmf_command: Command, words: list[Any], sentence: str, finished: bool
) -> None:
    shutil.copytree(pets, "other")
    again(dmf_command)
    if not finished:
        Path("set/manifest.jsonl").rename("set/manifest.part.jsonl")
    made = tree(Path("set"))
    said = again(dmf_command, *words, code=2)
    assert sentence in said and "--fresh" in said and tree(Path("set")) == made
    assert "the old set is kept as set.1" in again(dmf_command, *words, "--fresh")
    assert tree(Path("set.1")) == made and tree(Path("set")) != made


def more(zoo: Path) -> None:
    paint(zoo / "cat/9.png", 50, 50, seed=99)


def renamed(zoo: Path) -> None:
    (zoo / "cat/1.png").rename(zoo / "cat/one.png")


def moved(zoo: Path) -> None:
    (zoo / "cat/2.jpg").rename(zoo / "dog/2.jpg")


def edited(zoo: Path) -> None:
    paint(zoo / "cat/1.png", 90, 70, seed=55)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [(more, "13 pictures then, 14 now"), (renamed, "other names"), (moved, "labels"), (edited, "files have changed")],
)
def test_changed_sources_are_refused(
    pets: Path, dmf_command: Command, change: Callable[[Path], None], sentence: str
) -> None:
    again(dmf_command)
    Path("set/manifest.jsonl").rename("set/manifest.part.jsonl")
    change(pets)
    said = again(dmf_command, code=2)
    assert str(pets) in said and sentence in said


def test_another_version_goes_on_with_nothing_begun_but_takes_what_is_done(
    pets: Path, dmf_command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    again(dmf_command)
    monkeypatch.setattr("PIL.__version__", "99.0")
    assert "all of it was done before" in again(dmf_command)
    Path("set/manifest.jsonl").rename("set/manifest.part.jsonl")
    assert "99.0 now" in again(dmf_command, code=2)


def test_a_head_that_was_cut_is_begun_again(whole: dict[str, bytes], dmf_command: Command) -> None:
    Path("set").mkdir()
    Path("set/.begun.json").write_text('{"head": ')
    again(dmf_command)
    assert tree(Path("set")) == whole
    Path("set/.begun.json").write_text('{"head": ')
    assert "--fresh" in again(dmf_command, code=2)
    again(dmf_command, "--fresh")
    assert manifest(Path("set"))[0] == manifest(Path("set.1"))[0]


def test_only_one_process_writes(pets: Path, dmf_command: Command) -> None:
    with Output(Path("set")):
        assert "is being made by another dmf process" in again(dmf_command, code=2)
        assert "is being made by another dmf process" in again(dmf_command, "--fresh", code=2)
