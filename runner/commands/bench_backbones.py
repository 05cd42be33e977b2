"""`dmf bench backbones`: a training step of our backbones beside that of others."""

from __future__ import annotations

import argparse

from .bench_output import add_output, check_output, chosen, put_out
from .flags import positive

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
    add_output(parser)


def execute(args: argparse.Namespace) -> int:
    """Run the command."""
    from ...testing.bench import backbone_report
    from ...testing.bench.backbones import Conditions, measure
    from ...testing.bench.contests import contests
    from ...testing.bench.timing import peak_flops
    from ..console import TaskProgress, start_console
    from ..world import join

    start_console(0)
    check_output(args)
    known = contests()
    held = [known[name] for name in chosen(args.networks, list(known), "--networks", "network")]
    device = join(args.device).device
    under = Conditions(device, args.precision, args.compile, args.batch or BATCH[device.type], args.repeats)
    results, peak = [], peak_flops(device, under.dtype)
    with TaskProgress("bench backbones", len(held) * (args.repeats + 1)) as bar:
        for contest in held:
            bar.note(network=contest.name)
            results.append(measure(contest, under, bar.step))
    peak = max(peak, peak_flops(device, under.dtype))  # another's work on the machine may have been in the way of one
    put_out(args, backbone_report.tables(results, under, peak), backbone_report.as_json(results, under, peak))
    return 0
