"""Scoring of sets: one pass, an extractor a batch once, what is refused before the work, held-out images, pairs."""

import copy
import json
import logging
from typing import Any

import pytest
import torch
from scoring_kit import ALONE, SPEC, Counting, images, scored, stream, whole
from torch import Tensor

from dmf.core import DataSpec, FeatureMetric, InMemory, Metric, Statistics
from dmf.plugins.metrics.frechet import Frechet
from dmf.plugins.metrics.kernel import Kernel
from dmf.registry import UserError
from dmf.runner.evaluation import Named, Scoring
from dmf.runner.evaluation.better import ways
from dmf.runner.evaluation.streams import Shown


class Seeing(Metric):
    """Keeps the calls of update.

    Args:
        needs: Of the metric.
        name: Of its value.
        held_out_images: How many of those it wants.
    """

    def __init__(self, needs: set[Any] | None = None, name: str = "seen", held_out_images: int | None = None) -> None:
        super().__init__()
        self.needs = frozenset(needs or ())  # type: ignore[misc]
        self.name, self.held_out_images = name, held_out_images
        self.calls: list[dict[str, Any]] = []

    def update(self, images: Tensor, **given: Any) -> None:
        self.calls.append({"images": images, **given})

    def compute(self) -> dict[str, float]:
        return {self.name: float(len(self.calls))}

    def protocol(self) -> dict[str, str]:
        return {"who": self.name}

    def numbers(self, real: bool) -> list[int]:
        return [int(n) for call in self.calls if call["real"] == real for n in call["index"]]


class First(FeatureMetric):
    """The mean of the first feature of generated images."""

    def __init__(self, features: Any, layer: str | None = None) -> None:
        super().__init__(features, layer)
        self.add_state("total", torch.zeros((), dtype=torch.float64), "sum")

    def take(self, f: Tensor, *, real: bool, labels: Tensor | None, index: Tensor | None) -> None:
        self.total = self.total + f[:, 0].sum(dtype=torch.float64)

    def compute(self) -> dict[str, float]:
        return {f"first_{self.feature_name}": float(self.total)}


class Blind(Counting):
    """Nothing finite of an image that is white."""

    def __call__(self, images: Tensor, layers: Any) -> dict[str, Tensor]:
        white = (images == 255).flatten(1).all(1)[:, None]
        return {name: f.masked_fill(white, float("nan")) for name, f in super().__call__(images, layers).items()}


def test_metrics_of_equal_extractors_share_one_and_its_pass() -> None:
    a, b, c = First(Counting()), First(Counting(), "second"), Kernel(features=Counting(), subsets=2, subset_size=9)
    made, real = images(40, 1), images(50, 2)
    scored({"a": a, "b": b, "c": c}, made, real)
    assert a.features is b.features is c.features
    probe, *calls = a.features.calls  # type: ignore[attr-defined]
    assert probe == (2, ("first", "second"))
    # the reference for the kernel alone, in batches of 16, then the generated ones for all
    assert calls == [(n, ("first",)) for n in (16, 16, 16, 2)] + [(n, ("first", "second")) for n in (16, 16, 8)]


def test_values_are_those_of_the_metric_fed_by_hand() -> None:
    made, real = images(70, 1), images(90, 2, 60)
    results = scored({"frechet": Frechet(features=Counting()), "b": First(Counting())}, made, real).results
    by_hand, first = Frechet(features=Counting()), First(Counting())
    by_hand.update(real.images, real=True)
    by_hand.update(made.images)
    first.update(made.images)
    assert results["frechet_counting"]["value"] == pytest.approx(by_hand.compute()["frechet_counting"], rel=1e-5)
    assert results["first_counting"]["value"] == pytest.approx(first.compute()["first_counting"], rel=1e-5)


def test_a_metric_is_told_labels_numbers_conditions_and_which_are_real() -> None:
    metric = Seeing({"reference"})
    made, real = images(20, 1), images(33, 2)
    calls: list[Shown] = []
    scored({"m": metric}, made, real, on_shown=calls.append)
    assert metric.numbers(real=False) == list(range(20)) and metric.numbers(real=True) == list(range(33))
    assert [len(one.images) for one in calls] == [16, 4] and torch.equal(calls[1].images, made.images[16:])
    for call in metric.calls:
        whole = real if call["real"] else made
        assert torch.equal(call["images"], whole.images[call["index"]])
        assert torch.equal(call["labels"], call["index"] % 3) and torch.equal(call["cond"]["class"], call["labels"])
        assert "paired" not in call and "model" not in call


def test_gradients_can_be_asked_for_in_an_update() -> None:
    class Slope(Seeing):
        def update(self, images: Tensor, **given: Any) -> None:
            assert not torch.is_grad_enabled() and not torch.is_inference_mode_enabled()
            with torch.enable_grad():
                x = images.float().requires_grad_()
                (slope,) = torch.autograd.grad(x.square().sum(), x)
            self.calls.append({"slope": slope})

    metric = Slope()
    scored({"m": metric}, images(4, 1))
    assert torch.equal(metric.calls[0]["slope"], 2 * images(4, 1).images.float())


def test_pairs_of_two_sets_are_image_k_and_image_k() -> None:
    metric = Seeing({"pairs"})
    made, real = images(20, 1), images(20, 2)
    scored({"m": metric}, made, real)
    assert all(torch.equal(call["paired"], real.images[call["index"]]) for call in metric.calls)
    with pytest.raises(UserError, match=r"m: image k .* 20 images in made noise, 21 images in real noise"):
        scored({"m": Seeing({"pairs"})}, made, images(21, 2))
    with pytest.raises(UserError, match="no reference"):
        scored({"m": Seeing({"pairs"})}, made)


def test_a_chosen_part_is_numbered_from_0_and_keeps_its_partners() -> None:
    made, real = images(40, 1), images(40, 2)
    part, seen, metric = stream(made, "made").some(12), list[Shown](), Seeing({"pairs"})
    scoring = Scoring([Named("m", metric)], ALONE, 5, reference=stream(real, "real"))
    scoring.score(part, on_shown=seen.append)
    assert metric.numbers(real=False) == list(range(12)) == [int(n) for one in seen for n in one.numbers]
    own = part.origin(torch.arange(12))
    assert len(own.unique()) == 12 and own.max() > 12
    shown, paired = (torch.cat([call[key] for call in metric.calls]) for key in ("images", "paired"))
    assert torch.equal(shown, made.images[own]) and torch.equal(paired, real.images[own])
    assert torch.equal(part.take(torch.tensor([3, 0])), made.images[own[[3, 0]]])
    # two counts agree about the images that both have
    assert torch.equal(stream(made).some(20).origin(torch.arange(12)), own)


def test_an_image_without_finite_features_is_called_by_its_number_in_the_data_set() -> None:
    made = images(40, 1)
    part = stream(made, "made").some(12)
    number = int(part.origin(torch.tensor([4])))
    made.images[number] = 255
    scoring = Scoring([Named("m", First(Blind()))], ALONE, 5)
    assert number != 4
    with pytest.raises(UserError, match=rf"1 of 12 images of made, of the numbers {number};"):
        whole(scoring.score(part))


def test_bad_images_of_two_extractors_of_one_name_are_counted_for_each() -> None:
    class Other(Blind):
        def protocol(self) -> dict[str, str]:
            return {**super().protocol(), "other": "yes"}

    made = images(20, 1)
    made.images[7] = 255
    metrics = [Named("m", First(Blind())), Named("n", Kernel(features=Other(), subsets=2, subset_size=9))]
    with pytest.raises(UserError, match="not finite for 1 of 20 images of noise, of the numbers 7;"):
        whole(Scoring(metrics, ALONE, 16, reference=stream(images(30, 2))).score(stream(made)))


def test_held_out_images_stand_beside_where_nothing_else_is_needed() -> None:
    kernel = Kernel(features=Counting(), subsets=2, subset_size=30)
    made, real, out = images(40, 1), images(50, 2), images(30, 3, 128)
    found = scored({"k": kernel, "m": Seeing({"reference"}, "paired")}, made, real, held_out=out).results
    other = scored({"k": copy.deepcopy(kernel)}, out, real).results["kernel_counting"]["value"]
    assert found["kernel_counting"]["held_out"] == {"value": other, "images": 30}


def test_held_out_images_may_have_more_classes_than_generated_ones(caplog: pytest.LogCaptureFixture) -> None:
    class ByClass(Metric):
        def check(self, spec: DataSpec, images: int) -> None:
            if len(spec.classes) == 2:
                raise ValueError("not of two classes")
            self.add_state("n", torch.zeros(len(spec.classes), dtype=torch.int64), "sum")

        def update(self, images: Tensor, *, labels: Tensor | None = None, **given: Any) -> None:
            assert labels is not None
            self.n: Tensor = self.n.index_add(0, labels, torch.ones_like(labels))

        def compute(self) -> dict[str, float]:
            return {"most": float(self.n.max())}

    one = DataSpec(SPEC.shape, ("a",))
    made, out = InMemory(one, images(9, 1).images, {"class": torch.zeros(9, dtype=torch.int64)}), images(30, 3)
    found = scored({"m": ByClass()}, made, held_out=out).results["most"]
    assert found["value"] == 9 and found["held_out"] == {"value": 10, "images": 30}
    two = InMemory(DataSpec(SPEC.shape, ("a", "b")), out.images, {"class": out.cond["class"] % 2})
    assert "held_out" not in scored({"m": ByClass()}, made, held_out=two).results["most"]
    assert "no value of the held-out images: m: not of two classes" in caplog.text


def test_a_metric_of_held_out_images_alone_sees_those_that_it_wants() -> None:
    few, all_of_them = Seeing({"held_out"}, "few", 7), Seeing({"held_out"}, "all")
    made, out = images(40, 1), images(30, 3)
    results = scored({"a": few, "b": all_of_them}, made, images(5, 4), held_out=out).results
    assert all_of_them.numbers(real=True) == list(range(30)) and not all_of_them.numbers(real=False)
    assert len(set(few.numbers(real=True))) == 7 and not few.numbers(real=False)
    assert results["few"]["protocol"]["images"] == "7" and "held_out" not in results["few"]
    assert "held_out.fingerprint" in results["few"]["protocol"] and "reference" not in results["few"]["protocol"]


def test_without_a_metric_that_sees_them_no_image_is_made() -> None:
    made = stream(images(40, 1), "made")
    made.batches = lambda *given: pytest.fail("an image was made")  # type: ignore[method-assign, assignment]
    scoring = Scoring([Named("m", Seeing({"held_out"}))], ALONE, 16, held_out=stream(images(9, 2)))
    assert scoring.score(made).results["seen"]["value"] == 1


def test_scored_again_neither_the_reference_nor_held_out_images_are_read_again() -> None:
    real, out = stream(images(50, 2), "real"), stream(images(30, 3), "out")
    metrics = [Named("k", Kernel(features=Counting(), subsets=2, subset_size=20)), Named("f", First(Counting()))]
    scoring = Scoring(metrics, ALONE, 16, reference=real, held_out=out)
    one = scoring.score(stream(images(40, 1))).results
    for each in (real, out):
        each.batches = lambda *given: pytest.fail("it was read again")  # type: ignore[method-assign, assignment]
    assert scoring.score(stream(images(40, 1))).results == one
    other = scoring.score(stream(images(40, 9))).results
    assert other["kernel_counting"]["value"] != one["kernel_counting"]["value"]
    assert other["kernel_counting"]["held_out"] == one["kernel_counting"]["held_out"]
    fresh = scored({"f": First(Counting())}, images(40, 9)).results["first_counting"]["value"]
    assert other["first_counting"]["value"] == fresh


def test_the_protocol_is_of_what_the_metric_looks_at() -> None:
    results = scored({"k": Kernel(features=Counting()), "f": First(Counting(), "second")}, *two()).results
    kernel, first = (results[name]["protocol"] for name in ("kernel_counting", "first_counting_second"))
    assert kernel["reference"] == "real noise, 30 images" and len(kernel["reference.fingerprint"]) == 64
    assert "reference" not in first and first["layer"] == "second" and first["images"] == "20"
    assert all(isinstance(value, str) for value in (*kernel.values(), *first.values()))
    assert json.loads(json.dumps(results)) == results


def test_cautions_are_logged_once_and_stand_in_the_results(caplog: pytest.LogCaptureFixture) -> None:
    class Careful(Seeing):
        def cautions(self, spec: DataSpec, images: int, reference: int | None) -> list[str]:
            return [f"{images} beside {reference} are few"]

    metrics = [Named("m", Careful(name="a")), Named("n", Seeing(name="b"))]
    few, none = Scoring(metrics, ALONE, 16, reference=stream(images(7, 5))), Scoring(metrics, ALONE, 16)
    with caplog.at_level(logging.WARNING):
        found = [few.score(stream(images(4, seed))) for seed in (0, 1)][1]
    said = "4 beside 7 are few"
    assert found.cautions == [said] == found.results["a"]["cautions"] and "cautions" not in found.results["b"]
    assert caplog.text.count(f"m: {said}") == 1
    assert none.score(stream(images(4, 0))).cautions == ["4 beside None are few"]


@pytest.mark.parametrize("kept", [False, True])
def test_a_reference_of_few_images_is_a_caution_too(kept: bool) -> None:
    made_of = Statistics(torch.zeros(5).double(), torch.eye(5).double(), 5, {}, "ref.npz")
    real = made_of if kept else stream(images(5, 2))
    found = Scoring([Named("f", Frechet(features=Counting()))], ALONE, 16, reference=real).score(stream(images(40, 1)))
    assert sum("the reference's 5 images are not more than the 5 features" in one for one in found.cautions) == 1


def test_what_is_said_about_a_value_is_not_better_either_way() -> None:
    class Bits(Seeing):
        better = {"bits": "lower", "": "higher"}  # noqa: RUF012 - as a class fact is written

    about = ["bits_error", "bits_estimate_error", "seen_classes", "seen_sd"]
    assert ways({name: Bits() for name in ("bits", "seen", *about)}) == {"bits": "lower", "seen": "higher"}


def test_pictures_can_show_images_of_the_reference() -> None:
    class Showing(Seeing):
        def pictures(self, real: Any) -> dict[str, Tensor]:
            return {"two": torch.cat(list(real(torch.tensor([3, 1]))), 2)}

    made, real = two()
    picture = scored({"m": Showing({"reference"})}, made, real).pictures
    assert torch.equal(picture["two"], torch.cat([real.images[3], real.images[1]], 2))


def two() -> tuple[Any, Any]:
    return images(20, 1), images(30, 2)


class Wrong(Counting):
    def __call__(self, images: Tensor, layers: Any) -> dict[str, Tensor]:
        return {layer: f[:, :-1] for layer, f in super().__call__(images, layers).items()}


class Late(Metric):
    """Fails where nothing may be reached."""

    def update(self, images: Tensor, **given: Any) -> None:
        pytest.fail("the work began")

    def compute(self) -> dict[str, float]:
        return {}


def statistics(size: int, about: dict[str, str] | None = None) -> Statistics:
    sigma = torch.eye(size, dtype=torch.float64)
    return Statistics(sigma[0], sigma, 100, about or {}, "ref.npz")


COLOUR, LARGE = DataSpec((3, 8, 8)), DataSpec((1, 16, 16))


@pytest.mark.parametrize(
    ("metrics", "reference", "said"),
    [
        ([Kernel(features=Counting())], None, "m0 needs a reference, and there is none; give one"),
        ([Seeing({"model"})], None, "m0 needs a model, and there are only images"),
        ([Seeing({"held_out"})], None, "m0 needs held-out images, and there are none"),
        (
            [Kernel(features=Counting())],
            stream(images(1, 1)),
            "m0 needs a reference of at least 2 images, and noise has 1",
        ),
        ([Seeing()], stream(images(9, 1, spec=COLOUR)), "differ.*grey.*colour"),
        ([Seeing()], stream(images(9, 1, spec=LARGE), "large"), "noise has 8 x 8 .*large has 16 x 16"),
        ([First(Wrong())], None, "`counting`, layer first: expected .* got .* shape"),
        ([First(Counting()), First(Counting())], None, "m1 is there twice"),
        ([Seeing(), Seeing()], None, "m1 is there twice"),
        ([Kernel(features=Counting())], statistics(5), "m0: Kernel needs the reference's images, and ref.npz"),
        ([Frechet(features=Counting())], statistics(4), "m0: ref.npz is of 4 features, and these are 5"),
        (
            [Frechet(features=Counting())],
            statistics(5, {"features": "inception"}),
            "m0: ref.npz was made of other features .features: inception there, counting here",
        ),
    ],
)
def test_what_cannot_be_had_is_refused_before_the_work(metrics: list[Metric], reference: Any, said: str) -> None:
    named = [Named(f"m{i}", metric) for i, metric in enumerate(metrics)]
    scoring = Scoring([*named, Named("late", Late())], ALONE, 16, reference=reference)
    with pytest.raises(UserError, match=said):
        scoring.score(stream(images(20, 1)))


def test_names_that_clash_only_in_the_end_are_told_then() -> None:
    class Other(Seeing):
        pass

    with pytest.raises(UserError, match="two metrics give a value called seen"):
        whole(scored({"a": Seeing(), "b": Other()}, images(5, 1)))
    found = scored({"a": Seeing(), "b": Other()}, images(5, 1))
    assert found.results["seen"]["value"] == 1 and "it is that of a, and that of b is lost" in found.errors[0]


def test_an_infinite_value_is_refused_and_the_others_are_there() -> None:
    class Infinite(Seeing):
        def compute(self) -> dict[str, float]:
            return {"large": float("inf")}

    found = scored({"a": Seeing(), "b": Infinite()}, images(5, 1))
    assert "b: large is inf" in found.errors[0] and found.results.keys() == {"seen"}


def test_a_failing_root_names_its_metric() -> None:
    class Rootless(Seeing):
        def compute(self) -> dict[str, float]:
            return {"root": float(torch.linalg.cholesky(-torch.eye(2)).sum())}

    with pytest.raises(UserError, match=r"a: .*cholesky"):
        whole(scored({"a": Rootless()}, images(5, 1)))


def test_statistics_are_a_reference_and_their_origin_is_asked_for() -> None:
    made, real = images(40, 1), images(50, 2)
    metrics = [Named("f", Frechet(features=Counting()))]
    scoring = Scoring(metrics, ALONE, 16, reference=stream(real))
    want = scoring.score(stream(made)).results["frechet_counting"]
    kept = scoring.reference_statistics()["f"]
    assert kept.images == 50
    for about in (kept.about, {}):
        given = Statistics(kept.mu, kept.sigma, kept.images, about, "ref.npz")
        again = Scoring([Named("f", Frechet(features=Counting()))], ALONE, 16, reference=given)
        found = again.score(stream(made)).results["frechet_counting"]
        assert found["value"] == pytest.approx(want["value"], rel=1e-9)
        assert found["protocol"]["reference"] == "ref.npz, statistics of 50 images"
        assert ("cautions" in found) == (not about), found.get("cautions")


def test_held_out_images_that_give_no_value_cost_no_other(caplog: pytest.LogCaptureFixture) -> None:
    results = scored({"k": Kernel(features=Counting())}, *two(), held_out=images(1, 3)).results
    assert "held_out" not in results["kernel_counting"]
    assert "no value of the held-out images: k: needs at least 2 images" in caplog.text
