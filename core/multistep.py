"""Multistep samplers: a polynomial through the latest guesses of the network, integrated exactly.

Sources: Newton's interpolation by divided differences, Hairer, Norsett & Wanner 1993, "Solving Ordinary Differential
Equations I", section III.5; exponential Adams methods, Hochbruck & Ostermann 2010, "Exponential integrators", section
2.5. Steps of any lengths. Coefficients are plain floats: they belong to the grid, of which all images share the levels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from .level import Level
from .sampler import Context

SERIES_BELOW = 2.0  # the recursion loses digits below, the series needs many terms above
SERIES_TERMS = 26  # 2^26 / 26! is 1.7e-19


class Point(NamedTuple):
    """What the network guessed, x0_hat or eps, (B, C, *size), and where on the axis of the polynomial."""

    value: Tensor
    at: float


Past = tuple[Point, ...]  # newest first


def remember(value: Tensor, at: float, past: Past | None, count: int) -> Past:
    """The latest ``count`` guesses, this one included; fewer in the first steps."""
    return (Point(value, at), *(past or ()))[:count]


def beyond_first(points: Past, moments: Sequence[float]) -> Tensor:
    """The integral of w (p - p_0): p the polynomial through the points, p_0 the constant through the first of them.

    Args:
        points: At least one, at different places, in any order.
        moments: Of the weight w about the first point: the integrals of w u^k, u = at - points[0].at, for k = 0, 1, ...
            up to as many as there are points.
    """
    total, column, basis = torch.zeros_like(points[0].value), [p.value for p in points], [1.0]
    for k in range(1, len(points)):
        # III.5, equation 5.2: f[i ... i + k] = (f[i ... i + k - 1] - f[i + 1 ... i + k]) / (t_i - t_{i + k})
        column = [(a - b) / (points[i].at - points[i + k].at) for i, (a, b) in enumerate(pairwise(column))]
        # the coefficients of (u - u_0) ... (u - u_{k - 1}), lowest first
        node = points[k - 1].at - points[0].at
        basis = [up - node * here for up, here in zip([0.0, *basis], [*basis, 0.0], strict=True)]
        total = total + math.fsum(c * m for c, m in zip(basis, moments, strict=False)) * column[0]
    return total


def exponential_moments(z: float, count: int) -> list[float]:
    """The integrals of u^k e^{zu} over u in (0, 1), for k = 0 ... count - 1; |z| up to 700."""
    if abs(z) < SERIES_BELOW:
        terms = [z**n / math.factorial(n) for n in range(SERIES_TERMS)]
        return [math.fsum(term / (n + k + 1) for n, term in enumerate(terms)) for k in range(count)]
    moments = [math.expm1(z) / z]
    for k in range(1, count):  # by parts
        moments.append((math.exp(z) - k * moments[-1]) / z)
    return moments


def data_moments(h: float, count: int, eta: float = 0.0) -> list[float]:
    """Moments of a x e^{-a (h - u)} over u = lambda - lambda_s in (0, h), a = 1 + eta: how x0_hat enters x / alpha.

    Lu et al. 2022b (arXiv 2211.01095), equation 8; with eta = 1 equation 12.
    """
    z = (1 + eta) * h
    return [z * math.exp(-z) * h**k * moment for k, moment in enumerate(exponential_moments(z, count))]


def parabola_moments(h: float, eta: float = 0.0, *, halved: bool = False) -> list[float]:
    """The three `data_moments` of 3M; the authors' code has half of the last, and so half of D_2."""
    constant, linear, square = data_moments(h, 3, eta)
    return [constant, linear, square / 2 if halved else square]


def towards_middle(past: Past, h: float) -> Tensor:
    """x0_hat extrapolated half a step ``h`` ahead, along the line through the two latest: D of 2M.

    Lu et al. 2022b (arXiv 2211.01095), algorithm 2, line 8.
    """
    new, *old = past
    return new.value + h / 2 / (new.at - old[0].at) * (new.value - old[0].value) if old else new.value


def lam(level: Level) -> float:
    """lambda = ln(alpha / sigma) as a float."""
    return float(level.half_log_snr)


def steps_left(context: Context) -> float:
    """Steps from here to sigma = 0, this one included; inf where the grid does not end there."""
    levels = context.levels
    return math.inf if not levels or levels[-1].sigma > 0 else len(levels) - 1 - context.index
