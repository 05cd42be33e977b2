"""docs/library.md: its code runs as it stands, and does what the page says."""

import ast
from pathlib import Path
from typing import Any

import pytest
import torch
from docs_kit import ROOT, blocks

PAGE = ROOT / "docs" / "library.md"
BLOCKS = [block.text for block in blocks(PAGE, "python")]
LINES = 25


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the first block, the whole script, leaves behind."""
    names: dict[str, Any] = {}
    torch.manual_seed(0)  # the network's first weights; the script draws the rest itself
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("library"))
        exec(compile(BLOCKS[0], str(PAGE), "exec"), names)
        assert list(Path.cwd().iterdir()) == [], "the library writes no file"
    return names


def test_the_script_is_as_short_as_promised() -> None:
    statements = [node for node in ast.walk(ast.parse(BLOCKS[0])) if isinstance(node, ast.stmt)]
    assert len([node for node in statements if not isinstance(node, ast.Import | ast.ImportFrom)]) <= LINES


def test_it_trains_and_samples(ran: dict[str, Any]) -> None:
    pictures, images, labels = ran["pictures"], ran["images"].flatten(1).double(), ran["cond"]["class"]
    assert pictures.dtype == torch.uint8 and pictures.shape == (100, 1, 8, 8)
    assert float(ran["loss"].detach().mean()) < 0.8, "a network that says 0 has about 1.7"
    # the nearest mean of a real class is the class that was asked for, for most
    means = torch.stack([images[labels == k].mean(0) for k in range(10)])
    nearest = torch.cdist(pictures.flatten(1).double(), means).argmin(1)
    right = float((nearest == torch.arange(100) % 10).double().mean())
    assert right > 0.8, f"{right:.0%} of the digits are nearest to their class; one in ten would be chance"
    spread, real = pictures[::10].double().std(0).mean(), images[labels == 0].std(0).mean()
    assert spread > 0.4 * real, f"ten zeros vary by {spread:.0f} a pixel, real ones by {real:.0f}"


@pytest.mark.parametrize("block", BLOCKS[1:], ids=lambda block: block.split("(")[0].split()[-1])
def test_the_other_blocks_run_after_it(block: str, ran: dict[str, Any]) -> None:
    names = dict(ran)
    exec(compile(block, str(PAGE), "exec"), names)
    level = names["schedule"].at(0.5)
    if "Tiny" in names:
        cond = {"class": torch.tensor([0, 10])}
        assert names["Tiny"](names["codec"].spec)(torch.zeros(2, 1, 8, 8), torch.zeros(2), cond).shape == (2, 1, 8, 8)
    with torch.inference_mode():
        assert names["denoise"](names["x"], level).shape == names["x"].shape
