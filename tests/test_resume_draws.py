"""What a step draws is the same on any number of ranks, and the history says so by checksums."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from dmf.registry import read
from dmf.runner.assemble import build_dataset, build_model
from dmf.runner.feed import Feed
from dmf.runner.training import checksums
from dmf.runner.training.checksums import as_hex, checksum
from dmf.runner.training.step import draws_of
from dmf.runner.world import World

Command = Callable[..., tuple[int, str, str]]
CPU = torch.device("cpu")


@pytest.mark.parametrize("stratified", [False, True])
def test_the_shares_of_any_number_of_ranks_are_what_the_checksums_say(tiny: Path, stratified: bool) -> None:
    recipe = read(tiny, [f"train.stratified={stratified}"])
    alone = World(0, 1, CPU)
    dataset = build_dataset(recipe, alone)
    model = build_model(recipe, dataset.spec)
    said = []
    for ranks in (1, 2, 3):
        shares = [share(recipe, model, dataset, World(rank, ranks, CPU)) for rank in range(ranks)]
        numbers, noise, times = (torch.cat(parts) for parts in zip(*shares, strict=True))
        said.append({"images": sum_of(numbers), "noise": sum_of(noise), "times": sum_of(times)})
    told = draws_of(recipe, model, World(2, 3, CPU)).checksums(Feed(dataset, 0, 24, alone).numbers(48), 48)
    assert said == [told] * 3


def share(recipe, model, dataset, world: World) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:  # type: ignore[no-untyped-def]
    feed = Feed(dataset, recipe.seed, recipe.train.batch_size, world)
    batch = feed.batch(48)
    _, eps, level, _ = draws_of(recipe, model, world)(batch, 48)
    return batch.numbers, eps, level.t.reshape(-1)


def sum_of(values: torch.Tensor) -> str:
    return as_hex(checksum(values))


@pytest.mark.parametrize("at_once", [1, 5, 7, 1000])
def test_a_checksum_is_the_same_in_pieces(monkeypatch: pytest.MonkeyPatch, at_once: int) -> None:
    """By the formula, in Python's own numbers; in pieces, for a global batch may be larger than what memory is left."""
    monkeypatch.setattr(checksums, "AT_ONCE", at_once)
    values = torch.randn(7, 3, generator=torch.Generator().manual_seed(0))
    bits = values.flatten().view(torch.int32).tolist()
    assert sum_of(values) == f"{sum((2 * i + 1) * b for i, b in enumerate(bits)) % 2**64:016x}"
    longer = torch.arange(-10, 11, dtype=torch.int64) << 50
    assert sum_of(longer) == f"{sum((2 * i + 1) * b for i, b in enumerate(longer.tolist())) % 2**64:016x}"
    assert sum_of(torch.zeros(0)) == "0" * 16


def test_no_copy_is_as_large_as_what_is_summed() -> None:
    values, most = torch.zeros(20, checksums.AT_ONCE), 0
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        checksum(values)
    for event in record.events() or []:
        most = max(most, event.self_cpu_memory_usage)
    assert 0 < most <= 8 * checksums.AT_ONCE


def test_each_step_has_draws_of_its_own_and_a_run_again_the_same(tiny: Path, dmf_command: Command) -> None:
    dmf_command("train", tiny)
    dmf_command("train", tiny, "name=again", "log.every=3")
    dmf_command("train", tiny, "name=other", "seed=1")
    found = [history(tiny.parent / "runs" / name) for name in ("tiny", "again", "other")]
    for what in ("images", "noise", "times"):
        assert len({point[what] for point in found[0].values()}) == 6
        assert found[0][6][what] == found[1][6][what] and found[0][12][what] == found[1][12][what]
        assert found[0][12][what] != found[2][12][what]


def history(run: Path) -> dict[int, dict[str, str]]:
    return {(point := json.loads(line))["step"]: point["draws"] for line in (run / "history.jsonl").open()}


@pytest.mark.parametrize("dtype", [torch.uint8, torch.bfloat16, torch.float32, torch.float64, torch.int64])
def test_a_checksum_sees_each_bit_and_each_place(dtype: torch.dtype) -> None:
    values = torch.arange(1, 40).to(dtype)
    plain = sum_of(values)
    assert len(plain) == 16 and sum_of(values.reshape(3, 13)) == plain
    swapped = values.clone()
    swapped[[4, 20]] = swapped[[20, 4]]
    assert sum_of(swapped) != plain
    raw = values.view(torch.uint8)
    for byte in (0, len(raw) // 2, len(raw) - 1):
        for bit in range(8):
            flipped = raw.clone()
            flipped[byte] ^= 1 << bit
            assert sum_of(flipped.view(dtype)) != plain


def test_a_checksum_is_that_of_the_formula() -> None:
    values = torch.tensor([3, -1, 2**62], dtype=torch.int64)
    assert sum_of(values) == f"{(3 * 1 - 1 * 3 + 2**62 * 5) % 2**64:016x}"
