"""The trace of the root of a product of covariances, against the closed form of those that commute."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from dmf.plugins.metrics import _root_trace
from dmf.plugins.metrics._root_trace import root_trace

DIM = 96


def spectrum(condition: float) -> Tensor:
    return torch.logspace(0, -math.log10(condition), DIM, dtype=torch.float64)


def turned(values: Tensor) -> Tensor:
    """A covariance of these eigenvalues; of one basis for all, so that they commute."""
    q, _ = torch.linalg.qr(torch.randn(DIM, DIM, dtype=torch.float64, generator=torch.Generator().manual_seed(0)))
    cov = (q * values) @ q.T
    return (cov + cov.T) / 2


def ways(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Which way was gone is written down here."""
    gone: list[str] = []
    svdvals = torch.linalg.svdvals

    def told(m: Tensor, **given: Any) -> Tensor:
        gone.append("singular values")
        return svdvals(m, **given)

    monkeypatch.setattr(torch.linalg, "svdvals", told)
    return gone


@pytest.mark.parametrize("first", [1e1, 1e4, 1e8])
@pytest.mark.parametrize("second", [1e2, 1e6])
def test_it_is_the_closed_form(first: float, second: float, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = ways(monkeypatch)
    one, two = spectrum(first), spectrum(second).flip(0)
    want = float((one * two).sqrt().sum())
    assert float(root_trace(turned(one), turned(two))) == pytest.approx(want, rel=1e-10)
    assert not gone


def test_where_rounding_could_be_seen_singular_values_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    gone = ways(monkeypatch)
    one = spectrum(1e13)
    want = float(one.sum())  # of one covariance with itself: its trace
    assert float(root_trace(turned(one), turned(one))) == pytest.approx(want, rel=1e-10)
    assert gone == ["singular values"]


def test_the_estimate_is_no_less_than_what_rounding_does() -> None:
    for condition in (1e2, 1e5, 1e7, 1e9):
        one, two = turned(spectrum(condition)), turned(spectrum(1e3))
        m = _root_trace._factor(one).T @ _root_trace._factor(two)
        values = torch.linalg.eigvalsh(m @ m.T).clamp(min=0)
        off = float((values.sqrt().sum() - torch.linalg.svdvals(m).sum()).abs())
        assert off <= float(_root_trace._rounding(values)) + 1e-15


def test_of_few_images_and_of_none() -> None:
    few = torch.randn(20, DIM, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).T.cov()
    more = torch.randn(30, DIM, dtype=torch.float64, generator=torch.Generator().manual_seed(2)).T.cov()
    want = torch.linalg.eigvals(few @ more).real.clamp(min=0).sort().values[-19:].sqrt().sum()
    assert float(root_trace(few, more)) == pytest.approx(float(want), rel=1e-7)
    assert float(root_trace(few, more)) == pytest.approx(float(root_trace(more, few)), rel=1e-12)
    assert float(root_trace(torch.zeros(DIM, DIM, dtype=torch.float64), few)) == 0.0
