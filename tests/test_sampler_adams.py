"""`adams` against the same method written with numpy and scipy, against exact answers, and its figures."""

import math
from functools import lru_cache
from typing import Any

import numpy as np
import pytest
import torch
from scipy.interpolate import lagrange
from torch import Tensor

from dmf.core import Context, Level, NoiseSchedule, Sampler, grids, levels_of, sample
from dmf.registry import PartError, build
from dmf.testing import Gaussian, Mixture, order_of, unlike_schedules
from dmf.testing.bench.problems import Problem, problem
from dmf.testing.samplers import BLOBS

LINEAR: NoiseSchedule = build("schedule", "linear")
ARC = unlike_schedules()["arc"]
Array = np.ndarray[Any, np.dtype[np.float64]]


@lru_cache
def hard() -> Problem:
    return problem("192-d", LINEAR, 96)


def walk(sampler: Sampler[Any], data: Mixture, schedule: NoiseSchedule, levels: list[Level], x: Tensor) -> Tensor:
    return sample(sampler, data.denoise, x, levels, Context(schedule, lambda: torch.zeros_like(x)))


def noise(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


def integral(theta: list[float], values: list[Array], a: float, b: float) -> Array:
    """Of the polynomial through the values, by scipy, in units of the step, or its coefficients would lose digits."""
    total, nodes = np.zeros_like(values[0]), (np.array(theta) - a) / (b - a)
    for j in range(len(theta)):
        total = total + (b - a) * lagrange(nodes, np.eye(len(theta))[j]).integ()(1.0) * values[j]
    return total


def adams(data: Mixture, r: Array, y: Array, order: int, s: float) -> Array:
    """In the frame y = x / alpha: predict, evaluate, correct, in theta = arctan(r / s); r ends at 0."""
    theta, slopes = [math.atan(v / s) for v in r], []
    z = z_last = y / math.hypot(r[0], s)
    for i in range(len(r) - 1):
        at = Level(*(torch.tensor(v, dtype=torch.float64) for v in (r[i], 1.0, r[i])))
        x0 = data.denoise(torch.from_numpy(z * math.hypot(r[i], s)), at).numpy()
        # dz / dtheta from dy / dr = (y - x0) / r, z = y / hypot(r, s), dr / dtheta = (r^2 + s^2) / s
        y_here = z * math.hypot(r[i], s)
        slope = ((y_here - x0) / r[i] / math.hypot(r[i], s) - y_here * r[i] / math.hypot(r[i], s) ** 3) * (
            (r[i] ** 2 + s**2) / s
        )
        slopes.append(slope)
        if i > 0:
            back = min(i + 1, order + 1)
            nodes, values = theta[i + 1 - back : i + 1], slopes[-back:]
            # z = z_last + sum w_j F_j with F_i = cot(theta) z - x0 / (s sin(theta)), solved for z
            own = integral(nodes, [np.zeros_like(z)] * (back - 1) + [np.ones_like(z)], theta[i - 1], theta[i])
            rest = integral(nodes, [*values[:-1], np.zeros_like(z)], theta[i - 1], theta[i])
            cot = math.cos(theta[i]) / math.sin(theta[i])
            z = (z_last + rest - own * x0 / s / math.sin(theta[i])) / (1 - own * cot)
            if theta[i - 1] - theta[i] > 4 * theta[i]:
                slopes[-1] = cot * z - x0 / s / math.sin(theta[i])
        z_last = z
        back = min(i + 1, order)
        z = z + integral(theta[i + 1 - back : i + 1], slopes[-back:], theta[i], theta[i + 1])
    result: Array = z * s
    return result


@pytest.mark.parametrize(("order", "steps"), [(1, 4), (2, 4), (2, 9), (3, 12), (4, 25)])
def test_the_method_is_that_of_adams_bashforth_and_moulton(order: int, steps: int) -> None:
    levels = levels_of(LINEAR, grids.karras(LINEAR, steps, sigma_min=0.05))
    x = levels[0].sigma * noise(5, 2)
    got = walk(build("sampler", "adams", order=order, sigma_data=0.4), BLOBS, LINEAR, levels, x)
    r = np.array([float(level.ratio) for level in levels])
    want = adams(BLOBS, r, (x / levels[0].alpha).numpy(), order, 0.4)
    np.testing.assert_allclose(got.numpy(), want, rtol=0, atol=1e-9)


@pytest.mark.parametrize(("steps", "order"), [(3, 1), (4, 2), (6, 2), (7, 3), (17, 3), (18, 4), (30, 4)])
def test_the_order_follows_the_number_of_steps(steps: int, order: int) -> None:
    levels = levels_of(LINEAR, grids.arctan(LINEAR, steps))
    x = levels[0].sigma * noise(5, 2)
    chosen, given = (walk(build("sampler", "adams", order=o), BLOBS, LINEAR, levels, x) for o in (None, order))
    assert torch.equal(chosen, given)


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_orders(order: int) -> None:
    sampler = build("sampler", "adams", order=order)
    assert sampler.order == order + 1
    assert order_of(sampler, BLOBS, ARC) == pytest.approx(sampler.order, abs=0.25)


@pytest.mark.parametrize("steps", [4, 5, 9, 20])
def test_data_of_the_standard_deviation_it_is_made_for_are_met_exactly(steps: int) -> None:
    """F is then 0 all the way, but for the start from pure noise: any number of steps gives the exact end."""
    data = Gaussian([0.0, 0.0], 0.5)
    levels = levels_of(ARC, grids.arctan(ARC, steps, center=0.3))
    x = levels[0].sigma * noise(6, 2)
    got = walk(build("sampler", "adams"), data, ARC, levels, x)
    end = ARC.at(ARC.ends()[1])
    want = data.solution(x, levels[0], end) / end.alpha
    torch.testing.assert_close(got, want, rtol=1e-6, atol=1e-6)


def test_a_last_step_from_far_up_or_among_the_first_two_is_the_denoised_image() -> None:
    point = Gaussian([0.3, -0.7], 0.0)
    for values in ([100.0], [100.0, 0.02], [100.0, 10.0, 5.0, 0.5]):
        levels = levels_of(LINEAR, grids.explicit(LINEAR, len(values), values=values, unit="sigma"))
        got = walk(build("sampler", "adams"), point, LINEAR, levels, levels[0].sigma * noise(4, 2))
        torch.testing.assert_close(got, point.means.expand(4, 2), rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("evaluations", "bound"), [(5, 0.267 / 2), (10, 0.102 / 2), (20, 0.0072 / 2), (50, 0.0002 / 2)]
)
def test_half_the_error_of_the_best_known_schedulers(evaluations: int, bound: float) -> None:
    """On the 192-dimensional mixture; twice the bound is what the best of a dozen others came to."""
    data = hard()
    levels = levels_of(LINEAR, grids.arctan(LINEAR, evaluations))
    got = walk(build("sampler", "adams"), data.mixture, LINEAR, levels, levels[0].sigma * data.noise)
    assert data.error(got) < bound


def test_an_order_beyond_the_method_is_refused() -> None:
    with pytest.raises(PartError, match="'order' of sampler"):
        build("sampler", "adams", order=5)
