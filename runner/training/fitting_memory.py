"""The size of micro-batches by what fits into a GPU's memory: two trials, the line through them, one more to be sure.

Where ranks exchange weights within a forward pass, none may run out of memory, for the others would wait for it: trials
then go upwards from one image.

Cost: three forward and backward passes, or some more where the line was wrong; upwards, two for each doubling.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.distributed.tensor import DTensor

from ...registry import UserError
from ..console import log
from ..world import LocalError, World
from .micro_batches import Fitted
from .state import TrainState

USED = 0.9  # of what is free: what comes later, samples among it, needs some too
TRIAL = 16  # part of the share that is tried first; then twice as much

Peak = Callable[[int], "int | None"]
"""Bytes of memory at the worst moment of a pass of so many images; None where they did not suffice."""


def fitted(trial: Callable[[int], None], share: int, state: TrainState, world: World, together: bool = False) -> Fitted:
    """The largest micro-batches that fit; those that the run had before, where it goes on on the same kind of device.

    Args:
        trial: A forward and backward pass of so many images, after which no gradient is left; on all ranks together.
        share: Images of this rank in a batch.
        state: Of the training.
        world: The ranks.
        together: Whether ranks wait for one another within a pass, so that none may run out of memory there.
    """
    if world.device.type != "cuda":
        log.info("train.micro_batch: auto takes a CPU's whole share, %d images", share)
        return Fitted(share, share, world.device.type)
    device = torch.cuda.get_device_name(world.device)
    if (before := state.fitted) is not None and (before.share, before.device) == (share, device):
        return before
    free, _ = torch.cuda.mem_get_info(world.device)
    unused = torch.cuda.memory_reserved(world.device) - torch.cuda.memory_allocated(world.device)
    room = torch.cuda.memory_allocated(world.device) + int(USED * (free + unused)) - _still_to_come(state)
    if together:
        images = upwards(lambda size: _surely(trial, size, world), room, share, world)
    else:
        images = largest(lambda size: _peak(trial, size, world), room, share, world)
    log.info("train.micro_batch: auto takes %d of %d images, with %.1f GiB to use", images, share, room / 2**30)
    return Fitted(images, share, device)


def largest(peak: Peak, room: int, share: int, world: World) -> int:
    """The number of images in equal pieces of the share that fit.

    Args:
        peak: Tries a size.
        room: Bytes that may be used at the worst moment.
        share: Images in all.
        world: The ranks, which agree on the least room.

    Raises:
        UserError: Not even one fits.
    """
    room = int(world.min(torch.tensor(room, device=world.device)))
    low = max(share // TRIAL, 1)
    high = min(2 * low, share)
    known = {size: peak(size) for size in (low, high)}
    first, second = known[low], known[high]
    size = low
    if first is not None and second is not None:
        each = max((second - first) / max(high - low, 1), 1)
        size = low + int((room - first) / each)
    size = _even(share, size)
    while True:
        took = known[size] if size in known else peak(size)
        if took is not None and (took <= room or size == 1):  # more may pass a trial: the optimizer has no moments yet
            return size
        if size == 1:
            raise UserError(
                "train.micro_batch: not even one image fits into the memory; train.activation_checkpointing=true, "
                "train.precision=bf16 or distributed.strategy=fsdp need less of it"
            )
        size = _even(share, size // 2)


def upwards(peak: Callable[[int], int], room: int, share: int, world: World) -> int:
    """As `largest`, and none of its trials is meant to run out of memory: twice the images each time, as long as the
    line through the last two trials says that they fit.

    Args:
        peak: Tries a size; bytes at the worst moment, the most of all ranks.
        room: Bytes that may be used at the worst moment.
        share: Images in all.
        world: The ranks, which agree on the least room.
    """
    room = int(world.min(torch.tensor(room, device=world.device)))
    known = [(1, peak(1))]
    while known[-1][1] <= room and known[-1][0] < share:
        following = min(2 * known[-1][0], share)
        if len(known) > 1 and known[-1][1] + (following - known[-1][0]) * _each(known) > room:
            break
        known.append((following, peak(following)))
    last, took = known[-1]
    if took <= room and last < share:
        size = _even(share, last + int((room - took) / _each(known)))
        if size > last and peak(size) <= room:
            return size
    return _even(share, max((size for size, most in known if most <= room), default=1))


def _each(known: list[tuple[int, int]]) -> float:
    """Bytes an image by the last two of some sizes and what they took."""
    (fewer, less), (more, most) = known[-2:]
    return max((most - less) / (more - fewer), 1.0)


def _even(share: int, most: int) -> int:
    """The size of pieces of at most ``most`` images that are as equal as can be."""
    pieces = -(-share // min(max(most, 1), share))
    return -(-share // pieces)


def _peak(trial: Callable[[int], None], size: int, world: World) -> int | None:
    """Of all ranks the most; None where one has run out."""
    torch.cuda.reset_peak_memory_stats(world.device)
    try:
        trial(size)
        found = torch.cuda.max_memory_allocated(world.device)
    except torch.cuda.OutOfMemoryError:
        torch.cuda.empty_cache()
        found = 1 << 62
    found = int(world.max(torch.tensor(found, device=world.device)))
    return None if found == 1 << 62 else found


def _surely(trial: Callable[[int], None], size: int, world: World) -> int:
    """Of all ranks the most.

    Raises:
        LocalError: This rank has run out of memory; it can but end, and the others with it.
    """
    torch.cuda.reset_peak_memory_stats(world.device)
    try:
        trial(size)
    except torch.cuda.OutOfMemoryError as error:
        raise LocalError(
            f"train.micro_batch: auto ran out of memory in a trial of {size} images; write their number, or use "
            "train.activation_checkpointing=true, train.precision=bf16 or more ranks, which need less of it"
        ) from error
    return int(world.max(torch.tensor(torch.cuda.max_memory_allocated(world.device), device=world.device)))


def _still_to_come(state: TrainState) -> int:
    """Bytes of the optimizer's state where it has none yet: two moments a weight is the most that ours have."""
    if state.optimizer.state:
        return 0
    weights = [w.to_local() if isinstance(w, DTensor) else w for w in state.learner.parameters() if w.requires_grad]
    return 2 * sum(w.numel() * w.element_size() for w in weights)
