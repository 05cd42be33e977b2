"""AdamW: Adam with weight decay that is no part of the gradient.

Source: Loshchilov & Hutter 2017, "Decoupled Weight Decay Regularization" (arXiv 1711.05101), algorithm 2, without its
schedule multiplier eta; as in torch, the decay is multiplied by the learning rate.
"""

from collections.abc import Sequence
from typing import Annotated

import torch
from annotated_types import Ge, Gt

from ...core import WeightGroup
from ._groups import Beta, Fused, kernels, torch_groups


def adamw(
    groups: Sequence[WeightGroup],
    *,
    betas: tuple[Beta, Beta] = (0.9, 0.999),
    eps: Annotated[float, Gt(0)] = 1e-8,
    weight_decay: Annotated[float, Ge(0)] = 0.0,
    fused: Fused = "auto",
) -> torch.optim.Optimizer:
    """AdamW: each weight moves by about the learning rate, whatever the size of its gradient.

    Args:
        groups: The weights.
        betas: Decay rates of the means of the gradient and of its square.
        eps: Added to the root of the latter.
        weight_decay: Share of a weight, times the learning rate, that a step takes away.
        fused: Take torch's fused step, one kernel for all weights; `auto` does where there is one.
    """
    return torch.optim.AdamW(torch_groups(groups, weight_decay), betas=betas, eps=eps, **kernels(fused, groups))
