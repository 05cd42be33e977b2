"""The contract kit must say no: checks of networks are shown networks that they have to refuse."""

import itertools
from collections.abc import Mapping
from typing import Any

import torch
from refusal_kit import Refused
from torch import Tensor, nn

from dmf.core import Backbone, DataSpec
from dmf.testing import backbones as on_backbones
from dmf.testing import backbones_in_training as in_training


class Mixer(Backbone):
    """A convolution told of noise and class; correct, to be broken below."""

    rows = 1  # beside those of the classes

    def __init__(self, spec: DataSpec) -> None:
        super().__init__(spec)
        if set(spec.cond) - {"class"}:
            raise ValueError(f"mixer takes classes alone; got {sorted(spec.cond)}")
        self.layers = nn.ModuleList([nn.Conv2d(spec.shape[0], 8, 3, padding=1), nn.Conv2d(8, spec.shape[0], 1)])
        self.classes = nn.Embedding(spec.null_class + self.rows, 8) if spec.classes else None

    def forward(self, x: Tensor, noise: Tensor, cond: Mapping[str, Tensor]) -> Tensor:
        h = self.layers[0](x) + self.told(noise, cond)[:, :, None, None].to(x.dtype)
        out: Tensor = self.layers[1](torch.tanh(h))
        return out

    def told(self, noise: Tensor, cond: Mapping[str, Tensor]) -> Tensor:
        given = (noise / 250)[:, None].expand(-1, 8)
        return given if self.classes is None else given + self.classes(cond["class"])


class Vectored(Mixer):
    """Takes vectors; correct too."""

    def __init__(self, spec: DataSpec) -> None:
        vectors = {name: one for name, one in spec.cond.items() if one.kind == "vector"}
        super().__init__(DataSpec(spec.shape, spec.classes, {k: v for k, v in spec.cond.items() if k not in vectors}))
        self.maps = nn.ModuleDict({name: nn.Linear(one.shape[0], 8) for name, one in vectors.items()})
        self.none = nn.Parameter(torch.ones(8)) if vectors else None

    def told(self, noise: Tensor, cond: Mapping[str, Tensor]) -> Tensor:
        given = super().told(noise, cond)
        for name, linear in self.maps.items():
            given = given + torch.where(cond[f"{name}_given"][:, None], linear(cond[name]), self.missing())
        return given

    def missing(self) -> Tensor:
        return self.none


class Shrinking(Mixer):
    def forward(self, x: Tensor, noise: Tensor, cond: Mapping[str, Tensor]) -> Tensor:
        return super().forward(x, noise, cond)[..., 1:, 1:]


class Expecting(Mixer):
    """Takes data without classes, and then misses them."""

    def told(self, noise: Tensor, cond: Mapping[str, Tensor]) -> Tensor:
        return super().told(noise, {"class": cond["class"]})


class Hasty(Mixer):
    """Fails where it should say that the image is too small for it."""

    def __init__(self, spec: DataSpec) -> None:
        super().__init__(spec)
        torch.zeros(spec.shape[-1] // 4)[0]


class Crowded(Mixer):
    """Hears a little of the others."""

    def forward(self, x: Tensor, noise: Tensor, cond: Mapping[str, Tensor]) -> Tensor:
        return super().forward(x + 1e-4 * x.mean(0), noise, cond)


class Deaf(Mixer):
    def told(self, noise: Tensor, cond: Mapping[str, Tensor]) -> Tensor:
        return super().told(torch.zeros_like(noise), cond)


class Classless(Mixer):
    def told(self, noise: Tensor, cond: Mapping[str, Tensor]) -> Tensor:
        return super().told(noise, {name: torch.zeros_like(value) for name, value in cond.items()})


class Illiterate(Vectored):
    def told(self, noise: Tensor, cond: Mapping[str, Tensor]) -> Tensor:
        return super().told(noise, {name: 0 * c if name == "text" else c for name, c in cond.items()})


class NoRow(Mixer):
    rows = 0


class NullIsFirst(Mixer):
    def told(self, noise: Tensor, cond: Mapping[str, Tensor]) -> Tensor:
        return super().told(noise, {name: value % len(self.spec.classes) for name, value in cond.items()})


class Blockless(Mixer):
    def blocks(self) -> list[nn.Module]:
        return []


class Foreign(Mixer):
    def blocks(self) -> list[nn.Module]:
        return [nn.Linear(1, 1)]


class Bypassed(Mixer):
    """Takes the weights out of its blocks, which nobody calls: what is hooked to a block never happens."""

    def forward(self, x: Tensor, noise: Tensor, cond: Mapping[str, Tensor]) -> Tensor:
        first, last = self.layers
        h = nn.functional.conv2d(x, first.weight, first.bias, padding=1) + self.told(noise, cond)[:, :, None, None]
        return nn.functional.conv2d(torch.tanh(h), last.weight, last.bias)


class Branching(Mixer):
    """Looks at numbers to decide what to do."""

    def forward(self, x: Tensor, noise: Tensor, cond: Mapping[str, Tensor]) -> Tensor:
        return super().forward(x if float(noise.max()) > 100 else 2 * x, noise, cond)


class Renamed(Mixer):
    """Its weights are called otherwise in each network of a process."""

    number = itertools.count()

    def __init__(self, spec: DataSpec) -> None:
        super().__init__(spec)
        self.add_module(f"last{next(self.number)}", nn.Conv2d(spec.shape[0], spec.shape[0], 1))

    def forward(self, x: Tensor, noise: Tensor, cond: Mapping[str, Tensor]) -> Tensor:
        (last,) = (module for name, module in self.named_children() if name.startswith("last"))
        out: Tensor = last(super().forward(x, noise, cond))
        return out


class Numbers(Mixer):
    def facts(self) -> dict[str, str]:
        return {"depth": 2}  # type: ignore[dict-item]


class Boastful(Mixer):
    def facts(self) -> dict[str, str]:
        return {"parameters": "many"}


class Unsaved(Mixer):
    """Keeps a random tensor that is no buffer."""

    def __init__(self, spec: DataSpec) -> None:
        super().__init__(spec)
        self.shift = torch.randn(8)

    def told(self, noise: Tensor, cond: Mapping[str, Tensor]) -> Tensor:
        return super().told(noise, cond) + self.shift


class Stubborn(Mixer):
    def forward(self, x: Tensor, noise: Tensor, cond: Mapping[str, Tensor]) -> Tensor:
        return super().forward(x, noise, cond).double()


BACKBONES: Refused = [
    (Shrinking, on_backbones.check_shapes, "the output is"),
    (Expecting, on_backbones.check_shapes, "accepted, and then fails: KeyError: 'class'"),
    (
        Hasty,
        on_backbones.check_shapes,
        "2 x 2 it cannot be built, IndexError.*a ValueError is to say what fits",
    ),
    (Crowded, on_backbones.check_batches, "with the batch"),
    (Deaf, on_backbones.check_conditions, "the noise label changes nothing"),
    (Classless, on_backbones.check_conditions, "the condition `class` changes nothing"),
    (Illiterate, on_backbones.check_conditions, "the condition `text` changes nothing"),
    (NoRow, on_backbones.check_null, r"K \+ 1 rows are needed"),
    (NullIsFirst, on_backbones.check_null, 'a condition and "none" give the same'),
    (Blockless, in_training.check_blocks, r"blocks\(\) is empty"),
    (Foreign, in_training.check_blocks, "no modules of the network"),
    (Bypassed, in_training.check_blocks, "Conv2d, which forward does not call"),
    (Branching, in_training.check_compiles, "fullgraph=True\\) fails: .*data-dependent"),
    (Renamed, on_backbones.check_state, "does not take its state_dict: .*last"),
    (Numbers, on_backbones.check_facts, "facts\\(\\) are texts by name; it gives 'depth': 2"),
    (Boastful, on_backbones.check_facts, "which the run notes itself"),
    (Unsaved, on_backbones.check_state, "kept beside the state"),
    (Stubborn, on_backbones.check_dtypes, "float32 images give torch.float64"),
]

RIGHT: list[tuple[str, Any]] = [("backbone", Mixer), ("backbone", Vectored)]
