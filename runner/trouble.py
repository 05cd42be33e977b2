"""A run's own files that cannot be written: a full disk, a folder that has gone."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from safetensors import SafetensorError


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
