"""Adam.

Source: Kingma & Ba 2014, "Adam: A Method for Stochastic Optimization" (arXiv 1412.6980), algorithm 1.
"""

from collections.abc import Sequence
from typing import Annotated

import torch
from annotated_types import Ge, Gt

from ...core import WeightGroup
from ._groups import Beta, Fused, kernels, torch_groups


def adam(
    groups: Sequence[WeightGroup],
    *,
    betas: tuple[Beta, Beta] = (0.9, 0.999),
    eps: Annotated[float, Gt(0)] = 1e-8,
    weight_decay: Annotated[float, Ge(0)] = 0.0,
    fused: Fused = "auto",
) -> torch.optim.Optimizer:
    """Adam; without weight decay it is AdamW to the bit.

    Args:
        groups: The weights.
        betas: Decay rates of the means of the gradient and of its square.
        eps: Added to the root of the latter.
        weight_decay: This much of a weight is added to its gradient, which Adam then scales like the rest of it;
            `adamw` has the decay that is usually meant.
        fused: Take torch's fused step, one kernel for all weights; `auto` does where there is one.
    """
    return torch.optim.Adam(torch_groups(groups, weight_decay), betas=betas, eps=eps, **kernels(fused, groups))
