"""The small parts of the runner: learning rate, average, guard, optimizer state, pictures, summary, journal."""

import errno
import json
import math
from itertools import combinations, pairwise
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from dmf.core import DataSpec, load_optimizer_state, optimizer_state
from dmf.core.averages import Fixed
from dmf.files.lettering import written_names
from dmf.files.sheets import labelled_sheet, sheet, training_sheet
from dmf.registry import build, read
from dmf.runner import journal as journal_of
from dmf.runner.journal import Journal
from dmf.runner.summary import network_summary, parameters
from dmf.runner.training.averages import averages_of
from dmf.runner.training.guard import Guard
from dmf.runner.training.optimizer import build_optimizer
from dmf.runner.training.rates import rates_of
from dmf.runner.trouble import CannotWrite


def test_the_rate_warms_up_and_decays_in_steps(tiny: Path) -> None:
    recipe = read(tiny, ["train.warmup=4", "train.decay=cosine", "train.steps=104"])
    rates, size = rates_of(recipe), recipe.train.batch_size
    factors = [rates.factor(step * size, 104 * size) for step in range(104)]
    assert factors[:4] == [0.25, 0.5, 0.75, 1.0]
    assert factors[54] == pytest.approx(0.5)  # half way through the decay
    assert all(a >= b for a, b in pairwise(factors[4:])) and factors[-1] < 1e-3


def test_an_extended_run_keeps_the_last_rate(tiny: Path) -> None:
    rates = rates_of(read(tiny, ["train.decay=cosine", "train.steps=200"]))
    assert rates.factor(100, 100) == rates.factor(150, 100) == pytest.approx(0, abs=1e-9)


def test_the_average_is_the_weighted_sum_of_all_weights() -> None:
    network = nn.Linear(1, 1, bias=False)
    network.weight.data.fill_(0.0)
    (average,) = averages_of([Fixed(decay=0.9)], network)
    want = 0.0
    for step in range(30):
        network.weight.data.fill_(float(step))
        average.follow(network, step, 24)
        decay = min(0.9, (1 + step) / (10 + step))
        want = decay * want + (1 - decay) * step
    assert float(average.network.weight.detach()) == pytest.approx(want, rel=1e-6)
    assert float(network.weight.detach()) == 29.0  # the network itself is untouched


def test_the_guard_counts_rows_and_names_the_first() -> None:
    guard = Guard(torch.device("cpu"), limit=2)
    fine, bad = torch.tensor(False), torch.tensor(True)
    for is_bad, seen in [(bad, 0), (fine, 8), (bad, 16)]:
        guard.judge(is_bad, seen)
    assert guard.counts() == (2, 1, 1, 16) and not guard.exceeded()
    guard.judge(bad, 24)
    assert guard.counts() == (3, 2, 2, 16) and guard.exceeded()
    for seen in (32, 40):  # good steps before anybody looks, and the beginning of another row
        guard.judge(fine if seen == 32 else bad, seen)
    assert guard.counts() == (4, 1, 2, 16) and guard.exceeded()


def test_a_bad_step_changes_no_weight_and_no_moment(tiny: Path) -> None:
    torch.manual_seed(0)
    network = nn.Linear(3, 3)
    optimizer = build_optimizer(read(tiny), network)
    for scale in (1.0, math.nan):
        before = [p.detach().clone() for p in network.parameters()]
        moments = {k: v.clone() for k, v in optimizer_state(optimizer, network)[0].items()}
        optimizer.zero_grad()
        (network(torch.ones(2, 3)).sum() * scale).backward()
        optimizer.found_inf = torch.tensor(float(not math.isfinite(scale)))  # type: ignore[attr-defined]
        optimizer.step()
    assert all(torch.equal(a, b) for a, b in zip(before, network.parameters(), strict=True))
    assert all(torch.equal(value, moments[key]) for key, value in optimizer_state(optimizer, network)[0].items())


def test_the_optimizers_state_goes_through_json_and_tensors(tiny: Path) -> None:
    torch.manual_seed(0)
    networks = [nn.Linear(3, 3) for _ in range(2)]
    networks[1].load_state_dict(networks[0].state_dict())
    optimizers = [build_optimizer(read(tiny), network) for network in networks]
    networks[0](torch.ones(2, 3)).sum().backward()
    optimizers[0].step()
    networks[1].load_state_dict(networks[0].state_dict())
    tensors, plain = optimizer_state(optimizers[0], networks[0])
    copies = {name: value.clone() for name, value in tensors.items()}
    load_optimizer_state(optimizers[1], networks[1], copies, json.loads(json.dumps(plain)))
    for network, optimizer in zip(networks, optimizers, strict=True):
        optimizer.zero_grad()
        network(torch.ones(2, 3)).square().sum().backward()
        optimizer.step()
    assert torch.equal(networks[0].weight, networks[1].weight)


def test_a_sheet_shows_every_image_enlarged_and_unblurred() -> None:
    images = torch.arange(6, dtype=torch.uint8).reshape(6, 1, 1, 1).expand(6, 1, 8, 8) * 40
    page = sheet(images, columns=3, row_names=["a", "b"])
    assert page.dtype == torch.uint8 and page.shape[0] == 3 and page.shape[1] == 2 * (48 + 4) + 4
    assert {int(v) for v in images.unique()} <= {int(v) for v in page.unique()}
    plain = sheet(images, columns=3)
    assert plain.shape == (3, 2 * 52 + 4, 3 * 52 + 4) and int(plain[0, 10, 10]) == 0 and int(plain[0, 70, 130]) == 200


def test_labelled_images_stand_in_rows_of_their_class() -> None:
    images = torch.tensor([0, 100, 0, 100, 0], dtype=torch.uint8).reshape(5, 1, 1, 1).expand(5, 1, 48, 48)
    page = labelled_sheet(images, [0, 1, 0, 1, 0], ["zero", "one"])
    assert int(page[0, 20, -20]) == 0 and int(page[0, 72, -20]) == 255  # three zeros; two ones and a blank
    assert int(page[0, 72, -72]) == 100


def test_names_of_classes_are_written_in_letters_that_there_are() -> None:
    black = torch.zeros(2, 3, 48, 48, dtype=torch.uint8)

    def written(name: str) -> Tensor:
        return labelled_sheet(black, [0, 1], [name, "wide enough"])[:, :52]

    signs = [written(name) for name in ("ö", "ü", "γ", "д", "猫", "class 1")]
    assert not any(torch.equal(a, b) for a, b in combinations(signs, 2))
    assert torch.equal(written("猫"), written("class 0")), "where a letter is missing: its number, never a box"
    assert torch.equal(written("o\u0308"), written("ö")), "as a Mac writes it"
    assert written_names(["cat", "猫 of old", "", "x" * 30]) == ["cat", "class 1", "class 2", "x" * 23 + "…"]


def test_the_sheet_of_training_data_without_labels_is_a_square() -> None:
    assert training_sheet(torch.zeros(9, 1, 48, 48, dtype=torch.uint8), None, (), per_class=3).shape == (3, 160, 160)


def test_the_summary_counts_every_parameter() -> None:
    spec = DataSpec((1, 8, 8), tuple("0123456789"))
    network = build("backbone", "dit", spec, hidden=32, depth=2, heads=2)
    text = network_summary(network, spec)
    assert f"{parameters(network):,}" in text.splitlines()[1] and "1x1x8x8" in text.splitlines()[1]
    assert "layers.1" in text and network.training


def test_the_journal_forgets_what_came_after_the_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    journal = Journal(path, 0)
    for step in (2, 4, 6):
        journal.write(step, values={"loss": 1.0})
    journal.close()
    path.write_text(path.read_text() + '{"step": 8, "val')  # cut off by a crash
    Journal(path, 4).close()
    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [2, 4]


@pytest.mark.parametrize("torn", ["\0" * 40, '{"step": 3, "val', "7", '{"values": {}}', '{"step": 3, "a": "\udcff"}'])
def test_a_damaged_line_of_the_journal_is_left_out_and_told(
    tmp_path: Path, torn: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "history.jsonl"
    lines = ['{"step": 2}', torn, '{"step": 4}', ""]
    path.write_bytes("\n".join(lines).encode("utf-8", "surrogateescape"))
    journal = Journal(path, 4)
    assert journal.last == {"step": 4}
    steps = [json.loads(line)["step"] for line in path.read_text(encoding="utf-8").splitlines()]
    readable = torn.startswith('{"step": 3, "a"')  # one letter of it is lost
    assert steps == ([2, 3, 4] if readable else [2, 4]) and ("1 damaged line" in caplog.text) != readable


def test_a_line_that_lacks_what_it_is_for_is_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "evaluations.jsonl"
    path.write_text('{"step": 2, "results": {}}\n{"step": 4}\n{"step": 5, "results": 3}\n')
    assert Journal(path, 9, "results").last == {"step": 2, "results": {}}
    assert "2 damaged line(s) left out" in caplog.text and path.read_text() == '{"step": 2, "results": {}}\n'


def test_a_journal_with_nothing_to_cut_off_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "history.jsonl"
    path.write_text('{"step": 2}\n{"step": 4}\n')
    monkeypatch.setattr(journal_of, "write_text", no_room)
    assert Journal(path, 4).last == {"step": 4}
    with pytest.raises(CannotWrite, match=r"history.jsonl could not be written"):
        Journal(path, 2)
    assert path.read_text() == '{"step": 2}\n{"step": 4}\n'


def no_room(*given: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")
