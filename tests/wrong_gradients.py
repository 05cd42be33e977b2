"""The contract kit must say no: networks whose outputs are right, and whose gradients are not."""

from collections.abc import Mapping

import torch
from refusal_kit import Refused
from torch import Tensor, nn
from wrong_networks import Mixer, Vectored

from dmf.core import DataSpec
from dmf.testing import backbones as on_backbones
from dmf.testing import backbones_in_training as in_training


class Idle(Mixer):
    def __init__(self, spec: DataSpec) -> None:
        super().__init__(spec)
        self.spare = nn.Linear(2, 2)


class Propped(Idle):
    """Adds nothing of its spare weights, so that they have a gradient, which is 0."""

    def forward(self, x: Tensor, noise: Tensor, cond: Mapping[str, Tensor]) -> Tensor:
        return super().forward(x, noise, cond) + 0 * self.spare(torch.ones(2)).sum()


class Untaught(Mixer):
    """Its classes stay as they are at the start."""

    def told(self, noise: Tensor, cond: Mapping[str, Tensor]) -> Tensor:
        given = super().told(noise, cond)
        return given if self.classes is None else given.detach() + 0 * self.classes.weight.sum()


class Unheard(Vectored):
    """What it takes for a missing vector stays as it is at the start."""

    def missing(self) -> Tensor:
        return self.none.detach() + 0 * self.none


class Counter(nn.Conv2d):
    """Another function each time that it is called."""

    calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return torch.tanh(super().forward(x) * self.calls)


class Wandering(Mixer):
    def __init__(self, spec: DataSpec) -> None:
        super().__init__(spec)
        self.layers[1] = Counter(8, spec.shape[0], 1)


class Bursting(nn.Conv2d):
    """The same output each time that it is called, and no gradient that is a number after the first."""

    calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return torch.tanh(super().forward(x) * (1 if self.calls == 1 else torch.nan))


class Spoilt(Mixer):
    """Its gradients are NaN when a block is computed again."""

    def __init__(self, spec: DataSpec) -> None:
        super().__init__(spec)
        self.layers[1] = Bursting(8, spec.shape[0], 1)


class Torn(Mixer):
    """Compiled, it does not train its classes."""

    def told(self, noise: Tensor, cond: Mapping[str, Tensor]) -> Tensor:
        given = super().told(noise, cond)
        return given.detach() if torch.compiler.is_compiling() else given


class Overflowing(Mixer):
    """Under autocast its output is right, and its gradients are too large for the float16 that they pass through."""

    def told(self, noise: Tensor, cond: Mapping[str, Tensor]) -> Tensor:
        given = super().told(noise, cond)
        if not torch.is_autocast_enabled("cpu"):
            return given
        return given.detach() + ((given - given.detach()) * 1e-9).half().float() * 1e9


class Doubled(Mixer):
    """Under autocast its output is right, and its classes learn twice as fast."""

    def told(self, noise: Tensor, cond: Mapping[str, Tensor]) -> Tensor:
        given = super().told(noise, cond)
        return 2 * given - given.detach() if torch.is_autocast_enabled("cpu") else given


class Frozen(Mixer):
    """Under autocast its classes do not learn."""

    def told(self, noise: Tensor, cond: Mapping[str, Tensor]) -> Tensor:
        given = super().told(noise, cond)
        return given.detach() if torch.is_autocast_enabled("cpu") else given


BACKBONES: Refused = [
    (Idle, on_backbones.check_gradients, "no gradient reaches spare.weight, spare.bias"),
    (Propped, on_backbones.check_gradients, "no gradient reaches spare.weight, spare.bias"),
    (Untaught, on_backbones.check_gradients, "no gradient reaches classes.weight"),
    (Unheard, on_backbones.check_gradients, "no gradient reaches none"),
    (Wandering, in_training.check_activation_checkpointing, "the gradient of .* off"),
    (Spoilt, in_training.check_activation_checkpointing, "with .* the gradient of .* is not finite"),
    (Torn, in_training.check_compiles, "compiled, it has no gradient of classes.weight"),
    (Overflowing, on_backbones.check_dtypes, "autocast, the gradient of classes.weight is not finite"),
    (Doubled, on_backbones.check_dtypes, "autocast, the gradient of classes.weight is 1.* off"),
    (Frozen, on_backbones.check_dtypes, "autocast, it has no gradient of classes.weight"),
]
