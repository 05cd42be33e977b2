"""Latents of a small AutoencoderKL, made by diffusers in the test: shapes, scale, slices, refusals, a training."""

import hashlib
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from data_kit import paint
from latents_kit import WEIGHTS, make_autoencoder
from safetensors.torch import load_file, save_file
from torch import Tensor

from dmf.core import CondSpec, DataSpec, SamplingError
from dmf.plugins.codecs.autoencoder_kl import AutoencoderKL
from dmf.testing import cases
from dmf.testing.codecs import check_extremes, check_round_trip

SPEC = DataSpec((3, 16, 24), ("cat", "dog"), {"look": CondSpec("vector", (2,))})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_autoencoder(tmp_path_factory.mktemp("vae"), scaling_factor=0.5, shift_factor=0.25)


@pytest.fixture
def copy(folder: Path, tmp_path: Path) -> Path:
    """One that a test may spoil."""
    return Path(shutil.copytree(folder, tmp_path / "copy"))


def images(count: int = 5) -> Tensor:
    random = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, *SPEC.shape), dtype=torch.uint8, generator=random)


def theirs(folder: Path) -> Any:
    import diffusers

    return diffusers.AutoencoderKL.from_pretrained(folder)  # type: ignore[no-untyped-call]


@torch.no_grad()
def test_it_is_the_scaled_mean_of_the_posterior(folder: Path) -> None:
    codec, network = AutoencoderKL(SPEC, path=str(folder)), theirs(folder)
    x = codec.encode(images())
    mean = network.encode(images() / 127.5 - 1).latent_dist.mode()
    assert x.dtype == torch.float32 and not x.requires_grad
    assert torch.allclose(x, (mean - 0.25) * 0.5, atol=1e-5)
    wanted = (network.decode(x / 0.5 + 0.25).sample + 1) * 127.5
    back = codec.decode(x)
    assert back.dtype == torch.uint8 and back.shape == images().shape
    assert (back - wanted.clamp(0, 255)).abs().max() <= 0.51
    assert torch.equal(codec.encode(images()), x), "no draw"


@torch.no_grad()
def test_moments_are_those_of_diffusers(folder: Path) -> None:
    codec, posterior = AutoencoderKL(SPEC, path=str(folder)), theirs(folder).encode(images() / 127.5 - 1).latent_dist
    moments = codec.moments(images())
    assert codec.moment_shape == (8, 8, 12) and moments.shape == (5, 8, 8, 12) and not moments.requires_grad
    assert torch.allclose(moments[:, :4], posterior.mean, atol=1e-5)
    assert torch.allclose(moments[:, 4:].exp(), posterior.var, atol=1e-5)
    eps = torch.randn(5, 4, 8, 12, generator=torch.Generator().manual_seed(3))
    x = codec.draw(moments, eps)
    assert torch.allclose(x, (posterior.mean + posterior.std * eps - 0.25) * 0.5, atol=1e-5)
    assert torch.equal(codec.draw(moments, 0 * eps), codec.encode(images()))


def test_log_variances_are_bounded_as_diffusers_does(folder: Path) -> None:
    codec = AutoencoderKL(SPEC, path=str(folder))
    with torch.no_grad():
        codec._vae.quant_conv.bias[4:6] = 100
        codec._vae.quant_conv.bias[6:] = -100
    moments = codec.moments(images())
    assert (moments[:, 4:6] == 20).all() and (moments[:, 6:] == -30).all()


def test_the_mean_alone_can_be_trained_on(folder: Path) -> None:
    codec = AutoencoderKL(SPEC, path=str(folder), posterior="mean")
    moments = codec.moments(images())
    assert codec.moment_shape == (4, 8, 12) == moments.shape[1:]
    assert torch.equal(codec.draw(moments, torch.ones(5, 4, 8, 12)), codec.encode(images()))


def test_facts_are_those_of_weights_and_settings_and_not_of_their_place(folder: Path, copy: Path) -> None:
    facts = AutoencoderKL(SPEC, path=str(folder)).facts()
    assert facts["weights"] == hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest()
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**config, "_diffusers_version": "9.9"}))
    assert AutoencoderKL(SPEC, path=str(copy), slice=1).facts() == facts
    (copy / "config.json").write_text(json.dumps({**config, "scaling_factor": 0.4}))
    other = AutoencoderKL(SPEC, path=str(copy)).facts()
    assert other["config"] != facts["config"] and other["weights"] == facts["weights"]
    weights = load_file(copy / WEIGHTS)
    save_file({**weights, "quant_conv.bias": weights["quant_conv.bias"] + 1e-6}, copy / WEIGHTS)
    assert AutoencoderKL(SPEC, path=str(copy)).facts()["weights"] != facts["weights"]


def test_the_spec_is_that_of_the_latents(folder: Path) -> None:
    codec = AutoencoderKL(SPEC, path=str(folder))
    assert codec.spec.shape == (4, 8, 12) and codec.encode(images()).shape == (5, 4, 8, 12)
    assert codec.spec.classes == SPEC.classes and codec.spec.cond == SPEC.cond
    assert codec.sigma_data == 1 and codec.grey_level is None


@torch.no_grad()
def test_each_channel_may_have_its_own_mean_and_deviation(tmp_path: Path) -> None:
    mean, std = [0.1, -0.2, 0.3, 0.4], [0.5, 1.0, 2.0, 4.0]
    path = make_autoencoder(tmp_path, scaling_factor=0.5, latents_mean=mean, latents_std=std)
    codec = AutoencoderKL(SPEC, path=str(path))
    x, z = codec.encode(images()), theirs(path).encode(images() / 127.5 - 1).latent_dist.mode()
    for channel in range(4):  # as diffusers' pipelines of Stable Diffusion XL encode
        assert torch.allclose(x[:, channel], (z[:, channel] - mean[channel]) * 0.5 / std[channel], atol=1e-5)
    assert (codec.decode(x).float() - ((theirs(path).decode(z).sample + 1) * 127.5).clamp(0, 255)).abs().max() <= 0.51


def test_it_works_in_slices(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = AutoencoderKL(SPEC, path=str(folder))
    x = whole.encode(images())
    codec = AutoencoderKL(SPEC, path=str(folder), slice=2)
    seen = []
    network = codec._vae
    for name in ("encode", "decode"):
        work = getattr(network, name)
        monkeypatch.setattr(network, name, lambda part, work=work: (seen.append(len(part)), work(part))[1])
    assert torch.allclose(codec.encode(images()), x, atol=1e-5)
    assert (codec.decode(x).int() - whole.decode(x).int()).abs().max() <= 1
    assert seen == [2, 2, 1, 2, 2, 1]


def test_it_goes_where_the_images_are(folder: Path) -> None:
    codec = AutoencoderKL(SPEC, path=str(folder))
    with torch.inference_mode():  # as sampling and encoding do
        assert codec.encode(images().to("meta")).device.type == "meta"
        assert codec.decode(torch.zeros(2, 4, 8, 12, device="meta")).device.type == "meta"
    assert not any(weight.is_inference() for weight in codec._vae.parameters())


def test_it_is_held_to_the_contract(folder: Path) -> None:
    for case in cases("codec", "autoencoder_kl", {"path": str(folder)}):
        if case.check not in {check_round_trip, check_extremes}:  # weights of chance give no image back
            case.run()


def test_old_names_and_half_precision_are_read(folder: Path, copy: Path) -> None:
    """The published weights of Stable Diffusion have these names, and a config without the later keys."""
    weights = load_file(copy / WEIGHTS)
    for new, old in (("to_q", "query"), ("to_k", "key"), ("to_v", "value"), ("to_out.0", "proj_attn")):
        weights = {name.replace(new, old): value for name, value in weights.items()}
    save_file({name: value.half() for name, value in weights.items()}, copy / WEIGHTS)
    known = json.loads((copy / "config.json").read_text())
    for key in ("shift_factor", "scaling_factor", "latents_mean", "latents_std", "use_quant_conv", "force_upcast"):
        del known[key]
    (copy / "config.json").write_text(json.dumps(known))
    old, new = (AutoencoderKL(SPEC, path=str(path)) for path in (copy, folder))
    x = old.encode(images())
    assert x.dtype == torch.float32
    assert torch.allclose(x / 0.18215, new.encode(images()) / 0.5 + 0.25, atol=0.01)


# refusals


def complaint(path: Path, spec: DataSpec = SPEC) -> str:
    with pytest.raises(ValueError) as error:
        AutoencoderKL(spec, path=str(path))
    return str(error.value)


def test_images_that_do_not_fit(folder: Path) -> None:
    text = complaint(folder, DataSpec((1, 16, 16)))
    assert "takes images of 3 channels" in text and "the data is 1 x 16 x 16" in text
    text = complaint(folder, DataSpec((3, 17, 17)))
    assert "2 times smaller" in text and "3 x 17 x 17" in text and "take images of 16 or 18 pixels" in text
    assert "take images of 2 pixels" in complaint(folder, DataSpec((3, 1, 1)))
    assert "3 x 16" in complaint(folder, DataSpec((3, 16)))


def test_what_is_no_autoencoder(copy: Path, tmp_path: Path) -> None:
    assert "none is no folder; expected a folder with the config.json" in complaint(tmp_path / "none")
    (tmp_path / "pipeline").mkdir()
    copy.rename(tmp_path / "pipeline/vae")
    text = complaint(tmp_path / "pipeline")
    assert "has no config.json" in text and f"but {tmp_path / 'pipeline/vae'} has: give that" in text
    config = tmp_path / "pipeline/vae/config.json"
    for content in ("{", "[]", "{}"):
        config.write_text(content)
        assert "config.json is none of diffusers" in complaint(config.parent)
    config.write_text('{"_class_name": "UNet2DModel"}')
    assert "holds a UNet2DModel" in complaint(config.parent)


def test_weights_that_are_not_there(copy: Path) -> None:
    (copy / WEIGHTS).rename(copy / "diffusion_pytorch_model.bin")
    text = complaint(copy)
    assert f"has no {WEIGHTS}" in text and "never reads" in text and "save them as safetensors" in text
    (copy / "diffusion_pytorch_model.bin").unlink()
    assert "pickled" not in complaint(copy)


@pytest.mark.parametrize("what", ["cut", "lost", "more", "shape"])
def test_weights_that_are_not_its_own(copy: Path, what: str) -> None:
    weights = load_file(copy / WEIGHTS)
    if what == "lost":
        del weights["quant_conv.bias"]  # diffusers alone would draw it anew, and warn
    if what == "more":
        weights["other.bias"] = torch.zeros(1)
    if what == "shape":
        weights["quant_conv.bias"] = torch.zeros(3)
    save_file(weights, copy / WEIGHTS)
    if what == "cut":
        (copy / WEIGHTS).write_bytes((copy / WEIGHTS).read_bytes()[:1000])
    text = complaint(copy)
    assert str(copy) in text and "copy" in text and ("bias" in text or what == "cut")


def test_without_diffusers(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "diffusers", None)
    assert "needs diffusers" in complaint(folder) and "dmf[latents]" in complaint(folder)


# as users have it


RECIPE = """\
name: latents
device: cpu
dataset: {{name: image_folder, root: {root}, size: 16}}
codec: {{name: autoencoder_kl, path: {path}, slice: 3}}
augment: [flip]
backbone: {{name: dit, hidden: 32, depth: 2, heads: 2, patch: 4}}
schedule: flow
prediction: edm
train: {{steps: 2, batch_size: 8, lr: 1e-3, label_dropout: 0.2}}
sampler: {{name: heun, steps: 2, guidance: 2.0}}
sample: {{per_class: 2}}
log: {{every: 1}}
hooks: []
"""


def test_a_network_learns_and_makes_pictures(
    folder: Path, workdir: Path, dmf_command: Callable[..., tuple[int, str, str]]
) -> None:
    for number in range(6):
        paint(workdir / f"pets/{'cat' if number % 2 else 'dog'}/{number}.png", seed=number)
    (workdir / "latents.yaml").write_text(RECIPE.format(root="pets", path=folder))
    code, _, err = dmf_command("run", "latents.yaml")
    assert code == 0, err
    assert (workdir / "runs/latents/samples/grid.png").exists()
    assert json.loads((workdir / "runs/latents/spec.json").read_text())["shape"] == [3, 16, 16]
    assert "4x8x8" in (workdir / "runs/latents/network.txt").read_text().replace(" ", "").replace(",", "x")
    code, _, err = dmf_command("sample", "latents", "--labels", "cat", "--count", 2, "--npz", "made.npz")
    assert code == 0, err
    assert np.load("made.npz")["arr_0"].shape == (2, 16, 16, 3)
    code, _, err = dmf_command("run", "latents.yaml", "name=other", "dataset.size=15")
    assert code == 2 and "15" in err and "take images of 14 or 16 pixels" in err


def test_images_that_are_not_finite_are_no_black_ones(folder: Path) -> None:
    codec = AutoencoderKL(SPEC, path=str(folder), slice=2)
    x = torch.zeros(5, *codec.spec.shape)
    x[1], x[4] = 1e37, 3e38  # its convolutions overflow, and the scaling before them
    with pytest.raises(SamplingError, match="the autoencoder makes 2 of 5 images that are not finite of finite"):
        codec.decode(x)
    codec.decode(torch.full_like(x, float("nan")))  # what came before it says so
