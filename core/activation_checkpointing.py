"""Activation checkpointing: a block keeps its inputs alone, and computes the rest again when the gradient comes by.

Source: Chen et al. 2016, "Training Deep Nets with Sublinear Memory Cost" (arXiv 1604.06174), section 4.1, with a
backbone's blocks for its segments. Cost: one more forward pass of the blocks a training step; the memory of activations
falls from all of them to one block's and the inputs of the others.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from .backbone import Backbone


def checkpoint_activations(backbone: Backbone) -> None:
    """Make each of the backbone's `blocks()` compute its activations again in the backward pass.

    Outputs and gradients stay the same, with dropout too: its random numbers are drawn again as they were. The names in
    the state_dict stay, and nothing changes in eval mode or where no gradient is asked for.

    Args:
        backbone: Changed in place, before it is compiled or wrapped for several ranks; its copies are changed likewise,
            those by pickle too.

    Raises:
        ValueError: It names no blocks, or one of them has a `forward` of its own beside its class's.
    """
    blocks = backbone.blocks()
    if not blocks:
        raise ValueError(
            f"activation checkpointing works on blocks, and blocks() of {type(backbone).__name__} is empty; give the"
            " list of its repeated modules there, or leave activation checkpointing off"
        )
    for block in blocks:
        own = vars(block).get("forward")
        if own is not None and getattr(own, "func", None) is not _recomputed:
            raise ValueError(
                f"activation checkpointing takes the place of a block's `forward`, and a {type(block).__name__} has"
                " a `forward` of its own beside its class's; let that be put there after activation checkpointing"
            )
    for block in blocks:
        # no closure: pickle finds the function by its name, and in a copy the block is the copy's
        block.forward = partial(_recomputed, block)


def _recomputed(block: nn.Module, *args: Any, **kwargs: Any) -> Any:
    """The block's own forward, its activations thrown away where they can be had again."""
    forward = type(block).forward
    if not (block.training and torch.is_grad_enabled()):
        return forward(block, *args, **kwargs)
    return checkpoint(forward, block, *args, use_reentrant=False, preserve_rng_state=True, **kwargs)
