"""Metric states of all ranks as one: the metric itself never talks to anybody."""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from ...core import Metric
from ..world import World


def reduced(metric: Metric, world: World) -> Metric:
    """A copy of ``metric`` that has seen every rank's images; the metric itself may go on being updated."""
    out = copy.copy(metric)
    for name, how in metric.states().items():
        value: Tensor = getattr(metric, name)
        if how == "cat":
            rows, index = _in_order(world, value, getattr(metric, f"{name}_index"))
            setattr(out, name, rows)
            setattr(out, f"{name}_index", index)
        else:
            setattr(out, name, {"sum": world.sum, "min": world.min, "max": world.max}[how](value).clone())
    return out


def _in_order(world: World, rows: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
    """All ranks' rows in the order of their image index, and that index, on the CPU."""
    all_rows = torch.cat([part.cpu() for part in world.gather_rows(rows)])
    all_index = torch.cat([part.cpu() for part in world.gather_rows(index)])
    order = torch.argsort(all_index, stable=True)
    return all_rows[order], all_index[order]
