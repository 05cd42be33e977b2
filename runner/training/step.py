"""One optimizer step on one global batch."""

from __future__ import annotations

import contextlib
from functools import partial

import torch
from torch import Tensor

from ...core import take_step
from ...registry import Recipe
from ..assemble import Model, part
from ..compute import in_words
from ..console import log
from ..feed import Feed
from ..world import World
from .draws import Draws
from .fitting_memory import fitted
from .micro_batches import Drawn, pieces_of
from .precision import tell_of_slowness
from .rates import rates_of, set_rates
from .state import TrainState
from .strategies import Losses, Strategy


class Stepper:
    """Takes steps.

    Args:
        recipe: Of the training.
        model: What is trained.
        feed: Gives the images.
        strategy: How ranks share the work.
        state: What a step changes.

    Attributes:
        norm: Norm of the last gradient before it was clipped, 0-d, on the device.
        losses: What gives the losses, once it is ready for all ranks.
        micro_batch: Images that go through the network together on a rank.
    """

    losses: Losses

    def __init__(self, recipe: Recipe, model: Model, feed: Feed, strategy: Strategy, state: TrainState) -> None:
        self.recipe, self.feed, self.strategy, self.state = recipe, feed, strategy, state
        self.draws, self.rates = draws_of(recipe, model, strategy.world), rates_of(recipe)
        self.norm = torch.zeros((), device=strategy.world.device)
        share, wanted = recipe.train.batch_size // strategy.world.size, recipe.train.micro_batch
        self.micro_batch = min(wanted, share) if isinstance(wanted, int) else share

    def begin(self) -> None:
        """Settle the size of micro-batches, where the recipe leaves it to the memory; say how steps are computed."""
        tell_of_slowness(self.state.precision, self.strategy.world.device)
        if self.recipe.train.micro_batch == "auto":
            state = self.state
            drawn = self.draws(self.feed.batch(state.images_seen), state.images_seen)
            sharded = self.strategy.sharded
            state.fitted = fitted(partial(self._try, drawn), len(drawn[0]), state, self.strategy.world, sharded)
            self.micro_batch = state.fitted.images
        log.info("a step: %s", ", ".join(self._in_words()))

    def _try(self, drawn: Drawn, size: int) -> None:
        """What takes most memory in a step with pieces of so many images; no gradient is left."""
        piece, sharded = pieces_of(drawn, size)[0], self.strategy.sharded
        if size < len(drawn[0]) or not sharded:
            with self.strategy.alone(self.losses):
                self.losses(*piece).sum().backward()  # type: ignore[no-untyped-call]
        if sharded:  # gradients stay whole where the optimizer does not see them, till they are exchanged
            self.losses(*piece).sum().backward()  # type: ignore[no-untyped-call]
        self.state.optimizer.zero_grad(set_to_none=True)

    def _in_words(self) -> list[str]:
        """How a step is computed."""
        recipe, world, optimizer = self.recipe, self.strategy.world, self.state.optimizer
        said = [self.state.precision, *in_words(recipe.compute, self.state.learner.backbone, world.device)]
        fused = "fused " if optimizer.defaults.get("fused") else ""
        said.append(f"{fused}{recipe.train.optimizer.name}")
        share, wanted = recipe.train.batch_size // world.size, recipe.train.micro_batch
        if isinstance(wanted, int) and wanted > share:
            said.append(f"no micro-batches of {wanted}, for a rank's share is {share} images")
        if self.micro_batch < share:
            most = "at most " if share % self.micro_batch else ""
            said.append(f"{-(-share // self.micro_batch)} micro-batches of {most}{self.micro_batch}")
        return said

    def __call__(self) -> float:
        """Take one; seconds that its batch was waited for."""
        state = self.state
        batch = self.feed.batch(state.images_seen)
        drawn = self.draws(batch, state.images_seen)
        self.draws.seed_network(state.images_seen)
        set_rates(state.optimizer, self.rates.factor(state.images_seen, state.horizon))
        state.optimizer.zero_grad(set_to_none=True)
        self._change(self._gradients(drawn))
        return batch.wait_s

    def _gradients(self, drawn: Drawn) -> Tensor:
        """Make those of the mean loss of the global batch; the mean of this rank's share, 0-d."""
        share = len(drawn[0])
        pieces, mean = pieces_of(drawn, self.micro_batch), torch.zeros_like(self.norm)
        scale: Tensor | float = 1.0 if self.state.scale is None else self.state.scale.value
        for place, piece in enumerate(pieces):
            is_last = place == len(pieces) - 1
            with contextlib.nullcontext() if is_last else self.strategy.alone(self.losses):
                loss = self.losses(*piece).sum() / share  # the strategy makes the mean over ranks
                # a loss that is not finite makes its gradient so, which tells all ranks of it
                loss.backward(torch.where(torch.isfinite(loss), scale, torch.nan))  # type: ignore[no-untyped-call]
            mean = mean + loss.detach()
        return mean

    def _change(self, loss: Tensor) -> None:
        """Let the gradients change the weights, and count."""
        state, train = self.state, self.recipe.train
        if state.scale is not None:
            state.scale.unscale(state.learner.parameters())
        self.norm = self.strategy.clip(state.learner.parameters(), train.clip or float("inf"))
        bad = self._judge(loss)
        take_step(state.optimizer, bad)
        for average in state.averages:
            average.follow(state.learner.backbone, state.step, train.batch_size)
        state.loss_sum = state.loss_sum + torch.where(bad > 0, 0.0, loss)
        state.loss_steps = state.loss_steps + (1 - bad)
        state.step += 1
        state.images_seen += train.batch_size

    def _judge(self, loss: Tensor) -> Tensor:
        """1.0 where the step must be passed over, else 0.0; 0-d, the same on all ranks."""
        state, not_finite = self.state, ~torch.isfinite(self.norm)
        overflow = torch.zeros_like(not_finite) if state.scale is None else state.scale.judge(not_finite, loss)
        state.guard.judge(not_finite & ~overflow, state.images_seen)
        return not_finite.to(torch.float32)


def draws_of(recipe: Recipe, model: Model, world: World) -> Draws:
    """The randomness of a recipe's training."""
    train = recipe.train
    return Draws(
        model,
        part("density", train.density),
        recipe.seed,
        train.batch_size,
        train.label_dropout,
        world,
        stratified=train.stratified,
        moment_dtype=getattr(torch, recipe.latents.dtype),
    )
