"""What any backbone must hold to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..core import Backbone, Cond, drop
from .backbones_in_training import TRAINING_CHECKS
from .claims import cannot, hold, require
from .gradients import gradients, require_near
from .networks import BATCH, CLASSES, SPECS, MakeBackbone, each_woken, inputs, made, run, woken

CLOSE = 1e-4  # of the largest output: more than sums of float32 taken in another order
CLOSE_IN_BATCHES = 1e-5  # the same sums, but for the kernels that a batch of another size is given to
CLOSE_IN_BFLOAT16 = 0.3  # gradients: three digits a layer, through all of them and back


def check_backbone(make: MakeBackbone) -> None:
    """Hold a backbone to the interface: every check below.

    Args:
        make: Makes it from a `DataSpec`: the class, or a `functools.partial` of it with options.

    Raises:
        AssertionError: With a sentence, at the first that fails.
    """
    hold(BACKBONE_CHECKS, make)


def check_shapes(make: MakeBackbone) -> None:
    """Images in, images or more channels out, for every spec that it takes; others are refused by a ValueError."""
    for name, spec in SPECS.items():
        try:
            network = make(spec)
        except ValueError as error:
            require(str(error), f"data that is {name} is refused without a word")
            continue
        except Exception as error:
            trouble = f"{type(error).__name__}: {error}"
            require(False, f"for data that is {name} it cannot be built, {trouble}; a ValueError is to say what fits")
        try:
            out = run(network.eval(), spec)
        except Exception as error:  # of whatever kind: it has accepted this data
            require(False, f"data that is {name} is accepted, and then fails: {type(error).__name__}: {error}")
        size_fits = out.shape[0] == BATCH and out.shape[2:] == spec.shape[1:] and out.shape[1] >= spec.shape[0]
        require(size_fits, f"for data that is {name}, (B, C or more, *size), the output is {tuple(out.shape)}")
        require(out.isfinite().all(), f"for data that is {name} the output is not finite")


def check_batches(make: MakeBackbone) -> None:
    """In eval mode an image does not depend on those beside it, and is the same every time."""
    network, spec = woken(make)
    x, noise, cond = inputs(spec)
    with torch.no_grad():
        whole = network(x, noise, cond)
        again = network(x, noise, cond)
        cuts = [range(i, i + 1) for i in range(BATCH)], [range(3), range(3, BATCH)]
        for parts in cuts:
            cut = [network(x[p], noise[p], {k: c[p] for k, c in cond.items()}) for p in map(_slice, parts)]
            off = float((torch.cat(cut) - whole).abs().max() / whole.abs().max())
            require(off <= CLOSE_IN_BATCHES, f"an image changes by {off:.1e} with the batch that it is in")
    require(torch.equal(whole, again), "in eval mode the same images give another output when asked again")


def check_conditions(make: MakeBackbone) -> None:
    """Once its weights are not those of the start, the noise label and each condition change the output."""
    for network, spec in each_woken(make) or [woken(make)]:
        x, noise, cond = inputs(spec)
        with torch.no_grad():
            out = network(x, noise, cond)
            require(_apart(network(x, noise + 100, cond), out), "the noise label changes nothing")
            for name, one in spec.cond.items():
                other = {**cond, name: (cond[name] + 1) % len(CLASSES) if one.kind == "class" else cond[name] + 1}
                require(_apart(network(x, noise, other), out), f"the condition `{name}` changes nothing")


def check_null(make: MakeBackbone) -> None:
    """ "No class" is a row of its own, index K: it is taken, finite, and unlike every class; likewise no vector."""
    networks = each_woken(make)
    if not networks:
        cannot("it takes no data with classes or conditions")
    for network, spec in networks:
        x, noise, cond = inputs(spec)
        none = drop(cond, spec, torch.ones(BATCH, dtype=torch.bool))
        with torch.no_grad():
            try:
                out = network(x, noise, none)
            except IndexError:
                require(False, f"class {spec.null_class}, which means none, is out of its table: K + 1 rows are needed")
            require(out.isfinite().all(), 'without a condition ("none") the output is not finite')
            classes: list[Cond] = [{**cond, "class": torch.full((BATCH,), k)} for k in range(len(spec.classes))]
            for one in classes or [cond]:
                require(_apart(network(x, noise, one), out), 'a condition and "none" give the same output')


def check_gradients(make: MakeBackbone) -> None:
    """A loss reaches every weight, those of "none" too where an image has no condition."""
    for network, spec in each_woken(make) or [woken(make)]:
        x, noise, cond = inputs(spec)
        network.train()
        network(x, noise, drop(cond, spec, torch.arange(BATCH) == 0)).square().sum().backward()
        trained = {name: p.grad for name, p in network.named_parameters() if p.requires_grad}
        lost = [name for name, gradient in trained.items() if gradient is None or not gradient.any()]
        require(not lost, f"no gradient reaches {', '.join(lost[:5])}{' and others' if len(lost) > 5 else ''}")
        wild = [name for name, gradient in trained.items() if gradient is not None and not gradient.isfinite().all()]
        require(not wild, f"the gradient of {', '.join(wild[:5])} is not finite")


def check_state(make: MakeBackbone) -> None:
    """A second network takes the first one's state_dict, every name of it, and is the first one."""
    first, spec = woken(make)
    second = make(spec).eval()
    try:
        second.load_state_dict(first.state_dict(), strict=True)
    except (RuntimeError, KeyError) as error:
        require(False, f"a network built alike does not take its state_dict: {' '.join(str(error).split())[:300]}")
    same = torch.equal(run(first, spec), run(second, spec))
    require(same, "a network with another's state_dict gives another output: something is kept beside the state")


def check_facts(make: MakeBackbone) -> None:
    """`facts` are texts by name; the number of parameters is the run's to tell."""
    network, _ = made(make)
    facts = network.facts()
    wrong = [
        f"{name!r}: {text!r}" for name, text in facts.items() if not (isinstance(name, str) and isinstance(text, str))
    ]
    require(not wrong, f"facts() are texts by name; it gives {', '.join(wrong)}")
    require("parameters" not in facts, "facts() has `parameters`, which the run notes itself")


def check_dtypes(make: MakeBackbone) -> None:
    """Float32 gives float32; in bfloat16 it runs and is trained too, and gives nearly the same."""
    network, spec = woken(make)
    want = gradients(network, network, inputs(spec))
    require(want["output"].dtype == torch.float32, f"float32 images give {want['output'].dtype}")
    try:
        got = gradients(_in_bfloat16(network), network, inputs(spec))
    except RuntimeError as error:
        require(False, f"under bfloat16 autocast it fails: {error}")
    off = float((got["output"] - want["output"]).square().mean().sqrt() / want["output"].square().mean().sqrt())
    require(off < 0.2, f"under bfloat16 autocast the output is {off:.0%} off; labels must be embedded in float32")
    require_near(got, want, CLOSE_IN_BFLOAT16, "under bfloat16 autocast", floor=0.01)


BACKBONE_CHECKS = (
    check_shapes,
    check_batches,
    check_conditions,
    check_null,
    check_gradients,
    check_state,
    check_facts,
    check_dtypes,
    *TRAINING_CHECKS,
)


def _slice(part: range) -> slice:
    return slice(part.start, part.stop)


def _apart(one: Tensor, other: Tensor) -> bool:
    """Whether outputs differ by more than rounding, for every image."""
    return bool(((one - other).abs().flatten(1).amax(1) > CLOSE * other.abs().max()).all())


def _in_bfloat16(network: Backbone) -> Callable[..., Tensor]:
    """The network under autocast, as in training: the backward pass is outside of it."""

    def call(*given: Any) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            out: Tensor = network(*given)
        return out.float()

    return call
