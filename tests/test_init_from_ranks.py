"""Starting from weights that are there, on several ranks: all from the same."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from dmf.registry import InitFrom, UserError
from dmf.runner.pipeline import source_to_start_from
from dmf.runner.training.sources import read_source, with_step

Command = Callable[..., tuple[int, str, str]]
RUNS = Path("runs")


@pytest.fixture(autouse=True)
def run(tiny: Path, dmf_command: Command) -> Path:
    """A run with checkpoints of steps 10 and 12."""
    assert dmf_command("train", tiny)[0] == 0
    return RUNS / "tiny"


class Second:
    """Rank 1, as far as it is asked; rank 0 has said this."""

    rank, size = 1, 2

    def __init__(self, *said: object) -> None:
        self.said = list(said)

    def first_only(self, work: Callable[[], object]) -> None:
        """That is rank 0's."""

    def tell(self, mine: object) -> object:
        return self.said.pop(0)

    def together(self, work: Callable[[], Any]) -> Any:
        return work()


def as_second(source: str, *said: object) -> Any:
    recipe = SimpleNamespace(init_from=InitFrom(source=source))
    return SimpleNamespace(recipe=recipe, start_step=0, folder=RUNS / "new", world=Second(*said))


def test_the_step_is_the_one_that_rank_0_has_found() -> None:
    """A run that is being trained may have a newer one by the time that another looks."""
    there = with_step(InitFrom(source="tiny@10", weights="raw"), RUNS)
    assert there == InitFrom(source="tiny@10", weights="raw")
    assert with_step(InitFrom(source="tiny"), RUNS).source == "runs/tiny@12"
    older = read_source(there, RUNS)
    found = source_to_start_from(as_second("tiny", there, (older.about, older.sha256)))
    assert found is not None and "step 10" in found.about and found.sha256 == older.sha256


def test_a_file_with_other_content_is_refused(run: Path) -> None:
    """Each machine may have one of its own by that name; a network in parts would be made of several."""
    file = str(run / "checkpoints/step-00000012/ema.safetensors")
    with pytest.raises(UserError, match=r"ema.safetensors is not the same on all ranks: .* on rank 1"):
        source_to_start_from(as_second(file, InitFrom(source=file), (file, "0" * 64)))
