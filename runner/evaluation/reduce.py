"""Metric states of all ranks as one, on rank 0: the metric itself never talks to anybody."""

from __future__ import annotations

import copy
from typing import TypeVar

import torch
from torch import Tensor

from ...core import Metric
from ..world import World
from .trouble import as_mistake

M = TypeVar("M", bound=Metric)


def reduced(metric: M, world: World) -> M | None:
    """A copy of ``metric`` that has seen every rank's images, on rank 0; None elsewhere.

    The metric itself may go on being updated. Rows are in the order of their image index, on rank 0's device; no other
    rank holds those of all.

    Raises:
        UserError: Too little memory for them; on every rank.
    """
    found: dict[str, Tensor] = {}
    world.together(lambda: _whole_rows(metric))
    for name, how in metric.states().items():
        value: Tensor = getattr(metric, name)
        if how == "cat":
            found[name], found[f"{name}_index"] = _in_order(world, value, getattr(metric, f"{name}_index"))
        else:
            found[name] = world.reduced_on_first(value, how)
    if not world.first:
        return None
    out = copy.copy(metric)
    for name, value in found.items():
        setattr(out, name, value)
    return out


def _in_order(world: World, rows: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
    """All ranks' rows in the order of their image index, and that index, on rank 0; elsewhere what was given."""
    indexes = [part.cpu() for part in world.gather_rows(index)]
    everywhere, order = torch.cat(indexes).sort(stable=True)
    if world.size == 1 and torch.equal(everywhere, index.cpu()):
        return rows, everywhere
    shape = (len(everywhere) if world.first else 0, *rows.shape[1:])
    out = world.together(lambda: _room(rows, shape))  # before anything is sent: who sends would wait in vain
    if not world.first:
        world.send_rows(rows)
        return rows, index
    places = torch.split(order.argsort(), [len(part) for part in indexes])
    out[places[0].to(rows.device)] = rows
    for rank, place in enumerate(places[1:], start=1):
        at = 0
        for received in world.received_rows(rank, len(place), rows):
            out[place[at : at + len(received)].to(rows.device)] = received.to(rows.device)
            at += len(received)
    return out, everywhere


def _whole_rows(metric: Metric) -> None:
    """Each state as one tensor, which takes room."""
    try:
        for name in metric.states():
            getattr(metric, name)
    except Exception as error:
        raise as_mistake(error) from error


def _room(rows: Tensor, shape: tuple[int, ...]) -> Tensor:
    try:
        return rows.new_empty(shape)
    except Exception as error:
        raise as_mistake(error) from error
