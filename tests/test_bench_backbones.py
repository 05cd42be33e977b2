"""`dmf bench backbones`: both sides see the same and do the same work; the figures are what was timed."""

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from dmf.core import DataSpec
from dmf.registry import UserError
from dmf.testing.bench.backbones import Conditions, measure
from dmf.testing.bench.contests import Contest, Side, contests, parameters
from dmf.testing.bench.page import marks
from dmf.testing.bench.timing import by_turns, peak_flops, spread

Command = Callable[..., tuple[int, str, str]]
CPU = torch.device("cpu")


def plain(batch: int = 2, rounds: int = 3, precision: str = "fp32", compiled: bool = False) -> Conditions:
    return Conditions(CPU, precision, compiled, batch, rounds)


class Lazy(nn.Linear):
    """A linear map that rests before its work."""

    def __init__(self, rest_s: float) -> None:
        super().__init__(8, 8, bias=False)
        self.rest_s, self.dtypes = rest_s, set[torch.dtype]()

    def forward(self, x: Tensor) -> Tensor:
        time.sleep(self.rest_s)
        out = super().forward(x)
        self.dtypes.add(out.dtype)
        return out


def contest(ours: nn.Module, other: nn.Module) -> Contest:
    def call(network: nn.Module, x: Tensor, noise: Tensor, cond: object) -> Tensor:
        out: Tensor = network(x)
        return out

    sides = Side("mine", ours, call), Side("theirs", other, call)
    return Contest("lazy", DataSpec((1, 4, 8)), lambda: sides, "one lazier than the other")


@pytest.mark.parametrize("name", ["unet", "dit", "dit_by_size"])
def test_both_sides_are_of_a_size_and_see_the_same(name: str) -> None:
    pytest.importorskip("diffusers")
    one = contests()[name]
    with torch.device("meta"):
        ours, other = one.sides()
    x, noise, cond = one.inputs(2, torch.device("meta"))
    shapes = [side.call(side.network, x, noise, cond).shape for side in (ours, other)]
    assert shapes[0] == shapes[1] and shapes[0][2:] == (32, 32)
    mine, theirs = parameters(ours.network), parameters(other.network)
    # 12 of their layers have 11 further embeddings of the noise level and 10 classes
    assert abs(theirs / mine - 1) < {"unet": 1e-9, "dit": 0.1, "dit_by_size": 0.025}[name]
    if name == "unet":
        assert mine == 35_746_307
    for side in (ours, other):
        assert all(m.p == 0 for m in side.network.modules() if isinstance(m, nn.Dropout))


@pytest.mark.parametrize("layer", ["mamba1", "mamba2"])
def test_the_scans_are_one_network_in_two_ways(layer: str) -> None:
    one = contests()[layer]
    ours, other = one.sides()
    for parameter in ours.network.parameters():
        nn.init.normal_(parameter, std=0.05)
    other.network.load_state_dict(ours.network.state_dict())
    inputs = one.inputs(1, CPU)
    with torch.no_grad():
        a, b = (side.call(side.network.eval(), *inputs) for side in (ours, other))
    assert (a - b).abs().max() < 1e-4 * a.abs().max() and a.abs().max() > 0


def test_what_is_timed_is_what_is_told() -> None:
    ticks: list[int] = []
    found = measure(contest(Lazy(0.02), Lazy(0.2)), plain(), lambda: ticks.append(1))
    assert len(ticks) == 4
    assert 0.02 <= found.ours.seconds.median < 0.2 <= found.other.seconds.median
    assert 1 < found.ratio.low <= found.ratio.median <= found.ratio.high < 11
    assert found.ours.images_per_s == pytest.approx(2 / found.ours.seconds.median)
    # forward and the gradient of the weights: two products of (2 * 1 * 4, 8) with 8, a multiply-add as two
    assert found.ours.flops == 2 * 2 * 8 * 8 * 8 and found.ours.parameters == 64
    assert found.ours.flops_per_s == pytest.approx(found.ours.flops / found.ours.seconds.median)


def test_the_precision_is_that_of_the_arithmetic() -> None:
    for precision, dtype in {"fp32": torch.float32, "bf16": torch.bfloat16}.items():
        mine = Lazy(0.0)
        measure(contest(mine, Lazy(0.0)), plain(precision=precision, rounds=1))
        assert mine.dtypes == {dtype} and mine.weight.dtype == torch.float32


def test_sides_take_turns() -> None:
    order: list[str] = []
    times = by_turns(lambda: order.append("a"), lambda: order.append("b"), 3, CPU)
    assert "".join(order) == "abab" + "ab" + "ba" + "ab" and [len(t) for t in times] == [3, 3]


def test_spread_and_peak() -> None:
    assert spread([3.0]) == spread([3.0, 3.0]) and spread([1.0, 2.0, 3.0, 4.0, 5.0]).low == 2.0
    assert spread([9.0, 1.0, 5.0]).median == 5.0
    assert 1e9 < peak_flops(CPU, torch.float32) < 1e14


def test_what_compile_cannot_do_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(network: nn.Module) -> nn.Module:
        raise RuntimeError("no\n compiler here")

    monkeypatch.setattr(torch, "compile", broken)
    with pytest.raises(UserError, match="lazy with --compile: no compiler here"):
        measure(contest(Lazy(0.0), Lazy(0.0)), plain(compiled=True))


def test_the_command(dmf_command: Command, workdir: Path) -> None:
    begin, end = marks("backbones")
    page = workdir / "page.md"
    page.write_text(f"before\n{begin}\nstale\n{end}\nafter\n", encoding="utf-8")
    words = [
        "--networks",
        "mamba2",
        "--batch",
        1,
        "--repeats",
        1,
        "--device",
        "cpu",
        "--page",
        page,
        "--json",
        "f.json",
    ]
    code, out, err = dmf_command("bench", "backbones", *words)
    assert code == 0, err
    figures = json.loads(Path("f.json").read_text(encoding="utf-8"))
    (result,) = figures["results"]
    assert result["contest"] == "mamba2" and result["ours"]["parameters"] == result["other"]["parameters"]
    assert figures["about"]["batch"] == 1 and figures["about"]["peak_flops_per_s"] > 1e9
    assert f"{result['ours']['parameters']:,}" in out and f"**{result['ratio']['median']:.2f}**" in out
    text = page.read_text(encoding="utf-8")
    assert text.startswith("before\n") and text.endswith("after\n") and "stale" not in text
    assert text.split(begin)[1].split(end)[0].strip() in out


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--networks", "unt"], "unknown network 'unt'; did you mean 'unet'?"),
        (["--page", "no.md"], "there is no page no.md"),
        (["--page", "plain.md"], "plain.md has no place for the tables; write the lines <!-- measured:"),
        (["--json", "no/where.json"], "no/where.json cannot be written"),
    ],
)
def test_mistakes_are_told_first(dmf_command: Command, workdir: Path, words: list[str], sentence: str) -> None:
    Path("plain.md").write_text("a page without marks\n", encoding="utf-8")
    code, out, err = dmf_command("bench", "backbones", *words)
    assert code == 2 and sentence in err and "Traceback" not in err and not out


def test_the_help_names_the_networks(dmf_command: Command, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        dmf_command("bench", "backbones", "--help")
    assert ", ".join(contests()) in " ".join(capsys.readouterr().out.split())
