"""Averages of the weights: each against its source's own words, and reconstruction against sums over all weights."""

import math
from collections.abc import Callable
from itertools import count

import numpy as np
import pytest
import torch

from dmf.core import Average
from dmf.core.averages import LONGEST, Fixed, HalfLife, Power, Profiles, profiles, reconstruct
from dmf.core.averages.power import exponent, relative_width
from dmf.registry import build
from dmf.registry.errors import PartError
from dmf.runner.training.averages import averages_of
from dmf.testing import averages as contract

BATCH = 32
CALLS = count(2)


def followed(rule: Average, weights: np.ndarray, batch: int = BATCH) -> np.ndarray:
    """The average after each step, of weights after each step; at first it is `weights[0]`."""
    average, found = weights[0], []
    for step, now in enumerate(weights[1:]):
        decay = rule.decay(step, batch)
        average = average if decay is None else decay * average + (1 - decay) * now
        found.append(average)
    return np.asarray(found)


@pytest.fixture(name="walk")
def walk_fixture() -> np.ndarray:
    """Weights of a training: a curve with noise on it, before the first step and after each of 400."""
    noise = np.random.default_rng(0).normal(size=401)
    return np.cumsum(noise) / 20 + np.linspace(0, 3, 401) ** 0.5


# -- fixed -------------------------------------------------------------------------------------------------------------


def test_fixed_is_the_closed_form_of_an_exponential_average(walk: np.ndarray) -> None:
    found = followed(Fixed(decay=0.97, warmup=False), walk)[-1]
    shares = 0.03 * 0.97 ** np.arange(399, -1, -1)
    assert found == pytest.approx(0.97**400 * walk[0] + shares @ walk[1:], abs=1e-12)


def test_the_warm_up_is_that_of_tensorflow() -> None:
    rule = Fixed(decay=0.9)
    assert [rule.decay(k, BATCH) for k in (0, 1, 8)] == pytest.approx([1 / 10, 2 / 11, 9 / 18])
    assert rule.decay(80, BATCH) == pytest.approx(0.9) == rule.decay(10**6, BATCH)


def test_before_its_start_it_is_the_weights_and_warms_up_from_there(walk: np.ndarray) -> None:
    late = followed(Fixed(decay=0.97, start=100), walk)
    assert np.array_equal(late[:100], walk[1:101])
    assert late[100:] == pytest.approx(followed(Fixed(decay=0.97), walk[100:]), abs=1e-12)


def test_a_start_in_images_is_rounded_up_to_a_step() -> None:
    rule = Fixed(decay=0.9, start="100 images", warmup=False)
    assert [rule.decay(step, 32) for step in (3, 4)] == [0.0, 0.9]
    assert [rule.decay(step, 50) for step in (1, 2)] == [0.0, 0.9]


def test_an_interval_leaves_steps_out_and_keeps_the_length(walk: np.ndarray) -> None:
    rule = Fixed(decay=0.99, interval=5, warmup=False)
    assert [rule.decay(step, BATCH) is None for step in range(10)] == [True, True, True, True, False] * 2
    still = np.full(401, 2.0)
    still[0] = 5.0  # how much of the first weights is left is the same, update by update or step by step
    both = [followed(one, still)[-1] for one in (rule, Fixed(decay=0.99, warmup=False))]
    assert both[0] == pytest.approx(both[1], abs=1e-12)


# -- half-life ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch", [16, 64])
def test_half_of_it_is_older_than_its_half_life(batch: int) -> None:
    rule = HalfLife(length="6400 images", rampup=0)
    left = math.prod(rule.decay(step, batch) for step in range(6400 // batch))
    assert left == pytest.approx(0.5, rel=1e-12)


def test_the_ramp_up_is_that_of_edm() -> None:
    """Its code: min(half-life, images seen * 0.05), never under 1e-8."""
    rule = HalfLife(length="500k images")
    for step in (0, 1, 100, 19530, 19532, 10**6):
        half_life = min(500_000, step * 512 * 0.05)
        assert rule.decay(step, 512) == pytest.approx(0.5 ** (512 / max(half_life, 1e-8)), abs=1e-15)


def test_a_half_life_in_steps() -> None:
    assert HalfLife(length=10, rampup=0).decay(0, 64) == pytest.approx(0.5**0.1)


# -- power functions ---------------------------------------------------------------------------------------------------


def test_the_papers_own_exponents() -> None:
    """Section 3.1: gamma of about 6.94 for a width of 10 %, 16.97 for 5 %."""
    assert exponent(0.10) == pytest.approx(6.94, abs=0.005)
    assert exponent(0.05) == pytest.approx(16.97, abs=0.005)


@pytest.mark.parametrize("length", [0.01, 0.05, 0.1, 0.2, 0.28])
def test_the_width_of_the_profile_is_the_length_by_numerical_integration(length: float) -> None:
    gamma = exponent(length)
    u = (np.arange(200_000) + 0.5) / 200_000
    p = (gamma + 1) * u**gamma / len(u)
    mean = (p * u).sum()
    assert p.sum() == pytest.approx(1, abs=1e-6)
    assert math.sqrt((p * (u - mean) ** 2).sum()) == pytest.approx(length, rel=1e-5)
    assert relative_width(gamma) == pytest.approx(length, rel=1e-12)


@pytest.mark.parametrize("length", [0.05, 0.2])
def test_a_tracked_power_average_is_the_weighted_sum_of_all_weights(walk: np.ndarray, length: float) -> None:
    """Equation 118 telescopes: the weights after step k count (k^(gamma+1) - (k-1)^(gamma+1)) / t^(gamma+1)."""
    found = followed(Power(length=length), walk)
    for t in (1, 7, 400):
        assert found[t - 1] == pytest.approx(exact(walk, t, length), abs=1e-12)


def test_the_weights_before_training_are_none_of_a_power_average(walk: np.ndarray) -> None:
    other = np.concatenate([[1e9], walk[1:]])
    assert np.array_equal(followed(Power(), walk), followed(Power(), other))


@pytest.mark.parametrize("length", [0.0, LONGEST, 0.5])
def test_a_length_without_a_profile_is_refused(length: float) -> None:
    with pytest.raises(ValueError, match="has no profile; expected more than 0, less than"):
        exponent(length)
    with pytest.raises(PartError, match="length"):
        build("average", "power", length=length)


# -- reconstruction ----------------------------------------------------------------------------------------------------


def exact(weights: np.ndarray, t: int, length: float) -> np.ndarray:
    """The power average after step t, by brute force over all weights."""
    edges = (np.arange(t + 1) / t) ** (exponent(length) + 1)
    return np.diff(edges) @ weights[1 : t + 1]


def test_inner_products_of_profiles_against_numerical_integration() -> None:
    times, lengths = [3.0, 5.0, 4.0, 4.0], [0.05, 0.1, 0.2, 0.01]
    found = profiles(times, lengths)
    tau = (np.arange(400_000) + 0.5) / 400_000 * 5
    p = np.zeros((4, len(tau)))
    for i, (t, length) in enumerate(zip(times, lengths, strict=True)):
        gamma, inside = exponent(length), tau <= t
        p[i, inside] = (gamma + 1) * (tau[inside] / t) ** gamma / t
    assert found.dot(found).numpy() == pytest.approx(p @ p.T * 5 / len(tau), rel=1e-3)


def test_shares_are_those_of_the_normal_equations_in_other_coordinates() -> None:
    """The same least squares over a fine grid of times, by numpy, scaled to a sum of 1 as in the source's code."""
    times, lengths = [2.0, 2.0, 4.0, 4.0, 6.0, 6.0], [0.05, 0.1] * 3
    found = reconstruct(profiles(times, lengths), profiles([6.0], [0.08]))
    tau = (np.arange(60_000) + 0.5) / 60_000 * 6

    def profile(t: float, length: float) -> np.ndarray:
        gamma = exponent(length)
        return np.where(tau <= t, (gamma + 1) * (np.minimum(tau, t) / t) ** gamma / t, 0.0)

    columns = np.stack([profile(*one) for one in zip(times, lengths, strict=True)], axis=1)
    x, *_ = np.linalg.lstsq(columns, profile(6.0, 0.08), rcond=None)
    x = x / x.sum()
    assert found.shares.numpy() == pytest.approx(x, abs=2e-4)
    off = np.linalg.norm(columns @ x - profile(6.0, 0.08)) / np.linalg.norm(profile(6.0, 0.08))
    assert found.residual == pytest.approx(off, abs=1e-4)
    assert found.noise == pytest.approx(np.linalg.norm(x), abs=1e-3)


def kept(walk: np.ndarray, every: int, lengths: tuple[float, ...]) -> tuple[Profiles, np.ndarray]:
    """Tracks of a training, a snapshot every so many steps."""
    steps = range(every, len(walk), every)
    tracks = {length: followed(Power(length=length), walk) for length in lengths}
    values = [tracks[length][step - 1] for step in steps for length in lengths]
    return profiles([float(s) for s in steps for _ in lengths], [x for _ in steps for x in lengths]), np.asarray(values)


@pytest.mark.parametrize(("length", "most"), [(0.03, 0.02), (0.05, 1e-6), (0.07, 2e-3), (0.15, 5e-3), (0.2, 1e-2)])
def test_a_reconstruction_is_near_the_average_over_all_weights(walk: np.ndarray, length: float, most: float) -> None:
    """As shares of the walk's range; 20 snapshots of 5 % and 10 %, as in the paper's figures."""
    there, values = kept(walk, 20, (0.05, 0.1))
    solution = reconstruct(there, profiles([400.0], [length]))
    off = abs(float(solution.shares.numpy() @ values) - exact(walk, 400, length)) / np.ptp(walk)
    assert off < most
    assert solution.residual < 0.05


def test_a_reconstruction_of_an_earlier_time(walk: np.ndarray) -> None:
    there, values = kept(walk, 20, (0.05, 0.1))
    solution = reconstruct(there, profiles([300.0], [0.12]))
    assert float(solution.shares.numpy() @ values) == pytest.approx(exact(walk, 300, 0.12), abs=0.005 * np.ptp(walk))


def test_a_track_gives_itself_and_shares_add_up_to_one() -> None:
    there = profiles([1.0, 1.0, 2.0, 2.0], [0.05, 0.1, 0.05, 0.1])
    same = reconstruct(there, profiles([2.0], [0.1]))
    assert same.shares.tolist() == pytest.approx([0, 0, 0, 1], abs=1e-9)
    assert same.residual < 1e-6
    assert float(reconstruct(there, profiles([2.0], [0.02])).shares.sum()) == pytest.approx(1, abs=1e-12)


def test_more_snapshots_lessen_the_residual_and_a_short_one_grows_the_noise() -> None:
    def solved(n: int, length: float) -> tuple[float, float]:
        times = [float(i + 1) for i in range(n) for _ in range(2)]
        one = reconstruct(profiles(times, [0.05, 0.1] * n), profiles([float(n)], [length]))
        return one.residual, one.noise

    assert solved(32, 0.15)[0] < solved(16, 0.15)[0] < solved(8, 0.15)[0] < 0.05
    assert solved(8, 0.01)[0] > 0.3  # what eight snapshots cannot give
    assert solved(32, 0.02)[1] > 10 > 1.1 > solved(32, 0.1)[1]


# -- options and contract ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("fixed", {"start": "soon"}, "got 'soon', expected a number of steps"),
        ("half_life", {"length": "7 epochs"}, "got '7 epochs', expected a number of steps"),
        ("half_life", {"length": 0}, "got 0, expected a number of steps of at least 1"),
        ("power", {"snapshots": "often"}, "got 'often', expected a number of steps"),
        ("power", {"snapshots": 0}, "got 0, expected a number of steps of at least 1"),
    ],
)
def test_what_is_no_span_of_training_is_told(name: str, options: dict[str, object], words: str) -> None:
    with pytest.raises((PartError, ValueError), match=words):
        build("average", name, **options)


class Wrong(Average):
    """Some rule."""

    def __init__(self, share: object, label: str = "wrong") -> None:
        self._share, self._label = share, label

    @property
    def label(self) -> str:
        return self._label

    def decay(self, step: int, batch_size: int) -> float | None:
        return self._share(step) if callable(self._share) else self._share  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("wrong", "check", "words"),
    [
        (Wrong(1.0), contract.check_shares, "from 0 to below 1"),
        (Wrong(-0.1), contract.check_shares, "from 0 to below 1"),
        (Wrong(torch.tensor(0.5)), contract.check_shares, "it is to be a number"),
        (Wrong(None), contract.check_moves, "leaves the average alone in each"),
        (Wrong(lambda k: 0.9 if k == 3 else None), contract.check_forgets, "still holds 0.9 of the first weights"),
        (Wrong(0.9, "my average"), contract.check_label, "letters, digits, dots and hyphens"),
        (Wrong(lambda k: 1 / next(CALLS)), contract.check_stateless, "gives other shares"),
    ],
)
def test_the_contract_says_no(wrong: Average, check: Callable[[Average], None], words: str) -> None:
    with pytest.raises(AssertionError, match=words):
        check(wrong)


@pytest.mark.parametrize(
    ("rule", "label"),
    [
        (Fixed(), "fixed-0.999"),
        (Fixed(decay=0.9999999), "fixed-0.9999999"),
        (Fixed(start="2k images", interval=3, warmup=False), "fixed-0.999-start-2k-images-every-3-cold"),
        (HalfLife(), "half-life-500k-images"),
        (HalfLife(length=80, rampup=0.0), "half-life-80-rampup-0"),
        (Power(length=0.05, snapshots=10), "power-0.05"),
    ],
)
def test_labels_tell_averages_apart(rule: Average, label: str) -> None:
    assert rule.label == label
    contract.check_label(rule)


def test_statistics_are_not_averaged() -> None:
    """What a layer counts by itself is taken over as it is; its weights are averaged."""
    torch.manual_seed(0)
    network = torch.nn.BatchNorm1d(3)
    (average,) = averages_of([Fixed(decay=0.9, warmup=False)], network)
    with torch.no_grad():
        network(torch.randn(8, 3))
        network.weight.fill_(2)
    average.follow(network, 0, 8)
    held = dict(average.network.named_buffers())
    assert int(held["num_batches_tracked"]) == 1 and float(held["running_mean"].abs().sum()) > 0
    assert all(torch.equal(held[name], value) for name, value in network.named_buffers())
    assert average.network.get_parameter("weight").tolist() == pytest.approx([1.1] * 3)
