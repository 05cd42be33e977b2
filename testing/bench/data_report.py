"""What a person sees of a benchmark of the data path: a table a contest, what follows from it, what it ran on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from importlib.metadata import version
from typing import Any

import torch

from .backbone_report import processor
from .data import Claim, Conditions, Result
from .timing import Spread


def about(under: Conditions, beside: str = "torchvision") -> dict[str, Any]:
    """Machine, versions and settings, in values of JSON; ``beside`` is the package whose way is measured too."""
    gpu = under.device.type == "cuda"
    return {
        "device": torch.cuda.get_device_name(under.device) if gpu else processor(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        beside: version(beside),
        "batch": under.batch,
        "rounds": under.rounds,
        "turn_s": under.turn_s,
    }


def as_json(results: Sequence[Result], under: Conditions, beside: str = "torchvision") -> dict[str, Any]:
    """Every figure."""
    told = [asdict(result) for result in results]
    for result, one in zip(results, told, strict=True):
        for claim, held in zip(result.claims, one["claims"], strict=True):
            held["met"] = claim.met
    return {"about": about(under, beside), "results": told}


def tables(results: Sequence[Result], under: Conditions, beside: str = "torchvision") -> str:
    """Markdown."""
    return "\n".join([_head(under, beside), *(line for result in results for line in _contest(result))])


def _head(under: Conditions, beside: str) -> str:
    told = about(under, beside)
    threads = f"{told['threads']} thread{'' if told['threads'] == 1 else 's'}"
    turn = f" of {under.turn_s:g} s each" if under.turn_s else ""
    return (
        f"On {told['device']}, {threads}; torch {told['torch']}, {beside} {told[beside]}."
        f" Batches of {under.batch} and medians of {under.rounds} turns{turn} where a line says no other number,"
        " quartiles in brackets.\n"
    )


def _contest(result: Result) -> Iterator[str]:
    headings = list(result.rows[0].values)
    yield f"**{result.contest}**: {result.title}.\n"
    yield f"| | {' | '.join(headings)} |"
    yield f"|---|{'---:|' * len(headings)}"
    for row in result.rows:
        yield f"| {' | '.join([row.name, *(_number(row.values[name]) for name in headings)])} |"
    yield ""
    yield from (f"* {_claim(claim)}" for claim in result.claims)
    yield ""


def _claim(claim: Claim) -> str:
    """The figure, and what was wanted of it, with a word where it falls short."""
    bounds = [("at least", claim.least), ("at most", claim.most)]
    wanted = "".join(f"; wanted {word} {bound:g}{claim.unit}" for word, bound in bounds if bound is not None)
    missed = ", **missed**" if claim.met is False else ""
    return f"{claim.what}: **{claim.value.median:.3g}**{claim.unit} ({_range(claim.value)}){wanted}{missed}"


def _number(value: Spread) -> str:
    return _short(value.median) if value.low == value.high else f"{_short(value.median)} ({_range(value)})"


def _range(value: Spread) -> str:
    return f"{_short(value.low)} to {_short(value.high)}"


def _short(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
