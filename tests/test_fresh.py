"""`--fresh`: the old folder is kept aside, and has its name back where nothing new has begun."""

import errno
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from fork_kit import on_ranks

from dmf.registry import UserError, read
from dmf.runner import pipeline, session
from dmf.runner.commands import run
from dmf.runner.commands.anew import begun_anew, launched_anew
from dmf.runner.commands.run import check_alike
from dmf.runner.folder import InUse, RunFolder
from dmf.runner.launching import LAUNCHER
from dmf.runner.signals import Interrupted
from dmf.runner.trouble import CannotWrite
from dmf.runner.world import World

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def old(tiny: Path, dmf_command: Command) -> Path:
    """A run that is there, marked."""
    assert dmf_command("train", tiny, "train.steps=2")[0] == 0
    run = tiny.parent / "runs/tiny"
    (run / "mark").touch()
    return run


def test_a_run_that_has_begun_leaves_the_old_one_aside(old: Path, tiny: Path, dmf_command: Command) -> None:
    code, out, _ = dmf_command("train", tiny, "train.steps=2", "--fresh")
    assert code == 0 and "the old run is kept as runs/tiny.1" in out
    assert (old.with_name("tiny.1") / "mark").exists() and not (old / "mark").exists()


FOLDER = "dataset={name: image_folder, root: nowhere, size: 8}"


@pytest.mark.parametrize(("words", "why"), [("init_from=nowhere", "init_from: nowhere is no run"), (FOLDER, "nowhere")])
def test_a_run_that_is_refused_leaves_the_old_one_in_its_place(
    old: Path, tiny: Path, dmf_command: Command, words: str, why: str
) -> None:
    code, out, err = dmf_command("train", tiny, "--fresh", words)
    assert code == 2 and why in err and (old / "mark").exists() and not old.with_name("tiny.1").exists()
    assert ("has its name back: runs/tiny" in out) == ("is kept as" in out) == (words == FOLDER)


ENDS = [
    (Interrupted(15), 143),
    (KeyboardInterrupt(), 130),
    (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), 1),
    (CannotWrite("no room"), 1),
    (RuntimeError("gloo: Connection closed by peer"), 1),
    (RuntimeError("of no kind that is known"), None),
]


@pytest.mark.parametrize("place", ["HookCaller", "accept", "begin"])
@pytest.mark.parametrize(("error", "code"), ENDS, ids=[f"{type(error).__name__}-{code}" for error, code in ENDS])
def test_a_run_that_ends_before_it_begins_leaves_the_old_one_in_its_place(
    old: Path,
    tiny: Path,
    dmf_command: Command,
    monkeypatch: pytest.MonkeyPatch,
    error: BaseException,
    code: int | None,
    place: str,
) -> None:
    def end(*given: object) -> None:
        raise error

    monkeypatch.setattr(session if place == "HookCaller" else pipeline, place, end)
    if code is None:
        with pytest.raises(RuntimeError, match="no kind"):
            dmf_command("train", tiny, "--fresh")
    else:
        assert dmf_command("train", tiny, "--fresh")[0] == code
    assert (old / "mark").exists() and (old / "log.txt").exists() and not old.with_name("tiny.1").exists()


@pytest.mark.parametrize("begins", [False, True])
def test_ranks_that_may_be_started_again_leave_it_to_the_launcher(
    old: Path, monkeypatch: pytest.MonkeyPatch, begins: bool
) -> None:
    """They do without --fresh then: with its name back the old run is what they would go on with."""
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv(LAUNCHER, str(os.getppid()))
    aside, world = old.with_name("tiny.1"), World(0, 1, torch.device("cpu"))
    with launched_anew(True, RunFolder(old)):
        assert Path(os.environ["DMF_ASIDE"]).parent.is_dir()
        with pytest.raises(RuntimeError), begun_anew(True, RunFolder(old), world):
            raise RuntimeError("a rank has died")
        assert not old.exists() and (aside / "mark").exists()
        with begun_anew(False, RunFolder(old), world):
            if begins:
                old.mkdir()
                (old / "recipe.yaml").touch()
                monkeypatch.delattr(RunFolder, "hold")  # who waits for it would take that for another run
    assert aside.exists() == begins and (old / "mark").exists() == (not begins)


def test_what_another_has_set_aside_stays_there(old: Path) -> None:
    with launched_anew(True, RunFolder(old)):
        aside = RunFolder(old).set_aside()
    assert aside is not None and aside.exists() and not old.exists()


def test_an_old_run_whose_name_is_taken_stays_and_it_is_said(old: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(RuntimeError), begun_anew(True, RunFolder(old), World(0, 1, torch.device("cpu"))):
        old.mkdir()
        (old / "notes.txt").touch()
        raise RuntimeError("the disk is full")
    aside = old.with_name("tiny.1")
    assert (aside / "mark").exists() and (old / "notes.txt").exists()
    assert f"the old one stays in {aside}: something is in {old}" in capsys.readouterr().out


def test_ranks_whose_launcher_is_gone_give_the_name_back(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv(LAUNCHER, "1")
    with pytest.raises(Interrupted), begun_anew(True, RunFolder(old), World(0, 1, torch.device("cpu"))):
        raise Interrupted(15)
    assert (old / "mark").exists()


@pytest.mark.parametrize("left", [(), (".lock", "samples/", "checkpoints/")])
def test_what_a_rank_that_was_killed_has_left_goes(
    old: Path, tiny: Path, dmf_command: Command, monkeypatch: pytest.MonkeyPatch, left: tuple[str, ...]
) -> None:
    """Ranks that ended before the run began, of which the launcher knows nothing but a code."""

    def ranks(*given: object, **more: object) -> int:
        aside = RunFolder(old).set_aside()
        assert aside is not None
        Path(os.environ["DMF_ASIDE"]).write_text(str(aside.resolve()))
        for name in left:
            old.mkdir(exist_ok=True)
            (old / name).mkdir() if name.endswith("/") else (old / name).touch()
        return 1

    monkeypatch.setattr(run, "launch", ranks)
    code, out, _ = dmf_command("train", tiny, "--fresh", "--ranks", 2)
    assert code == 1 and (old / "mark").exists() and "has its name back" in out and "DMF_ASIDE" not in os.environ


@pytest.mark.parametrize(
    "source", ["tiny", "tiny@2", "runs/tiny", "runs/tiny@2", "runs/tiny/checkpoints/step-00000002/model.safetensors"]
)
def test_a_run_cannot_begin_anew_from_its_own_weights(old: Path, tiny: Path, dmf_command: Command, source: str) -> None:
    code, out, err = dmf_command("train", tiny, "--fresh", f"init_from={source}")
    assert code == 2 and f"init_from: {source} lies in runs/tiny, which --fresh renames" in err and "kept as" not in out
    assert (old / "mark").exists()


@pytest.fixture
def at_work(old: Path) -> Iterator[RunFolder]:
    """The run, held by a process that leaves as soon as it is asked."""
    held, over = RunFolder(old), threading.Event()
    held.hold()

    def leave() -> None:
        while not over.wait(0.05):
            if held.heed():
                held.release()
                return

    leaving = threading.Thread(target=leave)
    leaving.start()
    yield held
    over.set()
    leaving.join()
    held.release()


STARTS = [f"init_from={source}" for source in ("tiny", "nowhere", "other@7")]
REFERENCES = ("{run: nowhere}", "{run: other, step: 7}", "{step: 2}", "{run: tiny, step: 2}")
STARTS += [f"sampler.reference={one}" for one in REFERENCES]


@pytest.mark.parametrize("ranks", [[], ["--ranks", 2]])
@pytest.mark.parametrize("words", STARTS)
def test_nobody_is_stopped_for_a_run_that_cannot_begin(
    at_work: RunFolder, tiny: Path, dmf_command: Command, words: str, ranks: list[object]
) -> None:
    shutil.copytree(at_work.path, at_work.path.with_name("other"))
    code, out, err = dmf_command("train", tiny, "train.steps=9", "--fresh", "--restart", words, *ranks)
    assert code == 2 and f"{words.split('=')[0]}: " in err and "asking" not in out and at_work.writer() is not None


@pytest.mark.parametrize(
    "words", ["sampler.reference={run: nowhere}", "sampler.reference={run: tiny, step: 2}", "train.lr=1"]
)
def test_nobody_is_stopped_for_a_recipe_that_cannot_go_on(
    at_work: RunFolder, tiny: Path, dmf_command: Command, words: str
) -> None:
    code, out, err = dmf_command("train", tiny, "train.steps=2", "--restart", words)
    assert code == 2 and words.split("=")[0] in err and "asking" not in out and at_work.writer() is not None


def test_one_that_is_stopped_is_kept_aside(at_work: RunFolder, tiny: Path, dmf_command: Command) -> None:
    code, out, _ = dmf_command("train", tiny, "train.steps=2", "--fresh", "--restart")
    assert code == 0 and out.index("asking") < out.index("the old run is kept as runs/tiny.1")


def test_who_takes_the_folder_while_it_is_renamed_gets_a_new_one(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And not the old one under its other name, where its checkpoints would be another run's."""
    renamed, late = Path.rename, RunFolder(old)

    def rename(path: Path, to: Path) -> Path:
        with pytest.raises(InUse):
            late.hold()
        return renamed(path, to)

    monkeypatch.setattr(Path, "rename", rename)
    aside = RunFolder(old).set_aside()
    late.hold()
    assert aside is not None and (aside / "mark").exists() and not (old / "mark").exists()
    assert RunFolder(aside).writer() is None and RunFolder(old).writer() is not None
    late.release()


def test_a_run_that_is_refused_goes_though_somebody_asks_for_it(
    old: Path, tiny: Path, dmf_command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the old one stays aside, and who asks begins in an empty folder."""

    def refuse(*given: object) -> None:
        RunFolder(old).ask()
        raise UserError("no")

    monkeypatch.setattr(pipeline, "accept", refuse)
    assert dmf_command("train", tiny, "--fresh")[0] == 2
    assert (old / "mark").exists() and not old.with_name("tiny.1").exists()


def test_an_empty_folder_is_not_kept(workdir: Path) -> None:
    empty = RunFolder(workdir / "runs/tiny")
    empty.path.mkdir(parents=True)
    assert empty.set_aside() is None and not any((workdir / "runs").iterdir())


def test_a_folder_that_cannot_be_renamed_is_told_of(
    old: Path, tiny: Path, dmf_command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*given: object) -> None:
        raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))

    monkeypatch.setattr(Path, "rename", refuse)
    code, _, err = dmf_command("train", tiny, "--fresh")
    assert code == 2 and "runs/tiny cannot be renamed to runs/tiny.1: Device or resource busy" in err
    assert (old / "mark").exists() and RunFolder(old).writer() is None


def given_to_one(world: World, recipe: Path) -> None:
    with pytest.raises(UserError, match=r"rank 0 is to start anew \(--fresh\), and rank 1 to go on") as told:
        check_alike(read(recipe), world.first, world)
    assert "give all machines the same command" in str(told.value)
    words = [] if world.first else ["train.lr=1"]
    with pytest.raises(UserError, match="rank 1 was given another recipe than rank 0"):
        check_alike(read(recipe, words), True, world)


def test_machines_begin_anew_together_or_not_at_all(tiny: Path) -> None:
    on_ranks(2, given_to_one, tiny)
