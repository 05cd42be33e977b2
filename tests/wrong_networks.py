"""The contract kit must say no: checks of networks and hooks are shown parts that they have to refuse."""

from collections.abc import Mapping
from typing import Any

import torch
from refusal_kit import Refused
from torch import Tensor, nn

from dmf.core import (
    Backbone,
    DataSpec,
)
from dmf.registry import hookimpl
from dmf.testing import backbones as on_backbones
from dmf.testing import hooks as on_hooks

# -- backbones ---------------------------------------------------------------------------------------------------------


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


class Shrinking(Mixer):
    def forward(self, x: Tensor, noise: Tensor, cond: Mapping[str, Tensor]) -> Tensor:
        return super().forward(x, noise, cond)[..., 1:, 1:]


class Expecting(Mixer):
    """Takes data without classes, and then misses them."""

    def told(self, noise: Tensor, cond: Mapping[str, Tensor]) -> Tensor:
        return super().told(noise, {"class": cond["class"]})


class Crowded(Mixer):
    def forward(self, x: Tensor, noise: Tensor, cond: Mapping[str, Tensor]) -> Tensor:
        return super().forward(x - x.mean(0), noise, cond)


class Deaf(Mixer):
    def told(self, noise: Tensor, cond: Mapping[str, Tensor]) -> Tensor:
        return super().told(torch.zeros_like(noise), cond)


class Classless(Mixer):
    def told(self, noise: Tensor, cond: Mapping[str, Tensor]) -> Tensor:
        return super().told(noise, {name: torch.zeros_like(value) for name, value in cond.items()})


class NoRow(Mixer):
    rows = 0


class NullIsFirst(Mixer):
    def told(self, noise: Tensor, cond: Mapping[str, Tensor]) -> Tensor:
        return super().told(noise, {name: value % len(self.spec.classes) for name, value in cond.items()})


class Idle(Mixer):
    def __init__(self, spec: DataSpec) -> None:
        super().__init__(spec)
        self.spare = nn.Linear(2, 2)


class Blockless(Mixer):
    def blocks(self) -> list[nn.Module]:
        return []


class Foreign(Mixer):
    def blocks(self) -> list[nn.Module]:
        return [nn.Linear(1, 1)]


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
    (Crowded, on_backbones.check_batches, "with the batch"),
    (Deaf, on_backbones.check_conditions, "the noise label changes nothing"),
    (Classless, on_backbones.check_conditions, "the condition `class` changes nothing"),
    (NoRow, on_backbones.check_null, r"K \+ 1 rows are needed"),
    (NullIsFirst, on_backbones.check_null, 'a condition and "none" give the same'),
    (Idle, on_backbones.check_gradients, "no gradient reaches spare.weight, spare.bias"),
    (Blockless, on_backbones.check_blocks, r"blocks\(\) is empty"),
    (Foreign, on_backbones.check_blocks, "no modules of the network"),
    (Unsaved, on_backbones.check_state, "kept beside the state"),
    (Stubborn, on_backbones.check_dtypes, "float32 images give torch.float64"),
]

# -- hooks -------------------------------------------------------------------------------------------------------------


class Misspelt:
    @hookimpl
    def dmf_loged(self, run: object) -> None:
        return None


class Counting:
    """Counts, and loses the count."""

    def __init__(self) -> None:
        self.count = 3

    @hookimpl
    def dmf_logged(self, run: object) -> None:
        self.count += 1

    def state_dict(self) -> dict[str, Any]:
        return {"count": self.count}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.count = 0


class Remembering(Counting):
    """Correct."""

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.count = state["count"]


class Pickled(Counting):
    def state_dict(self) -> dict[str, Any]:
        return {"count": torch.ones(1)}


class Halfway:
    @hookimpl
    def dmf_logged(self, run: object) -> None:
        return None

    def state_dict(self) -> dict[str, Any]:
        return {}


HOOKS: Refused = [
    (Misspelt(), on_hooks.check_names, "did you mean 'dmf_logged'"),
    (Counting(), on_hooks.check_state, "after it was loaded again"),
    (Pickled(), on_hooks.check_state, "cannot be written as JSON"),
    (Halfway(), on_hooks.check_state, "has state_dict without its counterpart"),
]

# ----------------------------------------------------------------------------------------------------------------------

REFUSED: dict[str, Refused] = {
    "backbone": BACKBONES,
    "hook": HOOKS,
}
RIGHT: list[tuple[str, Any]] = [
    ("backbone", Mixer),
    ("hook", Remembering()),
]
