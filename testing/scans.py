"""What any scan must hold to."""

from __future__ import annotations

from dataclasses import replace

import torch

from ..core import Scan
from ..core.scans import inverse
from .claims import called, hold, require

SIDES = (1, 2, 3, 4, 5, 8, 9, 16)
SIZES = tuple((rows, columns) for rows in SIDES for columns in SIDES)


def check_scan(scan: Scan) -> None:
    """Hold a scan to the interface: every check below.

    Raises:
        AssertionError: With a sentence, at the first that fails.
    """
    hold(SCAN_CHECKS, scan)


def check_permutation(scan: Scan) -> None:
    """Of every grid of patches, single rows and columns included, each patch comes once, as int64 on the CPU."""
    for rows, columns in SIZES:
        where = f"{called(scan)}.order({rows}, {columns})"
        try:
            order = scan.order(rows, columns)
        except Exception as error:  # of whatever kind: an image may have this size
            require(False, f"{where} fails: {type(error).__name__}: {error}")
        require(order.dtype == torch.int64, f"{where} is {order.dtype}, not int64")
        require(order.device.type == "cpu", f"{where} is on {order.device}; make it on the CPU")
        got, wanted = tuple(order.shape), (rows * columns,)
        require(got == wanted, f"{where} has the shape {got}, not {wanted}")
        try:
            back = torch.arange(rows * columns)[order][inverse(order)]  # as a network puts patches into order and back
        except ValueError as error:
            require(False, f"{where}: {error}")
        require(torch.equal(back, torch.arange(rows * columns)), f"{where} and back moves patches")


def check_reverse(scan: Scan) -> None:
    """With `reverse` the other way it is the same path from its other end."""
    other = replace(scan, reverse=not scan.reverse)
    for rows, columns in SIZES:
        flipped = torch.equal(other.order(rows, columns), scan.order(rows, columns).flip(0))
        require(flipped, f"{called(scan)} of {rows} x {columns} patches: `reverse` is not the path from its other end")


def check_repeats(scan: Scan) -> None:
    """The same order when asked again, also after somebody wrote into the one before."""
    first = {size: scan.order(*size).clone() for size in SIZES}
    for size in SIZES:
        scan.order(*size).zero_()
        require(
            torch.equal(scan.order(*size), first[size]), f"{called(scan)}.order{size} is another one when asked again"
        )


SCAN_CHECKS = (check_permutation, check_reverse, check_repeats)
