"""What the state of a training takes on one rank, counted before any of it is there.

Weights, gradients, the optimizer's state and the averages are counted exactly, from a network without memory (torch's
meta device). Activations, copies of weights in bf16 or fp16 and what torch itself takes come on top: nobody foresees
them here.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass

import psutil
import torch
from torch import Tensor, nn

from ...core import DataSpec, make_state
from ...registry import Recipe, UserError
from ..assemble import part
from ..console import log
from ..world import World
from .forms import remade
from .optimizer import build_optimizer
from .patterns import freeze
from .strategies import STRATEGIES, Strategy, strategy_class

GIB = 2**30
MOST_RANKS = 256  # that a remedy speaks of
FP32 = 4  # bytes; weights, gradients and averages are kept so


@dataclass(frozen=True)
class Memory:
    """Bytes on one rank.

    Attributes:
        weights: Of the network and the objective, with buffers.
        gradients: Of the weights that are trained.
        optimizer: Its state.
        averages: Of the network's weights.
    """

    weights: int
    gradients: int
    optimizer: int
    averages: int

    @property
    def total(self) -> int:
        """All together."""
        return self.weights + self.gradients + self.optimizer + self.averages

    def __str__(self) -> str:
        """For the log and for messages."""
        return f"{size(self.total)} ({', '.join(f'{name} {size(value)}' for name, value in vars(self).items())})"


def size(count: int) -> str:
    """Bytes for a reader, 2.51 GiB or 12.3 MiB."""
    return f"{count / GIB:.2f} GiB" if count >= GIB else f"{count / 2**20:.1f} MiB"


class Trained(nn.Module):
    """What is trained, under the names that a `Learner` has for it.

    Args:
        backbone: The network.
        objective: It has weights only where it is a module.
    """

    def __init__(self, backbone: nn.Module, objective: object) -> None:
        super().__init__()
        self.backbone, self.objective = backbone, objective


def trained(recipe: Recipe, spec: DataSpec) -> Trained:
    """Network and objective of a recipe on the meta device, its frozen weights frozen.

    Args:
        recipe: Names them.
        spec: What the network sees.
    """
    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        module = Trained(part("backbone", recipe.backbone, spec), part("objective", recipe.train.objective))
    freeze(module, recipe.train.freeze)
    return module


class Footprint:
    """What the training of a recipe takes, for any strategy and number of ranks.

    Args:
        recipe: Says how it is trained.
        module: What `trained` gives.
    """

    def __init__(self, recipe: Recipe, module: Trained) -> None:
        self.recipe, self.module = recipe, module
        self._state = _state_of(recipe, module)

    def on(self, strategy: type[Strategy], ranks: int) -> Memory:
        """On each rank; where they differ, on the one with the most."""

        def held(weights: Iterable[nn.Parameter]) -> int:
            return FP32 * sum(strategy.held(weight, ranks) for weight in weights)

        backbone, learns = self.module.backbone, [w for w in self.module.parameters() if w.requires_grad]
        apart = FP32 * sum(w.numel() for w in learns) if strategy.adds_apart and self._adds(ranks) else 0
        return Memory(
            held(self.module.parameters()) + _bytes(self.module.buffers()),
            held(learns) + apart,
            sum(each * strategy.held(weight, ranks) + rest for weight, (each, rest) in self._state.items()),
            len(self.recipe.train.ema) * (held(backbone.parameters()) + _bytes(backbone.buffers())),
        )

    def _adds(self, ranks: int) -> bool:
        """Whether a rank's share of the batch is known to be cut into micro-batches."""
        pieces, share = self.recipe.train.micro_batch, self.recipe.train.batch_size // ranks
        return isinstance(pieces, int) and pieces < share


def check_memory(recipe: Recipe, world: World, spec: DataSpec) -> None:
    """Tell what a training will take on each rank, before any of it is there.

    Args:
        recipe: Of the training.
        world: Its ranks.
        spec: What the network sees.

    Raises:
        UserError: More than a rank's device has free; on all ranks, with what else could be tried.
    """
    try:
        footprint = Footprint(recipe, trained(recipe, spec))
    except UserError:
        raise
    except Exception as error:  # a network of others that wants numbers while it is built, or a state beyond counting
        log.info("memory: not known beforehand, for the network cannot be built without weights: %s", error)
        return
    need = footprint.on(strategy_class(recipe.distributed.strategy, world.size), world.size)
    log.info("memory: %s%s, and activations on top", need, " on each rank" if world.size > 1 else "")
    world.together(lambda: _accept(footprint, need, world))


def free_bytes(device: torch.device) -> int:
    """What a rank may take: all that a GPU has free, or its part of what the host has."""
    if device.type == "cuda":
        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)  # for us, and free
        return int(torch.cuda.mem_get_info(device)[0]) + kept
    return int(psutil.virtual_memory().available) // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def _accept(footprint: Footprint, need: Memory, world: World) -> None:
    free = free_bytes(world.device)
    if need.total > free:
        where = f"{world.device.type} of each rank" if world.size > 1 else world.device.type
        raise UserError(
            f"training {footprint.recipe.backbone.name} takes {need} on the {where}, before any activation, and "
            f"{size(free)} are free there; {_remedy(footprint, free, world.size)}take a smaller network, or "
            "fewer averages (train.ema)"
        )


def _remedy(footprint: Footprint, free: int, ranks: int) -> str:
    """A strategy and ranks that would do, if each had as much memory as this one."""
    for more in range(max(ranks, 2), MOST_RANKS + 1):
        for name in (name for name, one in STRATEGIES.items() if one.sharded):
            total = footprint.on(STRATEGIES[name], more).total
            if footprint.recipe.train.batch_size % more == 0 and total <= free:
                return (
                    f"write distributed.strategy: {name} and take {more} ranks with as much each, which need "
                    f"{size(total)}, or "
                )
    return ""


def _state_of(recipe: Recipe, module: Trained) -> dict[nn.Parameter, tuple[int, int]]:
    """Bytes of the optimizer's state: for each number of a weight, and for the weight; seen in small stand-ins."""
    small = remade(module, _small, _small)
    optimizer = build_optimizer(recipe, small)
    make_state(optimizer)
    real, found = dict(module.named_parameters()), {}
    for name, weight in small.named_parameters():
        values = [value for value in optimizer.state.get(weight, {}).values() if isinstance(value, Tensor)]
        alike = [value for value in values if value.shape == weight.shape]
        rest = _bytes(value for value in values if value.shape != weight.shape)
        found[real[name]] = (sum(value.element_size() for value in alike), rest)
    return found


def _small(_: str, value: Tensor) -> Tensor:
    """As many axes; two of everything, or one."""
    return torch.zeros([min(side, 2) for side in value.shape], dtype=value.dtype)


def _bytes(values: Iterable[Tensor]) -> int:
    return sum(value.numel() * value.element_size() for value in values)
