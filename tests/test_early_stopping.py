"""The hook early_stopping: when it stops, what it refuses, and that a run that goes on goes on waiting."""

import json
import math
import random
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from process_kit import kill_in_training, start
from safetensors.torch import load_file

from dmf.plugins.hooks.early_stopping import EarlyStopping
from dmf.registry import HookCaller, read
from dmf.runner.session import Session
from dmf.runner.training.trainer import Trainer

Command = Callable[..., tuple[int, str, str]]
SCORED = (
    "evaluate={images: 0, during: {every: 48, images: 90, metrics: [{name: frechet, features: digits},"
    " {name: precision_recall, features: digits}]}}"
)


def run_of(steps: int = 100, better: Mapping[str, str] | None = None, start: int = 0, sampler: str = "heun") -> Any:
    tree = {"sampler": sampler, "evaluate": {"metrics": [], "seed": 0, "during": {"metrics": None}}}
    recipe = SimpleNamespace(train=SimpleNamespace(steps=steps), as_dict=lambda: tree)
    return SimpleNamespace(recipe=recipe, better=better or {}, start_step=start)


def stopped_at(hook: EarlyStopping, values: Sequence[float], on: str = "loss", run: Any = None) -> int | None:
    """The number of the point, from 1, at which it asks to stop."""
    answers = (
        hook.dmf_should_stop(run or run_of(), step, {on: value, "eval/step": step} if "/" in on else {on: value})
        for step, value in enumerate(values, 1)
    )
    return next((point for point, stop in enumerate(answers, 1) if stop), None)


@pytest.mark.parametrize(
    ("change", "counts_anew"),
    [
        ("evaluate.during.every=5", False),
        ("evaluate.metrics=[]", False),
        ("evaluate.during.metrics=[{name: frechet, features: digits}, kid]", False),
        ("evaluate.during.metrics=[kid, fid]", True),
        ("evaluate.during.metrics=[{name: frechet, features: digits}, {name: kernel, features: digits}]", False),
        ("evaluate.during.metrics=[{name: frechet, features: digits, layer: hidden}]", True),
        ("evaluate.seed=9", True),
        ("sampler.steps=9", True),
    ],
)
def test_scores_are_told_apart_by_what_they_depend_on(
    change: str, counts_anew: bool, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "dmf")
    on = "eval/frechet_digits_n200"
    hook = EarlyStopping(on=on, patience=3)
    for step, words in enumerate(([], [change]), 1):
        run = SimpleNamespace(recipe=read("digits_dit", words), better={}, start_step=0)
        assert not hook.dmf_should_stop(cast(Any, run), step, {on: 1.0, "eval/step": step})
    assert ("measured in another way than before" in caplog.text) == counts_anew


def test_scores_of_another_sampler_are_not_held_against_those_of_this_one() -> None:
    on = "eval/fid_n9"
    first = EarlyStopping(on=on, patience=3)
    assert stopped_at(first, [1.0, 2.0, 2.0], on) is None
    second = EarlyStopping(on=on, patience=3)
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    run = run_of(sampler="ddim")
    answers = [second.dmf_should_stop(run, step, {on: 9.0 - step / 9, "eval/step": step}) for step in range(4, 9)]
    assert not any(answers), "each is better than the one before"
    third = EarlyStopping(on=on, patience=3)
    third.load_state_dict(json.loads(json.dumps(first.state_dict())))
    assert third.dmf_should_stop(run_of(), 4, {on: 9.0, "eval/step": 4}), "measured as before"


def by_hand(values: Sequence[float], patience: int, min_delta: float, window: int, way: int) -> int | None:
    """From the whole row of values at once: the first point after whose best so many others stand."""
    means = [
        math.fsum(values[i - window + 1 : i + 1]) / window * way if i >= window - 1 else None
        for i in range(len(values))
    ]
    best, at = None, 0
    for i, mean in enumerate(means):
        if mean is None:
            continue
        if best is None or best - mean > min_delta:
            best, at = mean, i
        elif i - at == patience:
            return i + 1
    return None


@pytest.mark.parametrize("window", [1, 3])
@pytest.mark.parametrize("better", ["lower", "higher"])
def test_it_stops_where_the_whole_row_says(window: int, better: Any) -> None:
    numbers = random.Random(0)
    found = []
    for _ in range(50):
        way = 1 if better == "lower" else -1
        values = [way * numbers.gauss(1 / (1 + i / 10), 0.1) for i in range(60)]
        hook = EarlyStopping(patience=5, min_delta=0.05, window=window, better=better)
        found.append(stopped_at(hook, values))
        assert found[-1] == by_hand(values, 5, 0.05, window, way)
    assert len(set(found)) > 5  # it is not always the same point


def test_patience_of_one_stops_at_the_first_point_that_is_no_better(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "dmf")
    assert stopped_at(EarlyStopping(patience=1), [3.0, 2.0, 2.0, 1.0]) == 3
    assert stopped_at(EarlyStopping(patience=1, min_delta=0.5), [3.0, 2.6]) == 2
    assert "loss has not been better than 3 for 1 point" in caplog.messages
    assert stopped_at(EarlyStopping(patience=1), [3.0, 2.0, 1.0]) is None


def test_what_is_no_number_is_no_progress() -> None:
    assert stopped_at(EarlyStopping(patience=2), [1.0, math.nan, math.nan]) == 3
    assert stopped_at(EarlyStopping(patience=2), [math.nan, math.nan]) == 2
    assert stopped_at(EarlyStopping(patience=2), [math.nan, 1.0, math.inf, 0.5, 0.6]) is None


def test_points_before_a_step_do_not_count() -> None:
    assert stopped_at(EarlyStopping(patience=2, after=5), [1.0] * 20) == 8  # 6 is the first and the best


def test_a_metric_counts_once_an_evaluation_in_its_own_direction() -> None:
    hook, run = EarlyStopping(on="eval/p_n9", patience=2), run_of(better={"eval/p_n9": "higher"})
    answers = [
        hook.dmf_should_stop(run, step, {"loss": 1.0, **scores})
        for step, scores in enumerate(
            [
                {},
                {"eval/p_n9": 0.1, "eval/step": 1.0},
                {"eval/p_n9": 0.1, "eval/step": 1.0},  # the same one
                {"eval/p_n9": 0.1, "eval/step": 1.0},
                {"eval/p_n9": 0.2, "eval/step": 5.0},
                {"eval/p_n9": 0.15, "eval/step": 7.0},
                {"eval/p_n9": 0.1, "eval/step": 9.0},
            ],
            1,
        )
    ]
    assert answers == [False] * 6 + [True]
    falling = [0.5, 0.4, 0.3, 0.2]
    assert stopped_at(EarlyStopping(on="eval/p_n9", patience=3), falling, "eval/p_n9", run) == 4
    assert stopped_at(EarlyStopping(on="eval/p_n9", patience=3), falling, "eval/p_n9") is None
    assert stopped_at(EarlyStopping(on="eval/p_n9", patience=3, better="higher"), falling, "eval/p_n9") == 4


def test_it_goes_on_from_its_state_as_if_nothing_had_been() -> None:
    numbers = random.Random(1)
    values = [numbers.gauss(1 / (1 + i / 10), 0.1) for i in range(60)]
    whole = stopped_at(EarlyStopping(patience=6, window=3), values)
    assert whole is not None and whole > 9
    for cut in range(1, whole):
        before, after = EarlyStopping(patience=6, window=3), EarlyStopping(patience=6, window=3)
        assert stopped_at(before, values[:cut]) is None
        after.load_state_dict(json.loads(json.dumps(before.state_dict(), allow_nan=False)))
        assert stopped_at(after, values[cut:]) == whole - cut


@pytest.mark.parametrize("other", [{"on": "gradient_norm"}, {"window": 2}, {"better": "higher"}])
def test_what_was_counted_of_another_value_is_left(other: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    """Hooks may change between two starts: a best gradient norm is no loss to be held against."""
    caplog.set_level("INFO", "dmf")
    before, after, anew = EarlyStopping(patience=3), EarlyStopping(patience=3, **other), EarlyStopping(**other)
    assert stopped_at(before, [0.1, 0.2, 0.3, 0.4]) == 4
    after.load_state_dict(before.state_dict())
    assert after.state_dict() == anew.state_dict()
    assert "early_stopping counts anew" in caplog.text and '"on": "loss", "window": 1, "better": null' in caplog.text
    same = EarlyStopping(patience=9, min_delta=0.5, after=3)  # of what was counted these say nothing
    same.load_state_dict(before.state_dict())
    assert same.state_dict() == before.state_dict()


def test_stopped_it_stays_so_until_the_training_is_extended() -> None:
    hook = EarlyStopping(patience=2)
    assert stopped_at(hook, [1.0, 1.0, 1.0, 1.0]) == 3
    assert hook.dmf_should_stop(run_of(), 4, {"loss": 0.1})  # the run's note of its end is gone
    assert stopped_at(hook, [1.0] * 5, run=run_of(200)) == 2


def test_a_metric_that_nobody_computes_is_named_and_the_hook_left_out() -> None:
    said: list[str] = []
    hooks = HookCaller([EarlyStopping(on="eval/fod_n9")], said.append)
    for step, values in enumerate([{"loss": 1.0}, {"loss": 1.0, "eval/fid_n9": 3.0, "eval/step": 1.0}], 1):
        assert hooks.should_stop(run_of(), step, values) is None
    assert len(said) == 1 and "nobody computes eval/fod_n9; there are eval/fid_n9" in said[0]


def test_an_evaluation_of_an_earlier_start_need_not_have_the_metric() -> None:
    """Metrics may change between two starts: the next evaluation has the new one."""
    hook, run = EarlyStopping(on="eval/fid_n9", patience=1), run_of(start=4)
    assert not hook.dmf_should_stop(run, 5, {"loss": 1.0, "eval/kid_n9": 3.0, "eval/step": 4.0})
    assert not hook.dmf_should_stop(run, 7, {"loss": 1.0, "eval/fid_n9": 3.0, "eval/step": 6.0})
    with pytest.raises(ValueError, match="nobody computes"):
        hook.dmf_should_stop(run, 9, {"loss": 1.0, "eval/kid_n9": 3.0, "eval/step": 8.0})


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["hooks=[{name: early_stopping, on: lose}]"], "expected loss, gradient_norm, or a value of evaluate.during"),
        (["hooks=[{name: early_stopping, on: eval/fid_n9}]"], "evaluate.during.every is 0"),
        (["hooks=[{name: early_stopping, on: eval/frechet_digits}]", SCORED], "write eval/frechet_digits_n90"),
        (["hooks=[{name: early_stopping, on: eval/frechet_digits_n9}]", SCORED], "write eval/frechet_digits_n90"),
        (["hooks=[{name: early_stopping, patience: 0}]"], "an integer of at least 1"),
    ],
)
def test_a_recipe_that_could_not_stop_is_refused(
    tiny: Path, dmf_command: Command, words: list[str], sentence: str
) -> None:
    code, _, err = dmf_command("validate", tiny, *words)
    assert code == 2 and sentence in " ".join(err.split())


def test_a_training_ends_by_a_metric_in_its_direction(tiny: Path, dmf_command: Command) -> None:
    """A network that is not trained gets no better; then the run is done, until it is extended."""
    hook = "hooks=[{name: early_stopping, on: eval/recall_digits_n90, patience: 2}]"
    code, out, _ = dmf_command("train", tiny, SCORED, hook, "train.lr=1e-12", "log.every=1")
    assert code == 0 and "eval/recall_digits_n90 has not been better than" in out and "for 2 points" in out
    assert "\nearly_stopping stopped the training at step 7\n" in out  # as the recipe calls it
    lines = [json.loads(line) for line in Path("runs/tiny/evaluations.jsonl").read_text().splitlines()]
    assert lines[0]["better"]["recall_digits_n90"] == "higher" and lines[0]["better"]["frechet_digits_n90"] == "lower"
    assert lines[-1]["step"] == 6  # scores at 2, 4, 6; the third is the second without progress
    assert sorted(p.name for p in Path("runs/tiny/checkpoints").glob("step-*"))[-1] == "step-00000007"
    out = dmf_command("train", tiny, SCORED, "train.lr=1e-12", "log.every=1")[1]
    assert "tiny is done: 7 steps" in out and "a hook, such as early_stopping, ended it at step 7 of 12" in out
    assert dmf_command("train", tiny, SCORED, hook, "train.lr=1e-12", "log.every=1", "train.steps=16")[0] == 0
    assert read("runs/tiny/recipe.yaml").train.steps == 16
    assert sorted(p.name for p in Path("runs/tiny/checkpoints").glob("step-*"))[-1] == "step-00000011"


class Killed(BaseException):
    """As by a signal that nobody hears of."""


def kill(*given: Any) -> None:
    raise Killed


def kill_in_last_step(patched: pytest.MonkeyPatch, when: str) -> None:
    """Once the hook's wish is noted, when this comes next."""
    stop = Session.stopped_early

    def and_kill(self: Session, step: int) -> None:
        stop(self, step)
        patched.setattr(Trainer, when, kill)

    patched.setattr(Session, "stopped_early", and_kill)


def logged_steps() -> list[int]:
    return [json.loads(line)["step"] for line in Path("runs/tiny/history.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("when", ["save", "_show", "_score"])
def test_killed_in_the_step_that_is_its_last_it_takes_no_other(
    tiny: Path, dmf_command: Command, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    """Also where what comes with that step was not done."""
    words = [SCORED.replace("48", "24"), "hooks=[{name: early_stopping, on: eval/recall_digits_n90, patience: 1}]"]
    words += ["train.lr=1e-12", "log.every=1", "preview={every: 1, start: 3}", "checkpoint.every=2", "sampler.steps=1"]
    with monkeypatch.context() as patched, pytest.raises(Killed):
        kill_in_last_step(patched, when)
        dmf_command("train", tiny, *words)
    assert logged_steps() == [1, 2, 3]
    assert dmf_command("train", tiny, *words)[0] == 0
    assert logged_steps() == [1, 2, 3]
    scored = [json.loads(line)["step"] for line in Path("runs/tiny/evaluations.jsonl").read_text().splitlines()]
    assert scored == [1, 2, 3]
    assert max(Path("runs/tiny/checkpoints").glob("step-*")).name == "step-00000003"
    assert "is done" in dmf_command("train", tiny, *words)[1]


def test_a_stop_whose_checkpoint_never_came_is_none(
    tiny: Path, dmf_command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the hook the training passes that step, and a kill there is no end either."""
    words = ["train", tiny, "log.every=1", "checkpoint.every=1", "preview={every: 1, start: 1}", "sampler.steps=1"]
    with monkeypatch.context() as patched, pytest.raises(Killed):
        kill_in_last_step(patched, "save")
        dmf_command(*words, "train.lr=1e-12", "hooks=[{name: early_stopping, patience: 1, min_delta: 9, after: 1}]")
    last = max(logged_steps())
    with monkeypatch.context() as patched, pytest.raises(Killed):
        show = Trainer._show
        patched.setattr(Trainer, "_show", lambda self: kill() if self.state.step == last else show(self))
        dmf_command(*words, "train.lr=1e-12", "hooks=[]")
    assert dmf_command(*words, "train.lr=1e-12", "hooks=[]")[0] == 0
    assert max(logged_steps()) == 12 > last


def test_a_killed_run_goes_on_waiting(tiny: Path, dmf_command: Command) -> None:
    """Both end at the same step, with the same weights."""
    words = ["train.steps=400", "log.every=1", "checkpoint.every=3", "train.lr=1e-12"]
    words += ["hooks=[{name: early_stopping, patience: 60, window: 40, min_delta: 0.01}]"]
    assert dmf_command("train", tiny, "name=whole", *words)[0] == 0
    process = start("train", tiny, "name=killed", *words)
    assert kill_in_training(process, Path("runs/killed"), random.Random(0))
    assert dmf_command("train", tiny, "name=killed", *words)[0] == 0
    ends = [max(Path("runs", name, "checkpoints").glob("step-*")) for name in ("whole", "killed")]
    assert ends[0].name == ends[1].name and 100 <= int(ends[0].name[5:]) < 400
    one, other = (load_file(end / "model.safetensors") for end in ends)
    assert all(one[name].equal(other[name]) for name in one)
