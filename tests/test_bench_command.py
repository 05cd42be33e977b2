"""`dmf bench samplers`: every sampler is in its tables, beside diffusers; what it cannot do is said first."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from dmf.core import generator
from dmf.registry import build, parts
from dmf.testing.bench.page import marks
from dmf.testing.bench.problems import exact_end, problem, two_dimensions
from dmf.testing.bench.wasserstein import sliced_wasserstein

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # theirs, of numpy
Command = Callable[..., tuple[int, str, str]]


def test_every_sampler_is_measured(dmf_command: Command, workdir: Path) -> None:
    pytest.importorskip("diffusers")
    page = workdir / "page.md"
    begin, end = marks("samplers")
    page.write_text(f"before\n{begin}\nstale\n{end}\nafter\n", encoding="utf-8")
    files = ["--page", page, "--plot", "curves.png", "--json", "figures.json"]
    code, out, err = dmf_command("bench", "samplers", "--points", 8, "--evaluations", "3,6", *files)
    assert code == 0, err
    results = json.loads(Path("figures.json").read_text(encoding="utf-8"))
    for part in parts("sampler"):
        mine = [r for r in results if r["sampler"] == part.name]
        assert {r["problem"] for r in mine} == {"2-d", "192-d"} and f"`{part.name}`" in out
        assert all(r["adaptive"] or r["evaluations"] <= r["budget"] for r in mine)
        assert {r["kind"] for r in mine} == {"stochastic" if build("sampler", part.name).stochastic else "ours"}
    assert any(r["kind"] == "others" for r in results) and "**best other**" in out
    text = page.read_text(encoding="utf-8")
    assert text.startswith("before\n") and text.endswith("after\n") and "stale" not in text
    assert text.split(begin)[1].split(end)[0].strip() in out
    assert Path("curves.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--grids", "karas"], "did you mean 'karras'"),
        (["--page", "no.md"], "there is no page no.md"),
        (["--page", "plain.md"], "plain.md has no place for the tables; write the lines <!-- measured:"),
        (["--plot", "curves.jpg"], "name it curves.png"),
        (["--schedule", "flow"], "tables of betas, which Flow is not"),
        (["--grids", "explicit"], "explicit"),
    ],
)
def test_mistakes_are_told_first(dmf_command: Command, workdir: Path, words: list[str], sentence: str) -> None:
    Path("plain.md").write_text("a page without marks\n", encoding="utf-8")
    code, out, err = dmf_command("bench", "samplers", "--points", 4, *words)
    assert code == 2 and sentence in err and "Traceback" not in err and not out


def test_a_list_that_is_none_is_told_in_words(dmf_command: Command, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        dmf_command("bench", "samplers", "--evaluations", "3,x")
    assert "'3,x': whole numbers with commas between" in capsys.readouterr().err


def test_points_near_a_border_are_left_out_and_no_others() -> None:
    """On the circle of eight Gaussians the borders are the lines between them; the flow is straight across them."""
    schedule = build("schedule", "linear")
    kept = problem("2-d", schedule, 400)
    assert len(kept.noise) + kept.left_out == 400 and 0 < kept.left_out < 60
    angle = torch.atan2(kept.noise[:, 1], kept.noise[:, 0]) / (torch.pi / 4) + 0.5
    off = (angle - angle.round()).abs() * torch.pi / 4 * kept.noise.norm(dim=1)  # distance from the nearest border
    assert off.min() > 0.02 * 0.7
    torch.testing.assert_close(exact_end(two_dimensions(), schedule, kept.noise[:5]), kept.end[:5], rtol=0, atol=1e-6)


def test_the_distance_of_distributions() -> None:
    x = torch.randn(4000, 3, generator=generator(0, "cloud", 0), dtype=torch.float64)
    assert sliced_wasserstein(x, x.flip(0)) == 0
    shift = torch.tensor([0.3, 0.0, 0.0], dtype=torch.float64)
    assert sliced_wasserstein(x, x + shift) == pytest.approx(0.3 / 3**0.5, rel=0.1)  # mean of squared projections


def test_errors_are_in_standard_deviations_of_the_data() -> None:
    """Of a circle of radius 1 an axis has the variance 1/2, and the Gaussians on it add 0.01."""
    given = problem("2-d", build("schedule", "linear"), 20)
    assert given.error(given.end) == 0
    assert given.error(given.end + 0.51**0.5) == pytest.approx(1)
