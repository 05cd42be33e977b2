"""`dmf bench training`: a table, and figures that say what they are of."""

import json
from collections.abc import Callable
from pathlib import Path

Command = Callable[..., tuple[int, str, str]]
SMALL = ("train.batch_size=8", "backbone={name: dit, hidden: 16, depth: 1, heads: 1, patch: 4}", "train.precision=bf16")


def test_it_measures_both_sides(dmf_command: Command, workdir: Path) -> None:
    code, out, err = dmf_command("bench", "training", "--repeats", 3, "--json", "figures.json", *SMALL)
    assert code == 0, err
    (found,) = json.loads(Path("figures.json").read_text())
    assert found["recipe"] == "digits_dit" and found["images"] == 8
    assert found["by_hand_ms"]["median"] > 0 and found["ours_ms"]["median"] > 0
    assert "| `digits_dit` | 8 |" in out and not Path("runs").exists()


def test_a_recipe_that_is_not_there_is_told(dmf_command: Command, workdir: Path) -> None:
    assert dmf_command("bench", "training", "--recipes", "digits_dut")[0] == 2
