"""What torch's optimizers are given."""

from collections.abc import Sequence
from typing import Annotated, Any

from annotated_types import Ge, Lt

from ...core import WeightGroup

Beta = Annotated[float, Ge(0), Lt(1)]


def torch_groups(groups: Sequence[WeightGroup], weight_decay: float) -> list[dict[str, Any]]:
    """torch's form of the groups."""
    return [{"params": list(g.weights), "lr": g.lr, "weight_decay": weight_decay if g.decays else 0.0} for g in groups]


def fits_fused(groups: Sequence[WeightGroup]) -> bool:
    """Whether torch has a fused step for the weights' device: all in one kernel, which can pass over a bad step.

    Elsewhere a step takes a few kernels for all tensors together (foreach), and the host leaves bad steps out.
    """
    return all(weight.device.type in ("cpu", "cuda") for group in groups for weight in group.weights)
