"""Adams predictor-corrector on the probability-flow ODE, in an angle in which the ODE has no stiff part.

With n = sqrt(alpha^2 sigma_d^2 + sigma^2), z = x / n and theta = arctan(sigma / (alpha sigma_d)) the ODE is
dz / dtheta = F, F = (cos(theta) z - x0_hat / sigma_d) / sin(theta), smooth from pure noise down to theta = 0,
the image: Lu & Song 2024 (arXiv 2410.11081), section 3. So the last step needs no lower order, unlike those of
methods in log SNR; begun from far up, or as one of the first two, it is the denoised image. The method is
Adams-Bashforth, then Adams-Moulton with the new F, steps of any lengths, in the mode predict, evaluate, correct:
Hairer, Norsett & Wanner 1993, "Solving Ordinary Differential Equations I", sections III.1 and III.5; the correction
linearly implicit in z: Hairer & Wanner 1996, part II, section IV.7.
Order 2 to 5, one evaluation a step.
"""

from __future__ import annotations

import math
from typing import Annotated, Literal, NamedTuple

import torch
from annotated_types import Gt
from torch import Tensor

from ...core import Context, Denoise, Level, Sampler
from ...core.multistep import Past, Point, beyond_first, remember

MOST = 4
FIRST_BELOW, SECOND_BELOW, THIRD_BELOW = 4, 7, 18  # steps of a walk; by measurement, docs/samplers.md
LEAP = 4.0  # a step to a small angle, as many times as long
STEEP = 0.45  # a last step from a larger angle would leave noise behind: its error grows with the cube of the angle


class Walk(NamedTuple):
    """What is kept between steps.

    Attributes:
        z: Where the last step began, corrected, (B, C, *size).
        theta: Its angle.
        past: The latest F, newest first.
    """

    z: Tensor
    theta: float
    past: Past


class Adams(Sampler[Walk]):
    """Adams predictor-corrector in arctan(sigma / (alpha sigma_data)), order by the number of steps, at most 5.

    Args:
        order: Of the predictor; the corrector has one more. Null is 1 below 4 steps, 2 below 7, 3 below 18, else 4.
        sigma_data: Standard deviation of the data that the angle is made for; 0.5 suits images in -1 ... 1.
    """

    def __init__(self, *, order: Literal[1, 2, 3, 4] | None = None, sigma_data: Annotated[float, Gt(0)] = 0.5) -> None:
        self.wanted, self.sigma_data = order, sigma_data
        self.order = (order or MOST) + 1

    def step(
        self, denoise: Denoise, x: Tensor, now: Level, then: Level, state: Walk | None, context: Context
    ) -> tuple[Tensor, Walk]:
        """One step."""
        order = self._order(len(context.levels) - 1)
        a, b = self._angle(now), self._angle(then)
        z, x0 = x / self._norm(now), denoise(x, now)
        if not then.sigma > 0 and (a > STEEP or state is None or len(state.past) < 2):
            return then.alpha * x0, Walk(z, a, ())
        new = Point((math.cos(a) * z - x0 / self.sigma_data) / math.sin(a), a)
        if state is not None:
            z, new = _corrected(z, new, state, order)
        past = remember(new.value, a, state and state.past, MOST)
        return self._norm(then) * (z + _integral(past[:order], a, b)), Walk(z, a, past)

    def _order(self, steps: int) -> int:
        if self.wanted is not None:
            return self.wanted
        return 1 + sum(steps >= limit for limit in (FIRST_BELOW, SECOND_BELOW, THIRD_BELOW))

    def _angle(self, level: Level) -> float:
        return math.atan2(level.sigma, level.alpha * self.sigma_data)

    def _norm(self, level: Level) -> Tensor:
        return (level.alpha**2 * self.sigma_data**2 + level.sigma**2).sqrt()


def _integral(points: Past, a: float, b: float) -> Tensor:
    """The integral from a to b of the polynomial through the points."""
    low, high = a - points[0].at, b - points[0].at
    moments = [(high ** (k + 1) - low ** (k + 1)) / (k + 1) for k in range(len(points))]
    return (b - a) * points[0].value + beyond_first(points, moments)


def _corrected(z: Tensor, new: Point, last: Walk, order: int) -> tuple[Tensor, Point]:
    """Z at the angle reached, by Adams-Moulton from where the last step began, and the F to remember.

    F grows like z / theta near the image, so that a plain correction of a long step would overshoot. For the part of F
    that is z's own, cot(theta) z, the formula is solved exactly, x0_hat held: that divides the correction.
    """
    points = (new, *last.past[:order])
    cot = 1 / math.tan(new.at)
    damping = 1 - _first_weight(points, last.theta, new.at) * cot
    change = (last.z + _integral(points, last.theta, new.at) - z) / damping
    if last.theta - new.at > LEAP * new.at:  # z was far off, and F with it; elsewhere F as evaluated is nearer
        new = new._replace(value=new.value + cot * change)
    return z + change, new


def _first_weight(points: Past, a: float, b: float) -> float:
    """How much the first point's value counts in `_integral`."""
    units = torch.eye(len(points), dtype=torch.float64)[0]
    return float(_integral(tuple(Point(unit, p.at) for unit, p in zip(units, points, strict=True)), a, b))
