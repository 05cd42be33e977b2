"""Reports: their schema, repeats, what keeps two values apart, what lies in the run's folder afterwards."""

import copy
import json
import re
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
import torch

from dmf.core import Metric
from dmf.runner.evaluation import table
from dmf.runner.evaluation.report import digest, with_kept
from dmf.runner.evaluation.results import protocol_differences, repeated, schema

Command = Callable[..., tuple[int, str, str]]
METRICS = "[{name: frechet, features: digits}, {name: kernel, features: digits, subsets: 3, subset_size: 40}]"
KERNEL = "[{name: kernel, features: digits, subsets: 3, subset_size: 40}]"


def result(value: float, seed: int = 1, **more: Any) -> dict[str, Any]:
    return {"value": value, "protocol": {"images": "10", "seed": str(seed), "sampler": "ddim(eta=0.0)"}, **more}


def test_repeats_have_mean_deviation_and_minimum_and_keep_each_value() -> None:
    runs = {k: {"fid": result(v, k, cautions=["few."])} for k, v in enumerate((5.0, 3.0, 10.0))}
    found = repeated(runs)["fid"]
    assert found["value"] == 6 and found["min"] == 3 and found["values"] == [5, 3, 10]
    assert found["sd"] == pytest.approx(((9 + 1 + 16) / 2) ** 0.5)
    assert found["protocol"]["seed"] == "0, 1, 2" and found["cautions"] == ["few."]
    jsonschema.validate(repeated(runs), schema())
    assert repeated({0: runs[0]}) == runs[0]


def test_a_value_that_some_seeds_lack_says_so_and_one_of_no_seed_has_no_spread() -> None:
    bits = result(8.9, 7)
    runs = {
        4: {"a": result(1.0, 4), "bits": bits},
        5: {"a": result(2.0, 5), "b": result(5.0, 5), "c": result(1.0, 5)},
        6: {"a": result(3.0, 6), "b": result(7.0, 6)},
    }
    found = repeated(runs, {"bits"})
    assert list(found) == ["a", "bits", "b", "c"] and found["a"]["values"] == [1, 2, 3]
    assert found["bits"] == bits
    assert found["b"]["values"] == [5, 7] and found["b"]["protocol"]["seed"] == "5, 6"
    assert found["b"]["cautions"] == ["b is of 2 of 3 seeds: the images of seed 4 gave none"]
    assert found["c"]["value"] == 1 and "sd" not in found["c"] and found["c"]["protocol"]["seed"] == "5"
    assert "1 of 3 seeds" in found["c"]["cautions"][0] and "seed 4, 6" in found["c"]["cautions"][0]
    jsonschema.validate(found, schema())
    assert "2 of 3" in table(found)


def test_differences_are_named_and_the_subject_is_none() -> None:
    a = {"sampler": "ddim(eta=0.0)", "images": "10", "trained_steps": "5", "generated": "x"}
    b = {"sampler": "heun(churn=0.0)", "images": "10", "trained_steps": "9", "weights": "raw"}
    assert protocol_differences(a, b) == ["sampler: ddim(eta=0.0) / heun(churn=0.0)", "weights: - / raw"]
    assert protocol_differences(a, a) == [] and protocol_differences(b, a)[0].endswith("/ ddim(eta=0.0)")
    new, newer = ({**a, "version.torch": version, "version.lpips": "0.1.4"} for version in ("2.8.0", "2.15.0"))
    assert protocol_differences(new, newer) == [] and protocol_differences(a, new) == ["version.lpips: - / 0.1.4"]


@pytest.mark.parametrize("role", ["reference", "held_out"])
def test_the_same_images_may_be_called_otherwise(role: str) -> None:
    a = {"images": "10", role: "photos, 90 images", f"{role}.fingerprint": "ab"}
    b = {"images": "10", role: "photos.zip, 90 images", f"{role}.fingerprint": "ab"}
    assert protocol_differences(a, b) == protocol_differences(b, a) == []
    other = {**b, f"{role}.fingerprint": "cd"}
    assert [one.partition(":")[0] for one in protocol_differences(a, other)] == [role, f"{role}.fingerprint"]
    unknown = {"images": "10", role: "photos.zip, 90 images"}  # without a fingerprint the names are all there is
    assert protocol_differences(a, unknown)[0].startswith(f"{role}: photos,")
    assert protocol_differences({**a, f"{role}.fingerprint": "cd"}, {**a}) == [f"{role}.fingerprint: cd / ab"]


def test_the_table_folds_the_spread_and_says_each_caution_once() -> None:
    kid = {"kid": result(0.5, cautions=["few."]), "kid_sd": result(0.01), "fid": result(3.0, cautions=["few."])}
    kid["fid"]["held_out"] = {"value": 1.0, "images": 300}
    shown = table(kid)
    assert "0.5 ± 0.01" in shown and "kid_sd" not in shown and shown.count("caution: few.") == 1
    assert "1 (300 images)" in shown and "least" not in shown
    shown = table(repeated({1: kid, 2: {**kid, "kid": result(0.7)}}))
    assert "0.6 ± 0.14" in shown and "least" in shown
    own = {"bits_per_dim": {"value": 8.5, "protocol": {"images": "4", "held_out": "held-out images of digits"}}}
    assert table(own).splitlines()[1].split(maxsplit=3) == ["bits_per_dim", "-", "-", "8.5 (4 images)"]


@pytest.mark.parametrize(
    "change",
    [
        lambda one: one.pop("value"),
        lambda one: one.pop("protocol"),
        lambda one: one["protocol"].pop("images"),
        lambda one: one.update(other=1),
        lambda one: one.update(value="3"),
        lambda one: one.update(sd=-1.0),
        lambda one: one.update(held_out={"value": 1.0}),
        lambda one: one.update(cautions=[]),
        lambda one: one["protocol"].update(images=10),
    ],
)
def test_the_schema_refuses_other_reports(change: Callable[[dict[str, Any]], None]) -> None:
    good = {"fid": result(1.0, held_out={"value": 1.0, "images": 2})}
    jsonschema.validate(good, schema())
    bad = copy.deepcopy(good)
    change(bad["fid"])
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(bad, schema())


def read(path: str | Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Path(path).read_text(encoding="utf-8"))
    jsonschema.validate(found, schema())
    return found


def test_a_run_keeps_its_reports_apart_by_protocol(tiny: Path, dmf_command: Command) -> None:
    code, _, err = dmf_command("run", tiny, f"evaluate={{images: 70, metrics: {METRICS}}}")
    assert code == 0, err
    own = read("runs/tiny/metrics.json")
    assert Path("runs/tiny/evaluation/grid.png").exists()
    code, out, err = dmf_command("evaluate", "tiny", "--json", "a.json", "--no-track")
    assert code == 0 and "held-out real" in out, err
    a, home = read("a.json"), Path("runs/tiny/evaluation")
    assert a["frechet_digits"]["value"] == own["frechet_digits"]["value"]  # the same settings, the same images
    assert dmf_command("evaluate", "tiny", "--no-held-out", "--json", "n.json", "--no-track")[0] == 0
    assert "held_out" not in read("n.json")["frechet_digits"]  # and does not take it from the report that is there
    assert read(home / f"{digest(a)}.json") == a and (home / f"{digest(a)}-grid.png").exists()
    assert dmf_command("evaluate", "tiny", "--steps", 2, "--json", "b.json", "--pictures", "look")[0] == 0
    b = read("b.json")
    assert digest(a) != digest(b) and len(list(home.glob("*.json"))) == 2 and Path("look/grid.png").exists()
    assert read("runs/tiny/metrics.json") == own
    told = protocol_differences(a["frechet_digits"]["protocol"], b["frechet_digits"]["protocol"])
    assert "steps: 3 / 2" in told and all(one.startswith(("steps", "evaluations")) for one in told)


def test_what_a_report_knows_of_held_out_images_is_kept(tmp_path: Path) -> None:
    held, file = {"held_out": {"value": 1.0, "images": 300}}, tmp_path / "r.json"
    assert with_kept({"fid": result(2.0)}, file) == {"fid": result(2.0)}
    file.write_text(json.dumps({"fid": result(3.0, **held), "kid": result(3.0, 4, **held), "bits": result(1.0)}))
    new = {"fid": result(2.0), "kid": result(2.0), "bits": result(1.0)}
    assert with_kept(new, file) == {**new, "fid": result(2.0, **held)}
    file.write_text("[1]")
    assert with_kept(new, file) == new


def test_repeats_are_the_single_seeds(tiny: Path, dmf_command: Command) -> None:
    dmf_command("train", tiny)
    words = ["evaluate", "tiny", "--images", 60, "--metrics", KERNEL, "--no-held-out", "--json", "r.json"]
    single = []
    for seed in (4, 5, 6):
        assert dmf_command(*words, "--seed", seed)[0] == 0
        single.append(read("r.json")["kernel_digits"]["value"])
    code, out, err = dmf_command(*words, "--seed", 4, "--repeats", 3)
    assert code == 0 and "±" in out and "least" in out, err
    found = read("r.json")["kernel_digits"]
    assert found["values"] == pytest.approx(single, rel=1e-12) and len(set(single)) == 3
    assert found["value"] == pytest.approx(statistics.fmean(single)) and found["min"] == min(single)
    assert found["protocol"]["seed"] == "4, 5, 6"


def test_another_reference_takes_the_place_of_the_data(tiny: Path, dmf_command: Command) -> None:
    dmf_command("train", tiny)
    words = ["evaluate", "tiny", "--images", 70, "--metrics", KERNEL, "--no-held-out", "--json", "r.json"]
    assert dmf_command(*words)[0] == 0
    own = read("r.json")["kernel_digits"]
    assert dmf_command(*words, "--reference", "{name: digits, split: test}")[0] == 0
    other = read("r.json")["kernel_digits"]
    assert own["value"] != other["value"] and "split: test}, 300 images" in other["protocol"]["reference"]
    assert own["protocol"]["labels"] == other["protocol"]["labels"]


def test_statistics_of_the_reference_are_written_and_read(tiny: Path, dmf_command: Command) -> None:
    dmf_command("train", tiny)
    metric = "[{name: frechet, features: digits}]"
    words = ["evaluate", "tiny", "--images", 70, "--metrics", metric, "--no-held-out", "--json", "r.json"]
    assert dmf_command(*words, "--write-reference", "ref.npz")[0] == 0
    first = read("r.json")["frechet_digits"]["value"]
    assert dmf_command(*words, "--reference", "ref.npz")[0] == 0
    assert read("r.json")["frechet_digits"]["value"] == pytest.approx(first, rel=1e-9)
    with np.load("ref.npz") as held:
        told = json.loads(str(held["dmf"]))
        assert held["mu"].shape == (64,) and told["images"] == 1497 and "features_sha256" in told["features"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nope"], "is no run"),
        (["tiny", "--metrics", "fidd"], "did you mean 'fid'"),
        (["tiny", "--images", "-3"], "evaluate.images"),
        (["tiny", "--repeats", "0"], "not at least 1"),
        (["tiny", "--labels", "none"], "neither is there"),
        (["tiny", "--write-best", "fid"], "give --sweep too"),
        (["tiny", "--repeats", "2", "--save-images", "x"], "leave out --sweep and --repeats"),
        (["tiny", "--reference", "colour.npz"], "has 8 x 8 pixels .*, colour"),
        (["tiny", "--reference", "large.npz"], "has 9 x 9 pixels"),
        (["tiny", "--reference", "nan.npz"], "mu has NaN"),
        (["tiny", "--reference", "empty"], "is empty"),
        (["tiny", "--pictures", "tiny.yaml"], "is a file; give a folder"),
        (["tiny", "dataset={name: digits, split: test}", "--json", "runs/tiny/mlflow.json"], "a file of the run's own"),
        (["tiny", " schedule=cosine"], r"schedule=cosine: runs/tiny is trained, .* be changed here is sampler, "),
        (["tiny", "sampler.steps=3", "backbone.hidden=64", "train.lr=1"], "hidden=64, train.lr=1: runs/tiny is"),
        (["tiny", "--write-reference", "x.json"], "name it x.npz"),
        (["tiny", "--json", "runs/tiny/recipe.yaml"], "is a file of the run's own"),
        (["tiny", "--json", "runs/tiny/network.txt"], "is a file of the run's own"),
        (["tiny", "--json", "runs/tiny/metrics.json"], "is a file of the run's own, which would be lost"),
        (
            ["tiny", "--save-images", "x.npz", "--write-reference", "x.npz"],
            "name one place, .*x.npz: give",
        ),
        (
            ["tiny", "--save-images", "new", "--pictures", "new/below"],
            "below lies in the folder of --save",
        ),
    ],
)
def test_mistakes_of_a_run_get_one_message(
    tiny: Path, dmf_command: Command, words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:

    dmf_command("train", tiny, "train.steps=1")
    for name, shape in (("colour", (5, 8, 8, 3)), ("large", (5, 9, 9, 1))):
        np.savez(f"{name}.npz", np.zeros(shape, dtype=np.uint8))
    np.savez("nan.npz", mu=np.array([np.nan]), sigma=np.eye(1))
    Path("empty").mkdir()
    given = [] if "--metrics" in words else ["--metrics", METRICS]
    given += [] if "--images" in words else ["--images", "70"]
    try:
        code, _, err = dmf_command("evaluate", *words, *given)
    except SystemExit as stop:  # argparse ends by itself
        code, err = int(stop.code or 0), capsys.readouterr().err
    assert code == 2 and "Traceback" not in err and re.search(said, err), err


def test_an_evaluation_without_a_value_leaves_no_report(
    tiny: Path, dmf_command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dmf.plugins.metrics.frechet import Frechet

    def refused(self: Metric) -> dict[str, float]:
        raise ValueError("these images are too much alike")

    dmf_command("train", tiny, "train.steps=1")
    monkeypatch.setattr(Frechet, "compute", refused)
    metrics = "[{name: frechet, features: digits}]"
    code, _, err = dmf_command("evaluate", "tiny", "--images", 70, "--metrics", metrics, "--json", "r.json")
    assert code == 2 and "too much alike" in err and "Traceback" not in err
    assert not Path("r.json").exists() and not list(Path("runs/tiny").glob("evaluation/*.json"))
    assert torch.is_inference_mode_enabled() is False
