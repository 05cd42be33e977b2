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
            return min((images_seen + self.batch_size) / self.warmup, 1.0)  # its last batch may reach beyond it
        left = max(horizon - self.warmup, 1)
        return self.decay(Progress(images_seen - self.warmup, left, self.batch_size, self.warmup))


def rates_of(recipe: Recipe) -> Rates:
    """Those of a recipe."""
    train = recipe.train
    return Rates(part("decay", train.decay), images_of(train.warmup, train.batch_size), train.batch_size)


def set_rates(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Use ``factor`` times each group's own learning rate from the next step on."""
    for group in optimizer.param_groups:
        group["lr"] = group["full_lr"] * factor


def rates_now(optimizer: torch.optim.Optimizer, lr: float) -> dict[str, float]:
    """The rates of the last step, for the history.

    Args:
        optimizer: Its groups have them.
        lr: The recipe's.

    Returns:
        ``learning_rate``, that of weights without a factor; for each factor beside it one as ``learning_rate/x0.1``.
    """
    groups = optimizer.param_groups
    found = {"learning_rate": lr * groups[0]["lr"] / groups[0]["full_lr"]}
    factors = {group["full_lr"] / lr: float(group["lr"]) for group in groups}
    return found | {f"learning_rate/x{factor:g}": now for factor, now in factors.items() if factor != 1}
