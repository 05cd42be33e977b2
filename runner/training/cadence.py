"""What is due after a training step."""

from __future__ import annotations

import time
from collections.abc import Callable

from ...registry import Recipe, UserError
from ...registry.words import did_you_mean
from ..evaluation.during import is_due
from ..evaluation.scoring import Scored

Clock = Callable[[], float]


def checkpoint_due(recipe: Recipe, step: int) -> bool:
    """Whether a checkpoint comes after this step, whatever the clock says: what is kept for ever, or judged, is there.

    Args:
        recipe: Of the training.
        step: Steps taken.
    """
    wanted = recipe.checkpoint
    by_steps = any(every is not None and step % every == 0 for every in (wanted.every, wanted.keep_every))
    judged = wanted.best not in (None, "loss") and is_due(recipe, step)
    return step > 0 and (by_steps or judged or step == recipe.train.steps)


def check_best_is_there(best: str | None, scored: Scored) -> None:
    """Accept `checkpoint.best` once the values are known.

    Args:
        best: What the recipe says.
        scored: Of an evaluation while training goes on.

    Raises:
        UserError: No value has that name, or it is not better either way.
    """
    if best in (None, "loss") or best in scored.better:
        return
    able = sorted(scored.results.keys() & scored.better.keys())
    raise UserError(
        f"checkpoint.best: evaluate.during gives no value called {best} that has a best"
        f"{did_you_mean(best, able)}; those that have: {', '.join(able) or 'none'}"
    )


class Cadence:
    """Says what is due after a step.

    Args:
        recipe: Of the training.
        clock: Seconds.
    """

    def __init__(self, recipe: Recipe, clock: Clock = time.monotonic) -> None:
        self.recipe, self._clock = recipe, clock
        self._saved_s = clock()

    def point(self, step: int) -> bool:
        """Whether values are logged."""
        return step % self.recipe.log.every == 0 or step == self.recipe.train.steps

    def checkpoint(self, step: int, overdue: bool = False) -> bool:
        """Whether a checkpoint is written.

        Args:
            step: Steps taken.
            overdue: What all ranks know of rank 0's `overdue`.
        """
        return overdue or checkpoint_due(self.recipe, step)

    def sheet(self, step: int) -> bool:
        """Whether a sheet of samples is made; that of step 0 shows where training began."""
        preview = self.recipe.preview
        return preview.every > 0 and step >= preview.start and step % preview.every == 0

    def overdue(self) -> bool:
        """Whether `checkpoint.minutes` have gone by since the last checkpoint, by this rank's clock."""
        minutes = self.recipe.checkpoint.minutes
        return minutes is not None and self._clock() - self._saved_s >= 60 * minutes

    def saved(self) -> None:
        """Start the clock anew: a checkpoint has just been written."""
        self._saved_s = self._clock()
