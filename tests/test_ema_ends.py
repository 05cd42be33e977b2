"""The average that a training ends with is kept too, wherever it ends."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

Command = Callable[..., tuple[int, str, str]]
STOP = "hooks=[{name: early_stopping, patience: 1, min_delta: 1000}]"  # at the second point: nothing falls so far


@pytest.mark.parametrize(("more", "ends"), [([], 5), ([STOP, "train.steps=40", "log.every=1"], 2)])
def test_the_last_average_is_kept_between_two_times(
    tiny: Path, dmf_command: Command, more: list[str], ends: int
) -> None:
    power = "train.ema={name: power, snapshots: 3}"
    code, _, said = dmf_command("train", tiny, "train.steps=5", power, "sample.per_class=1", "log.every=5", *more)
    assert code == 0, said
    run = tiny.parent / "runs/tiny"
    last = json.loads((run / "history.jsonl").read_text().splitlines()[-1])["step"]
    assert last == ends
    kept = sorted(path.name for path in (run / "averages/power-0.1").iterdir())
    assert kept == [f"step-{step:08d}" for step in (3, ends) if step <= ends]
