"""Writing checkpoints while training goes on."""

from __future__ import annotations

import json
import os
import shutil
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import torch.distributed as dist
from safetensors.torch import save_file

from ...core import Way
from ...core.shards import local
from ...registry import UserError
from ...registry.recipe_types import Checkpoint as Options
from ..console import log
from ..trouble import CannotWrite, saving
from ..world import World
from . import keeping
from .layout import ASIDE, STATE, Tensors, digested, discard, file_of, flush, in_parts, place, seal
from .staging import Staging

Saved = Callable[[int, Path], None]


@dataclass(frozen=True)
class Job:
    """A checkpoint that is to be written.

    Attributes:
        step: Steps taken.
        groups: The tensors, of tied ones the first only.
        state: The rest, as text.
    """

    step: int
    groups: Mapping[str, Tensors]
    state: str


class Saver:
    """Writes checkpoints; its methods are called on all ranks together.

    Used as a context: it ends with nothing left to write, however that comes.

    Args:
        folder: Of checkpoints; on a file system that all ranks see, where they hold parts of the tensors.
        world: The ranks.
        options: How they are written, and which stay.
        on_saved: Called with (step, folder) on rank 0 once a checkpoint is whole on disk.
    """

    def __init__(self, folder: Path, world: World, options: Options, on_saved: Saved) -> None:
        self.folder, self.world, self.options, self.on_saved = folder, world, options, on_saved
        self._staging = Staging()
        self._ranks: dist.ProcessGroup | None = None
        self._writing: threading.Thread | None = None
        self._written: int | None = None  # the step of one that nobody has been told of
        self._error: BaseException | None = None
        self._verdict: keeping.Verdict | None = None
        self._told = False

    def save(self, step: int, groups: Mapping[str, Tensors], facts: Mapping[str, Any]) -> None:
        """Write the checkpoint of a step, or copy its tensors and leave the rest to a thread.

        Args:
            step: Steps taken.
            groups: The tensors: whole ones, the same on every rank, or each rank's parts (DTensor).
            facts: The rest, plain JSON; rank 0's count.
        """
        self._wait_for_the_one_before()
        aliases = {name: _aliases(group) for name, group in groups.items()}
        if any(in_parts(group) for group in groups.values()):
            aliases = self.world.tell(aliases)  # a rank that holds no row of two tied weights does not see that
        firsts: dict[str, Tensors] = {
            name: {key: value for key, value in group.items() if key not in aliases[name]}
            for name, group in groups.items()
        }
        shared = any(in_parts(group) for group in firsts.values())
        if shared and self._ranks is None:
            self._ranks = self.world.group_on_host()
        state = json.dumps({"step": step, "aliases": aliases, **facts}, indent=1)
        if not self.options.asynchronous:
            self._write(Job(step, firsts, state))
            self._finished()
            self.world.barrier()
        elif self.world.first or shared:
            job = Job(step, self._staging.take(firsts, self._ranks), state)
            self._writing = threading.Thread(target=self._write_aside, args=(job,), daemon=True)
            self._writing.start()

    @property
    def writing(self) -> bool:
        """Whether a checkpoint is on its way, or has come and was not yet heard of."""
        return self._writing is not None

    def poll(self) -> None:
        """Between two steps: hear what has become of a checkpoint that is being written.

        What one rank cannot write is every rank's error, and rank 0 says it: it is to end first, while the others hear
        of it when they next save, or at the end.

        Raises:
            Exception: That which its writing ended with.
        """
        if self._writing is None or self._writing.is_alive():
            return
        if self.world.first or not isinstance(self._error, CannotWrite):
            self.finish()

    def finish(self) -> None:
        """Wait for the checkpoint that is being written.

        Raises:
            Exception: That which its writing ended with.
        """
        if self._writing is not None:
            self._writing.join()
            self._writing = None
            self._finished()

    def judge(
        self,
        step: int,
        values: Mapping[str, float | None],
        ways: Mapping[str, Way],
        protocols: Mapping[str, Mapping[str, str]] | None = None,
    ) -> None:
        """Keep the checkpoint of this step if it is the best so far by the recipe's metric.

        Args:
            step: That has a checkpoint.
            values: By their names, on rank 0.
            ways: Which way each is better.
            protocols: What must be equal for two values of a name to be compared; None where nothing need be.
        """
        metric = self.options.best
        value = None if metric is None else values.get(metric)
        if metric is not None and value is not None and self.world.first:
            self._verdict = keeping.Verdict(metric, step, value, ways[metric], (protocols or {}).get(metric, {}))
            if self._writing is None:  # else it comes when that is whole
                self._settle_best()

    def __enter__(self) -> Saver:
        if self.world.first:  # the recipe may keep fewer now than there are, so that the next one finds room
            keeping.prune(self.folder, self.options)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.finish()
        except Exception as trouble:
            if error is None:
                raise
            log.error("the checkpoint that was being written is lost: %s", trouble)

    def _wait_for_the_one_before(self) -> None:
        if self._writing is None:
            return
        if self._writing.is_alive() and not self._told and self.world.first:
            self._told = True
            log.warning(
                "a checkpoint is due while the one before is still being written: training waits for the disk; "
                "write fewer of them (checkpoint.every, checkpoint.minutes)"
            )
        self.finish()

    def _finished(self) -> None:
        step, error, self._written, self._error = self._written, self._error, None, None
        if error is not None:
            raise error
        if step is not None:
            self.on_saved(step, place(self.folder, step))
            self._settle_best()

    def _settle_best(self) -> None:
        verdict, self._verdict = self._verdict, None
        if verdict is not None and keeping.note(self.folder, verdict):
            keeping.prune(self.folder, self.options)

    def _write_aside(self, job: Job) -> None:
        try:
            self._write(job)
        except BaseException as error:  # it would end with the thread, and the training go on without checkpoints
            self._error = error

    @saving("a checkpoint")
    def _write(self, job: Job) -> None:
        """Write under another name, seal, rename; on rank 0, with the other ranks' parts where there are any."""
        aside = self.folder / f"{ASIDE}{job.step:08d}"
        try:
            self._write_into(aside, job)
        except BaseException:
            if self.world.first:
                shutil.rmtree(aside, ignore_errors=True)  # half of one takes room, and is of no use
            raise
        if not self.world.first:
            return
        target = place(self.folder, job.step)
        if target.exists():  # same step, same weights: written before a crash, or by a run that went nowhere
            discard(target)
        os.rename(aside, target)
        flush(self.folder)
        self._written = job.step
        keeping.prune(self.folder, self.options)

    def _write_into(self, aside: Path, job: Job) -> None:
        digests = self._write_parts(aside, job)
        if not self.world.first:
            return
        for name, group in job.groups.items():
            if not in_parts(group):
                save_file({key: v.detach().cpu().contiguous() for key, v in group.items()}, file_of(aside, name))
        (aside / STATE).write_text(job.state, encoding="utf-8")
        seal(aside, {**digested(aside, [file for file in aside.iterdir() if file.is_file()]), **digests})

    def _make(self, aside: Path) -> None:
        if self.world.first:
            shutil.rmtree(aside, ignore_errors=True)
            if not self.folder.exists():
                self.folder.mkdir()
                log.warning("%s was deleted while the run went on; it is made anew", self.folder)
            aside.mkdir()

    def _write_parts(self, aside: Path, job: Job) -> dict[str, str]:
        """The folder, and in it of each rank its own parts; the sha256 of every rank's files."""
        groups = {name: group for name, group in job.groups.items() if in_parts(group)}
        if not groups:
            self._make(aside)
            return {}
        from . import shards

        assert self._ranks is not None, "made before"
        shards.everyones(lambda: self._make(aside), self._ranks)
        mine = [file for name, group in groups.items() for file in shards.write(aside / name, group, self._ranks)]
        every = shards.everyones(lambda: digested(aside, mine), self._ranks)
        digests = {file: digest for rank in every for file, digest in rank.items()}
        self._check_seen(aside, digests)
        for name in groups:
            if self.world.first:
                flush(aside / name)
        return digests

    def _check_seen(self, aside: Path, digests: Mapping[str, str]) -> None:
        """All ranks look, and hear what the others saw, before rank 0 renames the folder.

        Raises:
            UserError: On every rank: one of them does not see a file of another.
        """
        mine = [name for name in digests if not (aside / name).exists()]
        every: list[list[str]] = [[] for _ in range(self.world.size)]
        dist.all_gather_object(every, mine, self._ranks)
        missing = [f"{names[0]} is not there for rank {rank}" for rank, names in enumerate(every) if names]
        if missing:
            raise UserError(
                f"{aside.parent} is not the same folder on every machine ({missing[0]}): weights in parts are written "
                "by every rank, so the folder of runs (--runs) has to be on a file system that all share"
            )


def _aliases(group: Tensors) -> dict[str, str]:
    """Second names of tensors that are one in memory (tied weights), with the first: safetensors holds each once."""
    first: dict[tuple[Any, ...], str] = {}
    seconds = {}
    for name, value in group.items():
        mine = local(value)
        where = (mine.data_ptr(), value.shape, mine.stride())
        if mine.numel() and first.setdefault(where, name) != name:
            seconds[name] = first[where]
    return seconds
