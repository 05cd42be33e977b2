"""What is told of something long where there is no terminal."""

from typing import Any

import pytest

from dmf.files import progress
from dmf.files.progress import Progress
from dmf.runner.console import TaskProgress


@pytest.fixture(autouse=True)
def no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: False)


def told(monkeypatch: pytest.MonkeyPatch, kind: Any, *args: Any, **options: Any) -> list[str]:
    """The lines of a work of four units in two steps."""
    lines: list[str] = []
    monkeypatch.setattr(progress.log, "info", lines.append)
    with kind("work", *args, **options) as bar:
        if isinstance(bar, TaskProgress):
            bar.note(loss="0.5")
        bar.step(2)
        bar.step(2)
    return lines


def test_what_is_short_is_not_told_of_and_a_command_says_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    assert told(monkeypatch, Progress, 4) == []
    assert told(monkeypatch, TaskProgress, 4) == ["work 4/4, loss 0.5, 0 s left"]


def test_what_is_long_is_told_of_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "PLAIN_LINE_EVERY_S", 0.0)
    assert told(monkeypatch, Progress, None) == ["work 2", "work 4"]
    assert told(monkeypatch, Progress, 4, "B") == ["work 2.00B/4.00B", "work 4.00B/4.00B"]
    first, _ = told(monkeypatch, TaskProgress, 6, 2, 0)  # two are done already
    assert first.startswith("work 4/6, loss 0.5, ")


@pytest.mark.parametrize("kind", [Progress, TaskProgress])
def test_one_process_of_a_run_tells(monkeypatch: pytest.MonkeyPatch, kind: type) -> None:
    monkeypatch.setattr(progress, "PLAIN_LINE_EVERY_S", 0.0)
    assert told(monkeypatch, kind, 4, shown=False) == []
    monkeypatch.setenv("RANK", "1")
    assert told(monkeypatch, kind, 4) == []
    assert len(told(monkeypatch, kind, 4, shown=True)) == 2
