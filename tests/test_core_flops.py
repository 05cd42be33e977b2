"""Work is counted with the groups of convolutions, in the backward pass too."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from dmf.core.flops import flop_counter
from dmf.testing.bench.backbones import _flops

KINDS = [nn.Conv1d, nn.Conv2d, nn.ConvTranspose2d]
FORMS = pytest.mark.parametrize("options", [{}, {"stride": 2}, {"padding": 1}, {"dilation": 2}], ids=str)


def work(counter: FlopCounterMode, conv: nn.Module, dimensions: int, backward: bool = True) -> int:
    x = torch.randn(2, 8, *(9, 7)[:dimensions], requires_grad=True)
    with counter:
        out: Tensor = conv(x)
        if backward:
            out.sum().backward()  # type: ignore[no-untyped-call]
    return int(counter.get_total_flops())


@FORMS
@pytest.mark.parametrize("groups", [1, 2, 8])
@pytest.mark.parametrize("kind", KINDS)
def test_forward_and_backward_are_three_times_forward(kind: Any, groups: int, options: dict[str, int]) -> None:
    conv = kind(8, 16, 3, groups=groups, **options)
    forward, both = (work(flop_counter(), conv, conv.weight.ndim - 2, backward) for backward in (False, True))
    assert both == 3 * forward
    assert forward == work(FlopCounterMode(display=False), conv, conv.weight.ndim - 2, backward=False)


@FORMS
@pytest.mark.parametrize("kind", KINDS)
def test_without_groups_it_counts_as_torch_does(kind: Any, options: dict[str, int]) -> None:
    conv = kind(8, 16, 3, **options)
    ours, torchs = (
        work(counter, conv, conv.weight.ndim - 2) for counter in (flop_counter(), FlopCounterMode(display=False))
    )
    assert ours == torchs


def test_what_nobody_wants_the_gradient_of_is_not_counted() -> None:
    conv, x = nn.Conv1d(8, 8, 3, groups=8), torch.randn(2, 8, 9)
    with flop_counter() as counter:
        conv(x).sum().backward()  # the weights' alone
    assert counter.get_total_flops() == 2 * (2 * 8 * 3 * 2 * 7)  # two passes of 3 multiply-adds for 2 x 8 x 7 numbers


def test_the_bench_counts_so() -> None:
    conv, x = nn.Conv1d(8, 8, 3, groups=8), torch.randn(2, 8, 9, requires_grad=True)
    assert _flops(lambda: conv(x).sum().backward()) == 3 * 2 * 8 * 3 * 2 * 7
