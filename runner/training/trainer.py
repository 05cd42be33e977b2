"""Training: the loop, and what it does at its intervals."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

from torch import nn

from .. import checkpoints
from ..assemble import Model
from ..console import TaskProgress, log
from ..evaluation.during import During
from ..evaluation.results import decisive
from ..evaluation.scoring import Scored
from ..feed import Feed
from ..session import Session
from ..signals import Interrupted
from . import state as states
from .cadence import Cadence, check_best_is_there
from .learner import learner_of
from .pace import Pace
from .points import Points
from .precision import precision_of
from .short_memory import memory_of_a_step
from .snapshots import Snapshots
from .step import Stepper
from .stops import Stops
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
        precision = precision_of(self.recipe, self.world, session.saved)
        learner = learner_of(self.recipe, model, precision)
        self.strategy = strategy_of(self.recipe.distributed.strategy, self.world, learner.autocast)
        self.state = states.fresh(self.recipe, learner, self.strategy, precision)
        self.take_step = Stepper(self.recipe, model, feed, self.strategy, self.state)
        self.saved_step = 0
        self.saver = checkpoints.Saver(session.files.checkpoints, self.world, self.recipe.checkpoint, self._tell_saved)
        batch_size = self.recipe.train.batch_size
        self.snapshots = Snapshots(session.files.averages, self.state.averages, self.world, batch_size)
        self.pace = Pace(batch_size)
        self.points = Points(session, self.state, self.take_step, feed, self.pace)
        self.cadence = Cadence(self.recipe)
        self.stops = Stops(self.world, session.signals, self.cadence.overdue)

    def begin(self) -> None:
        """Restore the newest checkpoint, and make the network ready for all ranks."""
        if self.session.saved is not None:
            saved = self.session.saved
            states.restore(self.state, saved)
            self.state.horizon = self.session.horizon(self.state.horizon)
            self._warn_of_rest()
            self.saved_step = saved.step
            self.session.hooks.load_state_dict(saved.facts["hooks"])
        self.snapshots.cut_back(self.state.step)
        self.take_step.losses = self.strategy.wrap(self.state.learner)
        self.take_step.begin()
        self.pace.restart()

    def _warn_of_rest(self) -> None:
        state, steps = self.state, self.recipe.train.steps
        if state.step < steps and self.take_step.rates.factor(state.images_seen, state.horizon) == 0:
            log.warning(
                "the learning rate is 0 from here on: its decay was laid out for %d steps and ends at 0. --stretch "
                "lays it out anew, for %d",
                state.horizon // self.recipe.train.batch_size,
                steps,
            )

    def run(self) -> None:
        """Train to the recipe's number of steps. The order of what happens after a step matters: see the comments."""
        recipe, state = self.recipe, self.state
        bar = TaskProgress("train", recipe.train.steps, state.step, recipe.train.batch_size, self.world.first)
        with self.saver, bar:
            if state.step == 0 and self.cadence.sheet(0):
                self._show()  # where it began: pictures by step start with it
            if self.during is not None and self.during.missing(state.step):
                self._score()  # stopped after the checkpoint, before the scores
            last_step = self._last_step()
            while state.step < last_step:
                self._stop_if_asked()  # between steps, where a checkpoint is whole
                self.saver.poll()
                self.step()
                last = state.step == recipe.train.steps
                stop = None
                if self.cadence.point(state.step):
                    stop = self.points.write(bar)  # first, so that a checkpoint holds the logged point
                self.snapshots.after(state.step, last or stop is not None)  # none is lost that a checkpoint is past
                if stop:
                    log.info("%s stopped the training at step %d", stop, state.step)
                    last_step = state.step
                    self.session.stopped_early(last_step)  # before its checkpoint: killed after that, it is done
                if stop or self.cadence.checkpoint(state.step, self.stops.overdue):
                    self.save()  # before the pictures, so that a crash in them costs no training
                if self.cadence.sheet(state.step):
                    self._show()
                if self.during is not None and self.during.due(state.step):
                    self._score()
                bar.step()
        if (waited := self.pace.waited()) is not None:
            log.info(
                "waited for data: %.1f s for the first batch, then %.1f %% of the time", self.pace.first_s, 100 * waited
            )

    def _last_step(self) -> int:
        """The recipe's, or the newest checkpoint's where a hook has ended the training with it."""
        if self.session.is_stopped:
            return self.state.step
        self.session.forget_later_stop()
        return self.recipe.train.steps

    def step(self) -> None:
        """One optimizer step on one global batch."""
        # the first of a process may be compiled for minutes, longer than any grace, and has nothing to lose
        self.session.signals.at_once = self.pace.first_s is None
        with memory_of_a_step(self.take_step, self.saved_step > 0):
            self.pace.step(self.take_step())
        self.session.signals.at_once = False

    def save(self) -> None:
        """Write a checkpoint, unless this step has one."""
        if self.state.step == self.saved_step:
            return
        loss_sum = float(self.world.sum(self.state.loss_sum)) / self.world.size
        facts = states.facts_of(self.state, loss_sum, self.session.hooks.state_dict())
        self.saver.save(self.state.step, states.groups_of(self.state), facts)
        self.saved_step = self.state.step
        self.cadence.saved()
        if self.points.loss is not None:
            self.saver.judge(self.state.step, {"loss": self.points.loss}, {"loss": "lower"})

    def _tell_saved(self, step: int, path: Path) -> None:
        self.session.hooks.call("dmf_checkpoint_saved", run=self.session, step=step, path=path)

    def _show(self) -> None:
        with self._at_rest() as network:
            if self.world.first:
                self.preview(network, self.state.step)
        self.world.barrier()
        self.pace.restart()  # pictures are no training time

    def _score(self) -> None:
        assert self.during is not None, "asked by the caller"
        with self._at_rest() as network:
            self.during(network, self.state.shown, self.state.step, self._judge)
        self.world.barrier()
        self.pace.restart()  # nor are scores

    def _judge(self, scored: Scored) -> None:
        """Hold the checkpoint of this step against the best one; before its values are noted as known.

        Raises:
            UserError: On every rank: `checkpoint.best` names none of the values.
        """
        if not scored.errors:  # a metric that has failed this time may give its value the next
            check_best_is_there(self.recipe.checkpoint.best, scored)
        self.saver.finish()
        values = {name: result["value"] for name, result in scored.results.items()}
        protocols = {name: decisive(result["protocol"]) for name, result in scored.results.items()}
        self.saver.judge(self.state.step, values, scored.better, protocols)

    @contextlib.contextmanager
    def _at_rest(self) -> Iterator[nn.Module]:
        """The averaged network, or the trained one, in eval mode; afterwards as it was."""
        if self.recipe.sampler.reference is not None:
            self.saver.finish()  # it may be a checkpoint of this run
        self.state.optimizer.zero_grad(set_to_none=True)  # they have done their work, and a whole network wants room
        with self.strategy.whole(self.state.to_show) as network:
            was_training = network.training
            with contextlib.suppress(Interrupted):  # the loop hears of it next, and writes a checkpoint
                yield network.eval()
            network.train(was_training)

    def _stop_if_asked(self) -> None:
        """Checkpoint and leave after Ctrl-C or SIGTERM; several ranks agree on it first."""
        if asked := self.stops.asked():
            self.save()
            self.saver.finish()  # one that cannot be written is lost: then it is no stop that costs nothing
            self.world.barrier()  # a rank that leaves while rank 0 still writes would be taken for one that failed
            raise Interrupted(asked)
