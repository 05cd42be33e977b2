"""Checksums of tensors that can be compared without keeping them: what a step drew, on any number of ranks.

sum over i of (2 i + 1) b_i mod 2^64, b_i the bits of element i: odd factors, so that no flipped bit is lost, and a
different one for each place, so that two elements that change places are seen. It guards against mistakes, not against
an adversary.
"""

from __future__ import annotations

import torch
from torch import Tensor

AT_ONCE = 1 << 20  # elements; 16 bytes of each are at work
BITS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def checksum(values: Tensor) -> Tensor:
    """That of a tensor's bits in the order of its elements: int64, 0-d, on its device; nothing waits for the device."""
    flat = values.detach().reshape(-1)
    bits = flat.view(BITS[flat.element_size()])
    total = torch.zeros((), dtype=torch.int64, device=bits.device)
    for start in range(0, len(bits), AT_ONCE):
        some = bits[start : start + AT_ONCE]
        odd = torch.arange(2 * start + 1, 2 * (start + len(some)), 2, device=bits.device)
        total += odd.mul_(some).sum()  # wraps around
    return total


def as_hex(value: Tensor) -> str:
    """A checksum as sixteen hexadecimal digits: waits for the device."""
    return f"{int(value) & 0xFFFF_FFFF_FFFF_FFFF:016x}"
