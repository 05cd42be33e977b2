"""What torch's optimizers are given."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from annotated_types import Ge, Lt
from torch.distributed.tensor import DTensor

from ...core import WeightGroup

Beta = Annotated[float, Ge(0), Lt(1)]
Fused = bool | Literal["auto"]
DEVICES = ("cpu", "cuda")  # that torch has fused steps for


def torch_groups(groups: Sequence[WeightGroup], weight_decay: float) -> list[dict[str, Any]]:
    """torch's form of the groups."""
    return [{"params": list(g.weights), "lr": g.lr, "weight_decay": weight_decay if g.decays else 0.0} for g in groups]


def kernels(wanted: Fused, groups: Sequence[WeightGroup], in_parts: bool = True) -> dict[str, bool]:
    """What torch is told: a fused step is one kernel, which can pass over a bad step.

    Else a step takes a few kernels for all tensors together (foreach), and the host leaves bad steps out.

    Args:
        wanted: The recipe's; ``auto`` takes it where there is one.
        groups: The weights.
        in_parts: Whether torch has one for weights in parts.

    Raises:
        ValueError: It is wanted, and there is none.
    """
    every = [weight for group in groups for weight in group.weights]
    if any(weight.is_meta for weight in every):  # counted, and never stepped
        return {"fused": False, "foreach": True}
    there = all(weight.device.type in DEVICES for weight in every)
    whole = in_parts or not any(isinstance(weight, DTensor) for weight in every)
    if wanted is True and not (there and whole):
        lacks = f"weights on {every[0].device.type}" if not there else "weights in parts (distributed.strategy: fsdp)"
        raise ValueError(f"fused: true, and torch has no fused step of this optimizer for {lacks}; write fused: auto")
    fused = there and whole if wanted == "auto" else wanted
    return {"fused": fused, "foreach": not fused}
