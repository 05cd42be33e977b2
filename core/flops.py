"""Counts the floating-point operations of what runs, forward and backward.

As torch's counter does: matrix products, convolutions, attention and the operators that name a formula of their own, a
multiply-add as two; but for one formula. torch 2.15 forgets the groups of a convolution in its backward pass: of a
depthwise one over 1024 channels it counts the gradient of the weights 1024 times over.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode, conv_flop_count


def flop_counter() -> FlopCounterMode:
    """A context; ``get_total_flops()`` tells what ran within it."""
    backward = {torch.ops.aten.convolution_backward: _convolution_backward}
    return FlopCounterMode(display=False, custom_mapping=backward)


def _convolution_backward(
    output: Sequence[int],
    x: Sequence[int],
    weights: Sequence[int],
    bias: object,
    stride: object,
    padding: object,
    dilation: object,
    transposed: bool,
    output_padding: object,
    groups: int,
    wanted: Sequence[bool],
    **_: Any,
) -> int:
    """Each of the two gradients takes the forward pass's products; the shape of the weights has the groups in it."""
    products = conv_flop_count(list(x), list(weights), list(output), transposed)
    return (wanted[0] + wanted[1]) * products
