"""Scores while training goes on: few images, often, on all ranks, and nothing of the training changes by them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import nn

from ...core import Dataset
from ...core.spans import comes_round
from ...files.sheets import save_png
from ...registry import Recipe, UserError
from ..assemble import Model
from ..console import log
from ..feed import Source
from ..reference import load_reference, not_yet
from ..signals import Interrupted
from ..world import LocalError
from .evaluation import Evaluation
from .results import Results, is_spread, with_spread
from .scoring import Scored
from .settings import numbered
from .streams import Shown, shares
from .trained import Trained

if TYPE_CHECKING:
    from ..session import Session


def is_due(recipe: Recipe, step: int) -> bool:
    """Whether an evaluation comes after this training step: the first that has seen another ``every`` images."""
    every, batch = recipe.evaluate.during.every, recipe.train.batch_size
    return every > 0 and comes_round(every, step, batch)


def recipe_during(recipe: Recipe) -> Recipe:
    """The recipe whose evaluation is the one during training: averaged weights, no held-out images.

    Raises:
        UserError: It has no metrics.
    """
    during, evaluate = recipe.evaluate.during, recipe.evaluate
    metrics = evaluate.metrics if during.metrics is None else during.metrics
    if not metrics:
        raise UserError(
            "evaluate.during: there is nothing to score: write evaluate.during.metrics or evaluate.metrics, or "
            "evaluate.during.every: 0"
        )
    now = replace(evaluate, images=during.images, metrics=metrics, weights="ema", held_out=False)
    return replace(recipe, evaluate=now)


class During:
    """Scores the network as it is.

    Args:
        session: The run.
        model: Around the network.
        dataset: The reference.
        source: Gives its images.

    Raises:
        UserError: A metric cannot be had of this data or this many images; before the training.
    """

    def __init__(self, session: Session, model: Model, dataset: Dataset, source: Source) -> None:
        self.session, self.model, self.recipe = session, model, recipe_during(session.recipe)
        try:
            # several ranks agree on a stop between batches: one that leaves alone would keep the others waiting
            watch = None if session.world.size > 1 else lambda index, x, level: session.signals.check()
            self.evaluation = Evaluation(self.recipe, dataset, session.world, watch, source)
        except UserError as error:
            raise UserError(f"evaluate.during: {str(error).removeprefix('evaluate.')}") from error

    def due(self, step: int) -> bool:
        """Whether to score after this step."""
        return is_due(self.recipe, step)

    def missing(self, step: int) -> bool:
        """Whether the run was stopped between the checkpoint of this step and its scores; the same on every rank."""
        missing: bool = self.session.world.tell(self.due(step) and self.session.evaluated_step != step)
        return missing

    def __call__(self, network: nn.Module, weights: str, step: int, judge: Callable[[Scored], None]) -> None:
        """Score, write a line of ``evaluations.jsonl``, tell the hooks. On every rank.

        What a score lacks costs no training: it is said, and the training goes on.

        Args:
            network: In eval mode.
            weights: ``ema`` or ``raw``: what it is.
            step: Training steps behind it.
            judge: Called with the values, on every rank, before they are written: when a killed run goes on, values
                that are written are not computed again.

        Raises:
            Interrupted: A stop was asked for.
        """
        session = self.session
        if why := not_yet(self.recipe, session.files, step):
            log.info("no evaluation at step %d: %s", step, why)
            return
        try:
            guide = load_reference(self.recipe, self.model, session.files, step, session.world.device)
            trained = Trained(self.model, network, weights, step)
            scored = self.evaluation.run(trained, guide, on_shown=self._stopping())
        except UserError as error:
            if session.world.size > 1 and isinstance(error, LocalError):
                raise LocalError(str(error)) from error  # the other ranks do not know of it, and wait for this one
            log.warning("no evaluation at step %d: %s", step, error)
            session.evaluated(step, {}, str(error))
            return
        images = self.recipe.evaluate.images
        log.info("step %d: %s", step, _line(scored.results, images))
        judge(scored)
        better = {f"{name}_n{images}": way for name, way in scored.better.items()}
        session.evaluated(step, numbered(scored.results, images), better=better)
        for name, picture in scored.pictures.items():  # on rank 0
            save_png(picture, session.folder / "evaluation" / f"step-{step:08d}-{name}.png")
            session.hooks.call("dmf_images", run=session, step=step, name=f"{name}_n{images}", images=picture)

    def _stopping(self) -> Stopping | None:
        return Stopping(self.session, self.recipe) if self.session.world.size > 1 else None


class Stopping:
    """Ends an evaluation on all ranks after the same batch, once one of them was asked to stop.

    Args:
        session: The run.
        recipe: Says how many batches there are.
    """

    def __init__(self, session: Session, recipe: Recipe) -> None:
        self.world, self.signals, wanted = session.world, session.signals, recipe.evaluate
        counts = [
            len(list(shares(wanted.images, replace(self.world, rank=rank), wanted.batch_size)))
            for rank in range(self.world.size)
        ]
        self.left = min(counts)  # the rounds in which every rank has a batch

    def __call__(self, shown: Shown) -> None:
        """After a batch.

        Raises:
            Interrupted: On every rank.
        """
        if self.left == 0:
            return
        self.left -= 1
        asked = int(self.world.max(torch.tensor(self.signals.requested, device=self.world.device)))
        if asked:
            raise Interrupted(asked)


def _line(results: Results, images: int) -> str:
    """For the log."""
    shown = [f"{name} {with_spread(name, results)}" for name in results if not is_spread(name, results)]
    return f"{', '.join(shown)} ({images} images)"
