"""`dmf plugins show`: the options of any part; a backbone's parameters, blocks and work; what a mistake is told."""

import functools
import json
import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from backbones_kit import SMALL, small
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from dmf.core import Backbone, DataSpec
from dmf.plugins.backbones.dit import DiT
from dmf.registry import parts
from dmf.runner.anatomy import anatomy, measured

Command = Callable[..., tuple[int, str, str]]


def shown(dmf_command: Command, *words: object) -> dict[str, Any]:
    code, out, err = dmf_command("plugins", "show", *words, "--json")
    assert code == 0, err
    found: dict[str, Any] = json.loads(out)
    return found


@pytest.mark.parametrize("part", parts(), ids=lambda part: f"{part.kind}:{part.name}")
def test_every_part_can_be_shown(dmf_command: Command, part: Any) -> None:
    given = [f"{key}={json.dumps(value)}" for key, value in SMALL.get(part.name, {}).items()]
    words = given if part.kind == "backbone" else []
    about = shown(dmf_command, f"{part.kind}:{part.name}", *words)
    assert about["summary"] and about["target"] == part.target
    assert all(option["meaning"] and option["takes"] for option in about["options"])
    assert ("network" in about) == (part.kind == "backbone")


@pytest.mark.parametrize("part", ["backbone:dit", "sampler:heun", "guidance:interval"])
def test_people_are_shown_the_same(dmf_command: Command, part: str) -> None:
    code, text, _ = dmf_command("plugins", "show", part)
    assert code == 0 and all(option["name"] in text for option in shown(dmf_command, part)["options"])
    assert "`" not in text and ("parameters" in text) == part.startswith("backbone")


def test_work_and_size_are_the_papers(dmf_command: Command) -> None:
    """Peebles & Xie, table 4: DiT-XL/2 at 32 x 32 latents has 675 M parameters and 118.64 Gflops, of multiply-adds."""
    words = ["backbone:dit", "--shape", "4,32,32", "size=XL", "--classes", 1000, "learned_variance=true"]
    network = shown(dmf_command, *words)["network"]
    assert network["flops"] / 2e9 == pytest.approx(118.64, rel=5e-4)
    assert round(network["parameters"] / 1e6) == 675 and network["trained"] == network["parameters"]
    assert network["output"] == [8, 32, 32] and network["blocks"] == {"Block": 28}
    assert sum(network["children"].values()) == network["parameters"] > network["block_parameters"] > 0


def test_work_has_a_unit_that_shows_it(dmf_command: Command) -> None:
    size = ["hidden=32", "depth=1", "heads=2"]
    for words in ([*size, "--shape", "1,8,8"], [], ["patch=8", *size, "--shape", "1,8,8"]):
        flops = shown(dmf_command, "backbone:dit", *words)["network"]["flops"]
        _, text, _ = dmf_command("plugins", "show", "backbone:dit", *words)
        said = re.findall(r"([\d,.]+) ([kMG])FLOP", text)
        units = {"k": 1e3, "M": 1e6, "G": 1e9}
        works = [float(number.replace(",", "")) * units[unit] for number, unit in said]
        assert works == pytest.approx([flops, flops / 2], rel=1e-3)


def test_what_is_given_stands_beside_the_default(dmf_command: Command) -> None:
    _, out, _ = dmf_command("plugins", "show", "sampler:ddim", "eta=0.5")
    assert "eta  0.5 (given; default 0.0); a number of at least 0 and of at most 1" in out
    assert "0 is deterministic, 1 has the variance of DDPM's posterior." in out
    _, out, _ = dmf_command("plugins", "show", "grid:explicit")
    assert "values  required; a list" in out


class Plain(Backbone):
    """One convolution, whose work is counted by hand; a frozen one; and weights in no module."""

    def __init__(self, spec: DataSpec) -> None:
        super().__init__(spec)
        self.layers = nn.ModuleList([nn.Conv2d(spec.shape[0], 5, 3, padding=1)])
        self.frozen = nn.Linear(2, 3).requires_grad_(False)
        self.scale = nn.Parameter(torch.ones(7))

    def forward(self, x: Tensor, noise: Tensor, cond: Any) -> Tensor:
        out: Tensor = self.layers[0](x)
        return out


class Looking(Plain):
    """Looks at numbers, which a tensor on "meta" has none of."""

    def forward(self, x: Tensor, noise: Tensor, cond: Any) -> Tensor:
        return super().forward(x, noise, cond) if float(noise[0]) == 0 else x


@pytest.mark.parametrize("make", [Plain, Looking])
def test_parameters_and_work_by_hand(make: type[Backbone]) -> None:
    found = anatomy(make, DataSpec((2, 4, 6)))
    assert found.output == (5, 4, 6) and found.flops == 2 * 4 * 6 * 5 * 2 * 9
    assert found.children == {"layers": 5 * 2 * 9 + 5, "frozen": 9, "(own)": 7}
    assert (found.parameters, found.trained) == (95 + 9 + 7, 95 + 7)
    assert found.blocks == {"Conv2d": 1} and found.block_parameters == 95


def test_nothing_is_computed_where_the_code_lets_that_be(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    forward = Plain.forward
    monkeypatch.setattr(
        Plain, "forward", lambda self, x, *more: (seen.append(x.device.type), forward(self, x, *more))[1]
    )
    anatomy(Plain, DataSpec((2, 4, 6)))
    assert seen == ["meta"]


@pytest.mark.parametrize("name", SMALL)
def test_without_arithmetic_the_count_is_that_of_a_real_pass(name: str) -> None:
    spec = DataSpec((3, 16, 16), ("one", "two"))
    # in float32 on a CPU, and nowhere else, the U-Net doubles images by fewer products; torch 2.8 does not count the
    # CPU's own attention kernel
    with torch.autocast("cpu", torch.bfloat16, enabled=name == "unet"), sdpa_kernel(SDPBackend.MATH):
        real = measured(small(name, spec), spec)
    assert anatomy(lambda seen: small(name, seen), spec) == real


def test_a_unet_in_float32_on_a_cpu_does_less_than_is_told() -> None:
    spec = DataSpec((3, 16, 16), ("one", "two"))
    told = anatomy(lambda seen: small("unet", seen), spec)
    with sdpa_kernel(SDPBackend.MATH):
        real = measured(small("unet", spec), spec)
    assert 0.5 * told.flops < real.flops < told.flops


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["backbone:dti"], "unknown backbone 'dti'; did you mean 'dit'?"),
        (["bakbone:dit"], "unknown kind of part 'bakbone'; did you mean 'backbone'?"),
        (["dit"], "got 'dit' for a part; did you mean backbone:dit?"),
        (["it"], "got 'it' for a part; expected `dmf plugins show KIND:NAME"),
        ([], "got 0 parts to show"),
        (["backbone:dit", "backbone:unet"], "got 2 parts to show"),
        (["backbone:dit", "hiden=64"], "unknown option 'hiden' of backbone 'dit'; did you mean 'hidden'?"),
        (["backbone:dit", "hidden=[64"], "hidden=[64: broken YAML"),
        (["sampler:ddim", "eta=3"], "option 'eta' of sampler 'ddim': got 3, expected a number of at least 0"),
        (["sampler:ddim", "--shape", "3,8,8"], "--shape and --classes are for a backbone"),
        (["backbone:dit", "patch=3"], "for images 3 x 32 x 32, no classes (--shape, --classes): backbone 'dit'"),
        (["backbone:dit", "--shape", "3"], "--shape: a DataSpec's shape is (channels, *size)"),
        (["backbone:dit", "--check"], "--check is for the list"),
    ],
)
def test_mistakes_are_told_in_one_message(dmf_command: Command, words: list[str], sentence: str) -> None:
    code, out, err = dmf_command("plugins", "show", *words)
    assert code == 2 and sentence in err and not out
    assert err.count("error:") == 1 and "Traceback" not in err


@pytest.mark.parametrize(
    "words", [["sampler:heun"], ["sampler", "grid"], ["steps=3"], ["grid", "--shape", "3,8,8"], ["--classes", "3"]]
)
def test_the_list_takes_nothing_of_it(dmf_command: Command, words: list[str]) -> None:
    code, out, err = dmf_command("plugins", *words)
    assert code == 2 and "dmf plugins show" in err and not out


def test_a_network_that_cannot_be_run_is_told(dmf_command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dmf.plugins.backbones.dit.DiT.forward", lambda self, x, noise, cond: x @ x[..., 1:, :])
    code, _, err = dmf_command("plugins", "show", "backbone:dit", "depth=1", "hidden=16", "heads=2")
    assert code == 2 and "its forward fails" in err and "Traceback" not in err


@pytest.mark.parametrize("failure", [ValueError, IndexError, KeyError, RuntimeError])
@pytest.mark.parametrize(
    ("method", "sentence"), [("forward", "its forward fails: {}: no"), ("__init__", "it cannot be built: {}: no")]
)
def test_whatever_fails_is_one_message(
    dmf_command: Command, monkeypatch: pytest.MonkeyPatch, failure: type[Exception], method: str, sentence: str
) -> None:
    @functools.wraps(getattr(DiT, method))
    def fail(self: object, *given: object, **options: object) -> None:
        raise failure("no")

    if (method, failure) == ("__init__", ValueError):
        sentence = "no"  # the part's own refusal
    monkeypatch.setattr(DiT, method, fail)
    code, out, err = dmf_command("plugins", "show", "backbone:dit", "depth=1", "hidden=16", "heads=2")
    assert code == 2 and not out and "Traceback" not in err
    assert sentence.format(failure.__name__) in err.replace("'", "")


def test_why_a_network_is_built_in_full_is_told(caplog: pytest.LogCaptureFixture) -> None:
    """A defect that shows on "meta" alone is not passed over."""

    class Odd(Plain):
        def forward(self, x: Tensor, noise: Tensor, cond: Any) -> Tensor:
            return super().forward(x.reshape(7) if x.is_meta else x, noise, cond)

    assert anatomy(Odd, DataSpec((2, 4, 6))) == measured(Odd(DataSpec((2, 4, 6))), DataSpec((2, 4, 6)))
    (line,) = caplog.messages
    assert 'on "meta"' in line and "RuntimeError" in line and "shape '[7]' is invalid" in line
    caplog.clear()
    anatomy(Plain, DataSpec((2, 4, 6)))
    assert not caplog.messages
