"""Every rank holds its part of each weight, gradient, moment and average; blocks are put together to be used.

Source: Zhao et al. 2023, "PyTorch FSDP: Experiences on Scaling Fully Sharded Data Parallel" (arXiv 2304.11277), full
sharding, section 3.2; by torch's `fully_shard`, which splits each weight along its first axis. Cost: a rank receives
the weights twice a step and gives the gradients once, 1.5 times the traffic of DDP.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor

from ....core import Backbone
from ....registry import UserError
from ...console import log
from ...world import World
from ..forms import remade
from ..learner import Learner
from .base import Losses, Strategy


class FSDP(Strategy):
    """torch's FSDP2: blocks one by one, then what is left of the backbone, then the objective.

    Args:
        world: The ranks.
        compute: Arithmetic of the network; weights are sent in it, gradients are added up in fp32. None is fp32.
    """

    sharded = True
    adds_apart = True

    def __init__(self, world: World, compute: torch.dtype | None = None) -> None:
        super().__init__(world, compute)
        self._mesh = init_device_mesh(world.device.type, (world.size,))
        # inputs stay as they are: autocast rounds them where a layer wants it, and a noise level of 999 is no bf16
        self._policy = MixedPrecisionPolicy(compute, torch.float32, cast_forward_inputs=False)
        self._form: nn.Module | None = None

    @classmethod
    def held(cls, weight: Tensor, ranks: int) -> int:
        """A part along the first axis, rounded up to whole rows."""
        rows = weight.shape[0] if weight.ndim else 1
        return -(-rows // ranks) * (weight.numel() // max(rows, 1))

    def place(self, module: nn.Module) -> None:
        """Shard a learner, or a backbone alone, in place.

        Weights come from the host group by group: the device holds the parts, and one group whole.

        Raises:
            UserError: A weight without an axis, which cannot be split.
        """
        backbone = module.backbone if isinstance(module, Learner) else module
        assert isinstance(backbone, Backbone)
        _check_axes(module)
        self._row_by_row(module)
        self._form = remade(backbone, _without_memory, _without_memory)
        for block in self._blocks(backbone):
            fully_shard(block, mesh=self._mesh, mp_policy=self._policy)
        # its own weights are needed first and last, so that to drop them in between would save nothing
        fully_shard(backbone, mesh=self._mesh, mp_policy=self._policy, reshard_after_forward=False)
        if module is not backbone:
            fully_shard(module, mesh=self._mesh)

    def copy(self, network: nn.Module) -> nn.Module:
        """A copy of this rank's parts, in a network that is not called: all weights are nowhere together."""

        def part(name: str, _: Tensor) -> Tensor:
            return network.get_parameter(name).detach().clone()

        return self._filled(part, network).requires_grad_(False).eval()

    def wrap(self, learner: Learner) -> Losses:
        """The learner; buffers are rank 0's in every step, as with DDP."""
        saved = learner.state_dict(keep_vars=True)
        buffers = [value for name, value in learner.named_buffers() if name in saved]  # others never change

        def losses(*given: object) -> Tensor:
            for buffer in buffers:
                dist.broadcast(buffer, 0)
            found: Tensor = learner(*given)
            return found

        self._learner = learner
        return losses if buffers else learner

    @contextlib.contextmanager
    def alone(self, losses: Losses) -> Iterator[None]:
        """Gradients stay whole on each rank, to be added to: that takes the memory of all weights."""
        assert isinstance(self._learner, FSDPModule)
        self._learner.set_requires_gradient_sync(False)
        try:
            yield
        finally:
            self._learner.set_requires_gradient_sync(True)

    def clip(self, weights: Iterable[nn.Parameter], most: float) -> Tensor:
        """Clip the norm of all gradients of all ranks together; it as it was before, 0-d, the same on every rank."""
        weights = list(weights)
        norm = nn.utils.get_total_norm([weight.grad for weight in weights if weight.grad is not None])
        if isinstance(norm, DTensor):
            norm = norm.full_tensor()
        nn.utils.clip_grads_with_norm_(weights, most, norm)
        return norm

    @contextlib.contextmanager
    def whole(self, network: nn.Module) -> Iterator[nn.Module]:
        """A plain copy with all weights on this rank, as long as it is used; asked for on all ranks together."""

        def all_of(name: str, _: Tensor) -> Tensor:
            held = network.get_parameter(name)
            return held.full_tensor() if isinstance(held, DTensor) else held

        with torch.no_grad():
            plain = self._filled(all_of, network).requires_grad_(False)
        yield plain.train(network.training)

    def _filled(self, weight: Callable[[str, Tensor], Tensor], network: nn.Module) -> nn.Module:
        """The network's form as it was before sharding, with weights by name and the network's buffers."""
        assert self._form is not None, "placed before it is copied"
        return remade(self._form, weight, lambda name, _: network.get_buffer(name).clone())

    def _row_by_row(self, module: nn.Module) -> None:
        """Lay the weights in memory as they are split, row by row: `fully_shard` takes no others."""
        others = [weight for weight in module.parameters() if not weight.is_contiguous()]
        for weight in others:
            weight.data = weight.data.contiguous()
        if others and self.world.first:
            log.warning("distributed.strategy: fsdp keeps weights row by row: compute.channels_last has no effect")

    def _blocks(self, backbone: Backbone) -> list[nn.Module]:
        """The blocks that can be sharded by themselves; it is said, once, when the backbone has others or none."""
        blocks = backbone.blocks()
        alone = [block for block in blocks if _is_called(block)]
        uses = Counter(weight for part in _apart(backbone, alone) for weight in part)
        calls = Counter(alone)
        own = [b for b in calls if calls[b] == 1 and all(uses[weight] == 1 for weight in b.parameters())]
        if len(own) < max(len(blocks), 1) and self.world.first:
            log.warning(
                "distributed.strategy: fsdp puts the weights of one block of the backbone together at a time, and %s; "
                "the weights of all others are put together at once",
                f"{len(own)} of its {len(blocks)} blocks have weights and a forward of their own"
                if blocks
                else f"blocks() of {type(backbone).__name__} is empty",
            )
        return own


def _check_axes(module: nn.Module) -> None:
    single = [name for name, weight in module.named_parameters() if not weight.ndim]
    if single:
        raise UserError(
            f"distributed.strategy: fsdp splits weights along their first axis, and {', '.join(single)} has none: give "
            "it the shape (1,), or write distributed.strategy: ddp"
        )


def _without_memory(_: str, value: Tensor) -> Tensor:
    return torch.empty_like(value, device="meta")


def _is_called(block: nn.Module) -> bool:
    """Whether it is a layer, and no mere list of some."""
    return type(block).forward is not nn.Module.forward


def _apart(backbone: nn.Module, blocks: list[nn.Module]) -> Iterator[set[nn.Parameter]]:
    """The weights of each block, and those that a module outside of them holds."""
    inside: set[nn.Module] = set()
    for block in dict.fromkeys(blocks):
        inside |= set(block.modules())
        yield set(block.parameters())
    yield {w for module in backbone.modules() if module not in inside for w in module.parameters(recurse=False)}
