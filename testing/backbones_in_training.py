"""What a backbone must hold to so that it can be trained: compiled, sharded by its blocks, with less memory."""

from __future__ import annotations

import copy

import torch
from torch import nn
from torch._dynamo.eval_frame import is_dynamo_supported

from ..core import checkpoint_activations
from .claims import cannot, require
from .gradients import gradients, require_near
from .networks import MakeBackbone, inputs, made, woken

CLOSE = 1e-5  # of the largest: another order of the same sums
CLOSE_RECOMPUTED = 1e-6  # of the largest: the same kernels on the same numbers


def check_blocks(make: MakeBackbone) -> None:
    """`blocks` names the units for sharding and compilation: modules of the network, each once, which forward calls."""
    network, spec = made(make)
    blocks, inside = network.blocks(), set(network.modules())
    require(len(blocks) > 0, "blocks() is empty; give the list of repeated modules, or keep them in a ModuleList")
    foreign = [type(block).__name__ for block in blocks if not isinstance(block, nn.Module) or block not in inside]
    require(not foreign, f"blocks() has {foreign[:3]}, which are no modules of the network")
    require(len(set(blocks)) == len(blocks), "blocks() has a module twice")
    called: set[nn.Module] = set()
    handles = [block.register_forward_pre_hook(lambda block, given: called.add(block)) for block in blocks]
    with torch.no_grad():
        network(*inputs(spec))
    for handle in handles:
        handle.remove()
    idle = sorted({type(block).__name__ for block in blocks if block not in called})
    require(not idle, f"blocks() has {', '.join(idle)}, which forward does not call as a module")


def check_activation_checkpointing(make: MakeBackbone) -> None:
    """A block computed twice gives what it gave: with activation checkpointing the gradients are the same."""
    network, spec = woken(make)
    network.train()
    recomputing = copy.deepcopy(network)
    checkpoint_activations(recomputing)
    require(list(recomputing.state_dict()) == list(network.state_dict()), "its copy has a state_dict of other names")
    want = gradients(network, network, inputs(spec))
    try:
        got = gradients(recomputing, recomputing, inputs(spec))
    except RuntimeError as error:
        require(False, f"with activation checkpointing its backward pass fails: {error}")
    require_near(got, want, CLOSE_RECOMPUTED, "with activation checkpointing")


def check_compiles(make: MakeBackbone) -> None:
    """`torch.compile` takes it as one graph, forward and backward, and changes nothing."""
    if not is_dynamo_supported():
        cannot("torch.compile does not work on this Python or system")
    network, spec = woken(make, small=True)
    network.train()
    want = gradients(network, network, inputs(spec))
    torch.compiler.reset()
    try:
        # traced as for any backend, forward and backward, and then run without one: no compiler is needed
        got = gradients(torch.compile(network, fullgraph=True, backend="aot_eager"), network, inputs(spec))
    except RuntimeError as error:  # TorchDynamoException among them
        require(False, f"torch.compile(fullgraph=True) fails: {' '.join(str(error).split())[:300]}")
    finally:
        torch.compiler.reset()
    require_near(got, want, CLOSE, "compiled")


TRAINING_CHECKS = (check_blocks, check_activation_checkpointing, check_compiles)
