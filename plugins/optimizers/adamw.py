"""AdamW: Adam with weight decay that is no part of the gradient.

Source: Loshchilov & Hutter 2017, "Decoupled Weight Decay Regularization" (arXiv 1711.05101), algorithm 2.
"""

from collections.abc import Sequence
from typing import Annotated

import torch
from annotated_types import Ge, Gt, Lt

from ...core import WeightGroup

Beta = Annotated[float, Ge(0), Lt(1)]


def adamw(
    groups: Sequence[WeightGroup],
    *,
    betas: tuple[Beta, Beta] = (0.9, 0.999),
    eps: Annotated[float, Gt(0)] = 1e-8,
    weight_decay: Annotated[float, Ge(0)] = 0.0,
) -> torch.optim.Optimizer:
    """AdamW, fused: it can pass over a step whose gradient is not finite without asking the CPU.

    Args:
        groups: The weights.
        betas: Decay rates of the means of the gradient and of its square.
        eps: Added to the root of the latter.
        weight_decay: Share of a weight, times the learning rate, that a step takes away.
    """
    made = [{"params": list(g.weights), "lr": g.lr, "weight_decay": weight_decay if g.decays else 0.0} for g in groups]
    return torch.optim.AdamW(made, betas=betas, eps=eps, fused=True)
