"""The contests of `dmf bench data` that start processes: the way to the first batch, and `dmf data prepare`."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import torch

from ...core import Dataset
from ...files.listing import SUFFIXES
from ...registry import UserError, build
from ...testing.bench import data_theirs
from ...testing.bench.data import Claim, Result, Row, over
from ...testing.bench.timing import in_turn, spread
from ..feed import Feed
from ..world import World
from .workshop import SEED, Tick, Workshop

COLD_S, WARM_S = 60.0, 10.0  # seconds, not minutes
BOTH_CORES = 0.85  # of the summed rate of two processes
ROUNDS = 2
PREPARED_PX = 64

Seconds = Callable[[], float]


def start(shop: Workshop, tick: Tick) -> Result:
    """From a folder of many small files to the first batch, each time in a process of its own."""
    folder, batch = str(shop.png_folder(shop.sizes.files)), shop.under.batch
    held, lazy = (shop.scratch / f"cache-{kind}" for kind in ("held", "lazy"))
    first = partial(first_batch, folder, shop.cifar.spec.shape[-1], batch, str(shop.under.device))
    lazily = partial(first, memory_gib=0)
    sides: dict[str, Seconds] = {
        "`image_folder`, nothing known": partial(_anew, held, first, forget=True),
        "`image_folder`, the second time": partial(_anew, held, first),
        "`image_folder`, `memory_gib: 0`, nothing known": partial(_anew, lazy, lazily, forget=True),
        "`image_folder`, `memory_gib: 0`, the second time": partial(_anew, lazy, lazily),
        "torchvision `ImageFolder`": partial(_anew, held, partial(data_theirs.first_batch, folder, batch)),
        f"the same, every file once, {data_theirs.WORKERS} workers": partial(
            _anew, held, partial(data_theirs.one_pass, folder, batch)
        ),
    }
    found = in_turn(list(sides.values()), ROUNDS, tick)
    rows = [Row(name, {"s": spread(seconds)}) for name, seconds in zip(sides, found, strict=True)]
    claims = [
        Claim("held in memory, nothing known", spread(found[0]), " s", most=COLD_S),
        Claim("held in memory, the second time", spread(found[1]), " s", most=WARM_S),
        Claim("read file by file, nothing known", spread(found[2]), " s", most=COLD_S),
        Claim("read file by file, the second time", spread(found[3]), " s", most=WARM_S),
    ]
    about = f"{shop.sizes.files:,} PNG files of 32x32, to the first batch, imports not counted; {ROUNDS} processes each"
    return Result("start", f"{about}, the files in the system's memory", rows, claims)


def first_batch(folder: str, side: int, batch: int, device: str, memory_gib: float | None = None) -> float:
    """Seconds that it takes to find the files, to know which data they are, and to deliver one batch."""
    options = {} if memory_gib is None else {"memory_gib": memory_gib}
    began = time.perf_counter()
    dataset: Dataset = build("dataset", "image_folder", root=folder, size=side, **options)
    dataset.fingerprint()
    feed = Feed(dataset, SEED, batch, World(0, 1, torch.device(device)))
    feed.batch(0)
    seconds = time.perf_counter() - began
    feed.close()
    return seconds


def _anew(cache: Path, work: Seconds, *, forget: bool = False) -> float:
    """What ``work`` gives in a new process, with this folder for what dmf keeps of data."""
    if forget:
        shutil.rmtree(cache, ignore_errors=True)
    with ProcessPoolExecutor(1, get_context("spawn"), _keep_in, (str(cache),)) as pool:
        return pool.submit(work).result()


def _keep_in(folder: str) -> None:
    os.environ["DMF_CACHE"] = folder


def prepare(shop: Workshop, tick: Tick) -> Result:
    """`dmf data prepare` with all cores, beside two processes of one worker on a half each."""
    source = shop.pictures()
    files = sorted(file for file in source.rglob("*") if file.suffix.lower() in SUFFIXES)
    if len(files) < 2:
        raise UserError(f"--pictures {source}: {len(files)} pictures; give a folder with some thousands")
    halves = [_linked(files[k::2], shop.scratch / f"half-{k}") for k in (0, 1)]
    all_cores = partial(_prepared, shop.scratch, {source: len(files)})
    by_number = {half: len(files[k::2]) for k, half in enumerate(halves)}
    by_halves = partial(_prepared, shop.scratch, by_number, "--workers", "1")
    ours, others = in_turn([all_cores, by_halves], ROUNDS, tick)
    rows = [
        Row("one command", {"pictures/s": spread(ours)}),
        Row("two commands at once with `--workers 1`, a half each: the sum", {"pictures/s": spread(others)}),
    ]
    claim = Claim("one command over the sum of two", over(ours, others), least=BOTH_CORES)
    title = (
        f"`dmf data prepare` of {len(files):,} pictures to {PREPARED_PX}x{PREPARED_PX}, the program's start included"
    )
    return Result("prepare", title, rows, [claim])


def _linked(files: Sequence[Path], folder: Path) -> Path:
    """A folder with links to files."""
    folder.mkdir(exist_ok=True)
    for number, file in enumerate(files):
        (folder / f"{number}{file.suffix}").symlink_to(file.absolute())
    return folder


def _prepared(scratch: Path, sources: Mapping[Path, int], *flags: str) -> float:
    """Pictures a second of a command for each source, all at once: the sum of their rates.

    Args:
        scratch: For what they write, which is taken away.
        sources: With the number of pictures in each.
        flags: Further ones of the command.
    """
    with tempfile.TemporaryDirectory(dir=scratch) as folder, ThreadPoolExecutor(len(sources)) as pool:
        outs = [Path(folder, str(k)) for k in range(len(sources))]
        seconds = list(pool.map(partial(_prepare, flags), sources, outs))
    return sum(count / s for count, s in zip(sources.values(), seconds, strict=True))


def _prepare(flags: Sequence[str], source: Path, out: Path) -> float:
    """Seconds of one command."""
    words = ["data", "prepare", str(source), "--out", str(out), "--size", str(PREPARED_PX), *flags]
    began = time.perf_counter()
    done = subprocess.run([sys.executable, "-m", "dmf", *words], capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - began
    if done.returncode:
        raise UserError(f"dmf {' '.join(words)} failed: {(done.stderr or done.stdout).strip()[-300:]}")
    return seconds
