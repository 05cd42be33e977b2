"""What samples are conditioned on: the classes that were asked for, and real examples of everything else."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from ..core import Cond, DataSpec, labels_cond
from ..registry import SamplerRef, UserError
from .assemble import check_dropout, is_unguided

EXAMPLES = 100  # as many as a person looks at


def beyond_classes(spec: DataSpec) -> list[str]:
    """The conditioning inputs that are no classes: vectors and tokens, which nobody types on a command line.

    Not those that are neutral: samples are told nothing of these.
    """
    return [name for name, one in spec.cond.items() if one.kind != "class" and not one.neutral]


def save_examples(cond: Cond, spec: DataSpec, path: Path) -> None:
    """Keep the first real conditions in the run's folder, so that sampling needs no data; nothing for classes alone."""
    if beyond_classes(spec):
        save_file({name: value[:EXAMPLES].cpu().contiguous() for name, value in cond.items()}, path)


def conditions(labels: Sequence[int], count: int, spec: DataSpec, examples: Path) -> dict[str, Tensor]:
    """Conditions of ``count`` images: the given labels, and real examples, over and over, of every other input.

    The label K, the number of classes, is "no class".
    """
    cond = {}
    if labels:
        index = torch.tensor(labels)
        none = index == spec.null_class
        cond = {"class": labels_cond(index.masked_fill(none, 0), spec)["class"].masked_fill(none, spec.null_class)}
    if names := beyond_classes(spec):
        real = load_file(examples)
        which = torch.arange(count) % len(real[names[0]])
        cond |= {name: real[name][which] for name in names}
    return cond


def check_guidance(ref: SamplerRef, spec: DataSpec, label_dropout: float) -> None:
    """Accept the recipe's guidance.

    Raises:
        UserError: Guidance away from something that is not there, or that was never trained.
    """
    if is_unguided(ref) or ref.reference is not None:  # a reference needs neither
        return
    if not spec.droppable:
        raise UserError(
            "sampler.guidance: guidance needs classes, and this data has none; write guidance: 1, or guide away from a "
            "weaker network, sampler.reference"
        )
    check_dropout(ref, label_dropout)
