"""Stochastic gradient descent with momentum.

Source: Polyak 1964, "Some methods of speeding up the convergence of iteration methods", equation 9; Nesterov's as in
Sutskever et al. 2013, "On the importance of initialization and momentum in deep learning", equations 3 and 4, with the
weights taken at the point looked ahead to.
"""

from collections.abc import Sequence
from typing import Annotated

import torch
from annotated_types import Ge, Lt

from ...core import WeightGroup
from ._groups import Fused, kernels, torch_groups


def sgd(
    groups: Sequence[WeightGroup],
    *,
    momentum: Annotated[float, Ge(0), Lt(1)] = 0.9,
    nesterov: bool = False,
    dampening: Annotated[float, Ge(0), Lt(1)] = 0.0,
    weight_decay: Annotated[float, Ge(0)] = 0.0,
    fused: Fused = "auto",
) -> torch.optim.Optimizer:
    """v <- momentum v + (1 - dampening) g; a weight moves by the learning rate times v, from v = 0.

    torch begins at v = g, whatever the dampening; that differs where there is dampening.

    Args:
        groups: The weights.
        momentum: Share of v that stays in a step; 0 is plain descent.
        nesterov: Move by g + momentum v instead; wants momentum, and no dampening.
        dampening: Share of the gradient that is left out of v; as much as `momentum` makes v a mean of gradients.
        weight_decay: This much of a weight is added to its gradient.
        fused: Take torch's fused step, one kernel for all weights; `auto` does where there is one.

    Raises:
        ValueError: Nesterov's momentum without momentum, or with dampening.
    """
    if nesterov and (momentum == 0 or dampening > 0):
        raise ValueError(
            f"nesterov: true wants momentum above 0 and dampening 0; got momentum {momentum:g} and dampening "
            f"{dampening:g}; set these, or leave nesterov out"
        )
    made = torch.optim.SGD(
        torch_groups(groups, weight_decay),
        momentum=momentum,
        nesterov=nesterov,
        dampening=dampening,
        **kernels(fused, groups, in_parts=False),  # torch's fused step takes no parts of weights, as Adam's does
    )
    if momentum:  # made here: where torch's first step is a bad one, it leaves a v that nobody has written
        for weight in (w for group in groups for w in group.weights):
            made.state[weight]["momentum_buffer"] = torch.zeros_like(weight)
    return made
