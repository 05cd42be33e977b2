"""`dmf bench metrics`: small contests, the same features whatever the batches, mistakes told first."""

import json
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import FULL

from dmf.registry import build
from dmf.runner.bench import metrics as contests
from dmf.runner.bench.metrics import Sizes
from dmf.runner.commands import bench_metrics
from dmf.testing.bench import metrics as made
from dmf.testing.bench.data import Conditions

Command = Callable[..., tuple[int, str, str]]
CPU = torch.device("cpu")
UNDER = Conditions(CPU, contests.BATCH, 2, 0.0)
TINY = Sizes({"classifier": 8}, {"classifier": 4}, 1200, 8)


def test_statistics_are_torch_fidelitys(tmp_path: Path) -> None:
    ticks: list[int] = []
    result = contests.statistics(TINY, UNDER, tmp_path, lambda: ticks.append(1))
    times, apart = result.claims
    ours, theirs = (row.values["s"].median for row in result.rows)
    assert len(ticks) == 2 and ours > 0 and theirs > 0 and times.least == 1
    assert 0 < apart.value.median < 1e-4  # theirs takes the means of float32 in float32
    assert "1,200 x 8 features" in result.title


def test_extraction_goes_through_scoring(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(made, "write_inception", lambda file: {})  # 90 MB, and not asked for
    passes: list[int] = []
    run = contests.Pass.run
    monkeypatch.setattr(
        contests.Pass, "run", lambda self, *a, **k: (passes.append(len(self.metrics)), run(self, *a, **k))
    )
    result = contests.extraction(TINY, UNDER, tmp_path, lambda: None)
    (claim,) = result.claims
    alone, scored = (value.median for value in result.rows[0].values.values())
    assert passes == [2] * 3 and alone > 0 and scored > 0 and claim.least == 95
    assert claim.value.median > 0


def test_the_network_of_the_bench_is_a_resnet20(tmp_path: Path) -> None:
    extractor = build("features", "classifier", **made.write_resnet(tmp_path / "resnet20.safetensors"))
    layer, dim = next(iter(extractor.layers.items()))
    assert dim == 64
    images = torch.randint(256, (3, 3, 32, 32), dtype=torch.uint8)
    assert extractor(images, (layer,))[layer].isfinite().all()


def test_features_are_the_same_each_time_and_of_two_sides() -> None:
    first, again, other = made.features(500, 20, 6, 0), made.features(500, 20, 6, 0), made.features(500, 20, 6, 1)
    assert torch.equal(first, again) and not torch.equal(first, other) and first.dtype == torch.float32
    assert not torch.equal(first, made.features(0, 20, 6, 0))


@pytest.mark.slow
def test_the_command(dmf_command: Command, workdir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each metric has a process of its own; in small counts the first alone, as their start is all that takes time."""
    whole, started = contests.ProcessPoolExecutor, []

    def pool(count: int, context: Any) -> Executor:
        started.append(count)
        return whole(count, context) if FULL or len(started) == 1 else ThreadPoolExecutor(count)

    monkeypatch.setattr(contests, "ProcessPoolExecutor", pool)
    words = ["--only", "memory", "--rows", 600, "--dim", 8, "--repeats", 1, "--device", "cpu", "--json", "f.json"]
    code, out, err = dmf_command("bench", "metrics", *words)
    assert code == 0, err
    (result,) = json.loads(Path("f.json").read_text(encoding="utf-8"))["results"]
    assert [claim["met"] for claim in result["claims"]] == [True] * 3 and "torch-fidelity" in out
    assert all(0.05 < row["values"]["peak, GiB"]["median"] < 8 for row in result["rows"])


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--only", "memry"], "unknown contest 'memry'; did you mean 'memory'?"),
        (["--page", "no.md"], "there is no page no.md"),
        (["--json", "no/where.json"], "no/where.json cannot be written"),
    ],
)
def test_mistakes_are_told_first(dmf_command: Command, workdir: Path, words: list[str], sentence: str) -> None:
    code, out, err = dmf_command("bench", "metrics", *words)
    assert code == 2 and sentence in err and "Traceback" not in err and not out


def test_every_contest_can_be_held() -> None:
    assert tuple(bench_metrics._contests(TINY, UNDER)) == bench_metrics.CONTESTS
