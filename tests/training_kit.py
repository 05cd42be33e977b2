"""A trainer in this process, without the command line around it; and a stop at a step."""

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from dmf.registry import read
from dmf.runner.assemble import build_dataset, build_model
from dmf.runner.bench.steps import no_preview
from dmf.runner.feed import Feed
from dmf.runner.session import open_session
from dmf.runner.training import Trainer
from dmf.runner.training.points import Points
from dmf.runner.world import World


@contextlib.contextmanager
def trainer(recipe: Path, *words: str, rank: int = 0, ranks: int = 1) -> Iterator[Trainer]:
    """One that is ready for its first step."""
    wanted, world = read(recipe, list(words)), World(rank, ranks, torch.device("cpu"))
    with open_session(wanted, recipe.parent / "runs", world) as session:
        dataset = build_dataset(wanted, world)
        model = build_model(wanted, dataset.spec)
        with contextlib.closing(Feed(dataset, wanted.seed, wanted.train.batch_size, world)) as feed:
            made = Trainer(session, model, feed, no_preview)
            made.begin()
            yield made


def weights(one: Trainer) -> torch.Tensor:
    """All that are trained, as one vector; a copy."""
    return torch.cat([p.detach().flatten() for p in one.state.learner.parameters()])


def apart(a: torch.Tensor, b: torch.Tensor) -> float:
    """The distance of two vectors over the length of the second."""
    return float((a - b).norm() / b.norm())


def stop_at(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """The run hears SIGTERM when it logs this step."""
    write = Points.write

    def stopping(self: Points, bar: object) -> str | None:
        if self.state.step == step:
            os.kill(os.getpid(), signal.SIGTERM)
        return write(self, bar)  # type: ignore[arg-type]

    monkeypatch.setattr(Points, "write", stopping)
