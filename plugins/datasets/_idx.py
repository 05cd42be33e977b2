"""The IDX format of the MNIST family: a head that says type and shape, then the numbers.

Source: LeCun, Cortes & Burges, "The MNIST database": two zero bytes, the type (8: unsigned byte), the number of
dimensions, each dimension as a big-endian 32-bit integer, then the data.
"""

from __future__ import annotations

import gzip
import math
from pathlib import Path

import torch
from torch import Tensor

UNSIGNED_BYTE = 8


def read_idx(folder: Path, name: str, md5: str) -> Tensor:
    """An IDX file, unpacked or as it was fetched, as uint8 of its own shape.

    Args:
        folder: Where it lies.
        name: Of the packed file, with its ``.gz``.
        md5: Of the packed file.

    Raises:
        RuntimeError: Neither the unpacked file is there, nor a whole packed one.
        ValueError: An unpacked file that is no such file, or cut short.
    """
    from torchvision.datasets.utils import check_integrity

    unpacked, packed = folder / name.removesuffix(".gz"), folder / name
    if unpacked.exists():
        return _parsed(unpacked.read_bytes(), unpacked)
    if check_integrity(str(packed), md5):
        return _parsed(gzip.decompress(packed.read_bytes()), packed)
    raise RuntimeError(f"{name} is not there, or damaged")


def _parsed(content: bytes, file: Path) -> Tensor:
    dimensions = content[3] if content[:3] == bytes([0, 0, UNSIGNED_BYTE]) and len(content) > 3 else 0
    start = 4 + 4 * dimensions
    shape = [int.from_bytes(content[at : at + 4], "big") for at in range(4, start, 4)]
    if not dimensions or len(content) - start != math.prod(shape):
        promised = f"and its head promises {' x '.join(map(str, shape))} numbers" if shape else "and no IDX head"
        raise ValueError(f"{file} is damaged: it holds {len(content)} bytes, {promised}; delete it")
    return torch.frombuffer(bytearray(content), dtype=torch.uint8)[start:].reshape(shape)
