"""The autoencoder of latent diffusion: images become a few channels of an eighth of their side, and back.

Source: Rombach et al. 2022, "High-Resolution Image Synthesis with Latent Diffusion Models", arXiv 2112.10752, sections
3.1 and 4.3.2; appendix D.1 for the scale. The network is diffusers' AutoencoderKL, its weights a folder of yours.
The posterior N(mean, exp(log-variance)) is that of Kingma & Welling 2013, arXiv 1312.6114, its draws section 2.4.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from annotated_types import Ge
from safetensors import SafetensorError
from torch import Tensor

from ...core import Codec, DataSpec, Pixels, SamplingError
from ...files.places import home

CONFIG = "config.json"
WEIGHTS = "diffusion_pytorch_model.safetensors"


class AutoencoderKL(Codec):
    """Latents of an autoencoder in diffusers' AutoencoderKL format: 256x256 RGB becomes 4x32x32. Needs diffusers.

    x = (z - shift) * scale, shift and scale being those of its ``config.json``: the scale is one over the latents'
    standard deviation (appendix D.1), so sigma_data is 1. In training z is drawn from the posterior, anew each time
    that an image is seen; everywhere else it is the mean, so that an image has one x.

    Args:
        path: Folder with ``config.json`` and ``diffusion_pytorch_model.safetensors``, such as a copy of
            stabilityai/sd-vae-ft-ema.
        slice: Images that are encoded or decoded at a time; fewer need less memory. No image depends on it.
        posterior: Whether to train on draws from the posterior, as the paper does, or on its mean, whose moments take
            half the room on disk.
    """

    sigma_data = 1.0
    free = ("path", "slice")

    def __init__(
        self,
        spec: DataSpec,
        *,
        path: str,
        slice: Annotated[int, Ge(1)] = 8,
        posterior: Literal["draw", "mean"] = "draw",
    ) -> None:
        folder = home(path)
        self._vae = _load(folder)
        self._digests = _digests(folder)
        config = self._vae.config
        super().__init__(_latent_spec(spec, config))
        self.slice, self.posterior = slice, posterior
        channels, *size = self.spec.shape
        self._moment_channels = channels if posterior == "mean" else 2 * channels
        self.moment_shape = (self._moment_channels, *size)
        self._pixels = Pixels(spec)
        self._shift, self._scale = _affine(config)

    def encode(self, images: Tensor) -> Tensor:
        """Images, uint8 (B, C, H, W), as x, float32 (B, *spec.shape), on their device: of the posterior's mean."""
        return self._scaled(self._mean_and_log_variance(images)[:, : self.spec.shape[0]])

    def moments(self, images: Tensor) -> Tensor:
        """Mean and log-variance of the posterior, one after the other in the channels; or the mean alone."""
        return self._mean_and_log_variance(images)[:, : self._moment_channels]

    def draw(self, moments: Tensor, eps: Tensor) -> Tensor:
        """z = mean + exp(log-variance / 2) eps, as x."""
        if self.posterior == "mean":
            return self._scaled(moments)
        mean, log_variance = moments.chunk(2, dim=1)  # (B, C, H, W) each
        return self._scaled(mean + torch.exp(log_variance / 2) * eps)

    def facts(self) -> dict[str, str]:
        """The sha256 of the weights and of the settings."""
        return dict(self._digests)

    @torch.no_grad()
    def _mean_and_log_variance(self, images: Tensor) -> Tensor:
        """(B, 2 C, h, w), the log-variance within the bounds that diffusers sets it."""
        vae = self._vae_on(images.device)
        found = [vae.encode(self._pixels.encode(part)).latent_dist for part in torch.split(images, self.slice)]
        return torch.cat([torch.cat([one.mean, one.logvar], dim=1) for one in found])

    def _scaled(self, z: Tensor) -> Tensor:
        shift, scale = self._affine_on(z.device)
        return (z - shift) * scale

    def _affine_on(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """(shift, scale), moved once: a copy in each step would wait for the device."""
        if self._scale.device != device:
            with torch.inference_mode(False):
                self._shift, self._scale = self._shift.to(device), self._scale.to(device)
        return self._shift, self._scale

    @torch.no_grad()
    def decode(self, x: Tensor) -> Tensor:
        """The images of x, uint8 (B, C, H, W).

        Raises:
            SamplingError: Of latents that are finite it makes images that are not, and would be black ones.
        """
        vae = self._vae_on(x.device)
        shift, scale = self._affine_on(x.device)
        z = x.to(torch.float32) / scale + shift
        images, fine = [], []
        for part, given in zip(torch.split(z, self.slice), torch.split(x, self.slice), strict=True):
            found = vae.decode(part).sample
            fine.append(_finite(found) | ~_finite(given))
            images.append(self._pixels.decode(found))  # a fourth of the memory, before the next slice is made
        if not x.is_meta and (bad := int((~torch.cat(fine)).sum())):
            raise SamplingError(f"the autoencoder makes {bad} of {len(x)} images that are not finite of finite latents")
        return torch.cat(images)

    def _vae_on(self, device: torch.device) -> Any:
        """The network, where the images are."""
        if self._vae.device != device:
            with torch.inference_mode(False):  # weights that were moved inside it could not be moved again
                self._vae.to(device)
        return self._vae


def _finite(x: Tensor) -> Tensor:
    """Which of x are finite, (B,)."""
    return x.isfinite().flatten(1).all(1)


def _latent_spec(spec: DataSpec, config: Any) -> DataSpec:
    """The spec of x: each level of the network but the last halves the sides.

    Raises:
        ValueError: Images that the network does not take.
    """
    channels, *sides = spec.shape
    shape = " x ".join(map(str, spec.shape))
    if len(sides) != 2 or not channels == config.in_channels == config.out_channels:
        raise ValueError(
            f"path: this autoencoder takes images of {config.in_channels} channels and gives {config.out_channels}; "
            f"the data is {shape}: take data with as many channels, or another autoencoder"
        )
    factor = 2 ** (len(config.block_out_channels) - 1)
    if any(side % factor for side in sides):
        below = min(sides) // factor * factor
        fitting = " or ".join(str(side) for side in (below, below + factor) if side)
        raise ValueError(
            f"path: this autoencoder makes images {factor} times smaller, and the data, {shape}, does not divide by "
            f"that; take images of {fitting} pixels"
        )
    return DataSpec((config.latent_channels, *(side // factor for side in sides)), spec.classes, spec.cond)


def _digests(folder: Path) -> dict[str, str]:
    """The sha256 of the weights' file, or of its parts one after the other, and that of what the config says.

    What diffusers notes in it of itself, under names that begin with ``_``, is no setting.
    """
    weights = hashlib.sha256()
    whole = folder / WEIGHTS
    for file in [whole] if whole.is_file() else sorted(folder.glob("*.safetensors")):
        with open(file, "rb") as stream:
            while block := stream.read(1 << 20):
                weights.update(block)
    config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    said = json.dumps({key: value for key, value in config.items() if not key.startswith("_")}, sort_keys=True)
    return {"weights": weights.hexdigest(), "config": hashlib.sha256(said.encode()).hexdigest()}


def _affine(config: Any) -> tuple[Tensor, Tensor]:
    """(shift, scale) of z, (C, 1, 1) or (): one number for all channels, or of each its own mean and deviation."""
    scale = torch.tensor(float(config.scaling_factor))
    if config.latents_mean is None or config.latents_std is None:
        return torch.tensor(float(config.shift_factor or 0)), scale
    mean, std = (torch.tensor(one)[:, None, None] for one in (config.latents_mean, config.latents_std))
    return mean, scale / std


def _load(folder: Path) -> Any:
    """The network in a folder, in float32, not to be trained.

    Raises:
        ValueError: No such folder, no or other weights, or diffusers is not there.
    """
    _check_files(folder)
    try:
        import diffusers  # seconds to import: only who uses it waits
    except ImportError as error:
        raise ValueError(
            f"this codec needs diffusers ({error}); install it: pip install 'dmf[latents]', or in a checkout pip "
            "install '.[latents]'"
        ) from error
    how = {"local_files_only": True, "use_safetensors": True, "torch_dtype": torch.float32, "output_loading_info": True}
    how["low_cpu_mem_usage"] = False  # so that it loads alike with and without accelerate
    try:
        network, about = diffusers.AutoencoderKL.from_pretrained(str(folder), **how)  # type: ignore[no-untyped-call]
    except (OSError, ValueError, RuntimeError, TypeError, SafetensorError) as error:
        raise ValueError(f"path: the autoencoder in {folder} cannot be loaded: {error}; copy it anew") from error
    wrong = [*about["missing_keys"], *about["unexpected_keys"], *(str(one) for one in about["mismatched_keys"])]
    if wrong:
        raise ValueError(
            f"path: the weights in {folder} are not those of its {CONFIG}: {len(wrong)} differ, such as {wrong[0]}; "
            "copy both from the same place"
        )
    return network.eval().requires_grad_(False)


def _check_files(folder: Path) -> None:
    """Accept a folder that looks like an AutoencoderKL.

    Raises:
        ValueError: It does not.
    """
    want = f"expected a folder with the {CONFIG} and {WEIGHTS} of an AutoencoderKL"
    if not (folder / CONFIG).is_file():
        inside = [f"; but {sub} has: give that" for sub in (folder / "vae",) if (sub / CONFIG).is_file()]
        what = f"has no {CONFIG}" if folder.is_dir() else "is no folder"
        raise ValueError(f"path: {folder.absolute()} {what}; {want}{''.join(inside)}")
    try:
        kind = json.loads((folder / CONFIG).read_text(encoding="utf-8"))["_class_name"]
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise ValueError(f"path: {folder / CONFIG} is none of diffusers ({error!r}); {want}") from error
    if kind != "AutoencoderKL":
        raise ValueError(f"path: {folder} holds a {kind}; {want}")
    if not any(folder.glob("*.safetensors")):
        pickled = any(folder.glob("*.bin")) or any(folder.glob("*.ckpt"))
        why = "; the weights there are pickled, which dmf never reads: save them as safetensors" if pickled else ""
        raise ValueError(f"path: {folder} has no {WEIGHTS}; {want}{why}")
