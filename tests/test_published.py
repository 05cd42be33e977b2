"""A file that holds images and statistics, as ADM's reference batches do: each metric takes what is meant for it."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scoring_kit import ALONE, SPEC, Counting, images, stream

from dmf.core import DataSpec, Statistics
from dmf.plugins.metrics.frechet import Frechet
from dmf.plugins.metrics.kernel import Kernel
from dmf.plugins.metrics.nearest_neighbour import NearestNeighbour
from dmf.runner.evaluation import Named, Scored, Scoring
from dmf.runner.evaluation.reference_file import write_reference
from dmf.runner.evaluation.streams import Real
from dmf.runner.feed import source_of
from dmf.runner.image_sets.arrays import Arrays
from dmf.runner.image_sets.named import called, open_reference

GREY = DataSpec((1, 8, 8))


class WithSpatial(Counting):
    """As Inception: a first layer, and one called spatial."""

    def __init__(self) -> None:
        super().__init__(SPEC)
        self.layers = {"first": 5, "spatial": 3}
        self.weights["spatial"] = self.weights.pop("second")


def moments(rows: torch.Tensor) -> tuple[Any, Any]:
    return rows.double().mean(0).numpy(), np.cov(rows.double().numpy(), rowvar=False)


def published(file: str, **without: None) -> None:
    """Statistics of 200 images, and 20 others beside them."""
    seen = WithSpatial()(images(200, 5, spec=GREY).images, ("first", "spatial"))
    (mu, sigma), (mu_s, sigma_s) = (moments(seen[layer]) for layer in ("first", "spatial"))
    some = images(20, 6, 30, spec=GREY).images.permute(0, 2, 3, 1).numpy()
    arrays = {"arr_0": some, "mu": mu, "sigma": sigma, "mu_s": mu_s, "sigma_s": sigma_s}
    np.savez(file, **{name: value for name, value in arrays.items() if name not in without})


def scoring(words: str, **metrics: Any) -> Scoring:
    found = open_reference(words, "--reference", ALONE)
    reference = found if isinstance(found, Statistics) else Real(found, source_of(found, ALONE.device), called(words))
    return Scoring([Named(name, one) for name, one in metrics.items()], ALONE, 16, reference=reference)


def against(words: str, **metrics: Any) -> Scored:
    return scoring(words, **metrics).score(stream(images(40, 1, spec=GREY), "made"))


def test_each_metric_takes_what_it_was_published_for(workdir: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    published("virtual.npz")
    published("alone.npz", arr_0=None)
    published("images.npz", mu=None, sigma=None, mu_s=None, sigma_s=None)

    def distances() -> dict[str, Any]:
        return {"f": Frechet(features=WithSpatial()), "s": Frechet(features=WithSpatial(), layer="spatial")}

    def rows() -> dict[str, Any]:
        return {"k": Kernel(features=WithSpatial(), subsets=5, subset_size=20), "n": NearestNeighbour(images=4)}

    found = against("virtual.npz", **distances(), **rows())
    assert "virtual.npz: its mean and covariance for f, s, its images for the others" in caplog.text
    for words, metrics in (("alone.npz", distances()), ("images.npz", rows())):
        for name, want in against(words, **metrics).results.items():
            assert found.results[name]["value"] == pytest.approx(want["value"], rel=1e-12), name
            here, there = found.results[name]["protocol"], want["protocol"]
            assert here["reference"].removeprefix("virtual") == there["reference"].removeprefix(words[:-4])
            assert here["reference.fingerprint"] == there["reference.fingerprint"]
    by_images = against("images.npz", **distances()).results
    for name in ("frechet_counting", "frechet_counting_spatial"):
        assert by_images[name]["value"] != pytest.approx(found.results[name]["value"], rel=0.01)
        assert "statistics of an unknown number" in found.results[name]["protocol"]["reference"]
    assert found.results["kernel_counting"]["protocol"]["reference"] == "virtual.npz, 20 images"
    told = "virtual.npz does not say of which features it is; only their number was checked"
    assert told in found.results["frechet_counting"]["cautions"]
    assert not any("virtual" in one for one in found.results["kernel_counting"].get("cautions", []))


def test_statistics_of_other_features_leave_the_images_and_that_is_said(workdir: Path) -> None:
    published("virtual.npz")
    found = against("virtual.npz", f=Frechet(features=Counting(), layer="second")).results["frechet_counting_second"]
    assert found["protocol"]["reference"] == "virtual.npz, 20 images"
    said = "mean and covariance in virtual.npz are of other features; what it is held against are its 20 images"
    assert said in found["cautions"]


def test_what_is_written_of_it_is_what_was_taken(workdir: Path) -> None:
    published("virtual.npz")
    one = scoring("virtual.npz", f=Frechet(features=WithSpatial()))
    want = one.score(stream(images(40, 1, spec=GREY), "made")).results["frechet_counting"]
    write_reference(Path("again.npz"), one)
    again = against("again.npz", f=Frechet(features=WithSpatial())).results["frechet_counting"]
    assert again["value"] == want["value"]
    assert again["protocol"]["reference"] == "again.npz, statistics of an unknown number of images"


def test_images_that_are_scored_have_no_statistics(workdir: Path) -> None:
    published("virtual.npz")
    assert Real(Arrays(Path("virtual.npz")), None, "made").statistics is None  # type: ignore[arg-type]
