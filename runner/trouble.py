"""What ends a run and is no mistake in what the user wrote: files that cannot be written, too little memory."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator

from safetensors import SafetensorError

from ..files.writing import NO_ROOM


class Failure(Exception):
    """A run cannot go on, and no mistake in what the user wrote is why; the text says what is, and what to do.

    Attributes:
        exit_code: Of a process that ends by it.
    """

    exit_code = 1


class CannotWrite(Failure):
    """A file of a run could not be written; the text says which, why, and what to do."""


@contextlib.contextmanager
def saving(what: str) -> Iterator[None]:
    """Around what writes it, or before a function that does; what is there already stays.

    Args:
        what: With its article.

    Raises:
        CannotWrite: The system refuses.
    """
    try:
        yield
    except (OSError, SafetensorError) as error:
        raise CannotWrite(
            f"{what} could not be written: {error}; the checkpoints before it are kept. Make room, or bring the folder "
            "back, and give the same command again to go on from the newest of them"
        ) from error


def told_of_room(error: BaseException) -> str | None:
    """What to say of a file that found no room and had nobody to say so; None of another error."""
    if not isinstance(error, OSError) or error.errno not in NO_ROOM:
        return None
    return (
        f"{error.filename or 'a file'} could not be written: {error.strerror}. Make room, and give the same command "
        "again; what was whole before still is"
    )


def is_memory(error: BaseException) -> bool:
    """Whether there was too little memory, of the device or of the host."""
    import torch

    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)  # torch, of the host's


def memory_asked(error: BaseException) -> str:
    """What was asked for, and what there was, out of torch's text, which goes on for lines."""
    text = str(error)
    wanted = re.search(r"Tried to allocate ([\d.]+ \w+)", text)
    free = re.search(r"of which ([\d.]+ \w+) is free", text)
    if wanted is None:
        return text.strip().partition("\n")[0].rstrip(".")
    return f"{wanted[1]} more were asked for" + (f", and {free[1]} were free" if free else "")


def told_of_memory(error: BaseException) -> str | None:
    """What to say where images are made or looked at, and the memory does not suffice; None of another error."""
    if not is_memory(error):
        return None
    return (
        f"out of memory: {memory_asked(error)}. Take fewer images at a time: --batch-size, or sample.batch_size and "
        "evaluate.batch_size in the recipe"
    )
