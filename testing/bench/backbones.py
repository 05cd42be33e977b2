"""A training step of our backbones, forward and backward, beside that of others, in one process and by turns."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from ...core.flops import flop_counter
from ...registry import UserError
from .contests import Contest, Inputs, Side, parameters
from .timing import Spread, Step, by_turns, spread


@dataclass(frozen=True)
class Conditions:
    """Under which is measured.

    Attributes:
        device: Where.
        precision: ``fp32`` or ``bf16``: of the arithmetic, the weights stay in fp32.
        compiled: Whether by ``torch.compile``.
        batch: Images a step.
        rounds: Timed steps of each side.
    """

    device: torch.device
    precision: str
    compiled: bool
    batch: int
    rounds: int

    @property
    def dtype(self) -> torch.dtype:
        """Of the arithmetic."""
        return {"fp32": torch.float32, "bf16": torch.bfloat16}[self.precision]


@dataclass(frozen=True)
class Measured:
    """One side of a contest.

    Attributes:
        name: The network's.
        parameters: All of them.
        flops: Of a step (see `core.flops`): matrix products, convolutions, attention; a multiply-add is two.
        seconds: Of a step.
        images_per_s: At the median.
        flops_per_s: At the median.
    """

    name: str
    parameters: int
    flops: int
    seconds: Spread
    images_per_s: float
    flops_per_s: float


@dataclass(frozen=True)
class Result:
    """A contest's outcome.

    Attributes:
        contest: Its name.
        title: What was compared.
        ours: Our side.
        other: The other.
        ratio: The other's time over ours, of steps next to each other: above 1 ours is faster.
    """

    contest: str
    title: str
    ours: Measured
    other: Measured
    ratio: Spread


def measure(contest: Contest, under: Conditions, tick: Callable[[], None] = lambda: None) -> Result:
    """Hold a contest.

    Args:
        contest: Which.
        under: Device, precision and so on.
        tick: Called ``under.rounds + 1`` times.

    Raises:
        UserError: There is not enough memory, or nothing to compile with.
    """
    torch.manual_seed(0)
    inputs = contest.inputs(under.batch, under.device)
    sides = contest.sides()
    for side in sides:
        side.network.to(under.device).train()
    try:
        flops = [_flops(_step(side, side.network, inputs, under)) for side in sides]
        ours, other = (_step(side, _compiled(side.network, under), inputs, under) for side in sides)
        seconds = by_turns(ours, other, under.rounds, under.device, tick)
    except torch.OutOfMemoryError as error:
        raise UserError(f"{contest.name} does not fit into memory with --batch {under.batch}: {error}") from error
    except RuntimeError as error:
        if under.compiled:
            raise UserError(f"{contest.name} with --compile: {' '.join(str(error).split())[:300]}") from error
        raise
    made = [_measured(*one, under) for one in zip(sides, flops, seconds, strict=True)]
    ratio = spread([b / a for a, b in zip(*seconds, strict=True)])
    return Result(contest.name, contest.title, made[0], made[1], ratio)


def _measured(side: Side, flops: int, seconds: list[float], under: Conditions) -> Measured:
    times = spread(seconds)
    images, work = under.batch / times.median, flops / times.median
    return Measured(side.name, parameters(side.network), flops, times, images, work)


def _step(side: Side, network: Callable[..., Tensor], inputs: Inputs, under: Conditions) -> Step:
    """Forward and backward, as in training; the gradients are dropped before the next."""
    return partial(_train, side, network, inputs, under)


def _train(side: Side, network: Callable[..., Tensor], inputs: Inputs, under: Conditions) -> None:
    side.network.zero_grad(set_to_none=True)
    with _arithmetic(under):
        out = side.call(network, *inputs)
    loss: Tensor = out.float().square().mean()
    loss.backward()  # type: ignore[no-untyped-call]


@contextlib.contextmanager
def _arithmetic(under: Conditions) -> Iterator[None]:
    with torch.autocast(under.device.type, torch.bfloat16, enabled=under.precision == "bf16"):
        yield


def _compiled(network: nn.Module, under: Conditions) -> Callable[..., Tensor]:
    return torch.compile(network) if under.compiled else network


def _flops(step: Step) -> int:
    with flop_counter() as counter:
        step()
    return int(counter.get_total_flops())
