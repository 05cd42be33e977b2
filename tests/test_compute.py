"""How the device computes: settings of the process, networks made ready, and that checkpoints do not see it."""

import copy
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from backbones_kit import small
from conftest import FULL
from safetensors.torch import load_file
from torch import Tensor, backends

from dmf.core import DataSpec
from dmf.core.arithmetic import _switches, exact_float32, shortened
from dmf.plugins.backbones.dit import DiT
from dmf.registry import Compute, UserError
from dmf.runner.compute import WORKSPACE, in_words, prepare, set_up

Command = Callable[..., tuple[int, str, str]]
CPU, GPU = torch.device("cpu"), torch.device("cuda")
SPEC = DataSpec((1, 8, 8), tuple("abc"))
UNET = "backbone={name: unet, base: 8, multipliers: [1, 2], blocks: 1, groups: 4, attention: [], dropout: 0}"


@pytest.fixture(autouse=True)
def as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What is of the process is put back."""
    monkeypatch.delenv(WORKSPACE, raising=False)
    switches = [(switch.set_to, switch.value) for switch in _switches(GPU)]
    flags = (backends.cudnn.deterministic, backends.cudnn.benchmark)
    yield
    os.environ.pop(WORKSPACE, None)
    torch.use_deterministic_algorithms(False)
    backends.cudnn.deterministic, backends.cudnn.benchmark = flags
    for put, value in switches:
        put(value)


def on_gpu(monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int]) -> None:
    """A GPU's switches are there without a GPU."""
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)


def test_deterministic_is_set_and_taken_back() -> None:
    set_up(Compute(deterministic=True), CPU)
    assert torch.are_deterministic_algorithms_enabled() and backends.cudnn.deterministic
    assert not backends.cudnn.benchmark and os.environ[WORKSPACE] == ":4096:8"
    set_up(Compute(), CPU)
    assert not torch.are_deterministic_algorithms_enabled() and not backends.cudnn.deterministic


def older_names() -> tuple[str, bool, bool]:
    """What they say, which raise where but the newer switches are set."""
    return torch.get_float32_matmul_precision(), backends.cuda.matmul.allow_tf32, backends.cudnn.allow_tf32


def test_tf32_goes_by_the_gpu_and_never_where_images_are_measured(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    both = ["convolutions", "matrix products"]
    for capability, wanted, want in [
        ((9, 0), "auto", both),
        ((7, 5), "auto", []),
        ((9, 0), False, []),
        ((9, 0), True, both),
    ]:
        on_gpu(monkeypatch, capability)
        set_up(Compute(tf32=wanted), GPU)
        assert shortened(GPU) == want, (capability, wanted)
        with exact_float32(GPU):
            assert shortened(GPU) == [] and older_names() == ("highest", False, False)
        assert shortened(GPU) == want and older_names() == (("high", True, True) if want else ("highest", False, False))
        assert shortened(CPU) == []
    assert not caplog.records
    set_up(Compute(tf32=True), CPU)
    assert "compute.tf32: cpu has no TF32" in caplog.text and shortened(CPU) == []


def test_a_start_line_says_what_is_used(monkeypatch: pytest.MonkeyPatch, tiny: Path, dmf_command: Command) -> None:
    network = small("dit", SPEC)
    on_gpu(monkeypatch, (9, 0))
    set_up(Compute(), GPU)
    assert in_words(Compute(), network, GPU) == ["TF32 in convolutions and matrix products"]
    set_up(Compute(tf32=False), GPU)
    many = Compute(tf32=False, compile="blocks", channels_last=True, deterministic=True)
    assert in_words(many, network, GPU) == ["no TF32", "compiled blocks", "channels last", "deterministic"]
    said = dmf_command("train", tiny, "compute.deterministic=true", "train.precision=bf16", "train.micro_batch=12")[1]
    assert "a step: bf16, deterministic, fused adamw, 2 micro-batches of 12" in said


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """What is handed to torch.compile, which then gives it back as it is."""
    seen: list[object] = []

    def compile(what: Any, **options: Any) -> Any:
        seen.append(what)
        return what

    monkeypatch.setattr(torch, "compile", compile)
    return seen


def test_all_or_each_block_is_compiled(compiled: list[object]) -> None:
    """In place, so that names stay; copies, which averages are, are plain."""
    for wanted, calls in ((False, 0), (True, 1), ("blocks", 2)):
        compiled.clear()
        network = small("dit", SPEC)
        names = list(network.state_dict())
        prepare(network, Compute(compile=wanted), "cpu")
        assert len(compiled) == calls == len({id(getattr(one, "__self__", one)) for one in compiled})
        assert list(network.state_dict()) == names and not any("_orig_mod" in name for name in names)
        assert all(m._compiled_call_impl is None for m in copy.deepcopy(network).modules())


def test_blocks_there_must_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DiT, "blocks", lambda self: [])
    with pytest.raises(UserError, match=r"compute\.compile: blocks\(\) of DiT is empty.* write compute\.compile: true"):
        prepare(small("dit", SPEC), Compute(compile="blocks"), "cpu")


def test_a_missing_compiler_is_told_before_the_work(
    tiny: Path, dmf_command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def compile(what: Any, **options: Any) -> Any:
        raise RuntimeError("No working C++ compiler found")

    monkeypatch.setattr(torch, "compile", compile)
    code, _, err = dmf_command("train", tiny, "compute.compile=blocks")
    assert code == 2 and "compute.compile: torch.compile does not work on this machine: No working C++" in err
    assert "write compute.compile: false" in err
    assert not list((tiny.parent / "runs/tiny").glob("*.yaml"))


def weights(run: Path) -> dict[str, Tensor]:
    return load_file(run / "checkpoints/step-00000012/model.safetensors")


def same(a: Path, b: Path) -> bool:
    first, second = weights(a), weights(b)
    return first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)


def test_runs_go_on_with_other_settings(compiled: list[object], tiny: Path, dmf_command: Command) -> None:
    """Half compiled, half not; the checkpoints are the same, and so are the samples' weights."""
    assert dmf_command("train", tiny, "name=plain")[0] == 0
    for steps, wanted in ((5, "true"), (9, "false"), (12, "blocks")):
        words = (f"train.steps={steps}", f"compute.compile={wanted}", "train.activation_checkpointing=true")
        assert dmf_command("train", tiny, *words)[0] == 0
    assert len(compiled) > 3
    assert same(tiny.parent / "runs/tiny", tiny.parent / "runs/plain")
    assert dmf_command("sample", "tiny", "--count", 4)[0] == 0


def test_channels_last_by_device_and_network(monkeypatch: pytest.MonkeyPatch) -> None:
    unet, dit = small("unet", SPEC), small("dit", SPEC)
    for gpu, wanted, want in ((False, "auto", []), (True, "auto", ["unet"]), (False, True, ["unet"])):
        monkeypatch.setattr(torch.cuda, "is_available", lambda gpu=gpu: gpu)
        found = []
        for name, network in {"unet": copy.deepcopy(unet), "dit": copy.deepcopy(dit)}.items():
            prepare(network, Compute(channels_last=wanted), "auto")
            if any(is_last(w) for w in network.parameters()):
                found.append(name)
        assert found == want
    assert in_words(Compute(), unet, GPU)[1:] == ["channels last"] and not in_words(Compute(), dit, GPU)[1:]


def is_last(weight: Tensor) -> bool:
    return weight.ndim == 4 and weight.is_contiguous(memory_format=torch.channels_last) and not weight.is_contiguous()


def test_channels_last_survives_resume_bit_for_bit(tiny: Path, dmf_command: Command) -> None:
    """Moments are read into the memory order of their weights, or a fused step would mix them up."""
    words = ("compute.channels_last=true", UNET)
    assert "channels last" in dmf_command("train", tiny, "name=whole", *words)[1]
    for steps in (5, 12):
        assert dmf_command("train", tiny, "name=parts", *words, f"train.steps={steps}")[0] == 0
    assert dmf_command("train", tiny, "name=plain", UNET)[0] == 0
    runs = tiny.parent / "runs"
    assert same(runs / "parts", runs / "whole")
    losses = [
        [json.loads(line)["values"]["loss"] for line in (runs / name / "history.jsonl").open()]
        for name in ("whole", "plain")
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


@pytest.mark.slow
@pytest.mark.skipif(not FULL, reason="the compiler takes a minute; DMF_FULL=1")
@pytest.mark.parametrize("wanted", ["true", "blocks"])
def test_compiled_is_the_same_to_rounding(wanted: str, tiny: Path, dmf_command: Command) -> None:
    assert dmf_command("train", tiny, "name=plain", "train.steps=4")[0] == 0
    assert dmf_command("train", tiny, "train.steps=4", f"compute.compile={wanted}")[0] == 0
    a, b = (
        [json.loads(line)["values"]["loss"] for line in (tiny.parent / f"runs/{name}/history.jsonl").open()]
        for name in ("plain", "tiny")
    )
    assert a == pytest.approx(b, rel=1e-5)
