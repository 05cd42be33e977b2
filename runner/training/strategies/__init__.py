"""How ranks share a training: one strategy, one file."""

from ...world import World
from .base import Losses, Strategy
from .ddp import DDP
from .single import Single

STRATEGIES: dict[str, type[Strategy]] = {"ddp": DDP}


def strategy_of(name: str, world: World) -> Strategy:
    """The strategy of a recipe; one rank alone needs none."""
    return STRATEGIES[name](world) if world.size > 1 else Single(world)


__all__ = ["STRATEGIES", "Losses", "Strategy", "strategy_of"]
