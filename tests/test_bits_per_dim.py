"""The metric bits_per_dim: the same whatever the batches, ranks and modes; in an evaluation, as `dmf likelihood` is."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import sem
from torch import Tensor, nn

from dmf.core import (
    Codec,
    Cond,
    DataSpec,
    Denoiser,
    ImageStreams,
    Pixels,
    ScoredModel,
    bind,
    bits_per_dim,
    generator,
    predictions,
)
from dmf.plugins.metrics.bits_per_dim import BitsPerDim
from dmf.registry import build
from dmf.testing.metrics import merged

SPEC = DataSpec((1, 4, 4), ("dark", "light"))
IMAGES = torch.randint(0, 256, (9, 1, 4, 4), generator=generator(0, "bits", 0)).to(torch.uint8)
NUMBERS = torch.tensor([40, 7, 3, 11, 90, 2, 55, 1, 8])  # of a larger set, in no order
LABELS = NUMBERS % 2
SHORT: dict[str, Any] = {"steps": 4}


class Network(nn.Module):
    """Small, with weights that want a gradient, and a table of classes, whose indices a gradient would keep."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.table = nn.Embedding(3, 16)
        self.mix = nn.Linear(16, 16)

    def forward(self, x: Tensor, noise: Tensor, cond: Cond) -> Tensor:
        told = self.table(cond["class"])
        flat: Tensor = torch.tanh(self.mix(x.flatten(1)) * (1 + told)) + told
        return flat.view_as(x)


def model(network: nn.Module | None = None, codec: Codec | None = None) -> ScoredModel:
    denoiser = Denoiser(network or Network(), build("schedule", "flow"), predictions.flow)
    return ScoredModel(denoiser, codec or Pixels(SPEC))


def shown(metric: BitsPerDim, rows: Tensor, of: ScoredModel, batch: int = 4) -> BitsPerDim:
    for part in torch.split(rows, batch):
        told = {"class": LABELS[part]}
        metric.update(IMAGES[part], real=True, labels=LABELS[part], index=NUMBERS[part], cond=told, model=of)
    return metric


def values(of: ScoredModel | None = None, **options: Any) -> dict[str, float]:
    return shown(BitsPerDim(**{**SHORT, **options}), torch.arange(9), of or model()).compute()


def each(seed: int = 0, probes: int = 1, draws: int = 1, steps: int = 4) -> np.ndarray[Any, Any]:
    """Image by image, by core's function, with streams that are named by the image's number."""
    denoiser, codec = model()
    found = []
    for image, number, label in zip(IMAGES, NUMBERS, LABELS, strict=True):
        streams = ImageStreams(seed, [int(number)], SPEC.shape)
        denoise = bind(denoiser, {"class": label[None]}, SPEC)
        bits = bits_per_dim(denoise, image[None], codec, denoiser.schedule, streams, probes, draws, steps)
        found.append([float(bits.per_image), float(bits.error)])
    return np.array(found)


def test_it_is_the_mean_over_images_and_its_error() -> None:
    got, want = values(), each()[:, 0]
    assert got.keys() == {"bits_per_dim", "bits_per_dim_error"}
    assert got["bits_per_dim"] == pytest.approx(want.mean(), rel=1e-6)
    assert got["bits_per_dim_error"] == pytest.approx(sem(want), rel=1e-4)
    assert want.std() > 0.01  # or nothing is tested


@pytest.mark.parametrize("options", [{"probes": 3}, {"draws": 3}, {"probes": 0}, {"seed": 5}, {"steps": 7}])
def test_its_options_are_those_of_the_function(options: dict[str, int]) -> None:
    got, want = values(**options), each(**options)
    assert got["bits_per_dim"] == pytest.approx(want[:, 0].mean(), rel=1e-6) != values()["bits_per_dim"]
    several = max(options.get("probes", 1), options.get("draws", 1)) > 1
    own = got.get("bits_per_dim_estimate_error")
    assert own == (pytest.approx(math.sqrt((want[:, 1] ** 2).sum()) / 9, rel=1e-4) if several else None)


def test_neither_batches_nor_ranks_nor_pieces_change_it() -> None:
    whole, of = values(), model()
    assert shown(BitsPerDim(**SHORT), torch.arange(9), of, 1).compute() == pytest.approx(whole, rel=1e-6)
    assert values(slice=2) == pytest.approx(whole, rel=1e-6)
    ranks = [shown(BitsPerDim(**SHORT), torch.arange(9)[rank::3], of) for rank in range(3)]
    together = merged(*ranks, BitsPerDim(**SHORT))  # a rank without an image among them
    assert together.compute() == pytest.approx(whole, rel=1e-6)
    assert together.bits_index.tolist() == sorted(NUMBERS.tolist())  # type: ignore[attr-defined]


def test_inference_mode_around_it_is_left_for_it() -> None:
    """Gradients flow through the network all the same, and those of weights are wanted as before."""
    network = Network()
    with torch.inference_mode():
        metric = BitsPerDim(**SHORT)
        told = {"class": LABELS.clone()}
        metric.update(IMAGES.clone(), real=True, index=NUMBERS, cond=told, model=model(network))
        got = metric.compute()
    assert got == pytest.approx(values(), rel=1e-6)
    assert all(weight.requires_grad and weight.grad is None for weight in network.parameters())


def test_the_condition_counts() -> None:
    metric = BitsPerDim(**SHORT)
    metric.update(IMAGES, real=True, index=NUMBERS, cond={"class": 1 - LABELS}, model=model())
    assert metric.compute()["bits_per_dim"] != pytest.approx(values()["bits_per_dim"], rel=1e-4)


def test_of_one_image_nobody_knows_an_error() -> None:
    got = shown(BitsPerDim(**SHORT), torch.arange(1), model()).compute()
    assert got == {"bits_per_dim": pytest.approx(each()[0, 0], rel=1e-6)}
    several = shown(BitsPerDim(draws=3, **SHORT), torch.arange(1), model()).compute()
    assert several["bits_per_dim_error"] == several["bits_per_dim_estimate_error"] > 0


class Squared(Pixels):
    """Not affine."""

    grey_level = None  # type: ignore[assignment]


def test_what_cannot_be_had_is_refused() -> None:
    with pytest.raises(ValueError, match="score a run"):
        BitsPerDim().update(IMAGES, index=NUMBERS)
    with pytest.raises(ValueError, match="Squared is not affine"):
        shown(BitsPerDim(**SHORT), torch.arange(2), model(codec=Squared(SPEC)))
    with pytest.raises(ValueError, match="no image"):
        BitsPerDim().compute()


def test_the_protocol_says_what_was_integrated() -> None:
    metric = shown(BitsPerDim(draws=2, probes=3, seed=4, **SHORT), torch.arange(1), model())
    said = metric.protocol()
    assert (said["trace"], said["evaluations"], said["draws"], said["seed"]) == ("3 probes", "32", "2", "4")
    assert said["given"] == "class" and said["cleanest sigma / alpha"] == "4.54e-05"  # exp(-10): log SNR of 20
    assert BitsPerDim(probes=0).protocol()["trace"] == "exact trace"


# in a run

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small trained run, made once."""
    from conftest import TINY

    from dmf.runner.cli import main

    folder = tmp_path_factory.mktemp("bits")
    (folder / "tiny.yaml").write_text(TINY, encoding="utf-8")
    words = ["train.steps=40", "train.lr=5e-3", "hooks=[]", "--runs", str(folder / "runs")]
    assert main(["train", str(folder / "tiny.yaml"), *words]) == 0
    return folder / "runs"


WANTED = "[{name: bits_per_dim, images: 5, steps: 6, seed: 3}]"


def evaluated(command: Command, runs: Path, *words: object) -> dict[str, Any]:
    words = ("--images", 1, "--metrics", WANTED, "--json", "e.json", *words)
    code, _, err = command("evaluate", "tiny", "--runs", runs, *words)
    assert code == 0, err
    found: dict[str, Any] = json.loads(Path("e.json").read_text())
    return found


def test_evaluate_and_likelihood_are_one_computation(runs: Path, workdir: Path, dmf_command: Command) -> None:
    found = evaluated(dmf_command, runs, "--seed", 3)
    words = ["--images", 5, "--steps", 6, "--seed", 3, "--json", "l.json"]
    assert dmf_command("likelihood", "tiny", "--runs", runs, *words)[0] == 0
    alone = json.loads(Path("l.json").read_text())["bits_per_dim"]
    assert found["bits_per_dim"]["value"] == pytest.approx(alone["value"], rel=1e-6)
    assert found["bits_per_dim_error"]["value"] == pytest.approx(alone["error"], rel=1e-5)
    protocol = found["bits_per_dim"]["protocol"]
    assert protocol == alone["protocol"]
    assert protocol["images"] == "5" and "sampler" not in protocol and "guidance" not in protocol


def test_repeats_change_nothing_of_it_and_it_is_computed_once(
    runs: Path, workdir: Path, dmf_command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, whole = 0, BitsPerDim.update

    def counted(self: BitsPerDim, images: Tensor, **given: Any) -> None:
        nonlocal asked
        asked += len(images)
        whole(self, images, **given)

    monkeypatch.setattr(BitsPerDim, "update", counted)
    both = WANTED.replace("]", ", {name: frechet, features: digits}]")
    words = ["--images", 4, "--metrics", both, "--no-held-out"]
    one = evaluated(dmf_command, runs, *words)
    assert asked == 5
    two = evaluated(dmf_command, runs, *words, "--repeats", 2)
    assert asked == 10 and len(two["frechet_digits"]["values"]) == 2
    names = [name for name in one if name.startswith("bits_per_dim")]
    assert {name: two[name] for name in names} == {name: one[name] for name in names}  # no spread, its own seed
    words = ["evaluate", "tiny", "--runs", runs, *words[2:], "--images", 4, "--repeats", 2, "--sweep", "steps=1"]
    assert dmf_command(*words, "--json", "s.json")[0] == 0
    (point,) = json.loads(Path("s.json").read_text())["points"]
    assert asked == 15 and {name: point["results"][name] for name in names} == {name: one[name] for name in names}


def test_no_image_is_generated(
    runs: Path, workdir: Path, dmf_command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dmf.runner.generate import Generator

    def made(*given: object) -> None:
        raise AssertionError("an image was made")

    monkeypatch.setattr(Generator, "batch", made)
    assert evaluated(dmf_command, runs)["bits_per_dim"]["value"] > 0


def test_ranks_do_not_change_it(runs: Path, workdir: Path, dmf_command: Command) -> None:
    one = evaluated(dmf_command, runs, "--batch-size", 2)
    three = evaluated(dmf_command, runs, "--batch-size", 2, "--ranks", 3)
    for name in ("bits_per_dim", "bits_per_dim_error"):
        assert three[name]["value"] == pytest.approx(one[name]["value"], rel=1e-6)
        assert three[name]["protocol"] == one[name]["protocol"]


def test_a_set_without_held_out_images_is_refused(
    runs: Path, workdir: Path, dmf_command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dmf.plugins.datasets.digits import Digits

    monkeypatch.setattr(Digits, "held_out", lambda self: None)
    code, _, err = dmf_command("evaluate", "tiny", "--runs", runs, "--images", 1, "--metrics", WANTED)
    assert code == 2 and "bits_per_dim needs held-out images" in err
