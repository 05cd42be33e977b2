"""How a rank leaves the others: at once after an error, for on GPUs torch's way waits for them without end."""

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch.distributed as dist
from fork_kit import Processes

from dmf.runner.commands import on_ranks as commands
from dmf.runner.signals import Interrupted
from dmf.runner.trouble import CannotWrite
from dmf.runner.world import LocalError, World

WITHIN_S = 30.0  # much less than destroying the group takes here


def lacks_a_file(world: World) -> None:
    raise LocalError("cat/3.png cannot be read")


def lacks_room(world: World) -> None:
    raise CannotWrite("a checkpoint could not be written")


def is_stopped(world: World) -> None:
    raise Interrupted(signal.SIGTERM)


def is_broken(world: World) -> None:
    raise ZeroDivisionError("a mistake of ours")


def rank(folder: str, work: Callable[[World], None], which: int) -> None:
    """One rank does the work while the others wait for it, and `destroy_process_group` is NCCL's: it waits, too."""

    def destroy() -> None:
        Path(folder, f"destroyed-{os.environ['RANK']}").touch()
        time.sleep(10 * WITHIN_S)

    os.dup2(os.open(Path(folder, f"screen-{os.environ['RANK']}"), os.O_WRONLY | os.O_CREAT), 2)
    sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115 - not flushed by line
    dist.destroy_process_group = destroy
    dist.get_backend = lambda group=None: "nccl"
    commands.OTHERS_FIRST_S = 0.5  # type: ignore[attr-defined]

    def one_works(world: World) -> None:
        if world.rank == which:
            work(world)
        world.barrier()

    sys.exit(commands.on_ranks("cpu", one_works, 60))


@pytest.mark.parametrize(
    ("work", "which", "code", "said"),
    [
        (lacks_a_file, 1, 2, "error: cat/3.png cannot be read\n"),
        (lacks_room, 0, 1, "error: a checkpoint could not be written\n"),
        (lacks_room, 1, 1, "error: a checkpoint could not be written\n"),
        (is_stopped, 1, 143, ""),
        (is_broken, 1, 1, "ZeroDivisionError: a mistake of ours\n"),
    ],
)
def test_after_an_error_a_rank_waits_for_nobody(
    tmp_path: Path, work: Callable[[World], None], which: int, code: int, said: str
) -> None:
    ranks = Processes(2, rank, str(tmp_path), work, which)
    codes = ranks.codes(WITHIN_S)
    ranks.failed(0)
    assert codes[which] == code and codes[1 - which] == 1, codes
    screens = [(tmp_path / f"screen-{number}").read_text() for number in range(2)]
    assert screens[which].endswith(said) and not screens[1 - which], screens
    assert ("Traceback" in screens[which]) == (work is is_broken)
    assert not list(tmp_path.glob("destroyed-*"))


def done(folder: str) -> None:
    dist.destroy_process_group = Path(folder, f"destroyed-{os.environ['RANK']}").touch
    dist.get_backend = lambda group=None: "nccl"
    sys.exit(commands.on_ranks("cpu", World.barrier, 60))


def test_ranks_that_are_done_take_leave(tmp_path: Path) -> None:
    assert Processes(2, done, str(tmp_path)).codes(WITHIN_S) == [0, 0]
    assert len(list(tmp_path.glob("destroyed-*"))) == 2
