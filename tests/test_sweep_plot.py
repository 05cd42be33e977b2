"""What stands on the plot of a sweep can be read."""

from pathlib import Path

import pytest
from matplotlib.figure import Figure

from dmf.registry import read
from dmf.runner.sweeps import plot as sweep_plot
from dmf.runner.sweeps.points import Point
from dmf.runner.sweeps.report import Swept


@pytest.mark.parametrize("names", [["fid"], ["fid", "recall"]])
@pytest.mark.parametrize(
    "guidance", [["1", "2", "3"], ["1", "{name: interval, sigma_max: 5, sigma_min: 0.3, of: {name: rescale, of: 2}}"]]
)
def test_all_names_of_lines_are_on_the_plot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, names: list[str], guidance: list[str]
) -> None:
    drawn: list[Figure] = []
    whole = Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda self, *a, **k: (drawn.append(self), whole(self, *a, **k)))
    recipe, samplers, steps = read("digits_dit"), ["ddim", "dpmpp_2m"], ["3", "4"]
    points = [
        Point({"steps": n, "sampler": s, "guidance": g}, recipe) for n in steps for s in samplers for g in guidance
    ]
    results = [{name: {"value": 1.0 + i} for name in names} for i in range(len(points))]
    sweep_plot.draw(Swept(points, results, {"fid": "lower"}), tmp_path / "plot.png", "title")
    (figure,) = drawn
    (legend,) = figure.legends
    box, page = legend.get_window_extent(), figure.bbox
    assert len(legend.get_texts()) == 2 * len(guidance)
    assert page.x0 <= box.x0 and box.x1 <= page.x1 and page.y0 <= box.y0 and box.y1 <= page.y1
    assert figure.axes[0].bbox.height > 0.5 * page.height  # the values have room all the same
