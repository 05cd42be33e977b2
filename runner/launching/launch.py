"""The same command again, as one process a rank, under torch's own elastic launcher."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import tempfile
from collections.abc import Collection, Iterator
from typing import Any

from ...files.threads import cores
from .endpoint import PATIENCE_S, Endpoint, reach
from .orphans import GRACE
from .place import LAUNCHER
from .plan import Plan

# not `-m dmf`: that would take a folder `dmf` where the user is for the package
RANK = "import sys; sys.path[:] = [p for p in sys.path if p]; from dmf.runner.cli import main; sys.exit(main())"

STORE_S = 20  # for an answer of the meeting place; when it is out of reach the launcher waits so long a few times


def launch(plan: Plan, argv: list[str], once: Collection[str] = ()) -> int:
    """Run ``dmf argv`` on the ranks of a plan.

    Args:
        plan: What is to be started.
        argv: The words of the command.
        once: Those of them that ranks are not given again when they are started again.

    Returns:
        The exit code: of the first process that failed, or 0.
    """
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.rendezvous import RendezvousError

    meeting = None if plan.rendezvous is None else reach(plan.rendezvous)
    with tempfile.TemporaryDirectory(prefix="dmf-ranks-") as logs, _environment(_for_ranks(plan, meeting)):
        try:
            return _watched(plan, meeting, argv, once, logs)
        except SignalException as error:
            return 128 + int(error.sigval)
        except RendezvousError as error:
            print(f"error: {_lost(plan, error)}", file=sys.stderr)
            return 1


def _watched(plan: Plan, meeting: Endpoint | None, argv: list[str], once: Collection[str], logs: str) -> int:
    from torch.distributed.elastic.agent.server.api import WorkerSpec

    from .agent import Agent, exit_code

    _silence()  # now that all that speaks is imported
    spec = WorkerSpec(
        role="dmf",
        local_world_size=plan.ranks,
        entrypoint=sys.executable,
        args=("-c", RANK, *argv),
        rdzv_handler=_rendezvous(plan, meeting),
        max_restarts=plan.restarts,
        local_addr=meeting.own_address if meeting else "127.0.0.1",
    )
    result = Agent(spec, logs, grace_s=plan.grace_s, once=once).run()
    return exit_code(result.failures) if result.is_failed() else 0


def _rendezvous(plan: Plan, meeting: Endpoint | None) -> Any:
    """torch's c10d rendezvous; at a free port of this machine for one alone."""
    from torch.distributed.elastic.rendezvous import RendezvousParameters
    from torch.distributed.elastic.rendezvous.registry import get_rendezvous_handler

    return get_rendezvous_handler(
        RendezvousParameters(
            backend="c10d",
            endpoint=f"{meeting.host}:{meeting.port}" if meeting else "127.0.0.1:0",
            run_id=f"dmf-{plan.name}",
            min_nodes=plan.nodes,
            max_nodes=plan.nodes,
            local_addr=meeting.own_address if meeting else "127.0.0.1",
            is_host=meeting is None or meeting.here,
            join_timeout=int(PATIENCE_S),
            read_timeout=STORE_S,
        )
    )


def _for_ranks(plan: Plan, meeting: Endpoint | None) -> dict[str, str]:
    """What the ranks find in their environment; what a person has set stays."""
    found = {
        LAUNCHER: str(os.getpid()),
        GRACE: str(plan.grace_s),
        # each start of the ranks has a store of its own: in torch's shared one a restart finds addresses of the dead
        "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1",
        "OMP_NUM_THREADS": str(max(1, cores() // plan.ranks)),
        # when a rank has ended the others' torch writes pages of frames of C++ beside the sentence that says why
        "TORCH_CPP_LOG_LEVEL": "ERROR",
    }
    if meeting is not None and meeting.interface is not None:
        found["GLOO_SOCKET_IFNAME"] = meeting.interface  # by itself it takes what the host's name happens to mean
    for name in ("OMP_NUM_THREADS", "GLOO_SOCKET_IFNAME", "TORCH_CPP_LOG_LEVEL"):
        if name in os.environ:
            found.pop(name, None)
    return found if plan.visible is None else {**found, "CUDA_VISIBLE_DEVICES": plan.visible}


@contextlib.contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


def _lost(plan: Plan, error: Exception) -> str:
    """A failed meeting of machines, in words."""
    kind = type(error).__name__
    where = f"at {plan.rendezvous}" if plan.rendezvous else "on this machine"
    if kind == "RendezvousTimeoutError":
        return f"not all {plan.nodes} machines came together {where} in {PATIENCE_S:.0f} s; give each the same command"
    if kind == "RendezvousClosedError":
        return f"another machine has ended the run {where}: its screen says why; run the command on each to carry on"
    return f"the meeting place of the machines {where} is out of reach; run the command on each to carry on"


def _silence() -> None:
    """No tables of failures from the launcher: they say less than the message that the rank has printed."""
    for name in list(logging.root.manager.loggerDict):
        if name.startswith("torch.distributed"):
            logging.getLogger(name).setLevel(logging.CRITICAL)
