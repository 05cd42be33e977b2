"""What a person sees of a benchmark of backbones: a table a contest, and what it was measured on."""

from __future__ import annotations

import platform
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch

from .backbones import Conditions, Measured, Result
from .timing import Spread


def about(under: Conditions, peak: float) -> dict[str, Any]:
    """Machine, versions and settings, in values of JSON."""
    gpu = under.device.type == "cuda"
    return {
        "device": torch.cuda.get_device_name(under.device) if gpu else processor(),
        "threads": None if gpu else torch.get_num_threads(),
        "torch": torch.__version__,
        "diffusers": _version("diffusers"),
        "precision": under.precision,
        "compiled": under.compiled,
        "batch": under.batch,
        "rounds": under.rounds,
        "peak_flops_per_s": peak,
    }


def as_json(results: Sequence[Result], under: Conditions, peak: float) -> dict[str, Any]:
    """Every figure."""
    return {"about": about(under, peak), "results": [asdict(result) for result in results]}


def tables(results: Sequence[Result], under: Conditions, peak: float) -> str:
    """Markdown.

    Args:
        results: Of all contests.
        under: What they were held under.
        peak: Operations a second of a large matrix product, in the same run.
    """
    return "\n".join([_head(under, peak), *(line for result in results for line in _contest(result, peak))])


def _head(under: Conditions, peak: float) -> str:
    told = about(under, peak)
    threads = f", {told['threads']} threads" if told["threads"] else ""
    compiled = ", compiled" if under.compiled else ""
    return (
        f"A training step, forward and backward, of {under.batch} images, {under.precision}{compiled}, on"
        f" {told['device']}{threads}; torch {told['torch']}, diffusers {told['diffusers']}. Medians of {under.rounds}"
        f" steps of each side by turns, quartiles in brackets. Work as torch counts it; a large matrix product made"
        f" {_tera(peak)} TFLOP/s here.\n"
    )


def _contest(result: Result, peak: float) -> Iterator[str]:
    yield f"**{result.title}**: the other's time over ours is {_times(result.ratio)}.\n"
    yield "| | parameters | ms a step | images/s | TFLOP/s | share of the product's |"
    yield "|---|---:|---:|---:|---:|---:|"
    yield from (_row(side, peak) for side in (result.ours, result.other))
    yield ""


def _row(side: Measured, peak: float) -> str:
    ms = Spread(*(1000 * s for s in (side.seconds.median, side.seconds.low, side.seconds.high)))
    cells = [
        side.name,
        f"{side.parameters:,}",
        f"{ms.median:.4g} ({ms.low:.4g} to {ms.high:.4g})",
        f"{side.images_per_s:.4g}",
        _tera(side.flops_per_s),
        f"{side.flops_per_s / peak:.0%}",
    ]
    return f"| {' | '.join(cells)} |"


def _times(ratio: Spread) -> str:
    return f"**{ratio.median:.2f}** ({ratio.low:.2f} to {ratio.high:.2f})"


def _tera(flops: float) -> str:
    return f"{flops / 1e12:.3g}"


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:  # the contests that need it said so
        return None


def processor() -> str:
    """The processor's name where the system tells it."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            names = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
    except OSError:
        names = []
    return names[0] if names else platform.machine()
