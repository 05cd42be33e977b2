"""What any backbone must hold to."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from ..core import Backbone, Cond, CondSpec, DataSpec, complete, drop, generator
from .claims import cannot, hold, require

MakeBackbone = Callable[[DataSpec], Backbone]
BATCH = 4
CLASSES = ("cat", "dog", "emu")
SPECS: dict[str, DataSpec] = {
    "grey, 16 x 16": DataSpec((1, 16, 16)),
    "colour with classes, 16 x 16": DataSpec((3, 16, 16), CLASSES),
    "oblong with classes, 16 x 32": DataSpec((1, 16, 32), CLASSES),
    "colour with classes, 32 x 32": DataSpec((3, 32, 32), CLASSES),
    "grey with a vector, 16 x 16": DataSpec((1, 16, 16), (), {"text": CondSpec("vector", (5,))}),
    "grey with tokens, 16 x 16": DataSpec((1, 16, 16), (), {"words": CondSpec("tokens", (6, 5))}),
}
LABELS = (3.0, 250.0, 500.0, 999.0)
CLOSE = 1e-4  # float32 sums in another order


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
        try:
            out = _run(network.eval(), spec)
        except Exception as error:  # of whatever kind: it has accepted this data
            require(False, f"data that is {name} is accepted, and then fails: {type(error).__name__}: {error}")
        size_fits = out.shape[0] == BATCH and out.shape[2:] == spec.shape[1:] and out.shape[1] >= spec.shape[0]
        require(size_fits, f"for data that is {name}, (B, C or more, *size), the output is {tuple(out.shape)}")
        require(out.isfinite().all(), f"for data that is {name} the output is not finite")


def check_batches(make: MakeBackbone) -> None:
    """In eval mode an image does not depend on those beside it, and is the same every time."""
    network, spec = _woken(make)
    x, noise, cond = _inputs(spec)
    with torch.no_grad():
        whole = network(x, noise, cond)
        parts = [network(x[i : i + 1], noise[i : i + 1], {k: c[i : i + 1] for k, c in cond.items()}) for i in range(4)]
        again = network(x, noise, cond)
    off = float((torch.cat(parts) - whole).abs().max() / whole.abs().max())
    require(off < CLOSE, f"an image changes by {off:.1e} with the batch that it is in")
    require(torch.equal(whole, again), "in eval mode the same images give another output when asked again")


def check_conditions(make: MakeBackbone) -> None:
    """Once its weights are not those of the start, the noise label and each condition change the output."""
    network, spec = _woken(make)
    x, noise, cond = _inputs(spec)
    with torch.no_grad():
        out = network(x, noise, cond)
        require(_apart(network(x, noise + 100, cond), out), "the noise label changes nothing")
        for name, one in spec.cond.items():
            other = {**cond, name: (cond[name] + 1) % len(CLASSES) if one.kind == "class" else cond[name] + 1}
            require(_apart(network(x, noise, other), out), f"the condition `{name}` changes nothing")


def check_null(make: MakeBackbone) -> None:
    """ "No class" is a row of its own, index K: it is taken, finite, and unlike every class."""
    network, spec = _woken(make)
    if not spec.cond:
        cannot("it takes no data with classes or conditions")
    x, noise, cond = _inputs(spec)
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
    """A loss reaches every weight."""
    network, spec = _woken(make)
    x, noise, cond = _inputs(spec)
    network.train()
    network(x, noise, cond).square().sum().backward()
    lost = [name for name, p in network.named_parameters() if p.requires_grad and p.grad is None]
    require(not lost, f"no gradient reaches {', '.join(lost[:5])}{' and others' if len(lost) > 5 else ''}")
    wild = [name for name, p in network.named_parameters() if p.grad is not None and not p.grad.isfinite().all()]
    require(not wild, f"the gradient of {', '.join(wild[:5])} is not finite")


def check_blocks(make: MakeBackbone) -> None:
    """`blocks` names the units for sharding and compilation: modules of the network, each once."""
    network, _ = _made(make)
    blocks, inside = network.blocks(), set(network.modules())
    require(len(blocks) > 0, "blocks() is empty; give the list of repeated modules, or keep them in a ModuleList")
    foreign = [type(block).__name__ for block in blocks if not isinstance(block, nn.Module) or block not in inside]
    require(not foreign, f"blocks() has {foreign[:3]}, which are no modules of the network")
    require(len(set(blocks)) == len(blocks), "blocks() has a module twice")


def check_state(make: MakeBackbone) -> None:
    """A second network with the first one's state_dict is the first one."""
    first, spec = _woken(make)
    second = make(spec).eval()
    second.load_state_dict(first.state_dict())
    same = torch.equal(_run(first, spec), _run(second, spec))
    require(same, "a network with another's state_dict gives another output: something is kept beside the state")


def check_dtypes(make: MakeBackbone) -> None:
    """Float32 gives float32; in bfloat16 it runs too, and gives nearly the same."""
    network, spec = _woken(make)
    x, noise, cond = _inputs(spec)
    with torch.no_grad():
        out = network(x, noise, cond)
        require(out.dtype == torch.float32, f"float32 images give {out.dtype}")
        try:
            with torch.autocast("cpu", torch.bfloat16):
                rough = network(x, noise, cond).float()
        except RuntimeError as error:
            require(False, f"under bfloat16 autocast it fails: {error}")
    off = float((rough - out).square().mean().sqrt() / out.square().mean().sqrt())
    require(off < 0.2, f"under bfloat16 autocast the output is {off:.0%} off; labels must be embedded in float32")


BACKBONE_CHECKS = (
    check_shapes,
    check_batches,
    check_conditions,
    check_null,
    check_gradients,
    check_blocks,
    check_state,
    check_dtypes,
)


def _made(make: MakeBackbone) -> tuple[Backbone, DataSpec]:
    """A network of the spec that asks most of it: classes, else any that it takes."""
    refusal = ""
    for spec in sorted(SPECS.values(), key=lambda one: not one.classes):
        try:
            torch.manual_seed(0)
            return make(spec), spec
        except ValueError as error:
            refusal = str(error)
    cannot(f"it takes none of the kit's data ({'; '.join(SPECS)}): {refusal}")


def _woken(make: MakeBackbone) -> tuple[Backbone, DataSpec]:
    """The same, in eval mode, with the weights a little away from a start at which outputs may be 0."""
    network, spec = _made(make)
    random = generator(0, "backbone", 0)
    with torch.no_grad():
        for weight in network.parameters():
            weight.add_(0.05 * torch.randn(weight.shape, generator=random))
    return network.eval(), spec


def _inputs(spec: DataSpec) -> tuple[Tensor, Tensor, Cond]:
    random = generator(0, "backbone", 1)
    x = torch.randn(BATCH, *spec.shape, generator=random)
    cond: dict[str, Tensor] = {}
    for name, one in spec.cond.items():
        labels = torch.arange(BATCH) % max(1, len(spec.classes))
        cond[name] = labels if one.kind == "class" else torch.randn(BATCH, *one.shape, generator=random)
    return x, torch.tensor(LABELS), complete(cond, spec)


def _run(network: Backbone, spec: DataSpec) -> Tensor:
    with torch.no_grad():
        out: Tensor = network(*_inputs(spec))
    return out


def _apart(one: Tensor, other: Tensor) -> bool:
    """Whether outputs differ by more than rounding, for every image."""
    return bool(((one - other).abs().flatten(1).amax(1) > CLOSE * other.abs().max()).all())
