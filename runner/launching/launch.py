"""`--ranks N`: the same command again, N times, under torch's own elastic launcher."""

from __future__ import annotations

import logging
import os
import sys

# not `-m dmf`: that would take a folder `dmf` where the user is for the package
RANK = "import sys; sys.path[:] = [p for p in sys.path if p]; from dmf.runner.cli import main; sys.exit(main())"


def under_launcher() -> bool:
    """Whether a launcher has started this process already."""
    return "WORLD_SIZE" in os.environ and "RANK" in os.environ


def launch(ranks: int, argv: list[str]) -> int:
    """Run ``dmf argv`` as ``ranks`` processes on this machine.

    Returns:
        The exit code: of the first process that failed, or 0.
    """
    from torch.distributed import run as torchrun
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    _silence()
    command = [sys.executable, "-c", RANK, *argv]
    args = torchrun.parse_args(["--standalone", "--nproc-per-node", str(ranks), "--no-python", *command])  # type: ignore[no-untyped-call]
    try:
        torchrun.run(args)  # type: ignore[no-untyped-call]
    except SignalException as error:
        return 128 + int(error.sigval)
    except ChildFailedError as error:
        code = error.get_first_failure()[1].exitcode
        if code < 0:
            print(f"error: a rank was killed by signal {-code}; run the command again to carry on", file=sys.stderr)
        return code if code > 0 else 1
    return 0


def _silence() -> None:
    """No tables of failures from the launcher: they say less than the message that the rank has printed."""
    for name in list(logging.root.manager.loggerDict):
        if name.startswith("torch.distributed"):
            logging.getLogger(name).setLevel(logging.CRITICAL)
