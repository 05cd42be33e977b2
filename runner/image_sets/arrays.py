"""The field's ``.npz`` files: images as ADM's evaluator has them, ``arr_0``, ``arr_1``; statistics, ``mu``, ``sigma``.

ADM's reference batches have both, and ``mu_s``, ``sigma_s``, the statistics of the spatial features of sFID.

Source: Dhariwal & Nichol 2021 (arXiv 2105.05233), the evaluations of guided-diffusion; Seitzer's pytorch-fid.
"""

from __future__ import annotations

import hashlib
import io
import json
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...core import DataSpec, InMemory, Statistics
from ...files.words import printable
from ...files.writing import written_whole
from ...registry import UserError
from .folder import pixels_digest

IMAGES, LABELS, MU, SIGMA, TOLD = "arr_0", "arr_1", "mu", "sigma", "dmf"
SPATIAL, OF_SPATIAL = "spatial", ("mu_s", "sigma_s")  # a layer, and what its statistics are called
MOST_CLASSES = 10**6
HEAD_BYTES = 30  # of a member of a zip, before its name
Array = np.ndarray[Any, np.dtype[Any]]
ASYMMETRY, NEGATIVE = 1e-4, 1e-4  # of a covariance, by its largest entry and eigenvalue: float32 rounds by less
# what zipfile, zlib and numpy's reader of heads raise of bytes that are not what was written
DAMAGE = (
    *(ValueError, ArithmeticError, LookupError, RuntimeError, MemoryError, EOFError, OSError, SyntaxError),
    *(zipfile.BadZipFile, zlib.error, struct.error, tokenize.TokenError),
)


class Arrays(InMemory):
    """The images of an ``.npz`` file; those that lie there unpacked are read when they are looked at.

    Args:
        path: The file.
        statistics: Mean and covariance that are published with them; images that are scored have none.

    Raises:
        UserError: It has none, or in another layout.
    """

    def __init__(self, path: Path, statistics: Statistics | None = None) -> None:
        self.statistics = statistics
        images = _images(path)
        labels = _labels(path, len(images))
        classes = () if labels is None else tuple(map(str, range(int(labels.max()) + 1)))
        held = torch.from_numpy(images).permute(0, 3, 1, 2)
        cond = {} if labels is None else {"class": torch.from_numpy(labels)}
        super().__init__(DataSpec(tuple(held.shape[1:]), classes), held, cond)

    def _digest(self) -> str:
        rows = (hashlib.sha256(one.permute(1, 2, 0).contiguous().numpy()).digest() for one in self.images)
        labels = self.cond.get("class")
        return pixels_digest(self.spec, rows, None if labels is None else labels.tolist())


def names_in(path: Path) -> frozenset[str]:
    """The names of the arrays in a file.

    Raises:
        UserError: It is no ``.npz``.
    """
    try:
        with zipfile.ZipFile(path) as opened:
            return frozenset(name.removesuffix(".npy") for name in opened.namelist())
    except OSError as error:
        raise UserError(f"{printable(str(path))} cannot be read: {error.strerror or error}") from None
    except DAMAGE as error:
        raise UserError(f"{printable(str(path))} is no .npz file, or a damaged one ({error}); write it anew") from None


def read_statistics(path: Path) -> Statistics:
    """The mean and covariance in a file, and those of the spatial features where they are there.

    Raises:
        UserError: They are not there, do not fit, are not finite, or no covariance has such values.
    """
    source, there = printable(str(path)), names_in(path)
    if not {MU, SIGMA} <= there:
        raise UserError(f"{source} has {_told(there)}; a reference is images, arr_0, or statistics, mu and sigma")
    told = _about(path, source) if TOLD in there else {}
    name, images, about = printable(path.absolute().name), told.get("images"), told.get("features", {})
    layers = {}
    if set(OF_SPATIAL) <= there:
        layers[SPATIAL] = Statistics(*_moments(path, OF_SPATIAL), images, name=f"{name}, {OF_SPATIAL[0]}")
    return Statistics(*_moments(path, (MU, SIGMA)), images, about, name, layers)


def _moments(path: Path, names: tuple[str, str]) -> tuple[Tensor, Tensor]:
    """A mean (D,) and a covariance (D, D), float64, by their names in a file."""
    source = printable(str(path))
    mu, sigma = (np.atleast_1d(_array(path, name)) for name in names)
    if (
        mu.ndim != 1
        or not mu.size
        or sigma.shape != (len(mu), len(mu))
        or mu.dtype.kind != "f"
        or sigma.dtype.kind != "f"
    ):
        raise UserError(
            f"{source}: {names[0]} is (D,) and {names[1]} (D, D), in float; got {names[0]} {mu.dtype} {mu.shape}, "
            f"{names[1]} {sigma.dtype} {sigma.shape}"
        )
    for name, value in zip(names, (mu, sigma), strict=True):
        if not np.isfinite(value).all():
            raise UserError(f"{source}: {name} has NaN or infinite numbers; make the file anew")
    mu, sigma = mu.astype(np.float64), sigma.astype(np.float64)
    _check_covariance(sigma, f"{source}: {names[1]}")
    return torch.from_numpy(mu), torch.from_numpy(sigma)


def _check_covariance(sigma: Array, who: str) -> None:
    """Accept what may be one, rounded."""
    apart = float(np.abs(sigma - sigma.T).max())
    if apart > ASYMMETRY * np.abs(sigma).max():
        raise UserError(
            f"{who} is not symmetric, as a covariance is: entries (i, j) and (j, i) differ by up to "
            f"{apart:.3g}; make the file anew"
        )
    values = np.linalg.eigvalsh(sigma)
    if values[0] < -NEGATIVE * np.abs(values).max():
        raise UserError(
            f"{who} has the eigenvalue {values[0]:.3g}, and a covariance has none below 0; make the file anew"
        )


def write_statistics(path: Path, statistics: Statistics, reference: Mapping[str, str]) -> None:
    """Write ``mu``, ``sigma`` (float64) and ``dmf``, a JSON text of what they are of.

    Args:
        path: The file; whole or not at all.
        statistics: What goes there.
        reference: Of which images they are.
    """
    told = {"images": statistics.images, "features": dict(statistics.about), "reference": dict(reference)}
    mu, sigma = statistics.mu.cpu().numpy(), statistics.sigma.cpu().numpy()
    with written_whole(path) as file:
        np.savez(file, mu=mu, sigma=sigma, dmf=np.array(json.dumps(told)))


def write_images(path: Path, images: Array, labels: Array | None) -> None:
    """Write ``arr_0``, uint8 (N, H, W, C), and ``arr_1``, the labels (N,), whole or not at all."""
    with written_whole(path) as file:
        if labels is None:
            np.savez(file, arr_0=images)
        else:
            np.savez(file, arr_0=images, arr_1=labels)


def _about(path: Path, source: str) -> dict[str, Any]:
    try:
        told = json.loads(str(_array(path, TOLD)))
        assert isinstance(told["features"], dict)
        assert isinstance(told["images"], int | None)  # of another program's statistics written anew
    except (ValueError, KeyError, TypeError, AssertionError):
        raise UserError(f"{source}: its entry {TOLD} is not as --write-reference writes it; make it anew") from None
    found: dict[str, Any] = told
    return found


def _images(path: Path) -> Array:
    """(N, H, W, C) uint8."""
    source, there = printable(str(path)), names_in(path)
    if IMAGES not in there:
        kind = ", statistics and no images" if {MU, SIGMA} <= there else ""
        raise UserError(f"{source} has {_told(there)}{kind}; images are arr_0, uint8 (N, H, W, C)")
    images = _array(path, IMAGES)
    shape = " x ".join(map(str, images.shape))
    if images.dtype != np.uint8:
        raise UserError(f"{source}: arr_0 is uint8, 0 to 255; got {images.dtype}: scale, round and cast it first")
    if images.ndim == 4 and images.shape[-1] not in (1, 3) and images.shape[1] in (1, 3):
        raise UserError(
            f"{source}: arr_0 is {shape}, with channels second as torch has them; write (N, H, W, C): "
            "numpy.savez(file, arr_0=images.transpose(0, 2, 3, 1))"
        )
    if images.ndim != 4 or images.shape[-1] not in (1, 3):
        raise UserError(f"{source}: arr_0 is (N, H, W, C) with 1 or 3 channels; got {shape}")
    if 0 in images.shape:
        raise UserError(f"{source}: arr_0 is empty, {shape}; give at least one image")
    return images


def _labels(path: Path, count: int) -> Array | None:
    if LABELS not in names_in(path):
        return None
    labels = _array(path, LABELS)
    if (
        labels.shape != (count,)
        or labels.dtype.kind not in "iu"
        or not 0 <= labels.min() <= labels.max() < MOST_CLASSES
    ):
        raise UserError(
            f"{printable(str(path))}: arr_1 is the labels, whole numbers from 0 to at most {MOST_CLASSES - 1}, one for "
            f"each of the {count} images; got {labels.dtype} {labels.shape}"
        )
    return labels.astype(np.int64)


def _array(path: Path, name: str) -> Array:
    """An array of the file: mapped where it lies there unpacked, for arrays may be larger than memory."""
    try:
        with zipfile.ZipFile(path) as opened:
            member = next(one for one in opened.infolist() if one.filename in (name, f"{name}.npy"))
            if member.compress_type == zipfile.ZIP_STORED and name == IMAGES:
                return _mapped(path, member)
            with opened.open(member) as file:
                return np.asarray(np.lib.format.read_array(io.BytesIO(file.read()), allow_pickle=False))
    except DAMAGE as error:
        told = printable(str(error).splitlines()[0] if str(error) else type(error).__name__)
        raise UserError(f"{printable(str(path))}: {name} cannot be read ({told}); write the file anew") from None


def _mapped(path: Path, member: zipfile.ZipInfo) -> Array:
    with open(path, "rb") as file:
        file.seek(member.header_offset)
        head = file.read(HEAD_BYTES)
        file.seek(int.from_bytes(head[26:28], "little") + int.from_bytes(head[28:30], "little"), 1)
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read(file)
        if dtype.hasobject:
            raise ValueError("it holds Python objects")
        if file.tell() + int(np.prod(shape, dtype=np.int64)) * dtype.itemsize > path.stat().st_size:
            raise ValueError("it is cut short")
        # copy on write: torch takes no memory that cannot be written to
        return np.memmap(path, dtype, "c", file.tell(), shape, "F" if fortran else "C")


def _told(there: frozenset[str]) -> str:
    return ", ".join(sorted(there)[:6]) or "no arrays"
