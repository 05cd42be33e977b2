"""What tests of strategies share: a small training on any ranks, step by step, without a run around it."""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from backbones_kit import small
from torch import Tensor, nn

from dmf.core import Backbone, DataSpec, Objective, take_step
from dmf.core.averages import Fixed
from dmf.core.objectives import l2
from dmf.registry import build
from dmf.runner.assemble import Model
from dmf.runner.training.averages import averages_of
from dmf.runner.training.learner import Learner
from dmf.runner.training.strategies import Strategy, strategy_of
from dmf.runner.world import World

SPEC = DataSpec((3, 8, 8), ("a", "b", "c"))
BATCH = 12
ALONE = World(0, 1, torch.device("cpu"))


@dataclass
class Trained:
    """What came of it: losses and gradient norms of each step, gradients that came before a step's last pass."""

    learner: Learner
    strategy: Strategy
    average: nn.Module
    losses: list[float] = field(default_factory=list)
    norms: list[float] = field(default_factory=list)
    early: int = 0

    def whole(self) -> Tensor:
        """All averaged weights and buffers in one vector."""
        with self.strategy.whole(self.average) as network:
            return torch.cat([value.detach().flatten() for value in network.state_dict().values()])


def lively(name: str, **options: object) -> Backbone:
    """A small backbone without the zeros that hide a wrong gradient, the same on every rank."""
    torch.manual_seed(0)
    network = small(name, SPEC, **options)
    with torch.no_grad():
        for weight in network.parameters():
            weight.add_(0.05 * torch.randn_like(weight))
    return network


def train(
    world: World,
    network: Backbone,
    strategy: str = "fsdp",
    *,
    steps: int = 4,
    compute: torch.dtype | None = None,
    pieces: int = 1,
    objective: Objective = l2,
    ready: Callable[[Backbone], None] = lambda network: None,
) -> Trained:
    """Train a network on noise that depends on the step alone."""
    schedule = build("schedule", "flow")
    model = Model(network, build("codec", "pixels", SPEC), schedule, build("prediction", "flow"), SPEC)
    ready(network)
    learner = Learner(model, objective, build("weighting", "uniform"), autocast=compute)
    shared = strategy_of(strategy, world, compute)
    shared.place(learner)
    (average,) = averages_of([Fixed(decay=0.5)], network, shared.copy)
    optimizer = torch.optim.AdamW([w for w in learner.parameters() if w.requires_grad], lr=1e-2, fused=True)
    losses, found = shared.wrap(learner), Trained(learner, shared, average.network)
    for step in range(steps):
        random = torch.Generator().manual_seed(step)
        x0, eps = torch.randn(2, BATCH, *SPEC.shape, generator=random)
        times = torch.rand(BATCH, generator=random, dtype=torch.float64)
        labels = torch.randint(0, 4, (BATCH,), generator=random)
        optimizer.zero_grad(set_to_none=True)
        mine = range(BATCH)[world.share_of(BATCH)]
        total = torch.zeros(())
        for place in range(pieces):
            some = list(mine[place::pieces])
            level = schedule.at(times[some]).per_image(4)
            last = place == pieces - 1
            with shared.alone(losses) if not last else torch.enable_grad():
                loss = losses(x0[some], eps[some], level, {"class": labels[some]}).sum() / len(mine)
                loss.backward()
            if not last:
                found.early += sum(weight.grad is not None for weight in learner.parameters())
            total = total + loss.detach()
        norm = shared.clip(learner.parameters(), 0.5)
        take_step(optimizer, (~torch.isfinite(norm)).float())
        average.follow(network, step, BATCH)
        found.losses.append(float(world.sum(total)) / world.size)
        found.norms.append(float(norm))
    return found
