"""`dmf run` and `dmf train`: what they write, what they say, and how they go on."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from process_kit import start
from safetensors.torch import load_file

from dmf.plugins.backbones.dit import DiT

Command = Callable[..., tuple[int, str, str]]


def weights(run: Path, step: int, name: str = "model") -> dict[str, torch.Tensor]:
    return load_file(run / "checkpoints" / f"step-{step:08d}" / f"{name}.safetensors")


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def history(run: Path) -> list[dict[str, object]]:
    lines = [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()]
    return [{"step": x["step"], "loss": x["values"]["loss"], "norm": x["values"]["gradient_norm"]} for x in lines]


def test_a_run_leaves_what_it_promises(tiny: Path, dmf_command: Command) -> None:
    code, out, _ = dmf_command("run", tiny, "evaluate={images: 80, metrics: [{name: frechet, features: digits}]}")
    run = tiny.parent / "runs" / "tiny"
    assert code == 0
    assert sorted(p.name for p in (run / "checkpoints").iterdir()) == ["step-00000010", "step-00000012"]
    for name in ("recipe.yaml", "facts.json", "network.txt", "data.png", "log.txt", "samples/grid.png", "spec.json"):
        assert (run / name).stat().st_size > 0
    results = json.loads((run / "metrics.json").read_text())
    assert set(results) == {"frechet_digits"}
    protocol = results["frechet_digits"]["protocol"]
    assert protocol["images"] == "80" and protocol["steps"] == "3" and protocol["weights"] == "ema"
    assert results["frechet_digits"]["held_out"]["images"] == 300
    assert "held-out real" in out and "frechet_digits" in out
    facts = json.loads((run / "facts.json").read_text())
    assert {"dataset.fingerprint", "version.torch", "part.sampler:heun", "network.parameters"} <= set(facts)


def test_what_a_network_says_of_itself_is_noted(
    tiny: Path, dmf_command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is asked when it is where it will be used, which may decide what it uses."""
    moved: list[str] = []
    monkeypatch.setattr(DiT, "to", lambda self, device: moved.append(str(device)))
    monkeypatch.setattr(DiT, "facts", lambda self: {"place": ",".join(moved), "parameters": "none"})
    assert dmf_command("train", tiny)[0] == 0
    facts = json.loads((tiny.parent / "runs/tiny/facts.json").read_text())
    assert facts["network.place"] == "cpu" and int(facts["network.parameters"]) > 0


def test_the_sheet_has_a_row_a_class_and_says_how_it_was_made(tiny: Path, dmf_command: Command) -> None:
    assert dmf_command("run", tiny)[0] == 0
    with Image.open(tiny.parent / "runs/tiny/samples/grid.png") as image:
        assert image.height > 10 * 48 and image.width > 2 * 48
        assert image.text["dmf.seed"] == "0" and image.text["dmf.step"] == "12"  # type: ignore[attr-defined]


def test_again_does_nothing_and_says_how_to_go_on(tiny: Path, dmf_command: Command) -> None:
    dmf_command("run", tiny)
    before = {
        p: p.stat().st_mtime_ns for p in (tiny.parent / "runs").rglob("*") if p.suffix in (".png", ".safetensors")
    }
    code, out, _ = dmf_command("run", tiny)
    assert code == 0
    assert "is done: 12 steps" in out and "train.steps=24" in out and "--fresh" in out
    assert before == {p: p.stat().st_mtime_ns for p in before}


def test_a_finished_run_is_extended(tiny: Path, dmf_command: Command) -> None:
    dmf_command("train", tiny)
    assert dmf_command("train", tiny, "train.steps=20")[0] == 0
    dmf_command("train", tiny, "train.steps=20", "name=straight")
    runs = tiny.parent / "runs"
    assert same(weights(runs / "tiny", 20), weights(runs / "straight", 20))
    assert history(runs / "tiny") == history(runs / "straight")


def test_a_changed_sampler_samples_anew_and_trains_nothing(tiny: Path, dmf_command: Command) -> None:
    dmf_command("run", tiny)
    grid = tiny.parent / "runs/tiny/samples/grid.png"
    before, trained = grid.read_bytes(), history(tiny.parent / "runs/tiny")
    code, out, _ = dmf_command("run", tiny, "sampler.name=ddim")
    assert code == 0 and "samples:" in out
    assert grid.read_bytes() != before
    assert history(tiny.parent / "runs/tiny") == trained


def test_another_recipe_in_the_same_folder_is_refused(tiny: Path, dmf_command: Command) -> None:
    dmf_command("train", tiny)
    code, _, err = dmf_command("train", tiny, "backbone.hidden=48", "train.lr=1e-4")
    assert code == 2
    assert "backbone.hidden: 32 -> 48" in err and "train.lr: 0.001 -> 0.0001" in err
    assert "name=" in err and "--fresh" in err


def test_fresh_keeps_the_old_run(tiny: Path, dmf_command: Command) -> None:
    dmf_command("train", tiny)
    code, out, _ = dmf_command("train", tiny, "backbone.hidden=48", "--fresh")
    runs = tiny.parent / "runs"
    assert code == 0 and "tiny.1" in out
    assert weights(runs / "tiny", 12).keys() == weights(runs / "tiny.1", 12).keys()
    assert not same(weights(runs / "tiny", 12), weights(runs / "tiny.1", 12))


def test_another_name_is_another_folder(tiny: Path, dmf_command: Command) -> None:
    assert dmf_command("train", tiny, "name=b")[0] == 0
    assert (tiny.parent / "runs/b/recipe.yaml").exists() and not (tiny.parent / "runs/tiny").exists()


def test_the_resolved_recipe_repeats_the_run(tiny: Path, dmf_command: Command) -> None:
    dmf_command("train", tiny)
    code, _, _ = dmf_command("train", tiny.parent / "runs/tiny/recipe.yaml", "name=again")
    assert code == 0
    assert same(weights(tiny.parent / "runs/tiny", 12), weights(tiny.parent / "runs/again", 12))


def test_two_processes_do_not_share_a_folder(tiny: Path, dmf_command: Command) -> None:
    from dmf.runner.folder import RunFolder

    held = RunFolder(tiny.parent / "runs/tiny")
    held.hold()
    code, _, err = dmf_command("train", tiny)
    held.release()
    assert code == 2 and f"pid {os.getpid()}" in err


def test_weights_of_another_run_are_a_start(tiny: Path, dmf_command: Command) -> None:
    dmf_command("train", tiny)
    code, _, _ = dmf_command("train", tiny, "name=tuned", "init_from=runs/tiny", "train.steps=1", "train.lr=1e-12")
    assert code == 0
    start, tuned = weights(tiny.parent / "runs/tiny", 12, "ema"), weights(tiny.parent / "runs/tuned", 1)
    assert max(float((start[k] - tuned[k]).abs().max()) for k in start) < 1e-9
    code, _, err = dmf_command("train", tiny, "name=other", "init_from=runs/tiny", "backbone.hidden=48")
    assert code == 2 and "init_from" in err and "(32" in err and "(48" in err
    assert dmf_command("train", tiny, "name=none", "init_from=nowhere")[0] == 2


def test_a_loss_that_is_not_finite_is_passed_over_and_in_the_end_stops(tiny: Path, dmf_command: Command) -> None:
    code, out, err = dmf_command(
        "train", tiny, "train.lr=1e30", "train.clip=null", "train.steps=60", "train.stop_after_bad_steps=6"
    )
    assert code == 1
    assert "not finite in" in out + err and "images" in err
    points = [json.loads(x)["values"] for x in (tiny.parent / "runs/tiny/history.jsonl").read_text().splitlines()]
    assert points[-1]["bad_steps"] >= 6
    assert points[-1]["loss"] is None  # not a zero, which would be the best loss of all


def test_a_batch_that_ranks_cannot_share_is_refused(tiny: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "dmf", "train", tiny, "train.batch_size=25", "--ranks", "2"],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 2, done.stderr
    assert "multiple of 2" in done.stderr and "Traceback" not in done.stderr


def wait_for(path: Path, what: Callable[[str], bool], process: "subprocess.Popen[str]", seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if process.poll() is not None or (path.exists() and what(path.read_text())):
            return
        time.sleep(0.02)
    raise AssertionError(f"nothing in {path} after {seconds} s")


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stop_writes_a_checkpoint_and_goes_on_exactly(
    tiny: Path, dmf_command: Command, signum: signal.Signals, code: int
) -> None:
    process = start("train", tiny, "train.steps=400", "checkpoint.every=1000")
    wait_for(tiny.parent / "runs/tiny/history.jsonl", lambda text: text.count("\n") > 5, process)
    process.send_signal(signum)
    out, err = process.communicate(timeout=120)
    assert process.returncode == code, err
    assert "same command again" in out and "Traceback" not in err
    (saved,) = (tiny.parent / "runs/tiny/checkpoints").iterdir()
    assert 10 < int(saved.name.removeprefix("step-")) < 400
    torch.set_num_threads(1)
    assert dmf_command("train", tiny, "train.steps=400", "checkpoint.every=1000")[0] == 0
    dmf_command("train", tiny, "train.steps=400", "checkpoint.every=1000", "name=straight")
    runs = tiny.parent / "runs"
    assert same(weights(runs / "tiny", 400), weights(runs / "straight", 400))
    assert same(weights(runs / "tiny", 400, "ema"), weights(runs / "straight", 400, "ema"))
    assert history(runs / "tiny") == history(runs / "straight")


def test_the_npz_is_in_the_fields_format(tiny: Path, dmf_command: Command) -> None:
    dmf_command("train", tiny)
    assert dmf_command("sample", "tiny", "--count", 5, "--labels", "3,7", "--npz", "a.npz")[0] == 0
    with np.load("a.npz") as arrays:
        assert arrays["arr_0"].shape == (5, 8, 8, 1) and arrays["arr_0"].dtype == np.uint8
        assert arrays["arr_1"].tolist() == [3, 7, 3, 7, 3]


def test_data_is_known_by_its_fingerprint_not_by_its_options(tiny: Path, dmf_command: Command) -> None:
    dmf_command("train", tiny)
    code, _, err = dmf_command("train", tiny, "dataset.split=all", "train.steps=14")
    assert code == 2 and "other data" in err and "--fresh" in err
    assert dmf_command("train", tiny, "train.steps=14")[0] == 0


def test_a_start_that_failed_does_not_hold_the_folder(tiny: Path, dmf_command: Command) -> None:
    code, _, _ = dmf_command("run", tiny, "dataset={name: cifar10, root: nowhere, download: false}")
    assert code == 2
    assert dmf_command("run", tiny)[0] == 0


def test_the_hints_of_a_finished_run_repeat_what_was_given(tiny: Path, dmf_command: Command) -> None:
    dmf_command("train", tiny, "name=b", "train.steps=3")
    _, out, _ = dmf_command("train", tiny, "name=b", "train.steps=3")
    assert f"dmf run {tiny} name=b train.steps=6" in out
    assert f"dmf run {tiny} name=b train.steps=3 --fresh" in out


def test_a_run_without_an_average_samples_the_raw_weights_and_says_so(tiny: Path, dmf_command: Command) -> None:
    code, out, _ = dmf_command("run", tiny, "train.ema=[]")
    assert code == 0 and "no average" in out
    assert not (tiny.parent / "runs/tiny/checkpoints/step-00000012/ema.safetensors").exists()


def test_a_refused_or_idle_command_leaves_the_runs_recipe(tiny: Path, dmf_command: Command) -> None:
    dmf_command("train", tiny)
    recipe = tiny.parent / "runs/tiny/recipe.yaml"
    before = recipe.read_text()
    assert dmf_command("train", tiny, "dataset.split=all")[0] == 2
    assert dmf_command("train", tiny, "train.steps=6")[0] == 0
    assert recipe.read_text() == before
    assert dmf_command("run", tiny, "train.steps=6")[0] == 0  # samples are due; the weights are still of 12 steps
    assert "steps: 12" in recipe.read_text()


def test_damaged_checkpoints_do_not_start_a_run_over(tiny: Path, dmf_command: Command) -> None:
    dmf_command("train", tiny)
    for file in (tiny.parent / "runs/tiny/checkpoints").glob("*/model.safetensors"):
        file.write_bytes(b"")
    code, _, err = dmf_command("train", tiny, "train.steps=20")
    assert code == 2 and "none of the checkpoints" in err and "--fresh" in err
    assert dmf_command("train", tiny, "--fresh")[0] == 0


def test_guidance_of_a_network_that_never_dropped_a_label_is_refused(tiny: Path, dmf_command: Command) -> None:
    code, _, err = dmf_command("run", tiny, "train.label_dropout=0")
    assert code == 2 and "label_dropout" in err
    assert dmf_command("run", tiny, "train.label_dropout=0", "sampler.guidance=1")[0] == 0
    code, _, err = dmf_command("sample", "tiny", "--guidance", "2")
    assert code == 2 and "label_dropout" in err


def test_a_place_that_cannot_be_written_is_the_users_mistake(tiny: Path, dmf_command: Command) -> None:
    (tiny.parent / "file").write_text("")
    code, _, err = dmf_command("train", tiny, "--runs", "file")
    assert code == 2 and "--runs" in err and "Traceback" not in err


def test_a_run_that_never_began_cannot_be_sampled(tiny: Path, dmf_command: Command) -> None:
    folder = tiny.parent / "runs/empty"
    folder.mkdir(parents=True)
    (folder / "recipe.yaml").write_text(tiny.read_text())
    code, _, err = dmf_command("sample", "empty")
    assert code == 2 and "never trained" in err
