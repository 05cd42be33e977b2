"""What the checks of backbones share: kinds of data, a network of the richest that it takes, and inputs for it."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..core import Backbone, Cond, CondSpec, DataSpec, complete, generator
from .claims import cannot

MakeBackbone = Callable[[DataSpec], Backbone]
BATCH = 4
CLASSES = ("cat", "dog", "emu")
LABELS = (3.0, 250.0, 500.0, 999.0)
SMALL = "latents of one class, 8 x 8"
SPECS: dict[str, DataSpec] = {
    "grey, 16 x 16": DataSpec((1, 16, 16)),
    "colour with classes, 16 x 16": DataSpec((3, 16, 16), CLASSES),
    "oblong with classes, 16 x 32": DataSpec((1, 16, 32), CLASSES),
    "colour with classes, 32 x 32": DataSpec((3, 32, 32), CLASSES),
    "grey with a vector, 16 x 16": DataSpec((1, 16, 16), (), {"text": CondSpec("vector", (5,))}),
    "grey with tokens, 16 x 16": DataSpec((1, 16, 16), (), {"words": CondSpec("tokens", (6, 5))}),
    SMALL: DataSpec((4, 8, 8), CLASSES[:1]),
    "grey of odd sides, 15 x 9": DataSpec((1, 15, 9)),
    "colour with classes, 2 x 2": DataSpec((3, 2, 2), CLASSES),
    "one pixel": DataSpec((1, 1, 1)),
    "grey with classes and the label of an augmentation, 16 x 16": DataSpec(
        (1, 16, 16), CLASSES, {"augmentation": CondSpec("vector", (9,), neutral=True)}
    ),
}


def made(make: MakeBackbone, small: bool = False) -> tuple[Backbone, DataSpec]:
    """A network of the spec that asks most of it: classes, else any that it takes.

    Args:
        make: Makes it.
        small: Whether few pixels are enough, where time counts.
    """
    refusal = ""
    first = [SPECS[SMALL]] if small else []
    for spec in [*first, *sorted(SPECS.values(), key=lambda one: not one.classes)]:
        try:
            torch.manual_seed(0)
            return make(spec), spec
        except ValueError as error:
            refusal = str(error)
    cannot(f"it takes none of the kit's data ({'; '.join(SPECS)}): {refusal}")


def woken(make: MakeBackbone, small: bool = False) -> tuple[Backbone, DataSpec]:
    """The same, in eval mode, with the weights a little away from a start at which outputs may be 0."""
    network, spec = made(make, small)
    return awake(network), spec


def each_woken(make: MakeBackbone) -> list[tuple[Backbone, DataSpec]]:
    """A woken network for each kind of condition that it takes: a class, a vector, tokens."""
    found = []
    for kind in ("class", "vector", "tokens"):
        for spec in (one for one in SPECS.values() if kind in {cond.kind for cond in one.cond.values()}):
            try:
                torch.manual_seed(0)
                found.append((awake(make(spec)), spec))
                break
            except ValueError:  # `check_shapes` has looked at what it says
                continue
    return found


def awake(network: Backbone) -> Backbone:
    """The network in eval mode, its weights moved a little."""
    random = generator(0, "backbone", 0)
    with torch.no_grad():
        for weight in network.parameters():
            weight.add_(0.05 * torch.randn(weight.shape, generator=random))
    return network.eval()


def inputs(spec: DataSpec) -> tuple[Tensor, Tensor, Cond]:
    """A batch of four unlike images, noise labels and conditions."""
    random = generator(0, "backbone", 1)
    x = torch.randn(BATCH, *spec.shape, generator=random)
    cond: dict[str, Tensor] = {}
    for name, one in spec.cond.items():
        labels = torch.arange(BATCH) % max(1, len(spec.classes))
        cond[name] = labels if one.kind == "class" else torch.randn(BATCH, *one.shape, generator=random)
    return x, torch.tensor(LABELS), complete(cond, spec)


def run(network: Backbone, spec: DataSpec) -> Tensor:
    """The output for `inputs`."""
    with torch.no_grad():
        out: Tensor = network(*inputs(spec))
    return out
