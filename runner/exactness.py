"""Whether two trainings of one recipe came to the same: bit for bit, or to rounding."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from . import checkpoints
from .checkpoints import Tensors
from .folder import RunFolder

# what ranks add up in another order differs by rounding, which grows from step to step: docs/resume.md has measurements
LOSSES_WITHIN, WEIGHTS_WITHIN = 1e-5, 1e-4
SHORT_LOSSES_WITHIN, SHORT_WEIGHTS_WITHIN = 1e-2, 5e-2  # of products in bf16, fp16 or TF32


@dataclass(frozen=True)
class Finding:
    """One line of a comparison.

    Attributes:
        what: Was compared.
        good: Whether it is as it must be.
        told: How it is.
    """

    what: str
    good: bool
    told: str


def bit_for_bit(one: Path, other: Path, step: int) -> list[Finding]:
    """Compare two runs that must be the same in every bit.

    Args:
        one: Folder of a run with a checkpoint of ``step``, and a logged point a step.
        other: Another one.
        step: The last.
    """
    a, b = (checkpoints.load(checkpoints.place(RunFolder(run).checkpoints, step)) for run in (one, other))
    findings = [_equal_tensors(group, a.tensors[group], b.tensors.get(group, {})) for group in sorted(a.tensors)]
    facts = [json.dumps({k: v for k, v in found.facts.items() if k != "hooks"}, sort_keys=True) for found in (a, b)]
    findings.append(Finding("counters, settings", facts[0] == facts[1], "equal" if facts[0] == facts[1] else "differ"))
    losses = [[point["values"]["loss"] for point in points(run)] for run in (one, other)]
    return [*findings, same_draws(one, other), _equal_lists("losses", losses[0], losses[1])]


def to_rounding(one: Path, other: Path, step: int, *, losses_differ: str = "", tf32: bool = False) -> list[Finding]:
    """Compare two runs on other numbers of ranks.

    Args:
        one: Folder of a run with a checkpoint of ``step``, and a logged point a step.
        other: Another one.
        step: The last.
        losses_differ: Why losses, and so weights, may differ by more than rounding; empty where they may not.
        tf32: Whether float32's products may be in TF32.
    """
    findings = [same_draws(one, other)]
    if losses_differ:
        return [*findings, Finding("losses, weights", True, f"not compared: {losses_differ}")]
    a, b = (checkpoints.load(checkpoints.place(RunFolder(run).checkpoints, step)) for run in (one, other))
    short = tf32 or a.facts["precision"] != "fp32"
    losses = [[point["values"]["loss"] for point in points(run)] for run in (one, other)]
    apart = max((_apart(x, y) for x, y in zip(*losses, strict=True)), default=0.0)
    findings.append(_within("losses", apart, SHORT_LOSSES_WITHIN if short else LOSSES_WITHIN))
    most = SHORT_WEIGHTS_WITHIN if short else WEIGHTS_WITHIN
    for group in sorted(set(a.tensors) - {"optimizer"}):
        findings.append(_within(group, vector_apart(a.tensors[group], b.tensors[group]), most))
    return findings


def same_draws(one: Path, other: Path) -> Finding:
    """Whether each logged step of two runs had the same images, noise and times."""
    drawn = [[(point["step"], point["draws"]) for point in points(run)] for run in (one, other)]
    return _equal_lists("images, noise, times", drawn[0], drawn[1])


def points(run: Path) -> list[dict[str, Any]]:
    """The logged points of a run."""
    return [json.loads(line) for line in RunFolder(run).history.read_text(encoding="utf-8").splitlines()]


def vector_apart(a: Tensors, b: Tensors) -> float:
    """How far two sets of tensors are apart, all taken as one vector, as a share of the second's length.

    Not tensor by tensor: a key's bias has no gradient but rounding, and Adam blows that up.
    """
    apart = sum(float((a[name].double() - b[name].double()).square().sum()) for name in b)
    return math.sqrt(apart / max(sum(float(value.double().square().sum()) for value in b.values()), 1e-300))


def _equal_tensors(group: str, a: Tensors, b: Mapping[str, Tensor]) -> Finding:
    differ = [name for name in sorted({*a, *b}) if name not in a or name not in b or not _same_bits(a[name], b[name])]
    if not differ:
        return Finding(group, True, f"equal, bit for bit ({len(a)} tensors)")
    return Finding(group, False, f"{len(differ)} of {len(a)} tensors differ, such as {differ[0]}")


def _same_bits(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and a.dtype == b.dtype and torch.equal(_bytes(a), _bytes(b))


def _bytes(value: Tensor) -> Tensor:
    """As they lie in memory: not a number is equal to itself there, and -0 is not 0."""
    return value.contiguous().reshape(-1).view(torch.uint8)


def _equal_lists(what: str, a: list[Any], b: list[Any]) -> Finding:
    if a == b:
        return Finding(what, True, f"equal, in all {len(a)} points")
    first = next((k for k, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
    return Finding(what, False, f"differ from point {first + 1} on")


def _within(what: str, apart: float, most: float) -> Finding:
    return Finding(what, apart <= most, f"apart by {apart:.1e}, of at most {most:.0e}")


def _apart(x: float | None, y: float | None) -> float:
    """Relative; a loss that is None was not finite."""
    if x is None or y is None:
        return 0.0 if x is y else math.inf
    return abs(x - y) / max(abs(x), abs(y), 1e-300)
