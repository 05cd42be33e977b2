"""Precision: what is computed in it and what is not, the scale of the loss in fp16, and what is passed over."""

import json
import random
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from training_kit import apart, trainer, weights

from dmf.core.objectives.base import Attempt
from dmf.registry import read
from dmf.runner.training import precision
from dmf.runner.training.precision import LossScale, precision_of, tell_of_slowness
from dmf.runner.world import World

Command = Callable[..., tuple[int, str, str]]
ALONE = World(0, 1, torch.device("cpu"))
FP16 = "train.precision=fp16"


@pytest.mark.parametrize("name", ["bf16", "fp16"])
def test_the_network_is_rounded_and_nothing_else(name: str, tiny: Path) -> None:
    with trainer(tiny, f"train.precision={name}") as one, trainer(tiny, "name=plain") as plain:
        learner, seen = one.state.learner, list[torch.dtype]()
        for made in (learner, plain.state.learner):
            torch.manual_seed(0)
            for weight in made.parameters():
                torch.nn.init.normal_(weight, std=0.1)  # a new network gives zeros
        learner.backbone.register_forward_hook(lambda m, given, output: seen.append(output.dtype))
        inner = learner.objective

        def watched(attempt: Attempt) -> Tensor:
            parts = (attempt.output, attempt.target, attempt.error, attempt.weight, attempt.x)
            seen.extend(part.dtype for part in parts)
            return inner(attempt)

        learner.objective = watched
        drawn = one.take_step.draws(one.feed.batch(0), 0)
        losses, want = learner(*drawn), plain.state.learner(*drawn)
        assert seen == [getattr(torch, {"bf16": "bfloat16", "fp16": "float16"}[name]), *[torch.float32] * 5]
        assert losses.dtype == torch.float32
        assert 0 < apart(losses.detach(), want.detach()) < 0.02
        losses.sum().backward()
        assert {p.dtype for p in learner.parameters()} == {torch.float32}


def test_the_scale_follows_as_torchs_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "ROW", 3)
    monkeypatch.setattr(precision, "MOST", 2.0**40)
    scale, theirs = LossScale(ALONE), torch.amp.GradScaler("cpu", init_scale=2.0**16, growth_interval=3)
    weight = torch.nn.Parameter(torch.ones(2))
    optimizer, draws = torch.optim.SGD([weight], 0.1), random.Random(0)
    for _ in range(60):
        bad = draws.random() < 0.3
        weight.grad = torch.full((2,), float("inf") if bad else 1.0)
        theirs.scale(torch.ones(()))
        theirs.step(optimizer)
        theirs.update()
        assert bool(scale.judge(torch.tensor(bad), torch.ones(()))) is bad
        assert float(scale.value) == theirs.get_scale()
    assert scale.counts()[2] > 3


def test_a_scale_of_1_is_not_to_blame_and_none_grows_for_ever() -> None:
    yes, no, loss = torch.tensor(True), torch.tensor(False), torch.ones(())
    scale = LossScale(ALONE, value=2.0)
    assert [bool(scale.judge(yes, loss)) for _ in range(3)] == [True, False, False]
    assert float(scale.value) == 1.0
    scale = LossScale(ALONE, value=precision.MOST, row=precision.ROW - 1)
    scale.judge(no, loss)
    assert float(scale.value) == precision.MOST


def gradient(path: Path, *words: str, factor: float, value: float | None = None) -> Tensor:
    """Of the first batch's loss, of a factor on it."""
    with trainer(path, *words, "name=one", "train.steps=1") as one:
        learner, step = one.state.learner, one.take_step
        step.losses = lambda *drawn: learner(*drawn) * factor
        if one.state.scale is not None and value is not None:
            one.state.scale = LossScale(ALONE, value)
        step._gradients(step.draws(one.feed.batch(0), 0))
        if one.state.scale is not None:
            one.state.scale.unscale(learner.parameters())
        return torch.cat([p.grad.flatten() for p in learner.parameters() if p.grad is not None]) / factor


def test_small_gradients_do_not_vanish(tiny: Path) -> None:
    """Losses of 1e-6: in fp16 their gradients are zeros, but for the scale."""
    want = gradient(tiny, factor=1e-6)
    assert apart(gradient(tiny, FP16, factor=1e-6), want) < 0.02
    assert apart(gradient(tiny, FP16, factor=1e-6, value=1.0), want) > 0.5


def test_the_scale_is_gone_before_the_gradient_is_clipped(tiny: Path) -> None:
    with trainer(tiny, FP16) as one, trainer(tiny, "name=plain") as plain:
        for made in (one, plain):
            made.step()
        assert float(one.take_step.norm) == pytest.approx(float(plain.take_step.norm), rel=0.01)
        sizes = [
            sum(float(p.grad.square().sum()) for p in m.state.learner.parameters() if p.grad is not None)
            for m in (one, plain)
        ]
        assert sizes[0] == pytest.approx(sizes[1], rel=0.02) and sizes[1] <= 1.001


def test_an_overflow_is_no_bad_step_and_a_bad_loss_no_overflow(tiny: Path) -> None:
    with trainer(tiny, FP16) as one:
        state, step, learner = one.state, one.take_step, one.state.learner
        for factor, scale, overflows, bad in (
            (1e4, 2.0**15, 1, 0),
            (float("nan"), 2.0**15, 1, 1),
            (1.0, 2.0**15, 1, 1),
        ):
            before = weights(one)
            step.losses = lambda *drawn, by=factor: learner(*drawn) * by
            one.step()
            assert state.scale is not None
            assert (float(state.scale.value), int(state.scale.overflows), int(state.guard.total)) == (
                scale,
                overflows,
                bad,
            )
            assert torch.equal(weights(one), before) == (factor != 1.0)
        assert float(state.loss_steps) == 1 and torch.isfinite(state.loss_sum)


def test_a_loss_that_is_not_finite_is_seen_where_its_gradient_is(tiny: Path) -> None:
    """In the second of three pieces, and by the loss alone: nothing of its gradient shows it."""
    with trainer(tiny, "train.micro_batch=8") as one:
        learner, calls, before = one.state.learner, list[int](), weights(one)

        def losses(*drawn: object) -> Tensor:
            calls.append(1)
            found: Tensor = learner(*drawn)
            return found + float("inf") if len(calls) == 2 else found

        one.take_step.losses = losses
        one.step()
        assert int(one.state.guard.total) == 1 and torch.equal(weights(one), before)
        one.step()
        assert int(one.state.guard.total) == 1 and not torch.equal(weights(one), before)


def test_fp16_goes_on_bit_for_bit_with_its_scale(
    tiny: Path, dmf_command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "START", 2.0**24)  # too much: it falls in the first steps
    monkeypatch.setattr(LossScale.__init__, "__defaults__", (2.0**24, 0, 0))
    monkeypatch.setattr(precision, "ROW", 4)
    assert dmf_command("train", tiny, "name=whole", FP16)[0] == 0
    for steps in (5, 12):
        assert dmf_command("train", tiny, "name=parts", FP16, f"train.steps={steps}")[0] == 0
    runs = [tiny.parent / f"runs/{name}/checkpoints/step-00000012" for name in ("whole", "parts")]
    kept = [json.loads((run / "state.json").read_text())["loss_scale"] for run in runs]
    assert kept[0] == kept[1] and kept[0][0] < 2.0**24 and kept[0][2] > 0
    a, b = (load_file(run / "model.safetensors") for run in runs)
    assert all(torch.equal(a[name], b[name]) for name in a)
    values = json.loads((runs[0].parents[1] / "history.jsonl").read_text().splitlines()[-1])["values"]
    assert values["loss_scale"] == kept[0][0] and values["overflows"] == kept[0][2] and values["bad_steps"] == 0


def test_slow_arithmetic_is_told_of(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "V100")
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: False)
    gpu, cpu = torch.device("cuda"), torch.device("cpu")
    with caplog.at_level("WARNING"):
        for name, device in (("fp32", gpu), ("fp16", gpu), ("bf16", cpu)):
            tell_of_slowness(name, device)
        assert not caplog.records
        tell_of_slowness("bf16", gpu)
        tell_of_slowness("fp16", cpu)
    assert "V100 computes bf16 in place of units of its own" in caplog.text and "fp16 on a CPU is slower" in caplog.text


@pytest.mark.parametrize(
    ("device", "has", "found"), [("cpu", True, "fp32"), ("cuda", False, "fp32"), ("cuda", True, "bf16")]
)
def test_left_to_the_device_it_is_what_that_is_fast_in(
    monkeypatch: pytest.MonkeyPatch, device: str, has: bool, found: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: has and not including_emulation)
    world = World(0, 1, torch.device(device))
    assert precision_of(read("digits_dit"), world) == found
    assert precision_of(read("digits_dit", [FP16]), world) == "fp16"


def test_a_run_keeps_to_what_it_has_begun_with(
    tiny: Path, dmf_command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Begun where bf16 is fast, and gone on with where it is not."""
    both = ["train.steps=4", "checkpoint.every=2"]
    assert "a step: bf16" in dmf_command("train", tiny, *both, "name=straight", "train.precision=bf16")[1]
    with monkeypatch.context() as patch:
        patch.setattr("dmf.runner.training.trainer.precision_of", lambda *given: "bf16")
        dmf_command("train", tiny, "train.steps=2")
    out = dmf_command("train", tiny, *both)[1]
    assert "a step: bf16" in out
    assert json.loads(Path("runs/tiny/facts.json").read_text())["train.precision"] == "bf16"
    one, two = (load_file(f"runs/{name}/checkpoints/step-00000004/model.safetensors") for name in ("straight", "tiny"))
    assert all(torch.equal(one[key], two[key]) for key in one)
