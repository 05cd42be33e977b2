"""What may go wrong with a part of an evaluation and costs the rest of it nothing: a user's mistakes, and memory."""

from __future__ import annotations

import json
from collections.abc import Mapping

import torch
from torch.linalg import LinAlgError  # type: ignore[attr-defined]

from ...registry import UserError
from ..trouble import is_memory
from ..world import World

SMALLER = "out of memory: take a smaller batch (evaluate.batch_size, or --batch-size)"


def why(error: Exception) -> str:
    """What to say of an error.

    Raises:
        Exception: Itself, where it is of no such kind: a mistake of who wrote the code, or a rank that is lost.
    """
    if is_memory(error):
        return SMALLER
    if isinstance(error, (ValueError, LinAlgError)):
        return str(error)
    raise error


def as_mistake(error: Exception) -> UserError:
    """The same as a user's mistake that no rank has for itself, for ranks that are to agree on it.

    Raises:
        Exception: As `why`; a `ValueError` that is no `UserError` too.
    """
    if isinstance(error, UserError) or is_memory(error):
        return UserError(why(error))
    raise error


def of_all(world: World, failed: Mapping[int, str]) -> dict[int, str]:
    """What failed on any rank, by its place, with the sentence of the first rank that has one; on every rank.

    Args:
        world: The ranks.
        failed: On this one.
    """
    if not int(world.max(torch.tensor(len(failed)))):
        return {}
    mine = torch.frombuffer(bytearray(json.dumps(failed).encode()), dtype=torch.uint8)
    found: dict[int, str] = {}
    for rows in world.gather_rows(mine):
        for place, sentence in json.loads(bytes(rows.tolist())).items():
            found.setdefault(int(place), sentence)
    return dict(sorted(found.items()))
