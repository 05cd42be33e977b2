"""The learning rate of each step: a warm-up, then the recipe's decay; counted in images."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ...core import Decay, Progress, images_of
from ...registry import Recipe
from ..assemble import part


@dataclass(frozen=True)
class Rates:
    """Gives the factor on every learning rate.

    Attributes:
        decay: The course after the warm-up.
        warmup: Images of the warm-up.
        batch_size: Images a step.
    """

    decay: Decay
    warmup: int
    batch_size: int

    def factor(self, images_seen: int, horizon: int) -> float:
        """On the learning rate of the step that begins after ``images_seen`` images.

        Args:
            images_seen: By all ranks together.
            horizon: Images that the decay is laid out for; a run that is extended keeps it, and its last rate.
        """
        if images_seen < self.warmup:
            return (images_seen + self.batch_size) / self.warmup
        left = max(horizon - self.warmup, 1)
        return self.decay(Progress(images_seen - self.warmup, left, self.batch_size))


def rates_of(recipe: Recipe) -> Rates:
    """Those of a recipe."""
    train = recipe.train
    return Rates(part("decay", train.decay), images_of(train.warmup, train.batch_size), train.batch_size)


def set_rates(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Use ``factor`` times each group's own learning rate from the next step on."""
    for group in optimizer.param_groups:
        group["lr"] = group["full_lr"] * factor
