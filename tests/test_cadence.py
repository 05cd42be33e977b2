"""What is due after a step, and which checkpoints stay."""

import json
import logging
from collections.abc import Callable
from pathlib import Path

import pytest
from checkpoints_kit import saver, weights
from PIL import Image

from dmf.registry import UserError, read
from dmf.registry.recipe_types import Checkpoint
from dmf.runner.checkpoints import best_step, check_best, keeping, staying, steps
from dmf.runner.evaluation.results import decisive, differing
from dmf.runner.training.cadence import Cadence, checkpoint_due

Command = Callable[..., tuple[int, str, str]]


def due(*words: str, last: int = 20) -> list[int]:
    recipe = read("digits_dit", [f"train.steps={last}", "train.batch_size=10", *words])
    return [step for step in range(last + 1) if checkpoint_due(recipe, step)]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["checkpoint.every=6"], [6, 12, 18, 20]),
        (["checkpoint.every=null"], [20]),
        (["checkpoint={every: 8, keep_every: 5}"], [5, 8, 10, 15, 16, 20]),
        (["checkpoint={every: 15, best: fid}", "evaluate.during.every=65"], [7, 13, 15, 20]),
        (["checkpoint={every: 15, best: loss}", "evaluate.during.every=65"], [15, 20]),
        (["checkpoint={every: 15}", "evaluate.during.every=65"], [15, 20]),
    ],
)
def test_steps_with_a_checkpoint(words: list[str], expected: list[int]) -> None:
    assert due(*words) == expected


def test_the_clock() -> None:
    now = 0.0
    recipe = read("digits_dit", ["checkpoint={every: 100, minutes: 2}"])
    cadence = Cadence(recipe, lambda: now)
    now = 119.0
    assert not cadence.overdue()
    now = 120.0
    assert cadence.overdue() and cadence.checkpoint(3, cadence.overdue()) and not cadence.checkpoint(3)
    cadence.saved()
    now = 239.0
    assert not cadence.overdue()
    now = 1e9
    assert not Cadence(read("digits_dit", []), lambda: now).overdue()


def test_points_and_sheets() -> None:
    cadence = Cadence(read("digits_dit", ["train.steps=10", "log.every=4", "preview={every: 3, start: 4}"]))
    assert [s for s in range(1, 11) if cadence.point(s)] == [4, 8, 10]
    assert [s for s in range(11) if cadence.sheet(s)] == [6, 9]
    assert Cadence(read("digits_dit", ["preview={every: 3}"])).sheet(0)


def test_which_stay() -> None:
    there = [2, 4, 5, 6, 8, 10]
    assert staying(there, Checkpoint(keep=2), None) == [8, 10]
    assert staying(there, Checkpoint(keep=1, keep_every=5), None) == [5, 10]
    assert staying(there, Checkpoint(keep=1, keep_every=4), 2) == [2, 4, 8, 10]
    assert staying([], Checkpoint(), 3) == []


def test_the_best_stays_until_a_better_one(tmp_path: Path) -> None:
    writes = saver(tmp_path, keep=1, best="fid")
    values = {1: 9.0, 2: 5.0, 3: 5.0, 4: float("nan"), 5: 7.0, 6: 4.0, 7: 8.0}
    seen = []
    for step, value in values.items():
        writes.save(step, weights(step), {})
        writes.judge(step, {"fid": value, "other": -step}, {"fid": "lower", "other": "lower"})
        seen.append((best_step(tmp_path), steps(tmp_path)))
    # of equal ones the first; one that is no number is none
    assert seen == [(1, [1]), (2, [2]), (2, [2, 3]), (2, [2, 4]), (2, [2, 5]), (6, [6]), (6, [6, 7])]
    higher = saver(tmp_path / "more", keep=1, best="fid")
    (tmp_path / "more").mkdir()
    for step, value in ((1, 3.0), (2, 4.0), (3, 2.0)):
        higher.save(step, weights(step), {})
        higher.judge(step, {"fid": value}, {"fid": "higher"})
    assert (best_step(tmp_path / "more"), steps(tmp_path / "more")) == (2, [2, 3])


def test_a_best_of_another_protocol_is_no_measure(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    writes = saver(tmp_path, keep=1, best="fid")
    few, many = {"images": "10", "sampler": "ddim"}, {"images": "200", "sampler": "ddim"}
    with caplog.at_level(logging.INFO):
        for step, value, protocol in ((1, 9.0, many), (2, 21.0, few), (3, 32.0, few), (4, 20.0, few)):
            writes.save(step, weights(step), {})
            writes.judge(step, {"fid": value}, {"fid": "lower"}, {"fid": protocol})
    assert best_step(tmp_path) == 4
    told = [line for line in caplog.messages if "in another way" in line]
    assert len(told) == 1 and "of step 1, was measured in another way (images): step 2 is held" in told[0]


def test_a_best_that_says_nothing_of_its_protocol_is_held_against(tmp_path: Path) -> None:
    writes = saver(tmp_path, keep=1, best="fid")
    for step, value in ((1, 5.0), (2, 9.0)):
        writes.save(step, weights(step), {})
        writes.judge(step, {"fid": value}, {"fid": "lower"}, {"fid": {"images": "9"}})
        pointer = tmp_path / keeping.POINTER
        pointer.write_text(json.dumps({**json.loads(pointer.read_text()), "protocol": None}))
    assert best_step(tmp_path) == 1


def test_what_is_decisive_of_a_protocol_is_what_keeps_values_apart() -> None:
    one = {"images": "9", "trained_steps": "5", "version.torch": "2", "data": "a", "data.fingerprint": "f"}
    other = {**one, "trained_steps": "9", "version.torch": "3", "data": "b", "evaluations": "61"}  # of an adaptive one
    assert differing(one, other) == []
    assert decisive(one) == decisive(other) == {"images": "9", "data.fingerprint": "f"}


def test_a_training_that_goes_on_with_another_sampler_finds_its_best_anew(tiny: Path, dmf_command: Command) -> None:
    words = [
        "evaluate={metrics: [{name: frechet, features: digits}], during: {every: 96, images: 60}}",
        "checkpoint={every: null, best: frechet_digits, keep: 1}",
    ]
    assert dmf_command("train", tiny, *words, "train.steps=8")[0] == 0
    folder = Path("runs/tiny/checkpoints")
    pointer = folder / keeping.POINTER
    pointer.write_text(json.dumps({**json.loads(pointer.read_text()), "value": 0.0}))  # nothing is better than that
    code, out, err = dmf_command("train", tiny, *words, "sampler.steps=2")
    assert code == 0 and "was measured in another way (steps)" in out + err, out + err
    assert best_step(folder) == 12


def test_a_pointer_to_a_checkpoint_that_is_gone_is_none(tmp_path: Path) -> None:
    writes = saver(tmp_path, keep=2, best="loss")
    writes.save(1, weights(1), {})
    writes.judge(1, {"loss": 1.0}, {"loss": "lower"})
    (tmp_path / "step-00000001").rename(tmp_path / "damaged-step-00000001")
    assert best_step(tmp_path) is None
    writes.save(2, weights(2), {})
    writes.judge(2, {"loss": 2.0}, {"loss": "lower"})
    assert best_step(tmp_path) == 2


def test_the_best_needs_what_it_is_judged_by(tiny: Path, dmf_command: Command) -> None:
    with pytest.raises(UserError, match=r"checkpoint.best: fid is measured by evaluations .*evaluate.during.every"):
        check_best(read("digits_dit", ["checkpoint.best=fid", "evaluate.during.every=0"]))
    check_best(read("digits_dit", ["checkpoint.best=loss", "evaluate.during.every=0"]))
    assert dmf_command("validate", tiny, "checkpoint.best=fid", "evaluate.during.every=0")[0] == 2


def test_a_training_keeps_the_best_by_its_evaluations(tiny: Path, dmf_command: Command) -> None:
    metric = "evaluate={metrics: [{name: frechet, features: digits}], during: {every: 70, images: 60}}"
    code, _, err = dmf_command("train", tiny, metric, "checkpoint={every: null, best: frechet_digit, keep: 1}")
    assert code == 2 and "did you mean 'frechet_digits'?" in err and "Traceback" not in err
    code, out, err = dmf_command("train", tiny, metric, "checkpoint={every: null, best: frechet_digits, keep: 1}")
    assert code == 0, out + err
    lines = [json.loads(line) for line in Path("runs/tiny/evaluations.jsonl").read_text().splitlines()]
    scores = {line["step"]: line["results"]["frechet_digits_n60"]["value"] for line in lines}
    best = min(scores, key=lambda step: scores[step])
    folder = Path("runs/tiny/checkpoints")
    assert best_step(folder) == best and steps(folder) == sorted({best, 12})


def test_checkpoints_by_the_clock(tiny: Path, dmf_command: Command) -> None:
    assert dmf_command("train", tiny, "checkpoint={every: null, minutes: 1e-9, keep: 20}")[0] == 0
    assert steps(Path("runs/tiny/checkpoints")) == list(range(1, 13))


def test_a_run_that_dies_before_the_best_is_noted_notes_it_when_it_goes_on(
    tiny: Path, dmf_command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [
        "evaluate={metrics: [{name: frechet, features: digits}], during: {every: 70, images: 60}}",
        "checkpoint={every: null, best: frechet_digits, keep: 1}",
    ]
    assert dmf_command("train", tiny, "name=straight", *words)[0] == 0
    best = best_step(Path("runs/straight/checkpoints"))

    def dies(folder: Path, verdict: keeping.Verdict) -> bool:
        if verdict.step == best:
            raise RuntimeError("a crash")
        return note(folder, verdict)

    note = keeping.note
    with monkeypatch.context() as patch:
        patch.setattr(keeping, "note", dies)
        with pytest.raises(RuntimeError, match="a crash"):
            dmf_command("train", tiny, *words)
    assert best_step(Path("runs/tiny/checkpoints")) != best
    assert dmf_command("train", tiny, *words)[0] == 0
    assert best_step(Path("runs/tiny/checkpoints")) == best


def test_sheets_of_samples_compare_across_time_and_after_a_stop(tiny: Path, dmf_command: Command) -> None:
    words = ["preview={every: 2, start: 6, per_class: 1}"]
    assert dmf_command("train", tiny, "name=straight", *words)[0] == 0
    for last in (7, 12):
        assert dmf_command("train", tiny, f"train.steps={last}", *words)[0] == 0
    sheets = sorted(path.name for path in Path("runs/straight/samples").glob("step-*.png"))
    assert sheets == [f"step-{step:08d}.png" for step in (6, 8, 10, 12)]
    for name in sheets:
        one, two = (Path(f"runs/{run}/samples/{name}") for run in ("straight", "tiny"))
        assert Image.open(one).tobytes() == Image.open(two).tobytes()
