"""Mistakes around a training: each ends with its exit code, a sentence that says what to do, and nothing lost."""

import errno
import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fork_kit import Processes
from rank_of_checkpoints import trains_until_the_disk_is_full

from dmf.registry import UserError
from dmf.runner.checkpoints import saver
from dmf.runner.folder import RunFolder
from dmf.runner.pipeline import check_ranks
from dmf.runner.training import memory
from dmf.runner.training.trainer import Trainer

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def home(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a copy of that."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)  # also where there are GPUs
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    return tmp_path


def content(run: str) -> dict[str, str]:
    """What must not be lost."""
    kept = [*Path("runs", run).glob("checkpoints/step-*/*"), Path("runs", run, "recipe.yaml")]
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in kept if path.is_file()}


NOT_STARTED = [
    (["--ranks", "5"], "it must be a multiple of 5. Take 4 of them"),
    (["distributed.strategy=fdsp"], "expected one of ddp, fsdp; did you mean 'fsdp'?"),
    (["--gpus", "2"], "write --ranks N for processes on the CPU"),
    (["device=auto", "--gpus", "2"], "GPU"),
    (["device=cuda"], "write `device=cpu` or `device=auto`"),
    (["train.micro_batch=0"], "expected"),
    (["train.precision=fp8"], "expected one of"),
    (["--runs", "tiny.yaml/runs"], "cannot be made or written: Not a directory; choose another --runs"),
    (["init_from=nowhere"], "is no run, no file and no folder of weights"),
    (["checkpoint.every=0"], "an integer of at least 1"),
]
OF_ANOTHER = [
    (["backbone.depth=3"], "backbone.depth: 2 -> 3"),
    (["backbone=unet"], "recipe:\n  backbone.name: dit -> unet\nGive"),
    (["backbone=unet", "seed=1"], "recipe:\n  seed: 0 -> 1\n  backbone.name: dit -> unet\nGive"),
    (["schedule=cosine"], "schedule.name: flow -> cosine"),
    (["prediction=v"], "prediction.name: flow -> v"),
    (["dataset=mnist"], "recipe:\n  dataset.name: digits -> mnist\nGive"),
    (["dataset.split=test"], "was trained on other data: fingerprint"),
    (["train.batch_size=12"], "train.batch_size: 24 -> 12"),
    (["train.freeze=[layers.0]"], "train.freeze"),
    (["train.lr_factors={layers.0: 0.5}"], "train.lr_factors"),
    (["init_from=runs/tiny"], "init_from"),
    (["seed=1"], "seed: 0 -> 1"),
]


@pytest.mark.parametrize(
    ("words", "sentence"), NOT_STARTED, ids=lambda value: " ".join(value) if isinstance(value, list) else "-"
)
def test_what_cannot_be_started_is_refused(home: Path, dmf_command: Command, words: list[str], sentence: str) -> None:
    code, out, err = dmf_command("train", "tiny.yaml", "name=other", *words)
    assert code == 2 and sentence in " ".join(err.split()) and "Traceback" not in err
    assert "memory:" not in out  # as if it had begun
    assert not Path("runs/other/checkpoints").exists() or not any(Path("runs/other/checkpoints").iterdir())


@pytest.mark.parametrize(
    ("words", "sentence"), OF_ANOTHER, ids=lambda value: " ".join(value) if isinstance(value, list) else "-"
)
def test_a_run_is_gone_on_with_as_it_is(
    home: Path, dmf_command: Command, monkeypatch: pytest.MonkeyPatch, words: list[str], sentence: str
) -> None:
    before = content("tiny")
    monkeypatch.setattr("dmf.files.download.urlopen", lambda *given, **more: pytest.fail("nothing is fetched"))
    code, _, err = dmf_command("train", "tiny.yaml", "train.steps=14", *words)
    assert code == 2 and sentence in err and "Traceback" not in err
    assert "name=..." in err and "--fresh" in err
    assert content("tiny") == before and len(before) > 6


def test_more_ranks_than_images_are_refused() -> None:
    check_ranks(4, 4)
    with pytest.raises(UserError, match="3 ranks, and the data set has 2 images: start at most 2"):
        check_ranks(2, 3)
    with pytest.raises(UserError, match="has 1 image: start at most 1"):
        check_ranks(1, 2)


def test_a_training_that_does_not_fit_is_refused_before_it_is_there(
    home: Path, dmf_command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "free_bytes", lambda device: 500_000)
    code, _, err = dmf_command("train", "tiny.yaml", "name=other")
    assert code == 2 and "Traceback" not in err and "MiB" in err


def test_a_folder_in_use_is_refused(home: Path, dmf_command: Command) -> None:
    before, held = content("tiny"), RunFolder(Path("runs/tiny"))
    held.hold()
    try:
        for words in (["train.steps=14"], ["--fresh"]):
            code, _, err = dmf_command("train", "tiny.yaml", *words)
            assert code == 2 and "is in use by another dmf process" in err and "name=..." in err
    finally:
        held.release()
    assert content("tiny") == before


def no_room(*given: Any, **named: Any) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def at_step_7(monkeypatch: pytest.MonkeyPatch, happens: Callable[[Trainer], None]) -> None:
    """Of a run whose first checkpoint is of step 5, the next of step 10."""
    taken = Trainer.step

    def step(self: Trainer) -> None:
        taken(self)
        if self.state.step == 7:
            happens(self)

    monkeypatch.setattr(Trainer, "step", step)


@pytest.mark.parametrize("asynchronous", ["false", "true"])
def test_a_full_disk_costs_no_checkpoint_that_is_there(
    home: Path, dmf_command: Command, monkeypatch: pytest.MonkeyPatch, asynchronous: str
) -> None:
    words = ["train", "tiny.yaml", "name=full", f"checkpoint.asynchronous={asynchronous}"]
    with monkeypatch.context() as patched:
        at_step_7(patched, lambda trainer: patched.setattr(saver, "save_file", no_room))
        code, _, err = dmf_command(*words)
    assert code == 1 and "a checkpoint could not be written: [Errno 28] No space left" in err
    assert "Make room" in err and "Traceback" not in err
    assert [path.name for path in Path("runs/full/checkpoints").glob("step-*")] == ["step-00000005"]
    assert dmf_command(*words)[0] == 0
    assert content("full").keys() == {name.replace("tiny", "full") for name in content("tiny")}
    for group in ("model", "ema"):
        end = f"checkpoints/step-00000012/{group}.safetensors"
        assert Path("runs/full", end).read_bytes() == Path("runs/tiny", end).read_bytes()
    assert not list(Path("runs/full/checkpoints").glob(".tmp*"))


def test_a_full_disk_of_one_rank_that_holds_parts_is_said_once(home: Path) -> None:
    words = ["train", "tiny.yaml", "name=parts", "distributed.strategy=fsdp", "checkpoint.asynchronous=true"]
    screen = Path("screen.txt")
    ranks = Processes(2, trains_until_the_disk_is_full, words, str(screen.absolute()))
    assert ranks.failed(120) and ranks.codes() == [1, 1]
    said = screen.read_text()
    assert said.count("error: a checkpoint could not be written: [Errno 27] File too large (rank 1); ") == 1
    assert said.count("Make room") == 1 and "Traceback" not in said
    assert [path.name for path in Path("runs/parts/checkpoints").glob("step-*")] == ["step-00000005"]


def test_a_history_that_cannot_be_written_ends_the_run(
    home: Path, dmf_command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")

    def fill(trainer: Trainer) -> None:
        assert trainer.session._journal is not None
        trainer.session._journal._file = open("/dev/full", "w")  # noqa: SIM115 - the journal closes it

    at_step_7(monkeypatch, fill)
    code, _, err = dmf_command("train", "tiny.yaml", "name=full")
    assert code == 1 and "a line of the history could not be written" in err and "Traceback" not in err


def test_a_folder_of_checkpoints_that_goes_is_made_anew(
    home: Path, dmf_command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_step_7(monkeypatch, lambda trainer: shutil.rmtree(trainer.session.files.checkpoints))
    code, _, err = dmf_command("train", "tiny.yaml", "name=gone")
    assert code == 0 and "was deleted while the run went on" in err
    assert sorted(path.name for path in Path("runs/gone/checkpoints").glob("step-*")) == [
        "step-00000010",
        "step-00000012",
    ]


def test_a_run_folder_that_goes_ends_the_run(home: Path, dmf_command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    at_step_7(monkeypatch, lambda trainer: shutil.rmtree(trainer.session.folder))
    code, _, err = dmf_command("train", "tiny.yaml", "name=gone")
    assert code == 1 and "a checkpoint could not be written" in err and "Traceback" not in err
