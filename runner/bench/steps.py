"""Training steps of a shipped recipe, with the time that each waits for its batch."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from ...registry import read
from ...testing.bench.timing import Spread, spread, timed
from ..assemble import build_dataset, build_model
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
    changed = {**words, "hooks": [], "name": f"steps-{time.monotonic_ns()}"}
    recipe = read(name, [f"{place}={json.dumps(value)}" for place, value in changed.items()])
    with open_session(recipe, scratch, world) as session:
        dataset = build_dataset(recipe, world)
        model = build_model(recipe, dataset.spec)
        model.backbone.to(world.device)
        source = source_of(dataset, world.device, recipe.loading)
        size = recipe.train.batch_size
        feed = Watched(dataset, recipe.seed, size, world, model.augmentations, source=source)
        trainer = Trainer(session, model, feed, no_preview)
        trainer.begin()
        times = Times(size)
        try:
            for step in range(-WARM, steps):
                session.signals.check()
                seconds = timed(trainer.step, world.device)
                if step >= 0:
                    times.step_s.append(seconds)
                    times.wait_s.append(feed.last_s)
                    tick()
        finally:
            feed.close()
    return times


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
