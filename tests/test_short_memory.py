"""A step that a GPU's memory does not suffice for is no traceback: it says what was asked for, and what needs less."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from dmf.runner.generate import Generator
from dmf.runner.training.step import Stepper
from dmf.runner.trouble import memory_asked

TORCHS = (
    "CUDA out of memory. Tried to allocate 2.50 GiB. GPU 0 has a total capacity of 79.10 GiB of which 1.25 GiB is "
    "free. Including non-PyTorch memory, this process has 77.80 GiB memory in use. If reserved but unallocated memory "
    "is large try setting PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True to avoid fragmentation."
)
Command = Callable[..., tuple[int, str, str]]
MICRO = "train.micro_batch=auto, or 6"
BLOCKS = "train.activation_checkpointing=true"
BF16 = "train.precision=bf16"
FSDP = "distributed.strategy=fsdp on several GPUs"
ALL = {MICRO, BLOCKS, BF16, FSDP}
AT_A_TIME = "train.micro_batch=12"


@pytest.fixture
def full_at(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """The memory is full when so many steps are taken."""
    take_step = Stepper.__call__

    def at(step: int) -> None:
        def short(self: Stepper) -> float:
            if self.state.step == step:
                raise torch.OutOfMemoryError(TORCHS)
            return take_step(self)

        monkeypatch.setattr(Stepper, "__call__", short)

    return at


@pytest.mark.parametrize(
    ("in_use", "left"),
    [
        ([AT_A_TIME], ALL),
        (["train.micro_batch=1"], ALL - {MICRO}),
        ([AT_A_TIME, BLOCKS], ALL - {BLOCKS}),
        ([AT_A_TIME, BF16], ALL - {BF16}),
        ([AT_A_TIME, "distributed.strategy=fsdp"], ALL - {FSDP}),
    ],
)
def test_it_names_what_is_not_yet_in_use(
    tiny: Path, dmf_command: Command, full_at: Callable[[int], None], in_use: list[str], left: set[str]
) -> None:
    full_at(2)
    code, out, err = dmf_command("train", tiny, *in_use)
    assert code == 1 and "Traceback" not in out + err
    (told,) = [line for line in err.splitlines() if line.startswith("error: ")]
    images = 1 if "train.micro_batch=1" in in_use else 12
    assert f"out of memory in step 3, of {images} images at a time: 2.50 GiB more were asked for" in told
    assert "1.25 GiB were free" in told
    assert {word for word in ALL if word in told} == left


def test_what_a_checkpoint_settles_is_for_a_new_run(
    tiny: Path, dmf_command: Command, full_at: Callable[[int], None]
) -> None:
    full_at(6)
    code, _, err = dmf_command("train", tiny, "train.micro_batch=auto", "checkpoint.every=5")
    assert code == 1 and "out of memory in step 7" in err and f"{BF16} in a new run" in err
    assert "train.micro_batch=12," in err, "auto is in use: a number"


def test_other_words_of_torch_are_told_as_they_are() -> None:
    assert memory_asked(RuntimeError("HIP out of memory.\nand more")) == "HIP out of memory"


def test_images_that_do_not_fit_are_no_traceback_either(
    tiny: Path, dmf_command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert dmf_command("train", tiny, "train.steps=2")[0] == 0

    def short(*given: object) -> None:
        raise torch.OutOfMemoryError(TORCHS)

    monkeypatch.setattr(Generator, "batch", short)
    said = "error: out of memory: 2.50 GiB more were asked for, and 1.25 GiB were free. Take fewer images at a time: "
    for words in (["sample", "tiny"], ["run", tiny, "train.steps=2"]):
        code, _, err = dmf_command(*words)
        assert code == 1 and err.splitlines()[-1].startswith(said) and "Traceback" not in err
