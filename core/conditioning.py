"""The null condition, written by core alone: label dropout in training, the guided half in sampling.

Source: Ho & Salimans 2022, "Classifier-Free Diffusion Guidance" (arXiv 2207.12598), algorithm 1.

A class input says "none" by the index K = number of classes. A vector or token input says it by zeros, and carries
``<name>_given``, (B,) bool, so that a true zero can be told from a missing one. A neutral input (`CondSpec.neutral`),
the label of an augmentation for one, is never dropped: its zeros are themselves what a plain image is told.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from .spec import DataSpec

Cond = Mapping[str, Tensor]


def labels_cond(labels: Sequence[int] | Tensor, spec: DataSpec) -> dict[str, Tensor]:
    """The conditioning of real class indices.

    Args:
        labels: (B,) indices in 0 ... K-1.
        spec: Of data with classes.

    Raises:
        ValueError: On unlabelled data, or for a label out of range.
    """
    if not spec.classes:
        raise ValueError("labels were given, but the data has no classes; leave the labels out")
    index = torch.as_tensor(labels, dtype=torch.int64)
    wrong = sorted({int(i) for i in index if not 0 <= i < len(spec.classes)})
    if wrong:
        raise ValueError(
            f"label {', '.join(map(str, wrong))} out of range; the classes are 0 to {len(spec.classes) - 1}"
            f" ({', '.join(spec.classes[:12])}{', ...' if len(spec.classes) > 12 else ''})"
        )
    return {"class": index}


def complete(
    cond: Cond, spec: DataSpec, batch: int | None = None, device: torch.device | None = None
) -> dict[str, Tensor]:
    """``cond`` with zeros for the neutral inputs that are missing, and the ``_given`` flags that a backbone expects.

    Args:
        cond: (B, ...) each.
        spec: Of the data that the network was built for.
        batch: B, where ``cond`` may be empty.
        device: Where the images are, likewise.

    Raises:
        ValueError: When another input of ``spec`` is missing.
    """
    missing = sorted(name for name in spec.cond if name not in cond)
    if told := [name for name in missing if not spec.cond[name].neutral]:
        raise ValueError(f"the network is conditioned on {', '.join(told)}, but no value was given; see labels_cond")
    out = dict(cond)
    if missing:
        batch, device = _place(cond, batch, device)
        out |= {name: torch.zeros(batch, *spec.cond[name].shape, device=device) for name in missing}
    for name, one in spec.cond.items():
        if one.kind != "class":
            value = out[name]
            out.setdefault(f"{name}_given", torch.ones(len(value), dtype=torch.bool, device=value.device))
    return out


def _place(cond: Cond, batch: int | None, device: torch.device | None) -> tuple[int, torch.device | None]:
    """Number and device of the images: those of the conditions, where there are any."""
    for value in cond.values():
        return len(value), value.device
    if batch is None:
        raise ValueError("zeros are to be filled in, and no condition tells for how many images; say so by `batch`")
    return batch, device


def drop(cond: Cond, spec: DataSpec, dropped: Tensor) -> dict[str, Tensor]:
    """``cond`` with the images marked in ``dropped``, (B,) bool, made unconditional; neutral inputs are kept."""
    out = complete(cond, spec, len(dropped), dropped.device)
    for name, one in spec.cond.items():
        if one.neutral:
            continue
        value = out[name]
        mask = dropped.to(value.device)
        if one.kind == "class":
            out[name] = value.masked_fill(mask, spec.null_class)
        else:
            out[name] = value.masked_fill(mask.reshape(-1, *[1] * (value.ndim - 1)), 0)
            out[f"{name}_given"] = out[f"{name}_given"] & ~mask
    return out


def null_cond(cond: Cond, spec: DataSpec) -> dict[str, Tensor]:
    """The unconditional counterpart of ``cond``.

    Raises:
        ValueError: When there is nothing to be unconditional of.
    """
    if not spec.droppable:
        raise ValueError(
            "guidance needs a conditional model, but the data has no classes; set guidance to 1, or guide away from "
            "another network: a reference"
        )
    given = complete(cond, spec)
    batch = len(next(iter(given.values())))
    return drop(given, spec, torch.ones(batch, dtype=torch.bool))
