"""`~` in what a person writes: the home folder, the same one everywhere; of a user that is not known, a plain name."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from data_kit import paint

from dmf.files.places import data_folder, home

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def at_home(workdir: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home folder with pictures, that is not the folder one works in."""
    paint(workdir / "home/pets/cat/1.png", seed=1)
    paint(workdir / "home/pets/dog/1.png", seed=2)
    (workdir / "work").mkdir()
    monkeypatch.chdir(workdir / "work")
    monkeypatch.setenv("HOME", str(workdir / "home"))
    return workdir / "home"


def test_home(at_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert home("~/pets") == at_home / "pets" and home("a/~") == Path("a/~")
    assert home(Path("~nobody-at-all/x")) == Path("~nobody-at-all/x")
    monkeypatch.setenv("DMF_DATA", "~/sets")
    assert data_folder(None) == at_home / "sets" and data_folder("~/others") == at_home / "others"


def test_a_set_is_made_at_home(at_home: Path, dmf_command: Command) -> None:
    code, out, err = dmf_command("data", "prepare", "~/pets", "--out=~/made", "--size", 8)
    assert code == 0 and f"root: {at_home / 'made'}, size: 8" in err + out
    assert (at_home / "made/images/cat/000000.png").exists() and os.listdir() == []
    again, out, err = dmf_command("data", "prepare", "~/pets", "--out=~/made", "--size", 8, "--fresh")
    assert again == 0 and os.listdir() == [] and len(list(at_home.glob("made*"))) == 2, out + err
    code, _, err = dmf_command("data", "prepare", "~/pets", "--out=~/pets/made", "--size", 8)
    assert code == 2 and "lies in the source" in err


def test_pictures_at_home_are_looked_through(at_home: Path, dmf_command: Command) -> None:
    code, out, err = dmf_command("data", "inspect", "~/pets")
    assert code == 0 and "2 pictures, 2 classes" in out + err and os.listdir() == ["inspect-pets.png"]


@pytest.mark.parametrize(
    ("words", "variable"),
    [
        (["data", "inspect", "~nobody-at-all/x"], ""),
        (["data", "prepare", "~nobody-at-all/x", "--out", "set", "--size", 8], ""),
        (["data", "inspect", "mnist", "download=false"], "DMF_DATA"),
        (["data", "inspect", "celeba", "download=false"], "DMF_DATA"),
        (["bench", "data", "--only", "resident", "--root", "~nobody-at-all/x"], ""),
    ],
    ids=lambda value: " ".join(map(str, value[:3])),
)
def test_the_home_of_nobody_is_not_there(
    at_home: Path, dmf_command: Command, monkeypatch: pytest.MonkeyPatch, words: list[object], variable: str
) -> None:
    if variable:
        monkeypatch.setenv(variable, "~nobody-at-all/x")
    code, _, err = dmf_command(*words)
    assert code == 2 and "~nobody-at-all/x" in err


def test_a_folder_may_begin_with_a_tilde(at_home: Path, dmf_command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    code, out, err = dmf_command("data", "prepare", "~/pets", "--out", "~nobody-at-all/y", "--size", 8)
    assert code == 0 and "root: ~nobody-at-all/y" in out + err and Path("~nobody-at-all/y/manifest.jsonl").exists()
    monkeypatch.setenv("DMF_CACHE", "~nobody-at-all/kept")
    code, out, _ = dmf_command("data", "cache")
    assert code == 0 and str(Path("~nobody-at-all/kept").absolute()) in out
