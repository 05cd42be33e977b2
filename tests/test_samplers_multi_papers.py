"""The multistep samplers against their papers' formulas, written out in numpy from the betas alone."""

import itertools
import math
from typing import Any

import multistep_kit as kit
import numpy as np
import pytest
from multistep_kit import GRIDS, Array, compare, drawn, guess, walk
from scipy.integrate import quad

from dmf.registry import build

ALPHA_BAR: Array = np.cumprod(np.array([1.0, *(1 - np.linspace(1e-4, 0.02, kit.T))], dtype=np.float64))


class At:
    """Alpha, sigma, lambda and r of an entry of the table, from its betas alone; entry 0 is the image."""

    def __init__(self, i: int) -> None:
        self.alpha, self.sigma = math.sqrt(ALPHA_BAR[i]), math.sqrt(1 - ALPHA_BAR[i])
        self.r = self.sigma / self.alpha
        self.lam = math.log(1 / self.r) if i else math.inf


def dpmpp_2m(x: Array, ts: list[At]) -> Array:
    """Lu et al. 2022b, algorithm 2, lines 3 to 11."""
    q: list[Array] = []
    for i in range(1, len(ts)):
        s, t = ts[i - 1], ts[i]
        q.append(guess(x, s.lam))
        h = t.lam - s.lam
        d = q[-1]
        if len(q) > 1 and t.sigma > 0:
            r = (s.lam - ts[i - 2].lam) / h
            d = (1 + 1 / (2 * r)) * q[-1] - 1 / (2 * r) * q[-2]
        x = t.sigma / s.sigma * x - t.alpha * (math.exp(-h) - 1) * d
    return x


def dpmpp_3m_sde(x: Array, ts: list[At], z: Array, eta: float, half: float) -> Array:
    """k-diffusion's sample_dpmpp_3m_sde of y = x / alpha, sigma = r; its phi_3 d2 is twice that where half = 1."""
    y, old, hs = x / ts[0].alpha, list[Array](), list[float]()
    for i, (s, t) in enumerate(itertools.pairwise(ts)):
        denoised = guess(s.alpha * y, s.lam)
        if t.sigma == 0:
            y = denoised
            continue
        h = t.lam - s.lam
        h_eta = h * (eta + 1)
        y = math.exp(-h_eta) * y - math.expm1(-h_eta) * denoised
        phi_2 = math.expm1(-h_eta) / h_eta + 1
        if len(old) > 1:
            r0, r1 = hs[-1] / h, hs[-2] / h
            d1_0, d1_1 = (denoised - old[-1]) / r0, (old[-1] - old[-2]) / r1
            d1 = d1_0 + (d1_0 - d1_1) * r0 / (r0 + r1)
            d2 = (d1_0 - d1_1) / (r0 + r1)
            y = y + phi_2 * d1 - (phi_2 / h_eta - 0.5) * d2 * (1 if half else 2)
        elif old:
            y = y + phi_2 * (denoised - old[-1]) / (hs[-1] / h)
        y = y + z[i] * t.r * math.sqrt(-math.expm1(-2 * h * eta))
        old, hs = [*old, denoised], [*hs, h]
    return y


def dpmpp_2m_sde(x: Array, ts: list[At], z: Array, eta: float, s_noise: float) -> Array:
    """k-diffusion's sample_dpmpp_2m_sde, solver_type midpoint, likewise."""
    y, old, h_last = x / ts[0].alpha, None, 0.0
    for i, (s, t) in enumerate(itertools.pairwise(ts)):
        denoised = guess(s.alpha * y, s.lam)
        if t.sigma == 0:
            return np.asarray(denoised)
        h = t.lam - s.lam
        eta_h = eta * h
        y = t.r / s.r * math.exp(-eta_h) * y - math.expm1(-h - eta_h) * denoised
        if old is not None:
            y = y - 0.5 * math.expm1(-h - eta_h) * (1 / (h_last / h)) * (denoised - old)
        y = y + z[i] * t.r * math.sqrt(-math.expm1(-2 * eta_h)) * s_noise
        old, h_last = denoised, h
    raise AssertionError


def unipc_coefficients(rs: list[float], h: float, b_h: float, p: int) -> Array:
    """Zhao et al. 2023, theorem 3.1: R_p(h) a B(h) = phi_p(h), data prediction, hh = -h; the paper's 1/2 for p = 1."""
    if p == 1:
        return np.array([0.5])
    phi = [math.expm1(-h) / -h]
    for k in range(1, p + 1):
        phi.append((phi[-1] - 1 / math.factorial(k)) / -h)  # phi_{k+1}
    r = np.array([[rk**i for rk in rs] for i in range(p)])
    b = np.array([-h * phi[k] * math.factorial(k) / b_h for k in range(1, p + 1)])
    return np.linalg.solve(r, b)


def unipc(x: Array, ts: list[At], order: int, variant: str, lowered: bool) -> Array:
    """Zhao et al. 2023, algorithms 7 and 8: UniC-p, then UniP-p, both of data prediction."""

    def update(x: Array, s: At, t: At, others: list[tuple[Array, float]], m0: Array, p: int) -> Array:
        h = t.lam - s.lam
        b_h = -h if variant == "bh1" else math.expm1(-h)
        rs = [(lam - s.lam) / h for _, lam in others]
        a = unipc_coefficients(rs, h, b_h, p) if others else np.zeros(0)
        rest = sum((c * (m - m0) / rk for c, (m, _), rk in zip(a, others, rs, strict=True)), np.zeros_like(x))
        return t.sigma / s.sigma * x - t.alpha * (math.expm1(-h) * m0 + b_h * rest)

    q: list[tuple[Array, float]] = []
    before, p = x, 0
    for i, (s, t) in enumerate(itertools.pairwise(ts)):
        m = guess(x, s.lam)
        if i > 0:  # UniC: the p - 1 before, and the new one with r_p = 1
            used = [q[-1 - k] for k in range(1, p)]
            x = update(before, ts[i - 1], s, [*used, (m, s.lam)], q[-1][0], p)
        q.append((m, s.lam))
        if t.sigma == 0:
            return np.asarray(m)
        left = len(ts) - 1 - i
        p = min(order, len(q), left if lowered else order)
        before = x
        x = update(x, s, t, [q[-1 - k] for k in range(1, p)], m, p - 1)
    raise AssertionError


def lagrange(nodes: list[float], j: int, u: float) -> float:
    return math.prod((u - nodes[k]) / (nodes[j] - nodes[k]) for k in range(len(nodes)) if k != j)


def adams(x: Array, ts: list[At], order: int, kind: str) -> Array:
    """Zhang & Chen 2022, equations 14 and 15: C_ij by quadrature of Lagrange's polynomials over ln rho, or over rho."""
    past: list[tuple[Array, float]] = []
    fixed = {1: [1.0], 2: [3 / 2, -1 / 2], 3: [23 / 12, -16 / 12, 5 / 12], 4: [55 / 24, -59 / 24, 37 / 24, -9 / 24]}
    for s, t in itertools.pairwise(ts):
        eps = (x - s.alpha * guess(x, s.lam)) / s.sigma
        past = [(eps, s.r), *past][:order]
        if kind == "deis" and t.sigma == 0:
            return np.asarray(guess(x, s.lam))
        axis = math.log if kind == "deis" else float
        nodes = [axis(r) for _, r in past]
        if kind == "fixed":
            c = [(t.r - s.r) * w for w in fixed[len(past)]]
        else:
            c = [
                quad(lambda r, j=j, n=nodes, a=axis: lagrange(n, j, a(r)), s.r, t.r, epsabs=0, epsrel=1e-12, limit=200)[
                    0
                ]
                for j in range(len(past))
            ]
        x = t.alpha * (x / s.alpha + sum(w * e for w, (e, _) in zip(c, past, strict=True)))
    return x


on_grids = pytest.mark.parametrize("entries", GRIDS, ids=len)


@on_grids
def test_dpmpp_2m_is_algorithm_2(entries: list[int]) -> None:
    x = drawn(4, 3)
    compare(walk(build("sampler", "dpmpp_2m"), x, entries), dpmpp_2m(x, [*map(At, entries), At(0)]))


@on_grids
@pytest.mark.parametrize(("eta", "s_noise"), [(0.0, 1.0), (0.4, 1.0), (1.0, 1.0), (1.0, 1.1), (3.0, 1.0)])
def test_dpmpp_2m_sde_is_the_formula(entries: list[int], eta: float, s_noise: float) -> None:
    x, z = drawn(4, 3), drawn(len(entries), 4, 3, of="z")
    got = walk(build("sampler", "dpmpp_2m_sde", eta=eta, s_noise=s_noise), x, entries, z)
    compare(got, dpmpp_2m_sde(x, [*map(At, entries), At(0)], z, eta, s_noise))


@on_grids
@pytest.mark.parametrize("eta", [0.0, 0.4, 1.0, 3.0])
@pytest.mark.parametrize("half", [True, False])
def test_dpmpp_3m_sde_is_the_formula(entries: list[int], eta: float, half: bool) -> None:
    x, z = drawn(4, 3), drawn(len(entries), 4, 3, of="z")
    options = {"as_published": half, "lower_order_final": False}
    want = dpmpp_3m_sde(x, [*map(At, entries), At(0)], z, eta, half)
    compare(walk(build("sampler", "dpmpp_3m_sde", eta=eta, **options), x, entries, z), want)
    if eta == 0:
        compare(walk(build("sampler", "dpmpp_3m", **options), x, entries), want)


@on_grids
@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.parametrize("variant", ["bh1", "bh2"])
@pytest.mark.parametrize("lowered", [True, False])
def test_unipc_is_algorithms_7_and_8(entries: list[int], order: int, variant: str, lowered: bool) -> None:
    x = drawn(4, 3)
    sampler = build("sampler", "unipc", order=order, variant=variant, lower_order_final=lowered)
    compare(walk(sampler, x, entries), unipc(x, [*map(At, entries), At(0)], order, variant, lowered))


@on_grids
@pytest.mark.parametrize("order", [1, 2, 3, 4])
@pytest.mark.parametrize(
    ("kind", "name", "options"),
    [("deis", "deis", {}), ("fixed", "ipndm", {}), ("variable", "ipndm", {"variable_steps": True})],
    ids=["deis", "ipndm", "ipndm-variable"],
)
def test_deis_and_ipndm_are_the_integrals(
    entries: list[int], order: int, kind: str, name: str, options: dict[str, Any]
) -> None:
    x = drawn(4, 3)
    got = walk(build("sampler", name, order=order, **options), x, entries)
    compare(got, adams(x, [*map(At, entries), At(0)], order, kind))
