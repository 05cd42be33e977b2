"""What fails in an evaluation takes nothing along: no other value, no image that is kept, no rank, no training."""

import contextlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fork_kit import Processes, on_ranks
from scoring_kit import ALONE, SPEC, Counting, Everything, images, scored, stream, whole
from torch import Tensor

from dmf.core import InMemory, Metric, Pixels
from dmf.plugins.metrics.bits_per_dim import BitsPerDim
from dmf.plugins.metrics.frechet import Frechet
from dmf.registry import UserError
from dmf.runner.evaluation import Named, Scoring
from dmf.runner.evaluation.evaluation import Evaluation
from dmf.runner.evaluation.streams import Generated, Real, Shown
from dmf.runner.feed import source_of
from dmf.runner.world import LocalError, World

Command = Callable[..., tuple[int, str, str]]
NO_MEMORY = torch.OutOfMemoryError("CUDA out of memory")
METRICS = "[{name: frechet, features: digits}, {name: kernel, features: digits, subsets: 3, subset_size: 40}]"
DURING = f"evaluate={{metrics: {METRICS}, during: {{every: 70, images: 90}}}}"


class Fails(Metric):
    """Breaks off at an image."""

    def __init__(self, error: Exception, at: int = 9) -> None:
        super().__init__()
        self.error, self.at = error, at

    def update(self, images: Tensor, **given: Any) -> None:
        if self.at in given["index"].tolist():
            raise self.error

    def protocol(self) -> dict[str, str]:
        return {"at": str(self.at)}

    def compute(self) -> dict[str, float]:
        return {"failed": 1.0}


class Mean(Metric):
    """The mean of the images."""

    def __init__(self, needs: set[Any], seen: list[str]) -> None:
        super().__init__()
        self.needs, self.seen = frozenset(needs), seen  # type: ignore[misc]
        self.add_state("total", torch.zeros((), dtype=torch.float64), "sum")

    def update(self, images: Tensor, **given: Any) -> None:
        self.seen.append("real" if given["real"] else "made")
        self.total = self.total + images.double().mean()

    def compute(self) -> dict[str, float]:
        return {"mean": float(self.total)}


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ValueError("too dark"), "b: too dark"),
        (NO_MEMORY, "b: out of memory: take a smaller batch"),
        (MemoryError(), "b: out of memory"),
    ],
)
def test_a_metric_that_fails_takes_nothing_from_the_others(error: Exception, said: str) -> None:
    shown: list[int] = []
    metrics: dict[str, Metric] = {"a": Everything(), "b": Fails(error), "c": Frechet(features=Counting())}
    made, real = images(40, 1), images(50, 2)
    found = scored(metrics, made, real, on_shown=lambda one: shown.extend(one.numbers.tolist()))
    assert found.results.keys() == {"n", "low", "high", "ordered", "weighted", "frechet_counting"}
    assert found.results["n"]["value"] == 40 and len(found.errors) == 1 and found.errors[0].startswith(said)
    assert found.complete and shown == list(range(40))
    with pytest.raises(UserError, match=said):
        whole(found)


class Strange(Mean):
    """What a metric from elsewhere may give."""

    def __init__(self, values: Any, pictures: Any = None) -> None:
        super().__init__(set(), [])
        self.values, self.shown = values, pictures or {}

    def compute(self) -> dict[str, float]:
        return self.values  # type: ignore[no-any-return]

    def pictures(self, real: Any) -> dict[str, Tensor]:
        return self.shown  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("metric", "said"),
    [
        (Strange(None), "b: compute() gave None; expected numbers by their names"),
        (Strange({"odd": "many"}), "b: compute() gave 'many' for odd; expected a number"),
        (Strange({"odd": torch.zeros(2)}), "for odd; expected a number"),
        (Strange({"odd": np.zeros(2)}), "for odd; expected a number"),
        (Strange({"odd": torch.tensor(1j)}), "for odd; expected a number"),
        (Strange({"odd": "3"}), "b: compute() gave '3' for odd; expected a number"),
        (Strange({"odd": True}), "b: compute() gave True for odd; expected a number"),
        (Strange({"odd": 1}, {"..": torch.zeros(3, 2, 2, dtype=torch.uint8)}), "a name that a file can have"),
        (Strange({3: 1.0}), "b: compute() gave a value called 3; expected a name in one line"),
        (Strange({"a\nb": 1.0}), "expected a name in one line"),
        (Strange({"odd": 1}, {"../out": torch.zeros(3, 2, 2, dtype=torch.uint8)}), "a name that a file can have"),
        (Strange({"odd": 1}, {"out": torch.zeros(3, 2, 2)}), "pictures() gave no uint8 tensor (C, H, W) for out"),
    ],
)
def test_a_metric_that_gives_no_values_takes_nothing_from_the_others(metric: Metric, said: str) -> None:
    found = scored({"a": Everything(), "b": metric}, images(20, 1), images(20, 2))
    assert found.results["n"]["value"] == 20 and len(found.errors) == 1 and said in found.errors[0]


def test_values_that_are_numbers_of_another_type_are_numbers() -> None:
    found = scored(
        {"b": Strange({"x": torch.tensor(2.5), "y": 3, "z": np.array(4.5), "w": np.float32(5)})}, images(5, 1)
    )
    assert {name: one["value"] for name, one in found.results.items()} == {"x": 2.5, "y": 3.0, "z": 4.5, "w": 5.0}


@pytest.mark.parametrize("options", [1, 2])
def test_a_metric_that_declares_no_protocol_is_told_apart_by_its_options(options: int) -> None:
    silent, own = Named("s", Strange({"x": 1.0}), f"s(how={options})"), Named("e", Everything(), "e(how=1)")
    scoring = Scoring([silent, own], ALONE, 16)
    found = scoring.score(stream(images(5, 1))).results
    assert found["x"]["protocol"]["metric"] == f"s(how={options})"
    assert ("metric" in found["n"]["protocol"]) == (type(own.metric).protocol is Metric.protocol)


@pytest.mark.parametrize(("wanted", "count"), [(False, 16), (True, 40)])
def test_without_a_metric_left_no_more_images_are_made_unless_they_are_wanted(wanted: bool, count: int) -> None:
    shown: list[int] = []
    metric = Fails(ValueError("too dark"))
    found = scored({"a": metric}, images(40, 1), on_shown=lambda one: shown.extend(one.numbers.tolist()), wanted=wanted)
    assert found.errors == ("a: too dark",) and found.complete == wanted and len(shown) == count


def test_a_bug_in_a_metric_is_no_missing_value() -> None:
    with pytest.raises(TypeError, match="a bug"):
        scored({"a": Everything(), "b": Fails(TypeError("a bug"))}, images(40, 1))


def test_held_out_images_alone_come_before_the_samples_and_outlast_them() -> None:
    seen: list[str] = []

    def breaks(one: Shown) -> None:
        seen.append("shown")
        raise UserError("the disk is full")

    metrics: dict[str, Metric] = {"a": Everything(), "b": Mean({"held_out"}, seen)}
    found = scored(metrics, images(40, 1), held_out=images(12, 2), on_shown=breaks)
    assert seen == ["real", "shown"] and found.results.keys() == {"mean"}
    assert found.errors == ("the disk is full",) and not found.complete


def test_a_metric_whose_names_never_differ_is_refused_twice_at_once() -> None:
    scoring = Scoring([Named("b", BitsPerDim()), Named("b", BitsPerDim(probes=2))], ALONE, 16)
    with pytest.raises(UserError, match="b is there twice"):
        scoring.check(SPEC, "noise", 40, model=True)


class Breaking(Real):
    """Images that one rank cannot have."""

    def batches(self, world: World, batch_size: int) -> Iterator[Shown]:
        for at, shown in enumerate(super().batches(world, batch_size)):
            if world.rank == 1 and at == 1:
                raise LocalError("sampler: it gives up")
            yield shown


def fails_on(world: World) -> None:
    """Images 16 to 31 are those of rank 1, in the second round again, and the last round is rank 0's alone."""
    metrics: dict[str, Metric] = {"a": Everything(), "b": Fails(NO_MEMORY, 20), "c": Fails(ValueError("dark"), 3)}
    found = scored(metrics, images(70, 1), world=world)
    assert found.results["n"]["value"] == 70 and found.complete
    assert [error[:6] for error in found.errors] == ["b: out", "c: dar"]
    data: InMemory = images(70, 1)
    for _ in range(2):  # ranks are together again after it
        broken = Breaking(data, source_of(data, torch.device("cpu")), "broken")
        found = Scoring([Named("a", Everything())], world, 16).score(broken)
        assert found.errors == ("sampler: it gives up",) and not found.complete and not found.results
    assert scored({"a": Everything()}, images(70, 1), world=world).results["n"]["value"] == 70


def test_ranks_agree_on_what_failed_on_one_of_them() -> None:
    on_ranks(2, fails_on)


def refuse(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(self: Frechet) -> dict[str, float]:
        raise ValueError("these images are too much alike")

    monkeypatch.setattr(Frechet, "compute", refused)


def test_what_the_others_gave_and_the_images_are_kept(
    tiny: Path, dmf_command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    dmf_command("train", tiny, "train.steps=1")
    refuse(monkeypatch)
    words = ["--images", 70, "--metrics", METRICS, "--json", "r.json", "--save-images", "made.npz"]
    code, out, err = dmf_command("evaluate", "tiny", *words)
    assert code == 2 and "evaluate.metrics: frechet: these images are too much alike" in err, err
    assert "the other values are there" in err and "Traceback" not in err
    assert json.loads(Path("r.json").read_text()).keys() == {"kernel_digits", "kernel_digits_sd"}
    assert "kernel_digits" in out and len(list(Path("runs/tiny/evaluation").glob("*.json"))) == 1
    assert len(np.load("made.npz")["arr_0"]) == 70
    code, out, err = dmf_command("run", "tiny.yaml", f"evaluate={{images: 70, metrics: {METRICS}}}")
    assert code == 2 and "kernel_digits" in json.loads(Path("runs/tiny/metrics.json").read_text()), err


def test_a_seed_that_fails_takes_nothing_from_the_others(
    tiny: Path, dmf_command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    dmf_command("train", tiny, "train.steps=1")
    whole = Generated.batches

    def gives_up(self: Generated, world: World, batch_size: int) -> Iterator[Shown]:
        if self.recipe.evaluate.seed == 4:
            raise LocalError("sampler: it gives up")
        return whole(self, world, batch_size)

    monkeypatch.setattr(Generated, "batches", gives_up)
    words = ["--images", 70, "--metrics", METRICS, "--json", "r.json", "--repeats", 3, "--seed", 3]
    code, out, err = dmf_command("evaluate", "tiny", *words)
    assert code == 2 and "seed 4: sampler: it gives up" in err, err
    assert "frechet_digits is of 2 of 3 seeds: the images of seed 4 gave none" in out
    assert len(json.loads(Path("r.json").read_text())["frechet_digits"]["values"]) == 2


@pytest.mark.parametrize("words", [["evaluate", "tiny", "--metrics", "frechet_digits,bits_per_dim"], ["train"]])
def test_a_codec_that_bits_cannot_be_counted_of_is_told_before_the_work(
    tiny: Path, dmf_command: Command, monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    dmf_command("train", tiny, "train.steps=1", "name=other")
    bits = "[{name: bits_per_dim}]"
    monkeypatch.setattr(Pixels, "grey_level", None)
    monkeypatch.setattr(Evaluation, "run", lambda *given, **more: pytest.fail("the work began"))
    if words == ["train"]:
        command = ["train", tiny, f"evaluate={{during: {{every: 70, metrics: {bits}}}}}"]
    else:
        command = ["evaluate", "other", "--images", "70", "--metrics", bits]
    code, _, err = dmf_command(*command)
    assert code == 2 and "bits_per_dim: bits are counted on pixels" in err and "Traceback" not in err, err
    assert not Path("runs/tiny").exists()


def lines() -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path("runs/tiny/evaluations.jsonl").read_text().splitlines()]


def test_too_little_memory_costs_no_training_and_is_not_asked_for_again(
    tiny: Path, dmf_command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_memory(self: Generated, world: World, batch_size: int) -> Iterator[Shown]:
        raise NO_MEMORY

    monkeypatch.setattr(Generated, "batches", no_memory)
    code, out, err = dmf_command("train", tiny, DURING, "train.steps=6")
    assert code == 0 and "no evaluation at step 3: out of memory: take a smaller batch" in err, out + err
    assert [(one["step"], one["results"]) for one in lines()] == [(3, {}), (6, {})]
    monkeypatch.undo()


def breaks_on_rank_1(words: list[str], screen: str) -> None:
    """A command in which the second batch of samples of rank 1 finds no memory, at step 3."""
    import fork_kit

    whole = Generated.batches

    def batches(self: Generated, world: World, batch_size: int) -> Iterator[Shown]:
        for at, shown in enumerate(whole(self, world, batch_size)):
            if (world.rank, at, self.trained.step) == (1, 1, 3):
                raise NO_MEMORY
            yield shown

    Generated.batches = batches  # type: ignore[method-assign]
    fork_kit._command(words, screen)


def test_too_little_memory_on_one_rank_costs_no_training_on_any(tiny: Path) -> None:
    screen = Path("screen.txt").absolute()
    during = DURING.replace("{metrics", "{batch_size: 16, metrics")
    ranks = Processes(2, breaks_on_rank_1, ["train", str(tiny), during, "train.steps=6"], str(screen))
    said = "" if not ranks.failed(150) else screen.read_text()
    assert ranks.codes() == [0, 0], said
    assert screen.read_text().count("no evaluation at step 3: out of memory") == 1
    assert [(one["step"], len(one["results"])) for one in lines()] == [(3, 0), (6, 3)]


class Killed(BaseException):
    """No word is left of it."""


@pytest.mark.parametrize(
    ("end", "cause"),
    [
        (Killed(), "if there was too little memory"),
        (IndexError("a bug"), "IndexError: a bug"),
        (RuntimeError("[gloo/pair.cc] Connection closed by peer"), "another rank has ended; if there was too little"),
        (RuntimeError("[gloo/pair.cc] Timed out"), "another rank did not answer in 1800 s"),
    ],
)
def test_a_process_that_dies_in_its_scores_dies_three_times_at_most(
    tiny: Path, dmf_command: Command, monkeypatch: pytest.MonkeyPatch, end: BaseException, cause: str
) -> None:
    def killed(*given: Any, **more: Any) -> None:
        raise end

    monkeypatch.setattr(Evaluation, "run", killed)
    words = ["train", tiny, DURING, "train.steps=3"]
    for _ in range(3):
        with contextlib.suppress(Killed, IndexError):
            assert dmf_command(*words)[0] == 1
    code, _, err = dmf_command(*words)
    assert code == 0 and f"no evaluation at step 3: the process has ended in it 3 times: {cause}" in err, err
    assert [one["step"] for one in lines()] == [3] and "is done" in dmf_command(*words)[1]
