"""`--ranks N`: the same command again, N times, under torch's own elastic launcher."""

from __future__ import annotations

import logging
import os
import sys


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

    # the launcher's own tables of failures say less than the message that the rank has printed
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)
    os.environ["PYTHONSAFEPATH"] = "1"  # `-m dmf` must find the package, not a folder of that name where the user is
    args = torchrun.parse_args(["--standalone", "--nproc-per-node", str(ranks), "-m", "dmf", *argv])  # type: ignore[no-untyped-call]
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
