"""Whichever way the images take, the batches are the same, and nothing is read that is not needed."""

import multiprocessing
import os
import re
import time
from collections.abc import Callable, Generator, Iterable
from contextlib import closing
from pathlib import Path

import pytest
import torch
from feed_kit import Counting, Dying, Failing, Stuck, Telling, Unpicklable

from dmf.core import Augmentation
from dmf.registry import UserError, build, read
from dmf.registry.recipe_types import Loading
from dmf.runner.evaluation import Evaluation
from dmf.runner.evaluation.streams import Real
from dmf.runner.feed import Batch, Feed, Resident, Rows, choice, each, image_numbers, source_of
from dmf.runner.feed.choice import MOST_WORKERS, auto_workers
from dmf.runner.feed.host import Host, gather_from
from dmf.runner.launching import Place
from dmf.runner.world import World

CPU = torch.device("cpu")
ALONE = World(0, 1, CPU)
PATHS = {
    "device": (True, Loading()),
    "host": (True, Loading(device_gib=0, ahead=2)),
    "items": (False, Loading(workers=0)),
    "1 worker": (False, Loading(workers=1, ahead=3)),
    "3 workers": (False, Loading(workers=3)),
}


def flip(data: Counting) -> Augmentation:
    made: Augmentation = build("augmentation", "flip", data.spec)
    return made


def batches(path: str, world: World, starts: range) -> list[Batch]:
    at_once, loading = PATHS[path]
    data = Counting(50, at_once)
    with closing(Feed(data, 3, 12, world, [flip(data)], source=source_of(data, CPU, loading))) as feed:
        return [feed.batch(start) for start in starts]


def first(note: Callable[[list[int]], None], gather: Callable[[torch.Tensor], Rows]) -> Callable[[torch.Tensor], Rows]:
    """``gather``, and ``note`` hears of the numbers before it."""

    def noted(numbers: torch.Tensor) -> Rows:
        note(numbers.tolist())
        return gather(numbers)

    return noted


def equal(one: Batch, other: Batch) -> bool:
    assert one.cond.keys() == other.cond.keys()
    pairs = [(one.images, other.images), (one.numbers, other.numbers), (one.cond["class"], other.cond["class"])]
    return all(torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize("path", list(PATHS)[1:])
def test_every_path_gives_the_batches_of_the_resident_one(path: str) -> None:
    starts = range(24, 24 + 12 * 8, 12)  # over the end of two epochs
    for ours, theirs in zip(batches(path, ALONE, starts), batches("device", ALONE, starts), strict=True):
        assert equal(ours, theirs)
        mirrored = ours.images != torch.stack([Counting(50, False)[int(i)].image for i in ours.numbers])
        assert 0 < int(mirrored.flatten(1).any(1).sum()) < 12  # the flips are in it


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("path", PATHS)
def test_a_gpu_gets_the_batches_of_the_cpu_while_it_is_busy(path: str) -> None:
    at_once, loading = PATHS[path]
    data, there, starts = Counting(50, at_once), torch.device("cuda", 0), range(0, 12 * 40, 12)
    work = torch.randn(2048, 2048, device=there)
    with closing(Feed(data, 3, 12, World(0, 1, there), [flip(data)], source=source_of(data, there, loading))) as feed:
        for start, wanted in zip(starts, batches("device", ALONE, starts), strict=True):
            for _ in range(20):
                work = work @ work / 2048  # the copies are put in the queue behind this
            batch = feed.batch(start)
            assert batch.images.device == there
            assert torch.equal(batch.images.cpu(), wanted.images)
            assert torch.equal(batch.cond["class"].cpu(), wanted.cond["class"])


@pytest.mark.parametrize(("path", "ranks"), [("host", 2), ("host", 3), ("items", 3), ("1 worker", 2), ("3 workers", 3)])
def test_ranks_share_the_batches_of_one_on_every_path(path: str, ranks: int) -> None:
    starts = range(36, 36 + 12 * 3, 12)
    whole = batches("device", ALONE, starts)
    shares = [batches(path, World(rank, ranks, CPU), starts) for rank in range(ranks)]
    for one, *parts in zip(whole, *shares, strict=True):
        assert torch.equal(torch.cat([part.images for part in parts]), one.images)
        assert torch.equal(torch.cat([part.cond["class"] for part in parts]), one.cond["class"])


def test_the_sets_size_against_the_budget_decides_the_path() -> None:
    data, size_gib = Counting(2**10, True), 2**10 * (4 + 8) / 2**30
    assert isinstance(source_of(data, CPU, Loading(device_gib=size_gib)), Resident)
    assert isinstance(source_of(data, CPU, Loading(device_gib=size_gib * 0.99)), Host)


def test_going_on_late_reads_none_of_the_earlier_images() -> None:
    for at_once in (False, True):
        data = Counting(1000, at_once)
        held = data.tensors()
        if held is None:
            source, ahead = source_of(data, CPU, Loading(workers=0)), 0
        else:
            source, ahead = Host(first(data.asked.extend, gather_from(*held)), 1000, CPU, 3), 3
        with closing(Feed(data, 0, 10, ALONE, source=source)) as feed:
            feed.batch(10**6)
            feed.batch(10**6 + 10)
        wanted = image_numbers(0, 1000, 10**6, 10 * (2 + ahead)).tolist()
        assert data.asked == wanted[: len(data.asked)] and len(data.asked) >= 20


def test_a_place_in_the_order_is_found_in_a_moment_however_late_it_is() -> None:
    began = time.perf_counter()
    numbers = image_numbers(123, 50_000, 10**9 + 49_990, 20)  # over the end of epoch 20,000
    assert time.perf_counter() - began < 0.5  # two permutations of 50,000
    assert len(numbers) == 20


@pytest.mark.parametrize("path", ["device", "host", "items", "1 worker"])
def test_any_batch_may_be_asked_for_at_any_time(path: str) -> None:
    at_once, loading = PATHS[path]
    data = Counting(50, at_once)
    places = [0, 12, 120, 132, 12, 24, 24]
    with closing(Feed(data, 3, 12, ALONE, source=source_of(data, CPU, loading))) as feed:
        for place in places:
            numbers = image_numbers(3, 50, place, 12)
            batch = feed.batch(place)
            assert torch.equal(batch.numbers, numbers)
            assert torch.equal(batch.images, torch.stack([Counting(50, False)[int(i)].image for i in numbers]))


@pytest.mark.parametrize("path", ["host", "1 worker"])
def test_somebody_else_may_read_from_the_same_source_meanwhile(path: str) -> None:
    at_once, loading = PATHS[path]
    data = Counting(50, at_once)
    feed = Feed(data, 3, 12, ALONE, source=source_of(data, CPU, loading))
    with closing(feed):
        first = feed.batch(0)
        order = [torch.arange(0, 5), torch.arange(5, 9)]
        others = torch.cat([images for images, _ in each(feed.source, order)])
        assert torch.equal(others, torch.stack([Counting(9, False)[i].image for i in range(9)]))
        assert torch.equal(feed.read(first.numbers)[0], first.images)
        assert torch.equal(feed.batch(12).numbers, image_numbers(3, 50, 12, 12))


def test_the_evaluation_reads_from_the_tensors_of_the_training(tiny: Path) -> None:
    recipe = read(tiny, ["evaluate.images=100", "evaluate.metrics=[{name: frechet, features: digits}]"])
    data = build("dataset", "digits")
    source = source_of(data, CPU, recipe.loading)
    reference = Evaluation(recipe, data, ALONE, source=source).scoring.reference
    assert isinstance(reference, Real) and reference.source is source


def test_nothing_global_is_drawn_from() -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    batches("1 worker", ALONE, range(0, 24, 12))
    assert torch.equal(torch.get_rng_state(), before)


def test_waiting_is_timed() -> None:
    data = Counting(50, False)
    held = Counting(50, True).tensors()
    assert held is not None
    source = Host(first(lambda numbers: time.sleep(0.05), gather_from(*held)), 50, CPU, 2)
    with closing(Feed(data, 0, 10, ALONE, source=source)) as feed:
        assert feed.batch(0).wait_s > 0.045
        time.sleep(0.3)  # a step in which three batches could be made
        assert feed.batch(10).wait_s < 0.03


@pytest.mark.parametrize("workers", [0, 2])
def test_a_bad_image_is_told_as_it_is_and_later_batches_can_be_had(workers: int) -> None:
    data = Failing(24, bad=int(image_numbers(0, 24, 12, 12)[4]))
    with closing(Feed(data, 0, 12, ALONE, source=source_of(data, CPU, Loading(workers=workers, ahead=1)))) as feed:
        feed.batch(0)
        with pytest.raises(UserError, match=rf"^pets/{data.bad}\.png is no picture; take it out$"):
            feed.batch(12)
        assert torch.equal(feed.batch(0).numbers, image_numbers(0, 24, 0, 12))


def test_an_error_of_the_data_sets_own_code_says_where_it_was_raised() -> None:
    data = Failing(24, bad=int(image_numbers(0, 24, 0, 12)[4]), error=ZeroDivisionError)
    source = source_of(data, CPU, Loading(workers=1))
    with (
        closing(Feed(data, 0, 12, ALONE, source=source)) as feed,
        pytest.raises(RuntimeError, match=r"(?s)ZeroDivisionError: pets.*feed_kit\.py.*__getitem__"),
    ):
        feed.batch(0)


def test_a_killed_worker_is_told_with_the_remedy() -> None:
    data = Dying(24, False)
    with (
        closing(Feed(data, 0, 12, ALONE, source=source_of(data, CPU, Loading(workers=2)))) as feed,
        pytest.raises(UserError, match=r"killed by SIGKILL.*loading\.workers"),
    ):
        for start in range(0, 48, 12):
            feed.batch(start)


def test_a_data_set_that_cannot_be_sent_to_workers_is_refused_with_the_remedy(tmp_path: Path) -> None:
    data = Unpicklable(24, tmp_path / "open")
    with closing(data.file), pytest.raises(UserError, match=r"Unpicklable.*loading\.workers: 0.*picklable"):
        Feed(data, 0, 12, ALONE, source=source_of(data, CPU, Loading(workers=1))).batch(0)
    alone = Feed(data, 0, 12, ALONE, source=source_of(data, CPU, Loading(workers=0))).batch(0)
    assert torch.equal(alone.numbers, image_numbers(0, 24, 0, 12))


def test_workers_read_on_one_thread_each_and_end_with_the_feed(tmp_path: Path) -> None:
    data = Telling(96, tmp_path)
    with closing(Feed(data, 0, 12, ALONE, source=source_of(data, CPU, Loading(workers=3)))) as feed:
        for start in range(0, 96, 12):
            feed.batch(start)
    found = {int(file.name): file.read_text() for file in tmp_path.iterdir()}
    assert len(found) == 3 and os.getpid() not in found and set(found.values()) == {"1"}
    assert not [pid for pid in found if Path(f"/proc/{pid}").exists()]


def test_a_worker_that_is_stuck_is_no_reason_to_wait_for_ever() -> None:
    before = multiprocessing.active_children()
    order = [torch.arange(3), torch.tensor([7])]
    stream = source_of(Stuck(24, False), CPU, Loading(workers=1)).stream(order)
    next(stream)
    (worker,) = (one for one in multiprocessing.active_children() if one not in before)
    began = time.monotonic()
    stream.close()
    assert time.monotonic() - began < 60 and not worker.is_alive()


def test_batches_in_their_order_come_from_one_stream() -> None:
    streams = 0

    class Watched(Resident):
        def stream(self, order: Iterable[torch.Tensor]) -> Generator[Rows]:
            nonlocal streams
            streams += 1
            return super().stream(order)

    data = Counting(50, True)
    held = data.tensors()
    assert held is not None
    feed = Feed(data, 3, 12, ALONE, source=Watched(*held, CPU))
    for start in (0, 12, 24, 36):
        feed.batch(start)
    assert streams == 1
    feed.batch(36)
    assert streams == 2


def test_auto_workers_leave_a_core_to_each_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    def found(cores: int, ranks: int) -> int:
        monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(cores)), raising=False)
        monkeypatch.setattr(choice, "find_place", lambda: Place(local_size=ranks))  # as any launcher says
        return auto_workers()

    assert [found(1, 1), found(2, 1), found(6, 1), found(8, 2), found(4, 4)] == [1, 1, 5, 3, 1]
    assert found(96, 1) == MOST_WORKERS


@pytest.mark.parametrize("path", PATHS)
def test_a_run_says_which_way_its_images_take(path: str) -> None:
    at_once, loading = PATHS[path]
    words = {
        "device": r"in memory \(600 bytes\)$",
        "host": r"in memory \(600 bytes\), gathered 2 batches ahead",
        "items": "without workers",
        "1 worker": "read by 1 worker, 3 batches ahead",
        "3 workers": "read by 3 workers, 6 batches ahead",
    }
    assert re.search(words[path], source_of(Counting(50, at_once), CPU, loading).about())
