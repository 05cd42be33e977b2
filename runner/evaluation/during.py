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
from ...files.words import brief
from ...registry import Recipe, UserError
from ..assemble import Model
from ..console import log
from ..feed import Source
from ..reference import load_reference, not_yet
from ..signals import Interrupted
from ..world import LocalError, why_lost
from .evaluation import Evaluation
from .results import Results, is_spread, with_spread
from .scored import Scored
from .settings import numbered
from .trained import Trained
from .trouble import as_mistake

if TYPE_CHECKING:
    from ..session import Session

NOTE = "scoring"  # what is noted of a run while scores are computed
TRIES = 3  # of one evaluation: a process that dies in it dies again when the run goes on
ENDED = "if there was too little memory, take a smaller evaluate.batch_size or fewer metrics (evaluate.during.metrics)"


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
            stop = session.check_stop
            self.evaluation = Evaluation(self.recipe, dataset, session.world, watch, source, stop=stop)
            self.evaluation.check_model(model.codec)
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

        What a score lacks costs no training: it is said, and the training goes on. Scores in which the process itself
        has ended, as one that is killed for its memory, are given up at the third time.

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
        begun, cause = session.world.tell(self._begun(step))
        if begun >= TRIES:
            self._failed(step, f"the process has ended in it {begun} times: {cause}")
            return
        note = {"step": step, "begun": begun + 1}
        session.finish(NOTE, note)
        try:
            self._score(network, weights, step, judge)
        except Interrupted:
            session.finish(NOTE, {**note, "begun": begun})
            raise
        except Exception as error:
            session.finish(NOTE, {**note, "cause": self._cause(error)})
            raise
        session.finish(NOTE, None)

    def _score(self, network: nn.Module, weights: str, step: int, judge: Callable[[Scored], None]) -> None:
        session, why = self.session, None
        try:
            scored = self._scored(Trained(self.model, network, weights, step))
        except Exception as error:
            if session.world.size > 1 and (isinstance(error, LocalError) or not isinstance(error, UserError)):
                raise  # the other ranks do not know of it, and wait for this one
            why = str(as_mistake(error))  # all else is raised
        finally:
            self._leave_device()
        if why is not None:  # only now does nothing hold what was computed
            self._failed(step, why)
        else:
            self._tell(scored, step, judge)

    def _scored(self, trained: Trained) -> Scored:
        session, world = self.session, self.session.world
        guide = load_reference(self.recipe, self.model, session.files, trained.step, world)
        return self.evaluation.run(trained, guide)

    def _tell(self, scored: Scored, step: int, judge: Callable[[Scored], None]) -> None:
        session, images, failed = self.session, self.recipe.evaluate.images, "; ".join(scored.errors)
        if not scored.results:
            self._failed(step, failed)
            return
        log.info("step %d: %s", step, _line(scored.results, images))
        if failed:
            log.warning("step %d: not all of the evaluation is there: %s", step, failed)
        judge(scored)
        better = {f"{name}_n{images}": way for name, way in scored.better.items()}
        session.evaluated(step, numbered(scored.results, images), failed or None, better)
        for name, picture in scored.pictures.items():  # on rank 0
            save_png(picture, session.folder / "evaluation" / f"step-{step:08d}-{name}.png")
            session.hooks.call("dmf_images", run=session, step=step, name=f"{name}_n{images}", images=picture)

    def _failed(self, step: int, why: str) -> None:
        """Noted as done: run again, the training goes on and does not fail in the same way."""
        log.warning("no evaluation at step %d: %s", step, why)
        self.session.evaluated(step, {}, why)

    def _begun(self, step: int) -> tuple[int, str]:
        """How often the scores of this step were begun and not ended, by a process that ended in them, and by what."""
        note = self.session.phase(NOTE) or {}
        return (int(note["begun"]), note.get("cause", ENDED)) if note.get("step") == step else (0, "")

    def _cause(self, error: Exception) -> str:
        """What to say of scores that ended the process: an error of its own, or why the other ranks were lost."""
        lost = why_lost(error, self.recipe.distributed.timeout_s) if isinstance(error, RuntimeError) else None
        if lost is None:
            return f"{type(error).__name__}: {brief(str(error))}"
        return lost or f"another rank has ended; {ENDED}"

    def _leave_device(self) -> None:
        """What metrics hold, and what a failure has left, is the training's memory again."""
        self.evaluation.scoring.at_rest()
        if self.session.world.device.type == "cuda":
            torch.cuda.empty_cache()


def _line(results: Results, images: int) -> str:
    """For the log."""
    shown = [f"{name} {with_spread(name, results)}" for name in results if not is_spread(name, results)]
    return f"{', '.join(shown)} ({images} images)"
