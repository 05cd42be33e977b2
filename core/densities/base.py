"""What a density of training times is."""

from collections.abc import Callable

from torch import Tensor

from ..schedule import NoiseSchedule

Density = Callable[[Tensor, NoiseSchedule], Tensor]
