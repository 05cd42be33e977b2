"""What the state of a training takes on one rank, counted before any of it is there.

Weights, gradients, the optimizer's state and the averages are counted exactly, from a network without memory (torch's
meta device). Activations, copies of weights in bf16 or fp16 and what torch itself takes come on top: nobody foresees
them here.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from ...core import DataSpec, make_state
from ...registry import Recipe, UserError
from ..assemble import part
from ..console import log
from ..host_memory import free_on_host
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
        whole: The network put together from its parts, to make images with while it is trained; 0 where it is whole
            already, or makes none. By then there are no gradients.
        start: The weights as they are drawn, all of them, on a rank that keeps parts in the same memory; before
            anything else is there.
    """

    weights: int
    gradients: int
    optimizer: int
    averages: int
    whole: int = 0
    start: int = 0

    @property
    def total(self) -> int:
        """The most at a time."""
        lasting = self.weights + self.optimizer + self.averages
        return max(lasting + max(self.gradients, self.whole), self.start)

    def __str__(self) -> str:
        """For the log and for messages."""
        parts = [f"{name} {size(getattr(self, name))}" for name in ("weights", "gradients", "optimizer", "averages")]
        if self.whole:
            parts.append(f"while images are made no gradients, but a whole network, {size(self.whole)}")
        if self.start == self.total:
            parts.append(f"at the start all weights, {size(self.start)}")
        return f"{size(self.total)} ({', '.join(parts)})"


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

    @property
    def image_maker(self) -> int:
        """Bytes of a whole network, which makes the images."""
        backbone = self.module.backbone
        return FP32 * sum(w.numel() for w in backbone.parameters()) + _bytes(backbone.buffers())

    @property
    def _drawn(self) -> int:
        """Bytes of all weights and buffers."""
        return FP32 * sum(w.numel() for w in self.module.parameters()) + _bytes(self.module.buffers())

    def on(self, strategy: type[Strategy], ranks: int, device: str = "cuda") -> Memory:
        """On each rank; where they differ, on the one with the most.

        Args:
            strategy: Says what a rank holds.
            ranks: How many share the work.
            device: The kind; on a CPU the weights are drawn in the memory that they are trained in.
        """

        def held(weights: Iterable[nn.Parameter]) -> int:
            return FP32 * sum(strategy.held(weight, ranks) for weight in weights)

        backbone, learns = self.module.backbone, [w for w in self.module.parameters() if w.requires_grad]
        apart = FP32 * sum(w.numel() for w in learns) if strategy.adds_apart and self._adds(ranks) else 0
        return Memory(
            held(self.module.parameters()) + _bytes(self.module.buffers()),
            held(learns) + apart,
            sum(each * strategy.held(weight, ranks) + rest for weight, (each, rest) in self._state.items()),
            len(self.recipe.train.ema) * (held(backbone.parameters()) + _bytes(backbone.buffers())),
            self.image_maker if strategy.sharded and makes_images(self.recipe) else 0,
            self._drawn if strategy.sharded and device == "cpu" else 0,
        )

    def _adds(self, ranks: int) -> bool:
        """Whether a rank's share of the batch is known to be cut into micro-batches."""
        pieces, share = self.recipe.train.micro_batch, self.recipe.train.batch_size // ranks
        return isinstance(pieces, int) and pieces < share


def makes_images(recipe: Recipe) -> bool:
    """Whether a training makes images: sheets or scores."""
    preview = recipe.preview
    sheets = preview.every > 0 and -(-preview.start // preview.every) * preview.every <= recipe.train.steps
    return sheets or recipe.evaluate.during.every > 0


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
    strategy = strategy_class(recipe.distributed.strategy, world.size)
    need = footprint.on(strategy, world.size, world.device.type)
    log.info("memory: %s%s, and activations on top", need, " on each rank" if world.size > 1 else "")
    world.together(lambda: _accept(footprint, need, world))
    if strategy.sharded and footprint.image_maker > free_bytes(world.device):
        log.warning(
            "memory: images are made with a whole network on each rank, %s, for which there is no room: "
            "it can be trained here (dmf train), and neither sampled nor scored",
            size(footprint.image_maker),
        )


def free_bytes(device: torch.device) -> int:
    """What a rank may take: all that a GPU has free, or its part of what the host has."""
    if device.type == "cuda":
        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)  # for us, and free
        return int(torch.cuda.mem_get_info(device)[0]) + kept
    return free_on_host()


def _accept(footprint: Footprint, need: Memory, world: World) -> None:
    free = free_bytes(world.device)
    if need.total > free:
        where = f"{world.device.type} of each rank" if world.size > 1 else world.device.type
        raise UserError(
            f"training {footprint.recipe.backbone.name} takes {need} on the {where}, before any activation, and "
            f"{size(free)} are free there; {_remedy(footprint, free, world)}take a smaller network, or "
            "fewer averages (train.ema)"
        )


def _remedy(footprint: Footprint, free: int, world: World) -> str:
    """A strategy and ranks that would do, if each had as much memory as this one; without images, if need be."""
    device = world.device.type
    shards = [(name, one) for name, one in STRATEGIES.items() if one.sharded]
    counts = [n for n in range(max(world.size, 2), MOST_RANKS + 1) if footprint.recipe.train.batch_size % n == 0]
    needs = [(name, ranks, footprint.on(one, ranks, device)) for ranks in counts for name, one in shards]
    quiet = [(name, ranks, replace(need, whole=0)) for name, ranks, need in needs]
    for some, how in (
        (needs, ""),
        (quiet, ", make no images while it trains (preview.every: 0, evaluate.during.every: 0)"),
    ):
        for name, ranks, need in some:
            if need.total <= free:
                return (
                    f"write distributed.strategy: {name}{how} and take {ranks} ranks with as much each, which need "
                    f"{size(need.total)}, or "
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
