"""How fast a training goes and how much of it is waiting, on a clock that the tests set."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from dmf.runner.training.pace import Pace


class Clock:
    """Seconds, as the test sets them."""

    def __init__(self) -> None:
        self.s = 100.0

    def __call__(self) -> float:
        return self.s


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    monkeypatch.setattr("time.perf_counter", found)
    return found


def test_an_interval_is_over_its_steps_and_waiting_a_part_of_it(clock: Clock) -> None:
    pace = begun(clock)
    for _ in range(3):
        clock.s += 0.5
        pace.step(waited_s=0.125)
    assert pace.point() == {"images_per_second": 32.0, "step_ms": 500.0, "data_wait_ms": 93.75}
    clock.s += 1.0
    pace.step(waited_s=0.0)
    assert pace.point() == {"images_per_second": 16.0, "step_ms": 1000.0, "data_wait_ms": 0.0}
    assert pace.waited() == pytest.approx(0.375 / 3)


def test_what_is_left_out_counts_nowhere(clock: Clock) -> None:
    pace = begun(clock)
    assert pace.waited() is None
    clock.s += 1000
    pace.restart()  # pictures were made
    clock.s += 2.0
    pace.step(waited_s=1.0)
    assert pace.point()["step_ms"] == 2000.0 and pace.waited() == 0.5


def begun(clock: Clock) -> Pace:
    """After a step of half a second; its images came after 7, for workers had to start."""
    pace = Pace(batch_size=16)
    clock.s += 7.5
    pace.step(waited_s=7.0)
    assert pace.first_s == 7.0
    return pace


def test_a_training_logs_its_waiting_and_says_the_share(
    tiny: Path, dmf_command: Callable[..., tuple[int, str, str]]
) -> None:
    code, out, err = dmf_command("train", tiny)
    assert code == 0, err
    rows = [json.loads(line)["values"] for line in (tiny.parent / "runs/tiny/history.jsonl").read_text().splitlines()]
    assert all(0 <= row["data_wait_ms"] < row["step_ms"] for row in rows)
    assert re.search(r"waited for data: \d+\.\d s for the first batch, then \d+\.\d % of the time", out)
    assert "data: 1,497 images of 1x8x8 in memory (" in out
