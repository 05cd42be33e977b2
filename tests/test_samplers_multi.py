"""The multistep samplers against what they declare and against each other; their formulas have a file of their own."""

import math
from typing import Any

import pytest
import torch
from multistep_kit import GRIDS, LINEAR, compare, denoise, drawn, walk
from scipy.integrate import quad
from torch import Tensor

from dmf.core import Context, Level, grids, levels_of, sample
from dmf.core.multistep import Point, beyond_first, exponential_moments
from dmf.registry import PartError, build
from dmf.testing import order_of, unlike_schedules
from dmf.testing.samplers import BLOBS, check_moments

ARC = unlike_schedules()["arc"]

Setting = tuple[str, dict[str, Any]]
ORDERS: list[tuple[str, dict[str, Any], int]] = [
    ("dpmpp_2m", {}, 2),
    ("dpmpp_3m", {}, 3),
    ("dpmpp_3m", {"as_published": True}, 2),
    ("dpmpp_2m_sde", {"eta": 0.0}, 2),
    ("dpmpp_3m_sde", {"eta": 0.0}, 3),
    ("dpmpp_3m_sde", {"eta": 0.0, "as_published": True}, 2),
    *(("deis", {"order": n}, n) for n in (1, 2, 3, 4)),
    *(("ipndm", {"order": n}, min(n, 2)) for n in (1, 2, 3, 4)),
    *(("ipndm", {"order": n, "variable_steps": True}, n) for n in (1, 2, 3, 4)),
    *(("unipc", {"order": n, "variant": b}, n + 1) for n in (1, 2, 3) for b in ("bh1", "bh2")),
]
NOISY: list[Setting] = [
    ("dpmpp_2m_sde", {"eta": 0.3}),
    ("dpmpp_2m_sde", {"eta": 1.0}),
    ("dpmpp_3m_sde", {"eta": 0.5}),
    ("dpmpp_3m_sde", {"eta": 1.0, "as_published": True}),
]


def named(value: Any) -> str:
    return "-".join(f"{k}={v}" for k, v in value.items()) if isinstance(value, dict) else str(value)


@pytest.mark.parametrize(("name", "options", "order"), ORDERS, ids=named)
def test_orders(name: str, options: dict[str, Any], order: int) -> None:
    """Measured from noise on, where the first steps' lower orders do not show."""
    sampler = build("sampler", name, **options)
    assert sampler.order == order and sampler.evaluations == 1
    assert abs(order_of(sampler, BLOBS, ARC) - order) < 0.25


@pytest.mark.parametrize(("name", "options"), NOISY, ids=named)
def test_the_sde_reaches_mean_and_covariance(name: str, options: dict[str, Any]) -> None:
    check_moments(build("sampler", name, **options))


# -- where they meet --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "options"), [("deis", {"order": 1}), ("ipndm", {"order": 1})], ids=named)
def test_order_1_is_ddim(name: str, options: dict[str, Any]) -> None:
    x = drawn(4, 3)
    for entries in GRIDS:
        compare(walk(build("sampler", name, **options), x, entries), walk(build("sampler", "ddim"), x, entries))


@pytest.mark.parametrize("name", ["dpmpp_2m", "dpmpp_3m"])
def test_without_noise_the_sde_is_the_ode(name: str) -> None:
    x = drawn(4, 3)
    for entries in GRIDS:
        quiet = build("sampler", f"{name}_sde", eta=0.0)
        assert not quiet.stochastic
        compare(walk(quiet, x, entries), walk(build("sampler", name), x, entries))
    assert not build("sampler", f"{name}_sde", s_noise=0.0).stochastic


@pytest.mark.parametrize("name", ["dpmpp_2m", "dpmpp_3m", "dpmpp_2m_sde", "dpmpp_3m_sde", "deis", "unipc"])
def test_the_last_step_is_the_denoised_image(name: str) -> None:
    asked: list[Tensor] = []

    def watched(x: Tensor, level: Level) -> Tensor:
        asked.append(denoise(x, level))
        return asked[-1]

    levels = levels_of(LINEAR, grids.uniform(LINEAR, 6))
    x = torch.from_numpy(drawn(4, 3))
    got = sample(build("sampler", name), watched, x, levels, Context(LINEAR, lambda: torch.ones_like(x)))
    assert torch.equal(got, asked[-1])


@pytest.mark.parametrize("steps", [2, 3, 4, 9])
def test_the_order_falls_towards_sigma_0_and_nowhere_else(steps: int) -> None:
    """The step before the last of order 2 is 2M's with bh2; on a grid that ends above 0 nothing is lowered."""
    low, high = (build("sampler", "unipc", order=3, lower_order_final=lowered) for lowered in (True, False))
    levels = levels_of(LINEAR, grids.uniform(LINEAR, steps))
    x = torch.from_numpy(drawn(4, 3))
    ended = [sample(one, denoise, x, levels, Context(LINEAR, lambda: x)) for one in (low, high)]
    assert torch.equal(*ended) == (steps <= 3)
    ended = [sample(one, denoise, x, levels[:-1], Context(LINEAR, lambda: x)) for one in (low, high)]
    assert torch.equal(*ended)


@pytest.mark.parametrize(
    ("name", "options"), [("dpmpp_3m", {}), ("deis", {"order": 4}), ("ipndm", {"order": 4}), ("unipc", {"order": 3})]
)
@pytest.mark.parametrize("grid", [grids.uniform, grids.karras], ids=lambda g: g.__name__)
def test_a_thousand_steps_keep_their_digits(name: str, options: dict[str, Any], grid: grids.Grid) -> None:
    """Short steps divide small differences; float32 must come out near float64."""
    levels = levels_of(LINEAR, grid(LINEAR, 1000))
    x = levels[0].sigma * torch.from_numpy(drawn(4, 2))
    ends = [
        sample(build("sampler", name, **options), BLOBS.denoise, y, levels, Context(LINEAR, lambda: x))
        for y in (x, x.float())
    ]
    assert ends[1].dtype == torch.float32 and float((ends[0] - ends[1]).abs().max()) < 1e-3


# -- the parts of core/multistep.py -----------------------------------------------------------------------------------


@pytest.mark.parametrize("z", [-600.0, -30.0, -2.0, -1.999, -0.5, -1e-9, 0.0, 1e-6, 0.3, 1.999, 2.0, 40.0])
def test_exponential_moments(z: float) -> None:
    """Against quadrature, and the two ways of computing where they meet."""
    for k, got in enumerate(exponential_moments(z, 5)):
        want = quad(lambda u, k=k: u**k * math.exp(z * (u - 1)), 0, 1, epsabs=0, epsrel=1e-12, points=[0.01, 0.1])[0]
        assert got * math.exp(-z) == pytest.approx(want, rel=1e-10) if z > -100 else got > 0


@pytest.mark.parametrize("places", [[0.3], [0.3, -1.0], [0.3, 2.0, 0.1], [-1.0, 0.5, 3.0, 0.4]])
def test_polynomials_are_integrated_exactly(places: list[float]) -> None:
    coefficients = [0.7, -1.3, 0.4, 2.2][: len(places)]

    def p(u: float) -> float:
        return sum(c * u**k for k, c in enumerate(coefficients))

    points = tuple(Point(torch.tensor([p(place)], dtype=torch.float64), place) for place in places)
    moments = [0.5 ** (k + 1) / (k + 1) for k in range(len(places))]  # of 1 over (0, 0.5)
    want = quad(lambda u: p(places[0] + u) - p(places[0]), 0, 0.5)[0]
    assert float(beyond_first(points, moments)) == pytest.approx(want, abs=1e-12)


# -- what cannot be ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("unipc", {"order": 5}),
        ("unipc", {"order": 0}),
        ("unipc", {"variant": "bh3"}),
        ("deis", {"order": 5}),
        ("ipndm", {"order": 5}),
        ("dpmpp_2m", {"order": 3}),
        ("dpmpp_2m_sde", {"eta": -0.1}),
    ],
    ids=named,
)
def test_options_out_of_range_are_refused(name: str, options: dict[str, Any]) -> None:
    (option,) = options
    with pytest.raises(PartError, match=option):
        build("sampler", name, **options)


def test_an_order_beyond_the_method_is_one_sentence(tiny: Any, dmf_command: Any) -> None:
    code, _, err = dmf_command("validate", tiny, "sampler={name: unipc, steps: 3, order: 5}")
    assert code == 2 and "order" in err and "1, 2, 3" in err and "Traceback" not in err, err
