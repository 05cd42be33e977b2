"""Samplers take one step; the one loop takes them all."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Generic, TypeVar

from torch import Tensor

from .denoiser import Denoise
from .level import Level
from .schedule import NoiseSchedule

State = TypeVar("State")
Watch = Callable[[int, Tensor, Level], None]


@dataclass(frozen=True)
class Context:
    """What a step may ask for beside x and its two levels. Fields are added over time, never removed.

    Attributes:
        schedule: For levels in between: ``schedule.at(schedule.t_at(log_snr))``.
        randn: Gives a standard normal shaped like x, each image's from a stream of its own.
        levels: The whole grid, noisiest first.
        index: Number of this step, from 0.
    """

    schedule: NoiseSchedule
    randn: Callable[[], Tensor]
    levels: Sequence[Level] = ()
    index: int = 0


class SamplingError(ValueError):
    """A sampler cannot go on, for a reason that its options can mend; the runner shows the sentence alone."""


class Sampler(ABC, Generic[State]):
    """One step from a level to the next cleaner one.

    A sampler needs only the denoiser and the levels; it knows neither schedule nor prediction nor guidance, and keeps
    nothing in itself: what a multistep method remembers is the typed ``State`` that `step` returns.

    Attributes:
        order: Order of convergence of the deterministic method; None where it has none. The contract kit measures it.
        evaluations: Network evaluations a step; None where the method itself decides.
        stochastic: Whether it asks for random numbers.
        grid: Name of the time grid that suits it.
    """

    order: int | None = None
    evaluations: int | None = 1
    stochastic: bool = False
    grid: str = "arctan"

    def init(self, x: Tensor) -> State | None:
        """The state before the first step, for x (B, C, *size) at the noisiest level."""
        return None

    @abstractmethod
    def step(
        self, denoise: Denoise, x: Tensor, now: Level, then: Level, state: State | None, context: Context
    ) -> tuple[Tensor, State | None]:
        """From ``now`` to ``then``.

        Args:
            denoise: (x, level) -> x0_hat, conditioning and guidance inside.
            x: (B, C, *size) at ``now``.
            now: Level with alpha, sigma > 0, its fields 0-d float64 on the CPU.
            then: A cleaner level; ``then.sigma`` is 0 in the last step, and nowhere else.
            state: What the step before returned.
            context: Schedule, random numbers, the grid.

        Returns:
            x at ``then``, and the state for the next step.
        """


def sample(
    sampler: Sampler[State],
    denoise: Denoise,
    x: Tensor,
    levels: Sequence[Level],
    context: Context,
    watch: Watch | None = None,
) -> Tensor:
    """Walk x from the first level to the last: the one sampling loop.

    Args:
        sampler: Takes the steps.
        denoise: The denoiser, bound (`bind`).
        x: (B, C, *size) at ``levels[0]``: ``levels[0].sigma`` times standard normal noise.
        levels: Falling in noise (`levels_of`), at least two.
        context: Its ``levels`` and ``index`` are filled in here.
        watch: Called after each step with its number, x and the level reached: progress bars, pictures, films.

    Returns:
        x at the last level. Gradients flow; whoever wants none says ``torch.inference_mode()``.
    """
    if len(levels) < 2:
        raise ValueError(f"sampling needs at least two levels, from and to; got {len(levels)}")
    state = sampler.init(x)
    for i, (now, then) in enumerate(pairwise(levels)):
        x, state = sampler.step(denoise, x, now, then, state, replace(context, levels=levels, index=i))
        if watch is not None:
            watch(i, x, then)
    return x
