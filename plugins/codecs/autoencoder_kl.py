"""The autoencoder of latent diffusion: images become a few channels of an eighth of their side, and back.

Source: Rombach et al. 2022, "High-Resolution Image Synthesis with Latent Diffusion Models", arXiv 2112.10752, sections
3.1 and 4.3.2; appendix D.1 for the scale. The network is diffusers' AutoencoderKL, its weights a folder of yours.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import torch
from annotated_types import Ge
from safetensors import SafetensorError
from torch import Tensor

from ...core import Codec, DataSpec, Pixels

CONFIG = "config.json"
WEIGHTS = "diffusion_pytorch_model.safetensors"


class AutoencoderKL(Codec):
    """Latents of an autoencoder in diffusers' AutoencoderKL format: 256x256 RGB becomes 4x32x32. Needs diffusers.

    x = (mean of the posterior - shift) * scale, shift and scale being those of its ``config.json``: the scale is one
    over the latents' standard deviation (appendix D.1), so sigma_data is 1. It is the mean and not a draw, so that an
    image has one x; nothing is cached yet.

    Args:
        path: Folder with ``config.json`` and ``diffusion_pytorch_model.safetensors``, such as a copy of
            stabilityai/sd-vae-ft-ema.
        slice: Images that are encoded or decoded at a time; fewer need less memory. No image depends on it.
    """

    sigma_data = 1.0

    def __init__(self, spec: DataSpec, *, path: str, slice: Annotated[int, Ge(1)] = 8) -> None:
        self._vae = _load(Path(path).expanduser())
        config = self._vae.config
        super().__init__(_latent_spec(spec, config))
        self.slice = slice
        self._pixels = Pixels(spec)
        self._shift, self._scale = _affine(config)

    @torch.no_grad()
    def encode(self, images: Tensor) -> Tensor:
        """Images, uint8 (B, C, H, W), as x, float32 (B, *spec.shape), on their device."""
        vae = self._vae_on(images.device)
        means = [vae.encode(self._pixels.encode(part)).latent_dist.mean for part in torch.split(images, self.slice)]
        return (torch.cat(means) - self._shift.to(images.device)) * self._scale.to(images.device)

    @torch.no_grad()
    def decode(self, x: Tensor) -> Tensor:
        """The images of x, uint8 (B, C, H, W)."""
        vae = self._vae_on(x.device)
        z = x.to(torch.float32) / self._scale.to(x.device) + self._shift.to(x.device)
        return torch.cat([self._pixels.decode(vae.decode(part).sample) for part in torch.split(z, self.slice)])

    def _vae_on(self, device: torch.device) -> Any:
        """The network, where the images are."""
        if self._vae.device != device:
            with torch.inference_mode(False):  # weights that were moved inside it could not be moved again
                self._vae.to(device)
        return self._vae


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
