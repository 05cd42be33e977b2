"""The page of `dmf compare` in a real browser, if there is one: it fits, works by keyboard, asks for nothing."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from browser_kit import Browser
from browser_kit import browser_fixture as browser_fixture
from compare_kit import PROTOCOL, make_run, of, results

Command = Callable[..., tuple[int, str, str]]
LONG = "a-run-of-a-very-long-name-" * 5
NASTY = "<script>alert(1)</script>"


@pytest.fixture
def page(workdir: Path, dmf_command: Command) -> Path:
    """Of twelve runs: more than there are colours, long names and texts, a script in a name."""
    found = {f"a_value_with_a_long_name_{k}": {"value": 1e-5 * k, "protocol": PROTOCOL} for k in range(8)}
    names = [f"run{k}" for k in range(10)] + [LONG, NASTY.replace("/", "∕")]
    for k, name in enumerate(names):
        losses = [*(np.linspace(2, 0.5, 50 + k)).tolist(), None, 0.4]
        during = [(float(step), results(fid_n10=100.0 / step)) for step in (10, 100, 400)]
        own = of(found, steps=str(k % 3), sampler="x" * 300)
        make_run(workdir / "runs" / name, f"train.lr={k + 1}e-3", losses=losses, metrics=own, during=during, grey=k)
    code, _, err = dmf_command("compare", *names, "--html", "c.html")
    assert code == 0, err
    return workdir / "c.html"


@pytest.mark.parametrize("script", [True, False], ids=["script", "no-script"])
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [400, 1400])
def test_it_fits_the_window_and_asks_for_nothing(
    width: int, dark: bool, script: bool, page: Path, browser: Browser
) -> None:
    browser.open(page, width, dark, script)
    assert browser.complaints == []
    assert [r for r in browser.requests if not r.startswith("data:")] == [page.as_uri()]
    assert browser.value("document.documentElement.scrollWidth") <= width
    assert browser.value("[...document.images].every(i => i.complete && i.naturalWidth == 30)")
    paper = browser.value("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, paper[4:-1].split(","))) < 200) == dark
    cells = "[...document.querySelectorAll('th, td, label, h3')].filter(e => e.clientWidth > 0)"
    assert browser.value(f"Math.min(...{cells}.map(e => e.clientWidth))") >= 20


def test_a_run_is_hidden_and_an_axis_changed_without_script(page: Path, browser: Browser) -> None:
    browser.open(page, script=False)
    shown = "[...document.querySelectorAll('.of-3')].filter(e => getComputedStyle(e).display != 'none').length"
    face = "getComputedStyle(document.querySelector('.face.{}')).display"
    assert browser.value(shown) > 5 and browser.value(face.format("log")) == "none"
    browser.value("document.getElementById('show-3').focus()")
    browser.press(" ")
    browser.value("document.getElementById('log').focus()")
    browser.press(" ")
    assert browser.value(shown) == 0
    assert browser.value(face.format("log")) == "block" and browser.value(face.format("linear")) == "none"


def test_values_are_told_by_keys_and_by_the_pointer(page: Path, browser: Browser) -> None:
    browser.open(page)
    browser.value("document.querySelector('.plot').focus()")
    browser.press("Home")
    told = "document.querySelector('.readout').textContent"
    assert browser.value(told).startswith("at 10") and "run0 2" in browser.value(told)
    browser.press("ArrowRight")
    assert browser.value(told).startswith("at 20")
    browser.press("Escape")
    assert browser.value("document.querySelector('.readout').hidden")
    box = json.loads(browser.value("JSON.stringify(document.querySelector('.plot').getBoundingClientRect())"))
    browser.move(box["left"] + box["width"] - 1, box["top"] + 20)
    assert "0.4" in browser.value(told) and not browser.value("document.querySelector('.readout').hidden")


def test_curves_are_where_their_values_are(workdir: Path, dmf_command: Command, browser: Browser) -> None:
    """The highest point of a falling loss is at its first x; the axis has room for it."""
    make_run(workdir / "runs/a", losses=[3.0, 2.0, 1.0, 1.0])
    dmf_command("compare", "a", "--html", "c.html")
    browser.open(workdir / "c.html")
    line, plot = "document.querySelector('.chart .line')", "document.querySelector('.chart .plot')"
    where = f"(p => [p.x / 2000, p.y / 1000])({line}.getPointAtLength"
    first, last = browser.value(f"{where}(0))"), browser.value(f"{where}({line}.getTotalLength()))")
    assert first == pytest.approx([0.25, 0.04], abs=0.02) and last == pytest.approx([1.0, 0.96], abs=0.02)
    assert browser.value(f"Math.abs({line}.getBoundingClientRect().right - {plot}.getBoundingClientRect().right)") < 3


def test_ten_runs_of_100_000_points_are_a_small_page(workdir: Path, dmf_command: Command, browser: Browser) -> None:
    random = np.random.default_rng(0)
    names = [f"run{k}" for k in range(10)]
    make_run(workdir / "runs/run0", losses=random.normal(1.0, 0.1, 100_000).tolist())
    for name in names[1:]:
        make_run(workdir / "runs" / name, metrics=results(fid=1.0))
        (workdir / "runs" / name / "history.jsonl").write_bytes((workdir / "runs/run0/history.jsonl").read_bytes())
    assert dmf_command("compare", *names, "--html", "c.html")[0] == 0
    assert Path("c.html").stat().st_size < 0.65e6  # 0.6 MB in docs/compare.md
    browser.open(workdir / "c.html")
    assert browser.value("document.querySelectorAll('.band').length") >= 10
