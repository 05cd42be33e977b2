"""Error against network evaluations, for every registered sampler and those of others, on the same points."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ...core import Context, Counted, Sampler, generator, levels_of, sample
from ...registry import build, parts
from .others import Other, other_samplers
from .problems import Problem
from .wasserstein import sliced_wasserstein

EVALUATIONS = (3, 5, 8, 10, 15, 20, 35, 50)
TOLERANCES = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5)  # of adaptive samplers, which have no number of steps
ADAPTIVE_STEPS = 1


@dataclass(frozen=True)
class Result:
    """One walk, measured.

    Attributes:
        problem: Its name.
        sampler: The sampler's.
        grid: The grid's; "own" where another implementation made it.
        kind: `ours`, `others`, or `stochastic` for ours with noise, whose figure is a distance of distributions.
        budget: Evaluations allowed; for adaptive ones, those made.
        evaluations: Network evaluations made.
        error: RMS distance to the ODE's exact end, or sliced Wasserstein distance to the data; in units of data std.
        adaptive: Whether the sampler chose the number of evaluations.
    """

    problem: str
    sampler: str
    grid: str
    kind: str
    budget: int
    evaluations: int
    error: float
    adaptive: bool = False


Walk = Callable[[], Iterator[Result]]


def walks(problem: Problem, budgets: Sequence[int] = EVALUATIONS, grids: Sequence[str] | None = None) -> list[Walk]:
    """Everything there is to measure on a problem, each to be called for its results.

    Args:
        problem: The data and the noise.
        budgets: Network evaluations allowed.
        grids: For each of our samplers; None is the one that it declares.
    """
    found: list[Walk] = []
    for part in parts("sampler"):
        sampler: Sampler[Any] = build("sampler", part.name)
        if sampler.evaluations is None:
            found.append(partial(_adaptive, problem, part.name))
            continue
        found += [partial(_ours, problem, part.name, grid, budgets) for grid in grids or (sampler.grid,)]
    return found + [partial(_others, problem, name, other, budgets) for name, other in other_samplers().items()]


def _ours(problem: Problem, name: str, grid: str, budgets: Sequence[int]) -> Iterator[Result]:
    sampler: Sampler[Any] = build("sampler", name)
    kind = "stochastic" if sampler.stochastic else "ours"
    assert sampler.evaluations is not None
    for budget in budgets:
        steps = (budget + sampler.evaluations - 1) // sampler.evaluations  # the last one costs one evaluation
        end, evaluations = _walk(problem, sampler, grid, steps)
        error = _distance(problem, end) if sampler.stochastic else problem.error(end)
        yield Result(problem.name, name, grid, kind, budget, evaluations, error)


def _adaptive(problem: Problem, name: str) -> Iterator[Result]:
    grid = build("sampler", name).grid
    for tolerance in TOLERANCES:
        sampler: Sampler[Any] = build("sampler", name, rtol=tolerance, atol=tolerance)
        end, evaluations = _walk(problem, sampler, grid, ADAPTIVE_STEPS)
        yield Result(problem.name, name, grid, "ours", evaluations, evaluations, problem.error(end), True)


def _others(problem: Problem, name: str, other: Other, budgets: Sequence[int]) -> Iterator[Result]:
    x = problem.schedule.at(problem.schedule.ends()[0]).sigma * problem.noise
    for budget in budgets:
        steps = other.steps_for(budget)
        if steps > 0:
            counted = Counted(problem.mixture.denoise)
            error = problem.error(other(counted, problem.schedule, x, steps=steps))
            yield Result(problem.name, name, "own", "others", budget, counted.calls, error)


def _walk(problem: Problem, sampler: Sampler[Any], grid: str, steps: int) -> tuple[Tensor, int]:
    """The samples from the problem's noise, and the evaluations made."""
    levels = levels_of(problem.schedule, build("grid", grid)(problem.schedule, steps))
    counted, random = Counted(problem.mixture.denoise), generator(0, "bench", 0)
    noise = partial(torch.randn, problem.noise.shape, generator=random, dtype=torch.float64)
    x = levels[0].sigma * problem.noise
    return sample(sampler, counted, x, levels, Context(problem.schedule, noise)), counted.calls


def _distance(problem: Problem, x: Tensor) -> float:
    """Distance between the samples' distribution and the data's."""
    data = problem.mixture.draw(len(x), generator(0, "data", 0))
    return sliced_wasserstein(x, data) / problem.std


def floor(problem: Problem) -> float:
    """`_distance` of as many fresh points of the data themselves: nothing can be told apart below."""
    return _distance(problem, problem.mixture.draw(len(problem.noise), generator(1, "data", 0)))
