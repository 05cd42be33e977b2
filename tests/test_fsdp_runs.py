"""Runs on FSDP from the command line: as good as one rank, previews and scores included, resumed on any ranks."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import FULL
from fork_kit import on_ranks
from torch import Tensor

from dmf.plugins.backbones.dit import DiT
from dmf.runner import checkpoints
from dmf.runner.cli import main
from dmf.runner.commands import on_ranks as joining
from dmf.runner.world import World

Command = Callable[..., tuple[int, str, str]]
FSDP, DDP = "distributed.strategy=fsdp", "distributed.strategy=ddp"
METRIC = "{name: kernel, features: digits, subset_size: 10}"
IMAGES, EVERY, POINTS = (30, 96, [4, 8, 12]) if FULL else (20, 144, [6, 12])
SCORES = f"evaluate={{images: {IMAGES}, held_out: false, metrics: [{METRIC}], during: {{every: {EVERY}, images: 20}}}}"


def commands(world: World, recipe: str) -> None:
    """What two ranks are told, one after the other, in the same processes."""
    os.environ["TORCHELASTIC_RUN_ID"] = "test"  # as under torchrun
    joining.leave = lambda: None  # the next command finds the ranks together
    moved: list[bool] = []  # of networks as a whole: a device may have no room for that
    move = DiT.to

    def spied(self: DiT, *given: Any, **options: Any) -> DiT:
        moved.append(True)
        return move(self, *given, **options)

    DiT.to = spied
    for words in (
        ["run", "name=straight", FSDP, "preview.every=6", "sampler.steps=1", SCORES],
        ["train", "name=stopped", FSDP, "train.steps=6"],
        ["train", "name=stopped", FSDP],
        ["train", "name=mixed", DDP, "train.steps=4"],
        ["train", "name=mixed", FSDP, "train.steps=8"],
    ):
        moved.clear()
        assert main([words[0], recipe, *words[1:]]) == 0, words
        assert not moved or words[0] == "run" or DDP in words, words  # of "run", a whole one for the images


def weights(run: Path, group: str) -> dict[str, Tensor]:
    newest = checkpoints.newest(run / "checkpoints")
    assert newest is not None and newest.step == 12
    return dict(newest.tensors[group])


def vector(tensors: dict[str, Tensor]) -> Tensor:
    return torch.cat([tensors[name].double().flatten() for name in sorted(tensors)])


def losses(run: Path) -> list[float]:
    return [json.loads(line)["values"]["loss"] for line in (run / "history.jsonl").read_text().splitlines()]


def test_runs_in_parts_are_runs(tiny: Path, dmf_command: Command) -> None:
    runs = tiny.parent / "runs"
    assert dmf_command("train", tiny, "name=one")[0] == 0
    on_ranks(2, commands, str(tiny))
    assert dmf_command("train", tiny, "name=mixed")[0] == 0  # from two ranks' parts, alone
    straight = runs / "straight"
    for name in ("samples/grid.png", "samples/step-00000006.png", "metrics.json"):
        assert (straight / name).exists(), name
    scored = [json.loads(line) for line in (straight / "evaluations.jsonl").read_text().splitlines()]
    assert [line["step"] for line in scored] == POINTS and all(line["results"] for line in scored)
    for group in ("model", "ema", "optimizer"):
        one, whole, stopped = (weights(runs / name, group) for name in ("one", "straight", "stopped"))
        assert all(torch.equal(stopped[name], value) for name, value in whole.items()), group
        for other in (whole, weights(runs / "mixed", group)):
            assert {n: v.shape for n, v in other.items()} == {n: v.shape for n, v in one.items()}
            assert float((vector(other) - vector(one)).norm()) < 1e-4 * float(vector(one).norm())
    for name in ("straight", "stopped", "mixed"):
        assert losses(runs / name) == pytest.approx(losses(runs / "one"), rel=1e-5)
