"""`dmf compare`: which values stand beside which, what is marked, what is said of broken files, what the page has."""

import base64
import io
import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from compare_kit import PROTOCOL, history, make_run, of, results, table
from PIL import Image

from dmf.registry.yaml12 import load
from dmf.runner.compare.axes import Axis, around, told
from dmf.runner.compare.envelope import BINS, RAW, thinned

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def two(workdir: Path) -> Path:
    """Two runs: b has other steps, and was measured in a's setting too."""
    make_run(workdir / "runs/a", metrics=results(fid=10.0, fid_sd=0.5))
    own = of(results(fid=20.0, fid_sd=0.7), steps="5")
    make_run(workdir / "runs/b", "train.lr=2e-3", metrics=own, evaluations={"more.json": results(fid=11.0)}, grey=7)
    return workdir


def test_values_of_another_protocol_are_marked_with_what_differs(two: Path, dmf_command: Command) -> None:
    code, out, err = dmf_command("compare", "a", "b")
    assert code == 0, err
    assert table(out, "as trained")["a"] == ["12", "500", "10 ± 0.5"]
    assert table(out, "as trained")["b"] == ["12", "500", "20 ± 0.7 [1]"]
    assert "[1] not to be compared with a: steps: 20 / 5\n" in out


def test_values_of_one_protocol_stand_beside_each_other_unmarked(two: Path, dmf_command: Command) -> None:
    """What `dmf evaluate` measured of b stands beside what a's recipe measured of a."""
    out = dmf_command("compare", "b", "a")[1]
    assert "  steps 20:\n" in out
    rows = table(out, "in other settings")
    assert rows["b"] == ["12", "500", "11"] and rows["a"] == ["12", "500", "10 ± 0.5"]
    assert out.count("not to be compared") == 1  # in the first table alone


def test_each_setting_has_the_columns_of_its_values_and_cautions_say_whose_they_are(
    workdir: Path, dmf_command: Command
) -> None:
    few = {name: {**one, "cautions": ["few."]} for name, one in of(results(fid=3.0), images="60").items()}
    few = {**of(results(nearest=1.0), images="16"), **few}  # which looks at the first ones alone
    more = {"0.json": few, "1.json": of(results(recall=0.5), steps="7"), "2.json": of(results(fid=4.0), steps="8")}
    make_run(workdir / "runs/a", metrics=results(fid=10.0), evaluations=more)
    out = dmf_command("compare", "a")[1].split("in other settings:\n")[1]
    assert "-" not in out.split("caution:")[0]
    assert [line.split() for line in out.splitlines()[:9]] == [
        ["run", "trained", "images", "nearest", "fid"],
        ["images", "60:"],
        ["a", "12", "60", "1", "3"],
        ["run", "trained", "images", "recall"],
        ["steps", "7:"],
        ["a", "12", "500", "0.5"],
        ["run", "trained", "images", "fid"],
        ["steps", "8:"],
        ["a", "12", "500", "4"],
    ]
    assert "  caution: a, fid (images 60): few.\n" in out


def test_results_that_say_little_of_themselves_are_shown(workdir: Path, dmf_command: Command) -> None:
    bare = {"fid": {"value": 1.0, "protocol": {"images": "10", "trained_steps": "many"}}}
    folder = make_run(workdir / "runs/a", evaluations={"0.json": bare, "1.json": {}})
    (folder / "evaluation/folder.png").mkdir()
    code, out, err = dmf_command("compare", "a", "--html", "c.html")
    assert code == 0 and table(out, "in these settings")["a"] == ["many", "10", "1"]
    assert err == "warning: a: folder.png: left out: Is a directory\n"


def test_runs_of_other_data_are_marked(workdir: Path, dmf_command: Command) -> None:
    make_run(workdir / "runs/a", metrics=of(results(fid=1.0), **{"reference.fingerprint": "a" * 64}))
    make_run(workdir / "runs/b", metrics=of(results(fid=2.0), **{"reference.fingerprint": "b" * 64}))
    assert (
        "[1] not to be compared with a: reference.fingerprint: aaaaaaaaaaaa… / bbbbbbbbbbbb…"
        in dmf_command("compare", "a", "b")[1]
    )


def test_metrics_chooses_values_by_their_names_or_beginnings(workdir: Path, dmf_command: Command) -> None:
    make_run(workdir / "runs/a", metrics=results(fid=1.0, kid=2.0, frechet_digits=3.0))
    out = dmf_command("compare", "a", "--metrics", "kid,frechet")[1]
    assert table(out, "as trained")["run"] == ["trained", "images", "kid", "frechet_digits"]
    code, _, err = dmf_command("compare", "a", "--metrics", "frichet_digits")
    assert code == 2 and "did you mean 'frechet_digits'?" in err and "frechet_digits, kid" in err.replace("fid, ", "")


def test_a_name_of_two_lines_breaks_no_table(workdir: Path, dmf_command: Command) -> None:
    make_run(workdir / "runs/a", metrics=results(**{"odd\nname": 1.0}))
    assert table(dmf_command("compare", "a")[1], "as trained")["run"] == ["trained", "images", r"odd\nname"]


def test_recipes_differ_in_these_keys(two: Path, dmf_command: Command) -> None:
    assert table(dmf_command("compare", "a", "b")[1], "recipes") == {"key": ["a", "b"], "train.lr": ["0.001", "0.002"]}


def test_mistakes_are_told(two: Path, dmf_command: Command) -> None:
    code, _, err = dmf_command("compare", "a", "bb")
    assert code == 2 and "bb is no run" in err and "did you mean" in err
    code, _, err = dmf_command("compare", "a", "runs/a")
    assert code == 2 and "a is named 2 times" in err
    code, _, err = dmf_command("compare", "a", "--html", "nowhere/c.html")
    assert code == 2 and "cannot be written" in err
    code, _, err = dmf_command("compare", "a", "--html", "c.pdf")
    assert code == 2 and "c.html" in err
    Path("runs/a/checkpoints").mkdir()
    code, _, err = dmf_command("compare", "a", "--html", "runs/a/recipe.html")
    assert code == 2 and "runs/a/recipe.html is a file of the run's own" in err


def test_a_recipe_of_the_users_makes_no_run_of_a_folder(two: Path, dmf_command: Command) -> None:
    Path("recipe.yaml").write_text("name: a\n")
    assert dmf_command("compare", "a", "--html", "recipe.html")[0] == 0 and Path("recipe.html").exists()


def test_a_run_that_is_being_trained(workdir: Path, dmf_command: Command) -> None:
    folder = make_run(workdir / "runs/a")
    with open(folder / "history.jsonl", "a", encoding="utf-8") as file:
        file.write('{"step": 4, "ti')
    code, out, err = dmf_command("compare", "a", "--html", "c.html")
    assert code == 0 and "without values: a; dmf evaluate RUN makes some" in out and not err
    assert "3 of 12" in Path("c.html").read_text(encoding="utf-8")


def test_a_run_that_never_began(workdir: Path, dmf_command: Command) -> None:
    folder = make_run(workdir / "runs/a")
    for name in ("history.jsonl", "facts.json", "data.png", "samples/grid.png"):
        (folder / name).unlink()
    assert dmf_command("compare", "a", "--html", "c.html")[0] == 0
    assert "<svg viewBox" not in Path("c.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("metrics.json", "{", "metrics.json: left out: is no JSON"),
        ("metrics.json", '{"fid": {"value": "1"}}', "metrics.json: left out: no results of an evaluation"),
        ("sweeps/points/0/results.json", "{}", "sweeps/points/0/results.json: left out: no results"),
        ("evaluation/x.json", "[]", "evaluation/x.json: left out: no results"),
        ("facts.json", "[]", "facts.json: left out"),
        (
            "history.jsonl",
            history([1.0]) + "nonsense\n[]\n" + history([1.0]),
            "history.jsonl: 2 lines left out that cannot be read: 2, 3",
        ),
        ("evaluations.jsonl", '{"step": 1, "results": 3}\n', "evaluations.jsonl: 1 line left out"),
        ("recipe.yaml", "name: a\n", "recipe.yaml: cannot be read by this dmf"),
        ("samples/grid.png", "no picture", "grid.png: left out"),
    ],
)
def test_broken_files_are_named_and_the_rest_is_shown(
    name: str, text: str, said: str, workdir: Path, dmf_command: Command
) -> None:
    folder = make_run(workdir / "runs/a", metrics=results(fid=1.0))
    make_run(workdir / "runs/b", metrics=results(fid=2.0))
    (folder / name).parent.mkdir(exist_ok=True, parents=True)
    (folder / name).write_text(text, encoding="utf-8")
    code, out, err = dmf_command("compare", "a", "b", "--html", "c.html")
    assert code == 0 and f"warning: a: {said}" in err
    assert table(out, "as trained")["b"][-1] == "2"
    assert f"a: {said.split(':')[0]}" in Path("c.html").read_text(encoding="utf-8")


def test_an_evaluation_while_training_that_failed_is_told(workdir: Path, dmf_command: Command) -> None:
    nan = {"fid_n10": {"value": None, "protocol": PROTOCOL}}
    folder = make_run(workdir / "runs/a", during=[(10.0, results(fid_n10=3.0)), (20.0, nan)])
    with open(folder / "evaluations.jsonl", "a", encoding="utf-8") as file:
        file.write(json.dumps({"step": 3, "images_seen": 30.0, "results": {}, "failed": "it blew up"}) + "\n")
    code, _, err = dmf_command("compare", "a", "--html", "c.html")
    assert code == 0 and err == "warning: a: no values after 30 images: it blew up\n"
    assert "<figcaption>fid_n10</figcaption>" in Path("c.html").read_text(encoding="utf-8")


def test_curves_of_other_protocols_are_told_and_spreads_are_no_curves(workdir: Path, dmf_command: Command) -> None:
    make_run(workdir / "runs/a", during=[(10.0, results(kid_n10=3.0, kid_sd_n10=0.1))])
    make_run(workdir / "runs/b", during=[(10.0, of(results(kid_n10=4.0), steps="7"))])
    assert dmf_command("compare", "a", "b", "--html", "c.html")[0] == 0
    page = Path("c.html").read_text(encoding="utf-8")
    assert "b: not to be compared with a: steps: 20 / 7" in page and "<figcaption>kid_sd" not in page


def test_a_chart_says_which_runs_have_no_such_values(workdir: Path, dmf_command: Command) -> None:
    make_run(workdir / "runs/a", during=[(10.0, results(fid_n10=3.0, kid_n10=3.0))])
    make_run(workdir / "runs/b", during=[(10.0, results(fid_n10=4.0))])
    dmf_command("compare", "a", "b", "--html", "c.html")
    page = Path("c.html").read_text(encoding="utf-8")
    assert page.count("Not measured while these were trained: b.") == 1


NASTY = "<script>alert(1)</script>\"'&"


def test_every_text_of_a_user_is_escaped(workdir: Path, dmf_command: Command) -> None:
    name = NASTY.replace("/", "∕")
    found = {NASTY: {"value": 1.0, "protocol": {**PROTOCOL, NASTY: NASTY}, "cautions": [NASTY]}}
    make_run(workdir / "runs/a", metrics={NASTY: {"value": 1.0, "protocol": PROTOCOL}})
    folder = make_run(workdir / "runs" / name, metrics=found, during=[(10.0, found)])
    facts = {"machine.device": NASTY, f"network.{NASTY}": NASTY}
    (folder / "facts.json").write_text(json.dumps(facts), encoding="utf-8")
    (folder / "evaluation").mkdir()
    (folder / "evaluation" / f"{name}.json").write_text(NASTY, encoding="utf-8")
    (folder / "samples/grid.png").rename(folder / "evaluation" / f"{name}.png")
    recipe = (folder / "recipe.yaml").read_text(encoding="utf-8")
    (folder / "recipe.yaml").write_text(recipe.replace("init_from: null", f"init_from: {json.dumps(NASTY)}"), "utf-8")
    assert load((folder / "recipe.yaml").read_text(encoding="utf-8"), "r").value["init_from"] == NASTY
    code, _, err = dmf_command("compare", "a", name, "--html", "c.html")
    assert code == 0, err
    page = Path("c.html").read_text(encoding="utf-8")
    assert page.count("<script") == 2 and page.count("</script") == 2  # the points and the page's own
    assert "<script>alert" not in page.replace("∕", "/") and page.count("&lt;script&gt;alert") > 10


def test_nothing_is_asked_for_from_anywhere(two: Path, dmf_command: Command) -> None:
    assert dmf_command("compare", "a", "b", "--html", "c.html")[0] == 0
    page = Path("c.html").read_text(encoding="utf-8")
    links = re.findall(r"(?:src|href|url)\s*[=(]\s*[\"']?([^\"')\s>]{1,30})", page)
    assert links and all(link.startswith(("#", "data:")) for link in links)
    assert "http:" not in page and "https:" not in page and "@import" not in page
    assert "default-src &#39;none&#39;" in page


def test_pictures_are_taken_along_as_they_are_and_equal_ones_once(two: Path, dmf_command: Command) -> None:
    dmf_command("compare", "a", "b", "--html", "c.html")
    page = Path("c.html").read_text(encoding="utf-8")
    found = [base64.b64decode(text) for text in re.findall(r'src="data:image/png;base64,([^"]+)"', page)]
    files = [two / "runs" / name for name in ("a/samples/grid.png", "b/samples/grid.png", "a/data.png")]
    assert found == [file.read_bytes() for file in files]


def test_pictures_say_in_which_setting_and_of_which_network_they_are(workdir: Path, dmf_command: Command) -> None:
    more = {"0": results(fid=1.0), "1": of(results(fid=2.0), trained_steps="20"), "2": of(results(fid=3.0), k="4")}
    found = {f"{name}.json": one for name, one in more.items()}
    folder = make_run(workdir / "runs/a", metrics=results(fid=1.0), evaluations=found)
    for name in more:
        (folder / "evaluation" / f"{name}-grid.png").write_bytes((folder / "data.png").read_bytes())
    dmf_command("compare", "a", "--html", "c.html")
    said = re.findall("<small>(.*?)</small>", Path("c.html").read_text(encoding="utf-8"))
    assert said == ["as trained", "as a when it was trained, step 20", "k 4"]


def test_huge_pictures_are_reduced_by_a_whole_factor_and_it_is_said(workdir: Path, dmf_command: Command) -> None:
    folder = make_run(workdir / "runs/a")
    noise = np.random.default_rng(0).integers(0, 256, (900, 4100, 3), dtype=np.uint8)
    Image.fromarray(noise).save(folder / "samples/grid.png")
    dmf_command("compare", "a", "--html", "c.html")
    page = Path("c.html").read_text(encoding="utf-8")
    (text,) = re.findall(r'src="data:image/webp;base64,([^"]+)"', page)
    with Image.open(io.BytesIO(base64.b64decode(text))) as picture:
        assert picture.size == (1367, 300)
    assert "every 3 x 3 pixels as one" in page


# many points


def test_no_point_is_lost_in_a_band_and_means_are_means() -> None:
    random = np.random.default_rng(0)
    x, y = np.arange(1.0, 100_001), random.normal(size=100_000)
    y[54_321] = 1000.0
    y[77] = np.nan
    found = thinned(x, y, 100_000.0)
    assert len(found.x) == BINS and found.greatest.max() == 1000.0 and found.least.min() == np.nanmin(y)
    k = int(x[54_321] / 100_000 * BINS)
    inside = (x / 100_000 * BINS).astype(int) == k
    assert (
        found.mean[k] == pytest.approx(y[inside].mean())
        and found.each == np.bincount((x / 100_000 * BINS).astype(int).clip(max=BINS - 1)).max()
    )
    assert np.isfinite(found.mean).all() and (np.diff(found.x) > 0).all()


def test_few_points_are_drawn_as_they_are_and_a_gap_stays_one() -> None:
    x = np.arange(1.0, RAW + 1)
    assert thinned(x, x, float(RAW)).each == 1
    x = np.arange(1.0, 10_001)
    y = np.where((x > 5000) & (x < 6000), np.nan, 1.0)
    found = thinned(x, y, 10_000.0)
    empty = np.isnan(found.mean)
    assert 27 <= empty.sum() <= 30 and np.isnan(found.least[empty]).all() and (found.mean[~empty] == 1).all()


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (-3e-7, 4e-7), (0.5, 0.5004), (1e9, 3e9)])
def test_ticks_are_round_and_inside(low: float, high: float) -> None:
    ticks = Axis(low, high).ticks()
    assert 3 <= len(ticks) <= 8 and all(0 <= tick.at <= 1 for tick in ticks)
    assert len({tick.text for tick in ticks}) == len(ticks)


def test_a_logarithmic_axis_leaves_out_what_has_no_place_on_it() -> None:
    axis = around(np.array([0.0, -1.0, 0.01, 100.0]), True)
    assert axis is not None and axis.low > 0
    places = axis.place(np.array([0.0, 1.0]))
    assert np.isnan(places[0]) and places[1] == pytest.approx(0.5)
    assert [tick.text for tick in axis.ticks()] == ["0.01", "0.1", "1", "10", "100"]
    assert around(np.array([0.0]), True) is None and around(np.array([np.nan]), False) is None


def test_numbers_are_short() -> None:
    assert [told(x) for x in (0.0, 25_600.0, 1e6, 0.00012, -2500.0)] == ["0", "25.6k", "1M", "0.00012", "-2.5k"]
