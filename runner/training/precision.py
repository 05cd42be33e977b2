"""The arithmetic of the network in training, and the scale of the loss that fp16 needs.

Source: Micikevicius et al. 2017, "Mixed Precision Training" (arXiv 1710.03740): weights stay in fp32 (section 3.1), and
the loss is scaled so that small gradients do not vanish in fp16, which ends at 6e-8 (section 3.2); a step whose
gradient overflows is passed over. The scale is halved then, and doubled after 2000 steps without. bf16 has the range
of fp32 and needs none. Cost: one multiplication of the gradients, and of several ranks one number a step.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from ...registry import Recipe
from ..checkpoints import Checkpoint
from ..console import log
from ..world import World

START, MOST = 2.0**16, 2.0**24
ROW = 2000  # good steps after which the scale is doubled
DTYPES = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}


def precision_of(recipe: Recipe, world: World, saved: Checkpoint | None = None) -> str:
    """What ``train.precision`` stands for, the same on every rank; ``auto`` is bf16 if rank 0's GPU has units for it.

    Args:
        recipe: Of the training.
        world: The ranks.
        saved: To go on from, on whatever device, with what it has been trained with so far.
    """
    wanted = recipe.train.precision
    if wanted != "auto":
        return wanted
    own = "bf16" if world.device.type == "cuda" and _has_bf16() else "fp32"
    found: str = world.tell(own if saved is None else saved.facts["precision"])
    return found


def _has_bf16() -> bool:
    return bool(torch.cuda.is_bf16_supported(including_emulation=False))


def dtype_of(precision: str) -> torch.dtype | None:
    """What autocast is told of a precision; None is no autocast."""
    return DTYPES[precision]


def tell_of_slowness(precision: str, device: torch.device) -> None:
    """Warn of an arithmetic that the device has no units for: it computes right, and slowly."""
    if precision == "bf16" and device.type == "cuda" and not _has_bf16():
        log.warning(
            "train.precision: %s computes bf16 in place of units of its own, slowly; fp16 is its fast arithmetic",
            torch.cuda.get_device_name(device),
        )
    if precision == "fp16" and device.type == "cpu":
        log.warning("train.precision: fp16 on a CPU is slower than fp32, in convolutions 20 times; bf16 is there")


class LossScale:
    """A factor on the loss, for the backward pass alone; all of it on the device, where nobody waits for it.

    Args:
        world: Whose gradients are added up: an overflow is one of all ranks.
        value: The scale, a power of 2.
        row: Good steps since it was changed.
        overflows: Steps passed over so far because of it.
    """

    def __init__(self, world: World, value: float = START, row: int = 0, overflows: int = 0) -> None:
        self.world, device = world, world.device
        self.value = torch.tensor(value, device=device)
        self.row, self.overflows = torch.tensor([row, overflows], device=device)

    def unscale(self, weights: Iterable[nn.Parameter]) -> None:
        """Take the scale out of the gradients."""
        torch._foreach_mul_([w.grad for w in weights if w.grad is not None], 1 / self.value)

    def judge(self, not_finite: Tensor, loss: Tensor) -> Tensor:
        """Whether the scale has made the gradient overflow, 0-d bool, the same on all ranks; the scale follows.

        Where the loss itself is not finite, or the scale is down at 1, it is not to blame.

        Args:
            not_finite: Whether the gradient is, 0-d bool, the same on all ranks.
            loss: This rank's, 0-d.
        """
        its_own = self.world.max((~torch.isfinite(loss)).to(torch.int32)) > 0
        overflow = not_finite & ~its_own & (self.value > 1)
        self.row = torch.where(not_finite, 0, self.row + 1)
        grows = self.row >= ROW
        self.row = torch.where(grows, 0, self.row)
        self.value = torch.where(overflow, self.value / 2, torch.where(grows, self.value * 2, self.value))
        self.value = self.value.clamp(max=MOST)
        self.overflows = self.overflows + overflow
        return overflow

    def counts(self) -> tuple[float, int, int]:
        """(value, row, overflows), from which another is made: waits for the device."""
        return float(self.value), int(self.row), int(self.overflows)
