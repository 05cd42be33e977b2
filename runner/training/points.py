"""The points of a run's history: what is known of the steps since the last one."""

from __future__ import annotations

import torch

from ...core import Dataset
from ..console import TaskProgress
from ..feed import Feed
from ..session import Session
from .guard import Diverged
from .pace import Pace
from .rates import rates_now
from .state import TrainState
from .step import Stepper


class Points:
    """Writes them, on all ranks together; only here does the host wait for the device.

    Args:
        session: The run.
        state: What is trained.
        stepper: Took the steps.
        feed: Gave their images.
        pace: Timed them.

    Attributes:
        loss: That of the last point; None before it.
    """

    def __init__(self, session: Session, state: TrainState, stepper: Stepper, feed: Feed, pace: Pace) -> None:
        self.session, self.state, self.stepper, self.feed, self.pace = session, state, stepper, feed, pace
        self.world = session.world
        self.loss: float | None = None

    def write(self, bar: TaskProgress) -> str | None:
        """Write the values since the last point; the name of a hook that asks to stop.

        Raises:
            Diverged: Too many steps in a row were not finite.
        """
        state = self.state
        values = self._values()
        state.loss_sum, state.loss_steps = torch.zeros_like(state.loss_sum), torch.zeros_like(state.loss_steps)
        self.loss = values["loss"]
        bar.note(loss=f"{self.loss:.4f}")
        stop = self.session.logged(state.step, values, self._draws())
        if state.guard.exceeded():
            raise Diverged(self._diverged())
        return stop

    def _values(self) -> dict[str, float]:
        state = self.state
        # no finite loss since the last point: not a number, rather than a zero that looks like the best of all
        loss = float(self.world.sum(state.loss_sum) / self.world.size / state.loss_steps)
        return {
            "loss": loss,
            **rates_now(state.optimizer, self.stepper.recipe.train.lr),
            "gradient_norm": float(self.stepper.norm),
            **self.pace.point(),
            "images_seen": float(state.images_seen),
            "bad_steps": float(state.guard.total),
            **self._scale(),
        }

    def _scale(self) -> dict[str, float]:
        """What fp16 adds to a point."""
        scale = self.state.scale
        return {} if scale is None else {"loss_scale": float(scale.value), "overflows": float(scale.overflows)}

    def _draws(self) -> dict[str, str]:
        """Checksums of what the last step was given; they are asked for on rank 0, which writes them."""
        if not self.world.first:
            return {}
        began = self.state.images_seen - self.stepper.recipe.train.batch_size
        return self.stepper.draws.checksums(self.feed.numbers(began), began)

    def _diverged(self) -> str:
        _, _, row, first = self.state.guard.counts()
        images = ", ".join(_called(self.feed.dataset, i) for i in self.feed.numbers(first)[:16].tolist())
        return (
            f"the loss was not finite in {row} steps in a row, first on the batch that starts after {first} images "
            f"(images {images}, ...); look at those; or start again with a lower "
            "train.lr, under another name=... or with --fresh"
        )


def _called(dataset: Dataset, i: int) -> str:
    """17 (cat/3.png), or 17 where the data set knows no better name."""
    name = dataset.name_of(i)
    return str(i) if name == f"image {i}" else f"{i} ({name})"
