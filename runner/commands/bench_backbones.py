"""`dmf bench backbones`: a training step of our backbones beside that of others."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from ...registry.errors import UserError
from .flags import check_writable, positive

HELP = (
    "speed of a training step of unet and dit beside diffusers' networks of the same size, and of the scans beside the "
    "recurrence; some minutes on a CPU"
)
BATCH = {"cpu": 4, "cuda": 256}


def arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument(
        "--networks", metavar="LIST", help="of unet, dit, dit_by_size, mamba1, mamba2 (default: all of them)"
    )
    parser.add_argument("--batch", type=positive, metavar="N", help="images a step (default: 4 on a CPU, 256 on a GPU)")
    parser.add_argument(
        "--repeats", type=positive, default=9, metavar="N", help="timed steps of each network (default: 9)"
    )
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto", help="where to compute")
    parser.add_argument(
        "--precision", choices=["fp32", "bf16"], default="fp32", help="of the arithmetic (default: fp32)"
    )
    parser.add_argument("--compile", action="store_true", help="with torch.compile, all of the networks")
    parser.add_argument("--page", type=Path, metavar="FILE", help="write the tables into a page that has the marks")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every figure")


def execute(args: argparse.Namespace) -> int:
    """Run the command."""
    from ...testing.bench import backbone_report
    from ...testing.bench.backbones import Conditions, measure
    from ...testing.bench.contests import contests
    from ...testing.bench.page import check_page, into_page
    from ...testing.bench.timing import peak_flops
    from ..console import Progress, start_console
    from ..world import join

    start_console(0)
    check_writable(args.json)
    check_writable(args.page)
    if args.page is not None:
        check_page(args.page, "backbones")
    known = contests()
    chosen = [known[name] for name in _chosen(args.networks, list(known))]
    device = join(args.device).device
    under = Conditions(device, args.precision, args.compile, args.batch or BATCH[device.type], args.repeats)
    results, peak = [], peak_flops(device, under.dtype)
    with Progress("bench backbones", len(chosen) * (args.repeats + 1)) as bar:
        for contest in chosen:
            bar.note(network=contest.name)
            results.append(measure(contest, under, bar.step))
    peak = max(peak, peak_flops(device, under.dtype))  # another's work on the machine may have been in the way of one
    text = backbone_report.tables(results, under, peak)
    print(text)
    if args.page is not None:
        into_page(args.page, "backbones", text)
    if args.json is not None:
        figures = backbone_report.as_json(results, under, peak)
        args.json.write_text(json.dumps(figures, indent=1), encoding="utf-8")
    return 0


def _chosen(text: str | None, known: list[str]) -> list[str]:
    """The names in a list with commas; all without one."""
    from ...registry.words import unknown

    names = known if text is None else [name.strip() for name in text.split(",")]
    for name in names:
        if name not in known:
            raise UserError(f"--networks: {unknown('network', name, known)}")
    return names
