"""Pictures that a user hands in, as the model's pixels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..core import DataSpec
from ..files.folder import read_file
from ..files.pictures import decode
from ..files.words import printable
from ..registry import UserError


def read_images(paths: Sequence[Path], spec: DataSpec) -> Tensor:
    """Pictures of the model's size, uint8 (n, C, H, W).

    Decoded as pictures of a data set are (`dmf.files.pictures.decode`), transparent parts laid on white. A model of one
    channel gets the luma of a coloured picture (ITU-R 601-2), one of three a grey picture three times.

    Args:
        paths: Of the files, at least one.
        spec: Of the data in pixels.

    Raises:
        UserError: Naming the file: unreadable, or of another size; or a model of neither 1 nor 3 channels.
    """
    if len(spec.shape) != 3 or spec.shape[0] not in (1, 3):
        raise UserError(
            f"this run's data is {_times(spec.shape)}, which no picture is; give a run of grey or RGB images"
        )
    return torch.stack([_pixels(path, spec.shape) for path in paths])


def read_masks(paths: Sequence[Path], spec: DataSpec) -> Tensor:
    """What is to be made anew, bool (n, 1, H, W): where the picture is white, or lighter than middle grey.

    Raises:
        UserError: As `read_images`; or a mask that is black all over, or white.
    """
    masks = read_images(paths, DataSpec((1, *spec.shape[1:]))) > 127
    for path, mask in zip(paths, masks, strict=True):
        if mask.all() or not mask.any():
            what, why = ("white", "nothing would be kept") if mask.all() else ("black", "nothing would be made anew")
            raise UserError(f"{path} is {what} all over: {why}; paint white what is to be made anew, black what stays")
    return masks


def _pixels(path: Path, shape: tuple[int, ...]) -> Tensor:
    channels, height, width = shape
    picture = decode(read_file(path), printable(str(path)), "L" if channels == 1 else "RGB").picture
    if picture.size != (width, height):
        raise UserError(
            f"{path} is {picture.width} x {picture.height} pixels (width x height), this run's images are {width} x "
            f"{height}; cut or scale it first"
        )
    return torch.from_numpy(np.array(picture)).reshape(height, width, channels).permute(2, 0, 1).contiguous()


def _times(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))
