"""Files that cannot be written: told before the work, and none is lost with another."""

import errno
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from data_kit import paint

from dmf.plugins.metrics.frechet import Frechet
from dmf.registry import UserError
from dmf.runner.outputs import Outputs, why_not

Command = Callable[..., tuple[int, str, str]]
METRICS = "[{name: frechet, features: digits}]"
SCORED = ("evaluate", "tiny", "--images", 90, "--steps", 2, "--metrics", METRICS, "--no-held-out")
CLOSED = Path("/sys/kernel")  # takes no files, not even from root, whom permissions do not bind
needs_closed = pytest.mark.skipif(not CLOSED.is_dir(), reason="a folder that takes no files is needed")


@needs_closed
def test_a_place_that_takes_no_files_says_why() -> None:
    assert why_not(CLOSED / "a.json") == why_not(CLOSED / "to/be/made") == f"{CLOSED}: Permission denied"


def test_a_place_that_takes_files_is_left_as_it_was(tmp_path: Path) -> None:
    there = tmp_path / "there.json"
    there.write_text("kept")
    assert [why_not(place) for place in (there, tmp_path, tmp_path / "new.json", tmp_path / "a/b/c")] == [None] * 4
    assert os.listdir(tmp_path) == ["there.json"] and there.read_text() == "kept"
    assert why_not(there / "below") == f"{there}: Not a directory"


def test_a_file_that_cannot_be_written_takes_no_other_with_it(tmp_path: Path) -> None:
    good, bad = tmp_path / "good.txt", tmp_path / "gone/bad.txt"
    said = r"bad.txt could not be written: No such file or directory; make room"
    with pytest.raises(UserError, match=said), Outputs() as files:
        assert not files.write(bad, lambda: bad.write_text("bad"))
        assert files.write(good, lambda: good.write_text("good"))
    assert good.read_text() == "good"


def test_an_error_of_the_work_itself_hides_no_file_that_is_missing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(UserError, match="the work"), Outputs() as files:
        files.write(tmp_path / "gone/a", (tmp_path / "gone/a").touch)
        raise UserError("the work")
    assert "gone/a could not be written" in caplog.text


@pytest.fixture
def run(tiny: Path, dmf_command: Command) -> Path:
    """The folder of a run."""
    assert dmf_command("train", tiny, "train.steps=2")[0] == 0
    return Path("runs/tiny")


@pytest.fixture
def at_the_end(monkeypatch: pytest.MonkeyPatch) -> list[Callable[[], object]]:
    """What happens while the last value is computed."""
    happens: list[Callable[[], object]] = []
    real = Frechet.compute

    def compute(self: Frechet) -> dict[str, float]:
        for one in happens:
            one()
        happens.append(lambda: None)
        return real(self)

    monkeypatch.setattr(Frechet, "compute", compute)
    return happens


@needs_closed
@pytest.mark.parametrize(
    "words",
    [
        ["--json", CLOSED / "a.json"],
        ["--pictures", CLOSED / "pictures"],
        ["--pictures", "tiny.yaml/pictures"],
        ["--save-images", CLOSED / "a.npz"],
        ["--write-reference", CLOSED / "a.npz"],
    ],
)
def test_a_place_that_takes_no_files_is_told_before_the_work(
    run: Path, dmf_command: Command, words: list[str], at_the_end: list[Callable[[], object]]
) -> None:
    code, out, err = dmf_command(*SCORED, *words)
    assert code == 2 and ("Permission denied" in err or "Not a directory" in err) and "Traceback" not in err, err
    assert not at_the_end and "frechet_digits" not in out


@needs_closed
def test_a_run_that_takes_no_files_is_scored_into_files_elsewhere(run: Path, dmf_command: Command) -> None:
    (run / "evaluation").symlink_to(CLOSED)
    code, out, err = dmf_command(*SCORED)
    assert code == 2 and "evaluation/report.json" not in err and "give --json FILE" in err, err
    code, out, err = dmf_command(*SCORED, "--json", "mine.json")
    assert code == 0 and "frechet_digits" in out and "nothing can be written in runs/tiny" in out + err, err
    assert "frechet_digits" in json.loads(Path("mine.json").read_text()) and Path("mine-grid.png").exists()
    (run / "sweeps").symlink_to(CLOSED)
    code, out, err = dmf_command(*SCORED, "--sweep", "steps=2", "--json", "mine.json")
    assert code == 2 and "--sweep keeps what is done in runs/tiny/sweeps, and nothing can be written there" in err


def test_values_are_shown_and_kept_where_a_place_goes_while_they_are_made(
    run: Path, dmf_command: Command, at_the_end: list[Callable[[], object]]
) -> None:
    at_the_end.append(lambda: Path("shown").write_text("a file, where pictures go"))
    at_the_end.append(lambda: Path("b.npz").mkdir(exist_ok=True))
    at_the_end.append(lambda: Path("c.npz").mkdir(exist_ok=True))
    words = ["--json", "a.json", "--pictures", "shown", "--save-images", "b.npz", "--write-reference", "c.npz"]
    code, out, err = dmf_command(*SCORED, *words)
    assert code == 2 and "Traceback" not in err, err
    for name in ("shown/grid.png could not", "b.npz cannot", "c.npz could not"):
        assert f"{name} be written" in err
    assert "frechet_digits" in out and "frechet_digits" in json.loads(Path("a.json").read_text())
    assert len(list((run / "evaluation").glob("*.json"))) == 1


def test_sets_show_their_values_whatever_becomes_of_the_files(
    workdir: Path, dmf_command: Command, at_the_end: list[Callable[[], object]]
) -> None:
    Path("out").mkdir()
    at_the_end.append(lambda: (Path("out").rmdir(), Path("out").touch()) if Path("out").is_dir() else None)
    words = ("evaluate", "--generated", "digits", "--reference", "digits", "--metrics", METRICS)
    code, out, err = dmf_command(*words, "--json", "out/a.json", "--write-reference", "c.npz")
    assert code == 2 and "frechet_digits" in out and "out/a.json could not be written: Not a directory" in err
    assert Path("c.npz").exists() and "Traceback" not in err


def test_a_sweep_ends_with_its_table_and_its_own_files(
    run: Path, dmf_command: Command, at_the_end: list[Callable[[], object]]
) -> None:
    at_the_end.append(lambda: Path("a.json").mkdir(exist_ok=True))
    code, out, err = dmf_command(*SCORED, "--sweep", "steps=2", "--json", "a.json")
    assert code == 2 and "a.json could not be written" in err and "Traceback" not in err, err
    assert "frechet_digits" in out and list((run / "sweeps").glob("*/table.txt"))


def test_a_hook_that_cannot_be_is_told_before_the_work(
    run: Path, dmf_command: Command, monkeypatch: pytest.MonkeyPatch, at_the_end: list[Callable[[], object]]
) -> None:
    from dmf.runner.evaluation import tracking

    def refused(*_: object) -> None:
        raise UserError("no such hook")

    monkeypatch.setattr(tracking, "HookCaller", refused)
    code, _, err = dmf_command(*SCORED, "hooks=[early_stopping]")
    assert code == 2 and "no such hook" in err and not at_the_end


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["tiny", "--sweep", "steps=2", "--pictures", "a"], "--pictures: that is of one setting"),
        (["tiny", "--sweep", "steps=2", "--write-reference", "a.npz"], "--write-reference: that is of one setting"),
        (["--generated", "digits", "--no-track"], "--no-track: that is of a run"),
        (["--generated", "digits", "--runs", "runs"], "--runs: that is of a run"),
        (["--generated", "digits", "--seed", "1"], "--seed chooses among the images of --generated"),
    ],
)
def test_flags_that_would_do_nothing_are_refused(
    workdir: Path, dmf_command: Command, words: list[str], said: str
) -> None:
    code, _, err = dmf_command("evaluate", *words)
    assert code == 2 and said in err


@pytest.fixture
def full(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Names of files for which the disk has no room."""
    names: set[str] = set()
    replace, write_bytes = os.replace, Path.write_bytes

    def no_room(path: object) -> None:
        if Path(str(path)).name in names:
            raise OSError(errno.ENOSPC, "No space left on device")

    def replaced(old: Path, new: Path) -> None:
        no_room(new)
        replace(old, new)

    def written(path: Path, content: bytes) -> int:
        no_room(path)
        return write_bytes(path, content)

    monkeypatch.setattr(os, "replace", replaced)
    monkeypatch.setattr(Path, "write_bytes", written)
    return names


@pytest.mark.parametrize(
    ("words", "lost", "left", "shown"),
    [
        (["sample", "tiny", "--count", 2, "--npz", "a.npz", "--grid", "b.png"], "a.npz", "b.png", "b.png"),
        (["sample", "tiny", "--count", 2, "--npz", "a.npz", "--grid", "b.png"], "b.png", "a.npz", "a.npz"),
        (
            ["sample", "tiny", "--count", 2, "--grid", "b.png", "--strips", 2],
            "b.png",
            "b-strips.png",
            "ways from noise",
        ),
        (["export", "tiny", "--out", "a.safetensors"], "a.safetensors", None, ""),
        (["likelihood", "tiny", "--images", 2, "--steps", 2, "--json", "a.json"], "a.json", None, "bits"),
        (["encode", "tiny", "image.png", "--out", "a.safetensors"], "a.safetensors", None, ""),
        (["compare", "tiny", "--html", "a.html"], "a.html", None, "tiny"),
        (["data", "inspect", "digits", "--sheet", "a.png", "--json", "a.json"], "a.png", "a.json", "digits"),
    ],
)
def test_a_full_disk_is_an_error_and_costs_no_other_file(
    run: Path, dmf_command: Command, full: set[str], words: list[object], lost: str, left: str | None, shown: str
) -> None:
    paint(Path("image.png"), 8, 8, mode="L")
    full.add(lost)
    code, out, err = dmf_command(*words)
    assert code == 2 and "Traceback" not in err, err
    assert f"error: {lost} could not be written: No space left on device; make room" in err
    assert shown in out and not Path(lost).exists()
    assert left is None or Path(left).exists()


@needs_closed
def test_other_commands_look_before_they_work(run: Path, dmf_command: Command) -> None:
    shutil.rmtree(run / "samples")
    (run / "samples").symlink_to(CLOSED)
    for words in (
        ["sample", "tiny"],
        ["sample", "tiny", "--npz", CLOSED / "a.npz"],
        ["export", "tiny", "--out", CLOSED / "a.safetensors"],
    ):
        code, _, err = dmf_command(*words)
        assert code == 2 and "Permission denied; name another place" in err and "could not" not in err, err


def test_averages_that_cannot_be_kept_are_an_error(
    tiny: Path, dmf_command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    power = "train.ema=[{name: power, length: 0.05, snapshots: 24}, {name: power, length: 0.1, snapshots: 24}]"
    assert dmf_command("train", tiny, "train.steps=4", power, "sample.per_class=1")[0] == 0
    words = ("ema", "tiny", "--length", "0.05")
    with monkeypatch.context() as patch:

        def no_room(*_: object, **__: object) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        patch.setattr("os.fsync", no_room)
        code, _, err = dmf_command(*words)
        assert code == 2 and "not all averages could be made" in err and "No space left" in err, err
    monkeypatch.setattr("dmf.runner.outputs.tempfile.TemporaryFile", no_room)
    code, _, err = dmf_command(*words)
    assert code == 2 and "nothing can be written there" in err and "No space left" in err, err
