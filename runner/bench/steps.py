"""Training steps of a shipped recipe, with the time that each waits for its batch."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from ...registry import read
from ...testing.bench.timing import Spread, spread, timed
from ..assemble import build_dataset, build_model
from ..compute import set_up
from ..feed import Batch, Feed, source_of
from ..session import open_session
from ..training import Trainer
from ..world import World

WARM = 2  # steps before the clock runs


@dataclass
class Times:
    """Of some training steps.

    Attributes:
        batch: Images a step.
        step_s: Seconds of each, all in all.
        wait_s: Seconds of each until its batch was there.
    """

    batch: int
    step_s: list[float] = field(default_factory=list)
    wait_s: list[float] = field(default_factory=list)

    def ms(self) -> tuple[Spread, Spread]:
        """Of a step, and of its waiting."""
        step, waited = (spread([1000 * s for s in row]) for row in (self.step_s, self.wait_s))
        return step, waited

    def share(self) -> Spread:
        """Of the waiting in the step, in percent."""
        return spread([100 * wait / step for wait, step in zip(self.wait_s, self.step_s, strict=True)])


def training_steps(
    name: str,
    words: Mapping[str, Any],
    world: World,
    scratch: Path,
    steps: int,
    tick: Callable[[], None] = lambda: None,
) -> Times:
    """Train a shipped recipe for some steps; nothing but the steps is done.

    Args:
        name: The recipe's.
        words: Values to change, by their places.
        world: One rank.
        scratch: For the run's folder, which stays.
        steps: Timed ones.
        tick: Called after each of them.
    """
    with training(name, [f"{place}={json.dumps(value)}" for place, value in words.items()], world, scratch) as trainer:
        feed = trainer.feed
        assert isinstance(feed, Watched)
        times = Times(feed.batch_size)
        for step in range(-WARM, steps):
            trainer.session.signals.check()
            seconds = timed(trainer.step, world.device)
            if step >= 0:
                times.step_s.append(seconds)
                times.wait_s.append(feed.last_s)
                tick()
    return times


@contextlib.contextmanager
def training(name: str, words: Sequence[str], world: World, scratch: Path) -> Iterator[Trainer]:
    """The training of a recipe, ready for its first step; its run's folder stays.

    Args:
        name: The recipe's.
        words: Values to change, ``place=value``.
        world: One rank.
        scratch: For the run's folder.
    """
    recipe = read(name, [*words, "hooks=[]", f"name=steps-{time.monotonic_ns()}"])
    set_up(recipe.compute, world.device)
    with open_session(recipe, scratch, world) as session:
        dataset = build_dataset(recipe, world)
        model = build_model(recipe, dataset.spec)
        model.backbone.to(world.device)
        source, size = source_of(dataset, world.device, recipe.loading), recipe.train.batch_size
        with contextlib.closing(Watched(dataset, recipe.seed, size, world, model.augmentations, source=source)) as feed:
            trainer = Trainer(session, model, feed, no_preview)
            trainer.begin()
            yield trainer


class Watched(Feed):
    """A feed with a clock of its own."""

    last_s = 0.0

    def batch(self, images_seen: int) -> Batch:
        """The batch that starts after ``images_seen`` images."""
        began = time.perf_counter()
        made = super().batch(images_seen)
        self.last_s = time.perf_counter() - began
        return made


def no_preview(network: nn.Module, step: int) -> None:
    """No pictures."""
