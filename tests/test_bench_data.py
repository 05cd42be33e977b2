"""`dmf bench data`: sides deliver the same images, a slow one shows up, the figures are what was timed."""

import json
import os
import time
from collections.abc import Callable, Generator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from stand_ins_kit import cifar10
from torch import Tensor

from dmf.core import DataSpec, Pixels
from dmf.registry import UserError, build
from dmf.runner.bench import contests, fresh
from dmf.runner.bench.steps import training_steps
from dmf.runner.bench.workshop import Sizes, Workshop
from dmf.runner.commands import bench_data
from dmf.runner.feed import Feed
from dmf.runner.world import World
from dmf.testing.bench import data, data_files, data_report, data_theirs
from dmf.testing.bench.data import Claim, Conditions, Result, Row, Side, over, race
from dmf.testing.bench.page import marks
from dmf.testing.bench.timing import in_turn, spread

Command = Callable[..., tuple[int, str, str]]
CPU = torch.device("cpu")
WORLD = World(0, 1, CPU)
TINY_SIZES = Sizes(files=30, streamed=30, jpegs=6, jpeg_px=80, step_batch=4, steps=2)


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data, "REST_S", 0.0)
    monkeypatch.setattr(bench_data, "TURN_S", 0.05)
    monkeypatch.setattr(fresh, "ROUNDS", 1)


@pytest.fixture
def cifar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with five batches of four images and a test batch, in place of the real ones, with their md5s."""
    cifar10(tmp_path / "sets", monkeypatch)
    return tmp_path / "sets"


@pytest.fixture
def shop(cifar: Path, workdir: Path) -> Workshop:
    (workdir / "scratch").mkdir()
    return Workshop(Conditions(CPU, 4, 2, 0.05), workdir / "scratch", str(cifar), sizes=TINY_SIZES)


def sleepy(rest_s: float, stock: int = 0) -> Callable[[], Generator[int]]:
    """Batches of 4 images, each after a rest; the first ``stock`` at once."""

    def deliver() -> Generator[int]:
        for k in range(10**9):
            time.sleep(rest_s if k >= stock else 0)
            yield 4

    return deliver


# the harness


def test_the_slower_side_is_told_as_slower() -> None:
    ticks: list[int] = []
    sides = [Side("quick", sleepy(0.002)), Side("slow", sleepy(0.02))]
    rows, (quick, slow) = race(sides, Conditions(CPU, 4, 3, 0.1), lambda: ticks.append(1))
    assert len(ticks) == 4 and [len(quick), len(slow)] == [3, 3]
    assert max(slow) <= 4 / 0.02 and min(quick) > 4 / 0.02 and max(quick) <= 4 / 0.002
    assert [row.values["images/s"] for row in rows] == [spread(quick), spread(slow)]
    ratio = over(quick, slow)
    assert ratio.median == sorted(a / b for a, b in zip(quick, slow, strict=True))[1]
    assert Claim("x", ratio, least=1.0).met and not Claim("x", ratio, most=1.0).met


def test_what_lay_ready_is_no_speed() -> None:
    one = Side("with a stock", sleepy(0.02, stock=data.LEAD))
    _, (rates,) = race([one], Conditions(CPU, 4, 1, 0.1))
    assert rates[0] <= 4 / 0.02


def test_sides_are_closed() -> None:
    closed = []

    def deliver() -> Generator[int]:
        try:
            while True:
                yield 1
        finally:
            closed.append(1)

    race([Side("a", deliver), Side("b", deliver)], Conditions(CPU, 1, 1, 0.01))
    assert closed == [1, 1]


def test_each_side_begins_in_its_turn() -> None:
    order: list[str] = []

    def one(name: str) -> float:
        order.append(name)
        return float(len(order))

    assert in_turn([partial(one, name) for name in "abc"], 3) == [[1, 6, 8], [2, 4, 9], [3, 5, 7]]
    assert "".join(order) == "abcbcacab"


def test_claims() -> None:
    value = spread([1.0, 2.0, 3.0])
    assert Claim("x", value).met is None
    assert [Claim("x", value, least=bound).met for bound in (2.0, 2.1)] == [True, False]
    assert [Claim("x", value, most=bound).met for bound in (2.0, 1.9)] == [True, False]


def test_what_is_missed_is_said() -> None:
    claims = [Claim("ours", spread([3.0]), " s", most=2.0), Claim("theirs", spread([3.0]), least=2.0)]
    rows = [Row("a", {"images/s": spread([1234.0]), "ms": spread([1.0, 2.0, 3.0])})]
    result, under = Result("one", "two ways", rows, claims), Conditions(CPU, 4, 3, 0.1)
    text = data_report.tables([result], under)
    assert "* ours: **3** s (3 to 3); wanted at most 2 s, **missed**" in text
    assert "* theirs: **3** (3 to 3); wanted at least 2\n" in text
    assert "| | images/s | ms |\n|---|---:|---:|\n| a | 1,234 | 2 (1.5 to 2.5) |" in text
    (told,) = data_report.as_json([result], under)["results"]
    assert [claim["met"] for claim in told["claims"]] == [False, True] and told["rows"][0]["values"]["ms"]["low"] == 1.5


# what is made, and the other side


def pictures(count: int = 5) -> Tensor:
    return torch.randint(256, (count, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


def test_png_files_hold_the_images_and_no_two_are_equal(tmp_path: Path) -> None:
    images, ticks = pictures(), list[int]()
    files = data_files.write_pngs(images, 12, tmp_path / "png", lambda: ticks.append(1))
    assert len(files) == len(set(files)) == 12 and ticks == [1]
    back = [torch.from_numpy(np.array(Image.open(file))).permute(2, 0, 1) for file in files]
    assert all(torch.equal(a, b) for a, b in zip(back[:5], images, strict=True))
    assert len({file.read_bytes() for file in files}) == 12
    assert {file.parent.name for file in files} == set("0123456789")


def test_jpeg_files_are_like_photographs(tmp_path: Path) -> None:
    files = data_files.draw_jpegs(3, 96, tmp_path / "jpeg")
    sizes = [file.stat().st_size for file in files]
    arrays = [np.array(Image.open(file), dtype=float) for file in files]
    assert all(a.shape == (96, 96, 3) for a in arrays) and not np.array_equal(arrays[0], arrays[1])
    # of 4,307 photographs of flowers with 128 pixels a side: neighbours 0.08 apart, 0.16 bytes a pixel
    assert all(0.04 < np.abs(np.diff(a, axis=0)).mean() / a.std() < 0.2 for a in arrays)
    assert all(0.1 < size / 96**2 < 0.5 for size in sizes)


def mirrored_alike(x: Tensor, y: Tensor) -> bool:
    return torch.allclose(x, y, atol=1e-6) or torch.allclose(x.flip(-1), y, atol=1e-6)


def test_the_others_give_the_same_pixels(shop: Workshop) -> None:
    held = shop.cifar.tensors()
    assert held is not None
    x = Pixels(DataSpec((3, 32, 32))).encode(held[0])
    theirs = data_theirs.cifar10(shop.root)
    assert all(mirrored_alike(x[i], theirs[i][0]) for i in range(20))
    folder = data_theirs.folder(shop.png_folder(20))
    assert all(mirrored_alike(x[int(Path(name).stem)], folder[i][0]) for i, (name, _) in enumerate(folder.samples))
    assert len({bool(torch.allclose(x[0], theirs[0][0], atol=1e-6)) for _ in range(40)}) == 2  # now and then mirrored


def test_their_batches_never_end(shop: Workshop) -> None:
    row = data_theirs.batches(data_theirs.cifar10(shop.root), 8, CPU, workers=0)
    assert [next(row) for _ in range(7)] == [8, 8, 4, 8, 8, 4, 8]


def test_our_side_delivers_what_a_training_gets(shop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Tensor] = []
    encode = Pixels.encode
    monkeypatch.setattr(Pixels, "encode", lambda self, images: seen.append(images) or encode(self, images))
    for loading in ({}, {"device_gib": 0}):
        stream = shop.ours("a name", shop.cifar, **loading).deliver()
        assert [next(stream) for _ in range(3)] == [4, 4, 4]
        stream.close()
    feed = Feed(shop.cifar, 0, 4, WORLD, (build("augmentation", "flip", shop.cifar.spec),))
    wanted = [feed.batch(images_seen).images for images_seen in (0, 4, 8)] * 2
    assert all(torch.equal(a, b) for a, b in zip(seen, wanted, strict=True))


# the contests, in small


def test_resident(shop: Workshop) -> None:
    result = contests.resident(shop, lambda: None)
    (claim,) = result.claims
    assert claim.least == 20 and claim.value.median > 1 and len(result.rows) == 2


@pytest.mark.slow
def test_streamed(shop: Workshop) -> None:
    result = contests.streamed(shop, lambda: None)
    assert [row.values["images/s"].median > 0 for row in result.rows] == [True] * 4


@pytest.fixture
def no_race(monkeypatch: pytest.MonkeyPatch) -> None:
    """The k-th side, from 0, has 10^k images/s, and half of that in another round; each delivers a batch for it."""

    def unlike(sides: Sequence[Side], under: Conditions, tick: object) -> tuple[list[Row], list[list[float]]]:
        for side in sides:
            stream = side.deliver()
            assert next(stream) > 0
            stream.close()
        rates = [[10.0**k, 10.0**k / 2] for k in range(len(sides))]
        return [Row(side.name, {"images/s": spread(r)}) for side, r in zip(sides, rates, strict=True)], rates

    monkeypatch.setattr(contests, "race", unlike)
    monkeypatch.setattr(contests, "WORKERS", 0)  # a process takes seconds to start
    monkeypatch.setattr(contests.data_theirs.batches, "__defaults__", (0,))


@pytest.mark.usefixtures("no_race")
def test_what_is_over_what(shop: Workshop) -> None:
    (claim,) = contests.resident(shop, lambda: None).claims
    assert claim.value == spread([0.1, 0.1])
    result = contests.streamed(shop, lambda: None)
    files, gathered, their_files, their_memory = (row.name for row in result.rows)
    assert files.startswith("`image_folder`") and "host's memory" in gathered
    assert "`ImageFolder`" in their_files and "`CIFAR10`" in their_memory
    assert {claim.what: claim.value for claim in result.claims} == {
        "PNG files: ours over `ImageFolder`": spread([0.01, 0.01]),
        "our PNG files over their `CIFAR10` in memory": spread([0.001, 0.001]),
        "in the host's memory: ours over their `CIFAR10`": spread([0.01, 0.01]),
    }


@pytest.mark.usefixtures("no_race")
def test_wait_and_edm_train(shop: Workshop, tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contests, "RECIPE", str(tiny))
    monkeypatch.setattr(contests, "EDM_RECIPE", str(tiny))
    ticks: list[int] = []
    result = contests.wait(shop, lambda: ticks.append(1))
    assert len(ticks) == 2 * TINY_SIZES.steps and "4 images a step, in fp32" in result.title
    for row, claim in zip(result.rows, result.claims, strict=True):
        step, waited = row.values.values()
        assert 0 < waited.median < step.median and 0 < claim.value.median < 100 and claim.most == 1
    result = contests.edm(shop, lambda: None)
    (claim,) = result.claims
    assert [row.name for row in result.rows][:3] == ["`flip`", "`crop`", "`edm`"]
    step = result.rows[3].values["images/s"].median
    percent = spread([step, 2 * step])
    assert claim.value.median == pytest.approx(percent.median) and claim.value.low == pytest.approx(
        percent.low
    )  # in percent of 100 images/s, and of half of that


def test_a_slow_feed_shows_up(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    batch, calls, ticks = Feed.batch, list[int](), list[int]()

    def slow(self: Feed, images_seen: int) -> Any:
        calls.append(images_seen)
        time.sleep(0.1)
        return batch(self, images_seen)

    monkeypatch.setattr(Feed, "batch", slow)
    times = training_steps(str(tiny), {"device": "cpu"}, WORLD, tiny.parent, 3, lambda: ticks.append(len(calls)))
    assert len(times.step_s) == len(times.wait_s) == 3 and times.batch == 24
    assert ticks == [3, 4, 5], "two steps before the clock runs"
    assert all(0.1 <= wait < step for wait, step in zip(times.wait_s, times.step_s, strict=True))
    step, waited = times.ms()
    assert waited.median >= 100 and times.share().median == pytest.approx(100 * waited.median / step.median, rel=0.3)


def test_start(shop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    known: list[tuple[bool, bool]] = []

    def here(cache: Path, work: Callable[[], float], *, forget: bool = False) -> float:
        monkeypatch.setenv("DMF_CACHE", str(cache))
        known.append((forget, cache.name.endswith("lazy")))
        return work()

    monkeypatch.setattr(fresh, "_anew", here)
    monkeypatch.setattr(data_theirs, "WORKERS", 0)
    result = fresh.start(shop, lambda: None)
    assert known[:4] == [(True, False), (False, False), (True, True), (False, True)] and len(known) == 6
    assert [claim.most for claim in result.claims] == [60, 10, 60, 10] and "30 PNG files" in result.title
    assert all(row.values["s"].median > 0 for row in result.rows)


def test_which_start_is_told_as_which(shop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fresh, "in_turn", lambda sides, rounds, tick: [[float(k)] for k, _ in enumerate(sides)])
    result = fresh.start(shop, lambda: None)
    assert [row.values["s"] for row in result.rows] == [spread([float(k)]) for k in range(6)]
    assert [(claim.what, claim.value.median) for claim in result.claims] == [
        ("held in memory, nothing known", 0.0),
        ("held in memory, the second time", 1.0),
        ("read file by file, nothing known", 2.0),
        ("read file by file, the second time", 3.0),
    ]


def own_process(parent: int) -> float:
    """1 in another process than ``parent`` that keeps things in a folder called cache."""
    return float(os.getpid() != parent and Path(os.environ["DMF_CACHE"]).name == "cache")


@pytest.mark.slow
def test_a_start_is_a_process_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "old").touch()
    told = fresh._anew(tmp_path / "cache", partial(own_process, os.getpid()), forget=True)
    assert told == 1.0 and not (tmp_path / "cache" / "old").exists()


@pytest.mark.slow
def test_prepare(shop: Workshop) -> None:
    result = fresh.prepare(shop, lambda: None)
    one, two = (row.values["pictures/s"].median for row in result.rows)
    (claim,) = result.claims
    assert claim.value.median == pytest.approx(one / two) and claim.least == 0.85 and "of 6 pictures" in result.title
    assert not list(shop.scratch.glob("tmp*"))


def test_rates_of_commands_at_once_are_added(shop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = {"a": 2.0, "b": 4.0}
    monkeypatch.setattr(fresh, "_prepare", lambda flags, source, out: seconds[source.name])
    assert fresh._prepared(shop.scratch, {Path("a"): 10, Path("b"): 20}) == 10 / 2 + 20 / 4


def test_a_command_that_fails_is_told(shop: Workshop, workdir: Path) -> None:
    with pytest.raises(UserError, match=r"dmf data prepare .*nowhere.* failed: .*nowhere"):
        fresh._prepare((), workdir / "nowhere", workdir / "out")


# the command


def test_the_command(dmf_command: Command, workdir: Path, cifar: Path) -> None:
    begin, end = marks("data")
    page = workdir / "page.md"
    page.write_text(f"before\n{begin}\nstale\n{end}\nafter\n", encoding="utf-8")
    words = ["--only", "resident", "--batch", 4, "--repeats", 1, "--device", "cpu", "--root", cifar]
    code, out, err = dmf_command("bench", "data", *words, "--page", page, "--json", "f.json")
    assert code == 0, err
    figures = json.loads(Path("f.json").read_text(encoding="utf-8"))
    (result,) = figures["results"]
    assert result["contest"] == "resident" and figures["about"]["batch"] == 4
    (claim,) = result["claims"]
    ours, theirs = (row["values"]["images/s"]["median"] for row in result["rows"])
    assert claim["value"]["median"] == pytest.approx(ours / theirs)
    assert claim["met"] == (claim["value"]["median"] >= 20)
    text = page.read_text(encoding="utf-8")
    assert text.startswith("before\n") and text.endswith("after\n") and "stale" not in text
    assert text.split(begin)[1].split(end)[0].strip() in out


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--only", "resdent"], "unknown contest 'resdent'; did you mean 'resident'?"),
        (["--page", "no.md"], "there is no page no.md"),
        (["--page", "plain.md"], "plain.md has no place for the tables; write the lines <!-- measured:"),
        (["--json", "no/where.json"], "no/where.json cannot be written"),
        (["--pictures", "nowhere"], "--pictures nowhere: there is no such folder"),
        (["--root", "nowhere"], "CIFAR-10 is not (whole) in"),
    ],
)
def test_mistakes_are_told_first(dmf_command: Command, workdir: Path, words: list[str], sentence: str) -> None:
    Path("plain.md").write_text("a page without marks\n", encoding="utf-8")
    code, out, err = dmf_command("bench", "data", *words)
    assert code == 2 and sentence in err and "Traceback" not in err and not out


def test_the_help_names_the_contests(dmf_command: Command, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        dmf_command("bench", "data", "--help")
    assert ", ".join(bench_data.CONTESTS) in " ".join(capsys.readouterr().out.split())
    under = Conditions(CPU, 4, 1, 0.1)
    assert tuple(bench_data._contests(TINY_SIZES, under)) == bench_data.CONTESTS
