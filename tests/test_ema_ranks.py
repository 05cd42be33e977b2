"""Averages on two ranks: in step without a word between them, sharded with the weights, and kept in parts."""

import json
from pathlib import Path

import pytest
import torch
from conftest import TINY
from process_kit import start

from dmf.runner.cli import main
from dmf.runner.folder import RunFolder
from dmf.runner.weights import find_weights

# each rank notes what its averages are at the end, and that nothing is exchanged while they follow
SCRIPT = """
import hashlib, json, sys
from pathlib import Path
import torch.distributed as dist
from dmf.runner.cli import main
from dmf.runner.training import averages, trainer

following = False

def quiet(name):
    call = getattr(dist, name)
    def checked(*given, **more):
        assert not following, f"{name} while an average follows"
        return call(*given, **more)
    setattr(dist, name, checked)

for name in ("all_reduce", "broadcast", "all_gather_into_tensor", "all_gather", "barrier"):
    quiet(name)

follow, finish = averages.Averaged.follow, trainer.Trainer.run

def followed(self, *given):
    global following
    following = True
    follow(self, *given)
    following = False

def finished(self):
    finish(self)
    marks = {}
    for one in self.state.averages:
        digest = hashlib.sha256()
        for value in one.network.state_dict().values():
            digest.update(getattr(value, "to_local", lambda: value)().detach().numpy().tobytes())
        marks[one.group] = digest.hexdigest()
    self.session.folder.joinpath(f"marks-{self.world.rank}.json").write_text(json.dumps(marks))

averages.Averaged.follow, trainer.Trainer.run = followed, finished
code = main([*sys.argv[1:], "name=two"])  # both in the same processes: most of a small run is starting them
sys.exit(code or main([*sys.argv[1:], "name=shared", "distributed.strategy=fsdp"]))
"""
EMA = "train.ema=[0.9, {name: power, length: 0.05, snapshots: 4}, {name: power, length: 0.1, snapshots: 4}]"
GROUPS = ("ema", "ema-power-0.05", "ema-power-0.1")


@pytest.fixture(name="home", scope="module")
def home_fixture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same training on one rank, on two, and on two that share the weights out."""
    home = tmp_path_factory.mktemp("ranks")
    (home / "tiny.yaml").write_text(TINY, encoding="utf-8")
    (home / "watched.py").write_text(SCRIPT, encoding="utf-8")
    words = ["train", home / "tiny.yaml", "--runs", home, EMA, "sample.per_class=1"]
    torchrun = ["torch.distributed.run", "--standalone", "--nproc-per-node", 2, home / "watched.py"]
    ranks = start(*words, module=torchrun)
    assert main([*map(str, words), "name=one"]) == 0
    out, error = ranks.communicate(timeout=300)
    assert ranks.returncode == 0, out + error
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
