"""RK45: the probability-flow ODE by an adaptive Runge-Kutta method, to a tolerance instead of in a number of steps.

Source: Dormand & Prince 1980, "A family of embedded Runge-Kutta formulae", RK5(4)7M; the step control is that of
Hairer, Norsett & Wanner 1993, "Solving Ordinary Differential Equations I", section II.4. Order 5 in the step size,
which the method chooses; six evaluations a try, the seventh is the next try's first.

The variable is z = x / sqrt(alpha^2 + sigma^2) over ln r, r = sigma / alpha: it is of the size of the data at every
level, so that one tolerance holds from pure noise to the image, in float32 too. Each image has a step size of its own
and goes its way as if it were alone; one that has arrived waits for the others.
"""

import math
from typing import Annotated, NamedTuple

import torch
from annotated_types import Ge, Gt, Lt
from torch import Tensor

from ...core import Context, Denoise, Level, NoiseSchedule, Sampler, SamplingError
from ...core.level import like

# Dormand & Prince 1980, table 2: nodes; stages, the last of which is the solution of order 5; its difference from the
# one of order 4
NODES = torch.tensor([1 / 5, 3 / 10, 4 / 5, 8 / 9, 1, 1], dtype=torch.float64)
STAGES = (
    (1 / 5,),
    (3 / 40, 9 / 40),
    (44 / 45, -56 / 15, 32 / 9),
    (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
    (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
    (35 / 384, 0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84),
)
ERROR = (71 / 57600, 0, -71 / 16695, 71 / 1920, -17253 / 339200, 22 / 525, -1 / 40)
SAFETY, SHRINK, GROW = 0.9, 0.2, 5.0  # section II.4, equation 4.13: fac, facmin, facmax
# In ln r. The longest: a step from pure noise to the image has no stage where the one becomes the other, and its error
# looks like none. The smallest first one: should z be 0
LONGEST, SMALLEST_FIRST = 1.0, 1e-3
HERE = 1e-10  # nearer than this in ln r is there


class Pace(NamedTuple):
    """What one step leaves for the next.

    Attributes:
        size: Each image's step in ln r that the control would take next, (B, 1, ..., 1) float64 on the CPU.
        slope: dz / d ln r at the level reached, (B, C, *size).
    """

    size: Tensor
    slope: Tensor


class RK45(Sampler[Pace]):
    """Dormand-Prince 5(4) with step control for each image (adaptive; give it few steps).

    It stops at every level of the grid, so 1 step is the cheapest: from noise to the schedule's cleanest level.

    Args:
        rtol: Tolerance of a step, relative to the image with its noise, both scaled to about 1.
        atol: Tolerance of a step in the same scale, absolute.
        max_tries: Give up after this many tries between two levels of the grid.
    """

    evaluations = None

    def __init__(
        self,
        *,
        rtol: Annotated[float, Gt(0), Lt(1)] = 1e-4,
        atol: Annotated[float, Gt(0), Lt(1)] = 1e-4,
        max_tries: Annotated[int, Ge(1)] = 2000,
    ) -> None:
        self.rtol, self.atol, self.max_tries = rtol, atol, max_tries

    def step(
        self, denoise: Denoise, x: Tensor, now: Level, then: Level, state: Pace | None, context: Context
    ) -> tuple[Tensor, Pace]:
        """From ``now`` to ``then``, in either direction; in the last step to the schedule's cleanest level."""
        schedule = context.schedule
        end = then if then.sigma > 0 else schedule.at(schedule.ends()[1])
        z = x / _length(now)
        pace = self._first(z, _slope(denoise, z, now)) if state is None else state
        z, pace = self._integrate(denoise, schedule, z, pace, float(now.ratio.log()), float(end.ratio.log()))
        if then.sigma > 0:
            return _length(then) * z, pace
        c = end.alpha / _length(end)
        return then.alpha * (c * z - pace.slope / c), pace  # the denoised image at the cleanest level

    def _first(self, z: Tensor, slope: Tensor) -> Pace:
        # Hairer, Norsett & Wanner, II.4, "starting step size", a and b: h0 = 0.01 d0 / d1
        size = 0.01 * self._norm(z, z) / self._norm(slope, z)
        return Pace(size.nan_to_num(nan=LONGEST).clamp(SMALLEST_FIRST, LONGEST), slope)

    def _integrate(
        self, denoise: Denoise, schedule: NoiseSchedule, z: Tensor, pace: Pace, start: float, end: float
    ) -> tuple[Tensor, Pace]:
        """Z at ln r = ``end``, each image in as many steps as it needs."""
        size, slope = pace
        at = torch.full_like(size, start)
        tries = 0
        while (waiting := (left := end - at).abs() > HERE).any():
            if tries == self.max_tries:
                raise self._stuck(start, end, float(at[waiting][0]))
            tries += 1
            last = size >= left.abs()
            h = torch.where(last, left, size.copysign(left))
            tried, slope_there, error = self._try(denoise, schedule, z, slope, at, h)
            good = ~(error > 1)  # NaN is taken: no smaller step would mend it
            at = torch.where(good, torch.where(last, end, at + h), at)
            chosen = good.to(z.device)
            z, slope = torch.where(chosen, tried, z), torch.where(chosen, slope_there, slope)
            size = _next_size(size, h, error, good & last)
        return z, Pace(size, slope)

    def _stuck(self, *log_ratios: float) -> SamplingError:
        start, end, at = (math.exp(log_r) for log_r in log_ratios)
        return SamplingError(
            f"rk45 made {self.max_tries} tries between sigma / alpha = {start:.3g} and {end:.3g}, and an image has come"
            f" to {at:.3g} only; raise rtol and atol (now {self.rtol:g} and {self.atol:g}) or max_tries, or take a"
            " sampler with a number of steps"
        )

    def _try(
        self, denoise: Denoise, schedule: NoiseSchedule, z: Tensor, slope: Tensor, at: Tensor, h: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """A step of size h, (B, 1, ..., 1): z there, the slope there, and the error in units of the tolerance."""
        nodes = NODES.reshape(-1, *[1] * at.ndim)
        levels = schedule.at(schedule.clip(schedule.t_at(-2 * (at + nodes * h))))  # fields (6, B, 1, ..., 1)
        width, slopes, there = like(h, z), [slope], z
        for i, weights in enumerate(STAGES):
            there = z + width * _weighted(weights, slopes)
            slopes.append(_slope(denoise, there, Level(levels.t[i], levels.alpha[i], levels.sigma[i])))
        error = width * _weighted(ERROR, slopes)
        return there, slopes[-1], self._norm(error, torch.maximum(z.abs(), there.abs()))

    def _norm(self, value: Tensor, scale: Tensor) -> Tensor:
        """Each image's ``value`` in units of the tolerance, root mean square, (B, 1, ..., 1) on the CPU."""
        # II.4, equations 4.10 and 4.11
        squares = (value / (self.atol + self.rtol * scale.abs())).detach().square().flatten(1)
        return squares.mean(1).sqrt().to("cpu", torch.float64).reshape(-1, *[1] * (value.ndim - 1))


def _length(level: Level) -> Tensor:
    return torch.hypot(level.alpha, level.sigma)


def _slope(denoise: Denoise, z: Tensor, level: Level) -> Tensor:
    """Dz / d ln r, like z: Karras et al. 2022 (arXiv 2206.00364), equation 1, in z."""
    length = _length(level)
    c = like(level.alpha / length, z)
    return c * (c * z - denoise(like(length, z) * z, level))


def _weighted(weights: tuple[float, ...], slopes: list[Tensor]) -> Tensor:
    total = weights[0] * slopes[0]
    for weight, slope in zip(weights[1:], slopes[1:], strict=True):
        total = total + weight * slope
    return total


def _next_size(size: Tensor, h: Tensor, error: Tensor, arrived: Tensor) -> Tensor:
    """The size of each image's next try; where it was cut short by the end, the longer one is not forgotten."""
    # II.4, equation 4.13, with q + 1 = 5
    proposed = h.abs() * (SAFETY * error**-0.2).clamp(SHRINK, GROW)
    # an image that is lost is not to keep the others waiting
    proposed = proposed.nan_to_num(nan=LONGEST).clamp(max=LONGEST)
    return torch.where(arrived, torch.maximum(size, proposed), proposed)
