"""`dmf export`: one file out of any checkpoint."""

import json
import re
import textwrap
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from dmf.core import DataSpec
from dmf.registry import build
from dmf.runner import checkpoints

Command = Callable[..., tuple[int, str, str]]
DIGITS = DataSpec((1, 8, 8), tuple("0123456789"))


@pytest.fixture
def run(tiny: Path, dmf_command: Command) -> Path:
    code, _, err = dmf_command("train", tiny, "checkpoint={every: 5, keep: 3, best: loss}", "log.every=5")
    assert code == 0, err
    return Path("runs/tiny")


def held(run: Path, step: int, group: str) -> dict[str, torch.Tensor]:
    return load_file(run / f"checkpoints/step-{step:08d}/{group}.safetensors")


def same(one: dict[str, torch.Tensor], two: dict[str, torch.Tensor]) -> bool:
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


def test_the_weights_and_what_they_are(run: Path, dmf_command: Command) -> None:
    code, out, err = dmf_command("export", run, "--out", "w.safetensors")
    assert code == 0, err
    assert same(load_file("w.safetensors"), held(run, 12, "ema"))
    with safe_open("w.safetensors", framework="pt") as file:
        about = file.metadata()
    assert (about["dmf.step"], about["dmf.weights"], about["dmf.images_seen"]) == ("12", "ema", str(12 * 24))
    assert json.loads(about["dmf.recipe"])["backbone"]["name"] == "dit"
    assert json.loads(about["dmf.spec"]) == json.loads((run / "spec.json").read_text())
    manifest = json.loads((run / "checkpoints/step-00000012/manifest.json").read_text())
    assert about["dmf.sha256"] == manifest["ema.safetensors"]
    assert "ema weights of step 12" in out
    shown = textwrap.dedent("\n".join(out.splitlines()[1:]))
    made = re.fullmatch(r".*# (dit\(.*\))", shown, re.DOTALL)
    assert made is not None and "hidden=32, depth=2, heads=2, patch=4" in made[1]
    names: dict[str, Any] = {"network": eval(made[1], {"dit": partial(build, "backbone", "dit", DIGITS)})}
    exec(shown, names)  # as a person would
    assert same(names["network"].state_dict(), held(run, 12, "ema"))
    assert (names["recipe"], names["spec"]) == (about["dmf.recipe"], about["dmf.spec"])


def test_other_weights_steps_and_a_start_from_them(run: Path, tiny: Path, dmf_command: Command) -> None:
    assert dmf_command("export", "tiny@5", "--weights", "raw", "--out", "w.safetensors")[0] == 0
    assert same(load_file("w.safetensors"), held(run, 5, "model"))
    code, out, err = dmf_command("train", tiny, "name=next", "init_from=w.safetensors", "train.lr=1e-9")
    assert code == 0, out + err
    after = held(Path("runs/next"), 12, "model")
    assert all((after[name] - value).abs().max() < 1e-6 for name, value in load_file("w.safetensors").items())
    best = json.loads((run / "checkpoints/best.json").read_text())
    points = [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()]
    losses = {point["step"]: point["values"]["loss"] for point in points}
    assert (best["step"], best["value"]) == min(losses.items(), key=lambda one: one[1])
    assert dmf_command("export", "tiny@best", "--out", "best.safetensors")[0] == 0
    assert same(load_file("best.safetensors"), held(run, best["step"], "ema"))


def test_what_cannot_be_exported(run: Path, dmf_command: Command) -> None:
    Path("w.safetensors").write_bytes(b"mine")
    code, _, err = dmf_command("export", run, "--out", "w.safetensors")
    assert code == 2 and "is there already" in err and Path("w.safetensors").read_bytes() == b"mine"
    assert dmf_command("export", run, "--out", "w.safetensors", "--force")[0] == 0
    for words, said in (
        (["--out", "w.pt"], "name it w.safetensors"),
        (["--out", "none/w.safetensors"], "its folder does not exist"),
        (["--out", "a.safetensors", "--weights", "emma"], "no weights called 'emma'"),
    ):
        code, _, err = dmf_command("export", run, *words)
        assert code == 2 and said in err, err
    (run / "checkpoints" / checkpoints.POINTER).unlink()
    code, _, err = dmf_command("export", f"{run}@7", "--out", "a.safetensors")
    assert code == 2 and "no checkpoint of step 7; it has 5, 10, 12" in err
    code, _, err = dmf_command("export", f"{run}@best", "--out", "a.safetensors")
    assert code == 2 and "no best checkpoint: write checkpoint.best" in err and "5, 10, 12" in err
