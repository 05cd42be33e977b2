"""What metrics hold: rows that grow, sums, and copies of both."""

import copy
from typing import Any

import pytest
import torch
from conftest import FULL
from metrics_kit import DIGITS, Corner, make, pictures

from dmf.core import DataSpec
from dmf.plugins.metrics.frechet import Frechet
from dmf.plugins.metrics.kernel import Kernel
from dmf.plugins.metrics.nearest_neighbour import NearestNeighbour


def test_rows_grow_without_being_copied_and_become_one_tensor_when_read() -> None:
    metric: Any = make(Kernel)
    for part in torch.split(torch.arange(40), 8):
        metric.append("made", torch.full((8, 4), float(part[0])), part.flip(0))
    held = metric._batches["made"]
    assert len(held) == 5 and held[0].data_ptr() != held[1].data_ptr()
    assert metric.made.shape == (40, 4) and metric.made[8:16].eq(8).all() and "made" not in metric._batches
    assert metric.made is metric.made and metric.count("made") == 40
    assert metric.made_index[:8].tolist() == list(range(7, -1, -1))
    metric.append("made", torch.zeros(2, 4), None)
    assert metric.made_index[-2:].tolist() == [40, 41] and len(metric.made) == 42
    with pytest.raises(AttributeError, match="Kernel has no 'mode'"):
        metric.mode  # noqa: B018


def test_rows_do_not_change_with_what_they_came_in() -> None:
    metric: Any = make(Kernel)
    f, index = torch.ones(3, 4), torch.arange(3)
    metric.append("made", f, index)
    f.zero_()
    index.zero_()
    assert metric.made.eq(1).all() and metric.made_index.tolist() == [0, 1, 2]


def test_rows_have_the_shape_they_were_declared_with() -> None:
    with pytest.raises(ValueError, match=r"Kernel: rows of shape \(5,\) for the state `made`.* declared with \(4,\)"):
        make(Kernel).append("made", torch.zeros(2, 5), None)


@pytest.mark.parametrize("how", [copy.copy, copy.deepcopy])
@pytest.mark.parametrize("read", [False, True])
def test_a_copy_shares_rows_and_goes_on_by_itself(how: Any, read: bool) -> None:
    first: Any = make(Kernel)
    for seed in (1, 2):
        first.update(pictures(20, seed), real=True)
    if read:
        assert len(first.real) == 40
    second: Any = how(first)
    second.update(pictures(5, 3), real=True)
    first.update(pictures(7, 4), real=True)
    shared = [one.data_ptr() for one in first._batches["real"]]
    assert [one.data_ptr() for one in second._batches["real"]][:-1] == shared[:-1]
    assert (len(first.real), len(second.real)) == (47, 45)
    assert second.features is first.features
    assert torch.equal(first.real[:40], second.real[:40])


@pytest.mark.parametrize("how", [copy.copy, copy.deepcopy])
def test_a_copy_of_sums_goes_on_by_itself(how: Any) -> None:
    first: Any = make(Frechet)
    for real in (True, False):
        first.update(pictures(20, 1 + real), real=real)
    before = first.compute()
    second = how(first)
    second.update(pictures(20, 9, low=200))
    assert first.compute() == before != second.compute()


def test_many_rows_take_time_for_each_batch_alone() -> None:
    """50,000 batches of one: joined at each, they would be copied 1.25 billion times."""
    metric: Any = make(Kernel)
    row, index = torch.zeros(1, 4), torch.zeros(1, dtype=torch.int64)
    count = 50_000 if FULL else 10_000
    for _ in range(count):
        metric.append("made", row, index)
    assert len(metric._batches["made"]) == count and len(metric.made) == count


def test_sums_are_added_to_whatever_the_layout_of_what_is_held() -> None:
    f, held = (torch.randn(rows, 16, generator=torch.Generator().manual_seed(rows)) for rows in (9, 16))
    want = held.double().tril() + (f.double().T @ f.double()).tril()
    apart = torch.zeros(16, 32, dtype=torch.float64)[:, ::2]
    for layout in (held.double(), held.T.double().contiguous().T, apart.copy_(held)):
        metric = Frechet(features=Corner(16))
        metric.outer = layout  # type: ignore[attr-defined]
        metric.take(f, real=False, labels=None, index=None)
        torch.testing.assert_close(metric.outer.tril(), want, rtol=1e-12, atol=1e-12)


def test_a_copy_declares_states_of_its_own() -> None:
    metric = NearestNeighbour()
    metric.check(DIGITS, 2)
    for copied in (copy.copy(metric), copy.deepcopy(metric)):
        copied.check(DataSpec((3, 16, 16)), 2)
        copied.add_state("more", torch.zeros(()), "sum")
        assert "more" not in metric.states()
    metric.update(torch.zeros(2, *DIGITS.shape, dtype=torch.uint8))
    assert metric.shown.shape == (2, *DIGITS.shape)
