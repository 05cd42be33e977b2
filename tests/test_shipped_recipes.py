"""Every recipe that comes with the package is valid; the CIFAR ones train on the real data where it is at hand."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from dmf.registry import read
from dmf.registry.shipped import headline, shipped, text

Command = Callable[..., tuple[int, str, str]]
DATA = os.environ.get("DMF_TEST_DATA")


@pytest.mark.parametrize("name", shipped())
def test_it_is_valid_and_says_what_it_is(name: str) -> None:
    assert read(name).name.replace("-", "_") == name
    assert len(headline(name)) > 20


def test_the_digits_recipe_spells_itself_out() -> None:
    import yaml

    assert "extends" not in yaml.safe_load(text("digits_dit"))


def test_recipes_are_listed_shown_and_copied(workdir: Path, dmf_command: Command) -> None:
    assert all(name in dmf_command("recipes")[1] for name in shipped())
    assert dmf_command("recipes", "show", "digits_dit")[1] == text("digits_dit")
    assert dmf_command("recipes", "copy", "digits_dit")[0] == 0
    assert dmf_command("validate", "digits_dit.yaml", "name=mine")[0] == 0
    code, _, err = dmf_command("recipes", "copy", "digits_dit")
    assert code == 2 and "exists" in err
    code, _, err = dmf_command("recipes", "show", "digit_dit")
    assert code == 2 and "digits_dit" in err


@pytest.mark.parametrize("name", ["cifar10_dit", "cifar10_unet"])
def test_without_data_and_network_the_message_says_where_files_go(
    name: str, workdir: Path, dmf_command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DMF_DATA", raising=False)
    code, _, err = dmf_command("run", name, "dataset.download=false")
    assert code == 2
    assert "cifar-10" in err and "data" in err and "Traceback" not in err


@pytest.mark.skipif(not DATA, reason="needs DMF_TEST_DATA, a folder with CIFAR-10 as torchvision lays it out")
@pytest.mark.parametrize("name", ["cifar10_dit", "cifar10_unet"])
def test_it_trains_a_few_steps_on_the_real_data(name: str, workdir: Path) -> None:
    words = [name, f"dataset.root={DATA}", "train.steps=2", "train.batch_size=4", "log.every=1", "hooks=[]"]
    done = subprocess.run([sys.executable, "-m", "dmf", "train", *words], text=True, capture_output=True, timeout=600)
    assert done.returncode == 0, done.stderr
    run = workdir / "runs" / name.replace("_", "-")
    assert (run / "history.jsonl").read_text().count("\n") == 2
    assert (run / "checkpoints/step-00000002").is_dir()
