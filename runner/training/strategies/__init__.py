"""How ranks share a training: one strategy, one file."""

import torch

from ...world import World
from .base import Losses, Strategy
from .ddp import DDP
from .fsdp import FSDP
from .single import Single

STRATEGIES: dict[str, type[Strategy]] = {"ddp": DDP, "fsdp": FSDP}


def strategy_class(name: str, ranks: int) -> type[Strategy]:
    """The class of a recipe's strategy; one rank alone needs none."""
    return STRATEGIES[name] if ranks > 1 else Single


def strategy_of(name: str, world: World, compute: torch.dtype | None = None) -> Strategy:
    """The strategy of a recipe.

    Args:
        name: As in ``distributed.strategy``.
        world: The ranks.
        compute: Arithmetic of the network; None is fp32.
    """
    return strategy_class(name, world.size)(world, compute)


__all__ = ["STRATEGIES", "Losses", "Strategy", "strategy_class", "strategy_of"]
