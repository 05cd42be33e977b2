"""`dmf compare`: what is one setting and what are two, and what `as trained` is."""

from collections.abc import Callable
from pathlib import Path

import pytest
from compare_kit import PROTOCOL, make_run, of, results, sweep_point, table, values_in

Command = Callable[..., tuple[int, str, str]]


def test_as_trained_is_what_dmf_run_measured_whatever_was_measured_since(workdir: Path, dmf_command: Command) -> None:
    later = {k: of(results(fid=float(k)), trained_steps=str(k)) for k in (20, 30)}
    more = {"0.json": later[30], "1.json": later[20]}
    make_run(workdir / "runs/a", metrics=results(fid=10.0), evaluations=more)
    out = dmf_command("compare", "a")[1]
    assert table(out, "as trained")["a"] == ["12", "500", "10"]
    assert "  as a when it was trained:\n" in out
    assert table(out, "in other settings")["a"] == ["30", "500", "30"]  # of one setting that of most steps


def test_the_same_measured_again_is_told_once(workdir: Path, dmf_command: Command) -> None:
    again = {"0.json": results(fid=10.0)}
    make_run(workdir / "runs/a", metrics=results(fid=10.0, kid=1.0), evaluations=again)
    assert "in other settings" not in dmf_command("compare", "a")[1]


def test_a_row_has_the_values_of_one_network(workdir: Path, dmf_command: Command) -> None:
    more = {"0.json": of(results(fid=1.0, kid=2.0), steps="7"), "1.json": of(results(fid=3.0), steps="7")}
    more["1.json"]["fid"]["protocol"]["trained_steps"] = "20"
    make_run(workdir / "runs/a", evaluations=more)
    rows = [line.split() for line in dmf_command("compare", "a")[1].splitlines() if line.startswith("    a ")]
    assert rows == [["a", "20", "500", "3", "-"], ["a", "12", "500", "-", "2"]]


def test_guidance_away_from_another_network_is_another_setting(workdir: Path, dmf_command: Command) -> None:
    """Each run is led away from its own earlier weights, whose digests differ: beside each other, and marked."""
    cfg = {"guidance": "cfg(scale=2.0)", "guidance.reference": "no labels"}
    for name in "ab":
        run = make_run(workdir / "runs" / name, metrics=of(results(fid=10.0), **cfg))
        led = {**cfg, "guidance.reference": f"step 6, ema, no labels, sha256 {name * 64}"}
        sweep_point(run, "0", of(results(fid=1.0), **led))
        sweep_point(run, "1", of(results(fid=2.0), **{"guidance": "none", "guidance.reference": "none"}))
    out = dmf_command("compare", "a", "b")[1]
    assert table(out, "as trained")["b"][-1] == "10"
    assert values_in(out, "guidance.reference step 6, ema, no labels") == ["1", "1 [1]"]
    assert values_in(out, "guidance none") == ["2", "2"]
    assert "[1] not to be compared with a: guidance.reference: step 6, ema, no labels, sha256 aaaaaaaaaaaa…" in out


def test_networks_that_differ_in_their_digests_alone_are_told_apart(workdir: Path, dmf_command: Command) -> None:
    cfg = {"guidance": "cfg(scale=2.0)", "guidance.reference": "no labels"}
    run = make_run(workdir / "runs/a", metrics=of(results(fid=10.0), **cfg))
    for k, name in enumerate("ab"):
        led = {**cfg, "guidance.reference": f"step 6, ema, no labels, sha256 {name * 64}"}
        sweep_point(run, name, of(results(fid=k), **led))
    out = dmf_command("compare", "a")[1]
    told = "guidance.reference step 6, ema, no labels, sha256"
    assert [values_in(out, f"{told} {name * 12}…") for name in "ab"] == [["0"], ["1"]]


def test_another_option_of_a_metric_is_another_setting(workdir: Path, dmf_command: Command) -> None:
    """What a was measured with since is what b's recipe says: the two stand beside each other."""
    three = {"0.json": {**results(fid=10.0), **of(results(kid=3.0), subsets="3 of 10")}}
    five = {**results(fid=10.0), **of(results(kid=5.0), subsets="5 of 10")}
    make_run(workdir / "runs/a", metrics=five, evaluations=three)
    make_run(workdir / "runs/b", metrics=of(results(kid=4.0), subsets="3 of 10"))
    out = dmf_command("compare", "a", "b")[1]
    assert table(out, "as trained")["a"][-1] == "5" and table(out, "as trained")["b"][-1] == "4 [1]"
    assert values_in(out, "subsets 3 of 10") == ["3", "4"]
    assert out.count("not to be compared") == 1 and "fid" not in out.split("in other settings")[1]


@pytest.mark.parametrize(
    "key",
    [
        *(key for key in PROTOCOL if key != "trained_steps"),
        *("guidance.reference", "subsets", "dmf", "version.acme"),
    ],
)
def test_no_value_takes_the_place_of_one_that_cannot_be_compared(key: str, workdir: Path, dmf_command: Command) -> None:
    """Whichever key of the protocol differs, and of one value alone."""
    other = {f"{k}.json": {**results(kid=9.0), **of(results(fid=k), **{key: f"1{k}"})} for k in (2, 3)}
    make_run(workdir / "runs/a", metrics=results(fid=1.0, kid=9.0), evaluations=other)
    out = dmf_command("compare", "a")[1]
    assert table(out, "as trained")["a"][2:] == ["1", "9"]
    told = " of 500" if key == "images" else ""  # of those that were made, a metric may look at fewer
    assert [values_in(out, f"{key} 1{k}{told}")[0] for k in (2, 3)] == ["2", "3"]


def test_another_reference_is_another_setting(workdir: Path, dmf_command: Command) -> None:
    other = of(results(fid=3.0), reference="mnist, 10 images")
    make_run(workdir / "runs/a", metrics=results(fid=10.0), evaluations={"0.json": other})
    out = dmf_command("compare", "a")[1]
    assert table(out, "as trained")["a"][-1] == "10"
    assert "reference mnist, 10 images:" in out and table(out, "in other settings")["a"][-1] == "3"


def test_the_same_reference_by_another_name_is_no_other_setting(workdir: Path, dmf_command: Command) -> None:
    one = {"reference": "photos, 90 images", "reference.fingerprint": "ab"}
    later = {**one, "reference": "photos.zip, 90 images", "trained_steps": "20"}
    make_run(workdir / "runs/a", metrics=of(results(fid=10.0), **one))
    newer = {"0.json": of(results(fid=3.0), **later)}
    make_run(workdir / "runs/b", metrics=of(results(fid=5.0), **one), evaluations=newer)
    out = dmf_command("compare", "a", "b")[1]
    assert table(out, "as trained")["b"] == ["12", "500", "5"] and "not to be compared" not in out
    assert values_in(out, "as a when it was trained") == ["10", "3"]


def test_points_of_sweeps_are_values_in_other_settings(workdir: Path, dmf_command: Command) -> None:
    for name, value in (("a", 3.0), ("b", 4.0)):
        run = make_run(workdir / "runs" / name, metrics=results(fid=10.0))
        sweep_point(run, "0123", of(results(fid=value), steps="5"))
    out = dmf_command("compare", "a", "b")[1]
    rows = table(out, "in other settings")
    assert "  steps 5:\n" in out and rows["a"][-1] == "3" and rows["b"][-1] == "4" and "[1]" not in out
