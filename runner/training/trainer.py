"""Training: the loop, and what it does at its intervals."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import torch
from torch import nn

from ...core import Backbone, Dataset, checkpoint_activations
from ...registry import Recipe, UserError
from .. import checkpoints
from ..assemble import Model, part
from ..console import TaskProgress, log
from ..evaluation.during import During
from ..feed import Feed
from ..session import Session
from ..signals import Interrupted
from . import state as states
from .guard import Diverged
from .init_from import load_weights
from .learner import Learner
from .pace import Pace
from .step import Stepper
from .strategies import strategy_of


class Trainer:
    """Takes steps.

    Args:
        session: The run.
        model: Its backbone is trained.
        feed: Gives the images.
        preview: Called with (network, step) when a sheet of samples is due; on rank 0.
        during: Scores the network while training goes on, on all ranks; None where the recipe does not want it.
    """

    def __init__(
        self,
        session: Session,
        model: Model,
        feed: Feed,
        preview: Callable[[nn.Module, int], None],
        during: During | None = None,
    ) -> None:
        self.session, self.recipe, self.world = session, session.recipe, session.world
        self.feed, self.preview, self.during = feed, preview, during
        self.strategy = strategy_of(self.recipe.distributed.strategy, self.world)
        self.state = states.fresh(self.recipe, learner_of(self.recipe, model), self.strategy)
        self.take_step = Stepper(self.recipe, model, feed, self.strategy, self.state)
        self.saved_step = 0
        self.pace = Pace(self.recipe.train.batch_size)

    def begin(self) -> None:
        """Restore the newest checkpoint, or start from `init_from`, and make the network ready for all ranks."""
        if self.session.saved is not None:
            saved = checkpoints.load(self.session.saved.path, verified=True)
            states.restore(self.state, saved)
            self.saved_step = saved.step
            self.session.hooks.load_state_dict(saved.facts["hooks"])
        elif self.recipe.init_from:
            load_weights(self.state.learner.backbone, self.recipe.init_from, self.session.folder.parent)
            for average in self.state.averages:
                average.network.load_state_dict(self.state.learner.backbone.state_dict())
        self.take_step.losses = self.strategy.wrap(self.state.learner)
        self.pace.restart()

    def run(self) -> None:
        """Train to the recipe's number of steps. The order of what happens after a step matters: see the comments."""
        recipe, state = self.recipe, self.state
        with TaskProgress("train", recipe.train.steps, state.step, recipe.train.batch_size, self.world.first) as bar:
            if state.step == 0 and self._preview_due():
                self._show()  # where it began: pictures by step start with it
            if self.during is not None and self.during.missing(state.step):
                self._score()  # stopped after the checkpoint, before the scores
            while state.step < recipe.train.steps:
                self._stop_if_asked()  # between steps, where a checkpoint is whole
                self.step()
                last = state.step == recipe.train.steps
                stop = None
                if state.step % recipe.log.every == 0 or last:
                    stop = self._log(bar)  # first, so that a checkpoint holds the logged point
                if state.step % recipe.checkpoint.every == 0 or last or stop:
                    self.save()  # before the pictures, so that a crash in them costs no training
                if self._preview_due():
                    self._show()
                if self.during is not None and self.during.due(state.step):
                    self._score()
                bar.step()
                if stop:
                    log.info("%s stopped the training at step %d", stop, state.step)
                    self.session.stopped_early(state.step)
                    break
        if (waited := self.pace.waited()) is not None:
            log.info(
                "waited for data: %.1f s for the first batch, then %.1f %% of the time", self.pace.first_s, 100 * waited
            )

    def step(self) -> None:
        """One optimizer step on one global batch."""
        self.pace.step(self.take_step())

    def save(self) -> None:
        """Write a checkpoint, unless this step has one."""
        if self.state.step == self.saved_step:
            return
        loss_sum = float(self.world.sum(self.state.loss_sum)) / self.world.size
        if self.world.first:
            hooks = self.session.hooks.state_dict()
            facts = states.facts_of(self.state, loss_sum, hooks)
            where, keep = self.session.files.checkpoints, self.recipe.checkpoint.keep
            path = checkpoints.save(where, self.state.step, states.groups_of(self.state), facts, keep)
            self.session.hooks.call("dmf_checkpoint_saved", run=self.session, step=self.state.step, path=path)
        self.saved_step = self.state.step
        self.world.barrier()

    def _log(self, bar: TaskProgress) -> str | None:
        """Write the values since the last point; the name of a hook that asks to stop."""
        state = self.state
        values = self._values()
        state.loss_sum, state.loss_steps = torch.zeros_like(state.loss_sum), torch.zeros_like(state.loss_steps)
        bar.note(loss=f"{values['loss']:.4f}")
        stop = self.session.logged(state.step, values)
        if state.guard.exceeded():
            raise Diverged(self._diverged())
        return stop

    def _values(self) -> dict[str, float]:
        state = self.state
        # no finite loss since the last point: not a number, rather than a zero that looks like the best of all
        loss = float(self.world.sum(state.loss_sum) / self.world.size / state.loss_steps)
        return {
            "loss": loss,
            "learning_rate": float(state.optimizer.param_groups[0]["lr"]),
            "gradient_norm": float(self.take_step.norm),
            **self.pace.point(),
            "images_seen": float(state.images_seen),
            "bad_steps": float(state.guard.total),
        }

    def _diverged(self) -> str:
        _, _, row, first = self.state.guard.counts()
        images = ", ".join(_called(self.feed.dataset, i) for i in self.feed.numbers(first)[:16].tolist())
        return (
            f"the loss was not finite in {row} steps in a row, first on the batch that starts after {first} images "
            f"(images {images}, ...); look at those; or start again with a lower "
            "train.lr, under another name=... or with --fresh"
        )

    def _preview_due(self) -> bool:
        preview, step = self.recipe.preview, self.state.step
        return preview.every > 0 and step >= preview.start and step % preview.every == 0

    def _show(self) -> None:
        with self._at_rest() as network:
            if self.world.first:
                self.preview(network, self.state.step)
        self.world.barrier()
        self.pace.restart()  # pictures are no training time

    def _score(self) -> None:
        assert self.during is not None, "asked by the caller"
        with self._at_rest() as network:
            self.during(network, self.state.shown, self.state.step)
        self.world.barrier()
        self.pace.restart()  # nor are scores

    @contextlib.contextmanager
    def _at_rest(self) -> Iterator[nn.Module]:
        """The averaged network, or the trained one, in eval mode; afterwards as it was."""
        with self.strategy.whole(self.state.to_show) as network:
            was_training = network.training
            with contextlib.suppress(Interrupted):  # the loop hears of it next, and writes a checkpoint
                yield network.eval()
            network.train(was_training)

    def _stop_if_asked(self) -> None:
        """Checkpoint and leave after Ctrl-C or SIGTERM; several ranks agree on it first.

        On GPUs they do so at the logging interval only: to ask is to wait for the device.
        """
        asked = self.session.signals.requested
        if self.world.size > 1:
            if self.world.device.type != "cpu" and self.state.step % self.recipe.log.every:
                return
            asked = int(self.world.max(torch.tensor(asked, device=self.world.device)))
        if asked:
            self.save()
            raise Interrupted(asked)


def learner_of(recipe: Recipe, model: Model) -> Learner:
    """What a recipe's training computes."""
    train = recipe.train
    autocast = {"fp32": None, "bf16": torch.bfloat16}[train.precision]
    loss_space = None if train.loss_space is None else part("prediction", train.loss_space)
    if train.activation_checkpointing:
        _checkpoint_activations(model.backbone)
    return Learner(model, part("objective", train.objective), part("weighting", train.weighting), loss_space, autocast)


def _called(dataset: Dataset, i: int) -> str:
    """17 (cat/3.png), or 17 where the data set knows no better name."""
    name = dataset.name_of(i)
    return str(i) if name == f"image {i}" else f"{i} ({name})"


def _checkpoint_activations(backbone: Backbone) -> None:
    try:
        checkpoint_activations(backbone)
    except ValueError as error:
        raise UserError(f"train.activation_checkpointing: {error}") from error
