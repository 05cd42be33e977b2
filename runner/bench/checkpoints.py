"""What a checkpoint costs the training: one that is waited for beside one that is written while training goes on."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from ...core import optimizer_state
from ...registry.recipe_types import Checkpoint as Options
from ...testing.bench.data import Claim, Result, Row, over
from ...testing.bench.timing import Spread, spread, wait
from ..checkpoints import Saver
from ..training.averages import copy_of, update
from ..world import World

MOST = 0.15  # of what a checkpoint that is waited for holds a step up
LAYERS = 16
PLAIN = 5  # steps without a checkpoint, to know what one takes
MIB = 2**20

Tick = Callable[[], None]


@dataclass(frozen=True)
class Cost:
    """What a checkpoint took from the training, in seconds.

    Attributes:
        held: Its step, until training went on.
        lost: In all, until the checkpoint was whole: what the steps meanwhile took more than plain ones is in it.
    """

    held: float
    lost: float


class Training:
    """Training of a network of some size, with AdamW and an average: what a checkpoint has four copies of.

    Args:
        mib: Size of the weights.
        batch: Rows a step.
        device: Where.
    """

    def __init__(self, mib: float, batch: int, device: torch.device) -> None:
        side = round((mib * MIB / 4 / LAYERS) ** 0.5)
        layers = [nn.Sequential(nn.Linear(side, side, bias=False), nn.SiLU()) for _ in range(LAYERS)]
        self.network = nn.Sequential(*layers).to(device)
        self.average = copy_of(self.network)
        self.optimizer = torch.optim.AdamW(self.network.parameters(), lr=1e-5, fused=True)
        self.x, self.device = torch.randn(batch, side, device=device), device

    def step(self) -> None:
        """One, until the device is done with it."""
        self.optimizer.zero_grad(set_to_none=True)
        self.network(self.x).square().mean().backward()
        self.optimizer.step()
        update(self.average, self.network, 0.999)
        wait(self.device)

    def groups(self) -> dict[str, dict[str, Tensor]]:
        """What is saved."""
        tensors = optimizer_state(self.optimizer, self.network)[0]
        return {"model": self.network.state_dict(), "ema": self.average.state_dict(), "optimizer": tensors}


def checkpoints(world: World, scratch: Path, mib: float, batch: int, rounds: int, tick: Tick) -> Result:
    """By turns, in one process, into one folder.

    Args:
        world: One rank.
        scratch: For the checkpoints.
        mib: Size of the weights.
        batch: Rows a step.
        rounds: Checkpoints of each kind.
        tick: Called after each.
    """
    training, numbers = Training(mib, batch, world.device), itertools.count(1)
    sides = {kind: _saver(scratch / kind, world, kind == "aside") for kind in ("waited", "aside")}
    plain: list[float] = []
    costs: dict[str, list[Cost]] = {kind: [] for kind in sides}
    for number in range(-1, rounds):  # the first of each makes folders and takes memory
        for kind, saver in sides.items():
            steps = [_seconds(training.step) for _ in range(PLAIN)]
            cost = _cost(training, saver, numbers, sorted(steps)[PLAIN // 2])
            tick()
            if number >= 0:
                plain += steps
                costs[kind].append(cost)
    return _result(training, plain, costs["waited"], costs["aside"])


def _saver(folder: Path, world: World, asynchronous: bool) -> Saver:
    folder.mkdir()
    return Saver(folder, world, Options(keep=1, asynchronous=asynchronous), lambda step, path: None)


def _cost(training: Training, saver: Saver, numbers: Iterator[int], plain_s: float) -> Cost:
    began = time.perf_counter()
    saver.save(next(numbers), training.groups(), {})
    held = time.perf_counter() - began
    steps = 0
    while saver.writing:
        training.step()
        saver.poll()
        steps += 1
    return Cost(held, time.perf_counter() - began - steps * plain_s)


def _seconds(work: Callable[[], None]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def _result(training: Training, plain: list[float], waited: list[Cost], aside: list[Cost]) -> Result:
    weights = sum(w.numel() * w.element_size() for w in training.network.parameters()) / MIB
    whole = sum(v.numel() * v.element_size() for group in training.groups().values() for v in group.values()) / MIB
    rows = [
        Row("waited for", _figures(waited)),
        Row("`checkpoint.asynchronous: true`", _figures(aside)),
    ]
    step = spread(plain)
    held = over([one.held for one in aside], [one.held for one in waited])
    lost = over([one.lost for one in aside], [one.lost for one in waited])
    claims = [
        Claim("what the step of an asynchronous one is held up, over one that is waited for", held, most=MOST),
        Claim("what training loses in all, over the same", lost),
    ]
    title = (
        f"checkpoints of {whole:,.0f} MiB, of which {weights:,.0f} MiB are weights, in a training whose step takes "
        f"{step.median:.2f} s without one"
    )
    return Result("checkpoints", title, rows, claims)


def _figures(costs: list[Cost]) -> dict[str, Spread]:
    return {"step held up, s": spread([c.held for c in costs]), "lost in all, s": spread([c.lost for c in costs])}
