"""Averages on two ranks: in step without a word between them, sharded with the weights, and kept in parts."""

import contextlib
import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from conftest import TINY
from fork_kit import on_ranks
from torch import nn
from torch.distributed.tensor import DTensor

from dmf.runner.cli import main
from dmf.runner.folder import RunFolder
from dmf.runner.training.averages import Averaged
from dmf.runner.training.trainer import Trainer
from dmf.runner.weights import find_weights
from dmf.runner.world import World, leave

EMA = "train.ema=[0.9, {name: power, length: 0.05, snapshots: 4}, {name: power, length: 0.1, snapshots: 4}]"
GROUPS = ("ema", "ema-power-0.05", "ema-power-0.1")
EXCHANGES = ("all_reduce", "broadcast", "all_gather_into_tensor", "all_gather", "barrier")


@contextlib.contextmanager
def watched() -> Iterator[None]:
    """Each rank notes its averages at the end of a training, and that nothing is exchanged while they follow."""
    following = False
    follow, finish = Averaged.follow, Trainer.run

    def quiet(name: str) -> Callable[..., Any]:
        call = getattr(dist, name)

        def checked(*given: Any, **more: Any) -> Any:
            assert not following, f"{name} while an average follows"
            return call(*given, **more)

        return checked

    def followed(self: Averaged, *given: Any) -> None:
        nonlocal following
        following = True
        follow(self, *given)
        following = False

    def finished(self: Trainer) -> None:
        finish(self)
        found = {one.group: digest(one.network) for one in self.state.averages}
        self.session.folder.joinpath(f"marks-{self.world.rank}.json").write_text(json.dumps(found))

    with pytest.MonkeyPatch.context() as patch:
        for name in EXCHANGES:
            patch.setattr(dist, name, quiet(name))
        patch.setattr(Averaged, "follow", followed)
        patch.setattr(Trainer, "run", finished)
        yield


def digest(network: nn.Module) -> str:
    """Of what this rank holds."""
    found = hashlib.sha256()
    for value in network.state_dict().values():
        found.update((value.to_local() if isinstance(value, DTensor) else value).detach().numpy().tobytes())
    return found.hexdigest()


def both(world: World, words: list[str]) -> None:
    """One command after the other in the same processes, each of which joins the others for itself."""
    leave()
    with watched():
        for more in (["name=two"], ["name=shared", "distributed.strategy=fsdp"]):
            assert main([*words, *more]) == 0, more


@pytest.fixture(name="home", scope="module")
def home_fixture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same training on one rank, on two, and on two that share the weights out."""
    home = tmp_path_factory.mktemp("ranks")
    (home / "tiny.yaml").write_text(TINY, encoding="utf-8")
    words = ["train", str(home / "tiny.yaml"), "--runs", str(home), EMA, "sample.per_class=1"]
    assert main([*words, "name=one"]) == 0
    on_ranks(2, both, words)
    return home


def marks(home: Path, name: str, rank: int) -> dict[str, str]:
    found: dict[str, str] = json.loads((home / name / f"marks-{rank}.json").read_text())
    return found


def test_both_ranks_hold_the_same_average_bit_for_bit(home: Path) -> None:
    assert marks(home, "two", 0) == marks(home, "two", 1)
    assert set(marks(home, "two", 0)) == set(GROUPS)


def test_a_rank_holds_its_part_alone_where_weights_are_shared_out(home: Path) -> None:
    first, second = marks(home, "shared", 0), marks(home, "shared", 1)
    assert all(first[group] != second[group] for group in GROUPS)
    assert (home / "shared/checkpoints/step-00000012/ema").is_dir()
    assert (home / "shared/averages/power-0.05/step-00000008/weights").is_dir()


@pytest.mark.parametrize("name", ["two", "shared"])
@pytest.mark.parametrize("kind", ["ema", "power-0.05", "power-0.1"])
def test_any_number_of_ranks_has_the_averages_of_one(home: Path, name: str, kind: str) -> None:
    one, other = (find_weights(RunFolder(home / run), kind).read() for run in ("one", name))
    off = sum(float((other[key] - one[key]).square().sum()) for key in one) ** 0.5
    assert off < 1e-4 * sum(float(value.square().sum()) for value in one.values()) ** 0.5


def test_other_lengths_are_made_of_parts(home: Path) -> None:
    made = []
    for name in ("one", "shared"):
        assert main(["ema", str(home / name), "--length", "0.07"]) == 0
        made.append(find_weights(RunFolder(home / name), "posthoc-0.07").read())
    assert made[0].keys() == made[1].keys()
    assert all(torch.allclose(made[1][key], made[0][key], atol=2e-3) for key in made[0])
