"""What is to be started: ranks on this machine, machines, GPUs; or that this process is to do the work itself."""

from __future__ import annotations

import argparse
import os
from dataclasses import dataclass, replace

from ...registry.errors import UserError
from .endpoint import split_address
from .orphans import DEFAULT_GRACE_S
from .place import Place, find_place, launched_by_us

FLAGS = ("ranks", "gpus", "gpu_ids", "nodes", "rendezvous", "restarts", "grace")


@dataclass(frozen=True)
class Plan:
    """What a launcher starts.

    Attributes:
        name: Of the run: machines that meet at one place know each other by it.
        ranks: Processes on this machine.
        nodes: Machines.
        rendezvous: HOST:PORT where they meet; None for one machine.
        visible: CUDA_VISIBLE_DEVICES of the ranks; None leaves it as it is.
        restarts: How often the ranks are started again when one has died.
        grace_s: Time that they have to stop in.
    """

    name: str
    ranks: int = 1
    nodes: int = 1
    rendezvous: str | None = None
    visible: str | None = None
    restarts: int = 0
    grace_s: int = DEFAULT_GRACE_S

    @property
    def needs_launcher(self) -> bool:
        """Whether this process alone cannot do it."""
        return self.ranks > 1 or self.nodes > 1 or self.restarts > 0 or self.visible is not None


def plan_for(args: argparse.Namespace, device: str, name: str) -> Plan | None:
    """What the flags ask for; None where this process is to do the work: alone, or where a launcher has put it.

    Args:
        args: With the flags of `add_launch`.
        device: ``auto``, ``cpu`` or ``cuda``.
        name: The run's.

    Raises:
        UserError: Flags that contradict each other, the device, the machine, or a launcher that already runs.
    """
    place = find_place()
    if place.launcher:
        _check_joined(args, place)
        return None
    _check_nodes(args)
    plan = Plan(name, _ranks(args, device), args.nodes or 1, args.rendezvous)
    if args.gpu_ids is not None:
        plan = replace(plan, visible=_visible(args.gpu_ids))
    plan = replace(plan, restarts=args.restarts or 0, grace_s=args.grace or DEFAULT_GRACE_S)
    return plan if plan.needs_launcher else None


def _given(args: argparse.Namespace, *names: str) -> list[str]:
    return [f"--{name.replace('_', '-')}" for name in names if getattr(args, name) is not None]


def _check_joined(args: argparse.Namespace, place: Place) -> None:
    given = _given(args, *FLAGS)
    if given and not launched_by_us():
        raise UserError(
            f"{', '.join(given)}: {place.launcher} has started this process as rank {place.rank} of {place.size} "
            f"already; leave {'it' if len(given) == 1 else 'them'} out, and say it to {place.launcher}"
        )


def _check_nodes(args: argparse.Namespace) -> None:
    if (args.nodes or 1) > 1 and args.rendezvous is None:
        raise UserError(
            f"--nodes {args.nodes} needs a place where the machines meet: --rendezvous HOST:PORT, one of them and a "
            "free port there, the same on every machine"
        )
    if args.rendezvous is not None:
        split_address(args.rendezvous)
        if args.nodes is None:
            raise UserError(f"--rendezvous {args.rendezvous} is for several machines: say how many with --nodes N")


def _ranks(args: argparse.Namespace, device: str) -> int:
    """Processes on this machine."""
    given = _given(args, "ranks", "gpus", "gpu_ids")
    if len(given) > 1:
        raise UserError(f"{' and '.join(given)} all say how many ranks there are; give one of them")
    if device == "cpu":
        if given and args.ranks is None:
            raise UserError(f"{given[0]} with device=cpu: write --ranks N for processes on the CPU, or device=cuda")
        return args.ranks or 1
    here = gpus_here()
    if args.gpu_ids is not None:
        return len(_checked_ids(args.gpu_ids, here))
    wanted: int | None = args.gpus or args.ranks
    if wanted is not None and wanted > here and (here or args.gpus):
        raise UserError(
            f"{given[0]} {wanted}: this machine has {here or 'no'} GPU{'s' if here != 1 else ''} that torch can use, "
            "and each rank needs its own; ask for fewer, or write device=cpu with --ranks N"
        )
    return wanted or here or 1


def _checked_ids(ids: list[int], here: int) -> list[int]:
    missing = sorted({one for one in ids if one >= here})
    if missing:
        there = f"0 to {here - 1}" if here else "none"
        raise UserError(
            f"--gpu-ids {','.join(map(str, ids))}: there is no GPU {', '.join(map(str, missing))} on this machine; "
            f"those that torch can use: {there}"
        )
    if len(set(ids)) < len(ids):
        raise UserError(f"--gpu-ids {','.join(map(str, ids))}: one GPU twice, and each rank needs its own")
    return ids


def _visible(ids: list[int]) -> str:
    """CUDA_VISIBLE_DEVICES for these; they count among those that are visible now."""
    now = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    every = [word.strip() for word in now.split(",")] if now.strip() else None
    return ",".join(str(one) if every is None else every[one] for one in ids)


def gpus_here() -> int:
    """GPUs that torch can use."""
    import torch

    return torch.cuda.device_count() if torch.cuda.is_available() else 0
