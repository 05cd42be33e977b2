"""Scans: the paths that their names promise, by other ways of writing them down."""

import numpy as np
import pytest
import torch

from dmf.core import Scan
from dmf.core.scans import Column, Hilbert, Raster, Zigzag, inverse, line_ends
from dmf.registry import build
from dmf.testing import Setting, check_scan
from dmf.testing.settings import insides

CORNERS = ("top_left", "top_right", "bottom_left", "bottom_right")
EIGHT = [Zigzag(corner=corner, along=along) for corner in CORNERS for along in ("rows", "columns")]  # type: ignore[arg-type]
SIZES = [(rows, columns) for rows in range(1, 20) for columns in range(1, 20)]


def cells(scan: Scan, rows: int, columns: int) -> list[tuple[int, int]]:
    """The scan as (row, column) of each token."""
    return [divmod(int(patch), columns) for patch in scan.order(rows, columns)]


def test_raster_and_column() -> None:
    assert cells(Raster(), 2, 3) == [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)]
    assert cells(Raster(reverse=True), 2, 3) == [(1, 2), (1, 1), (1, 0), (0, 2), (0, 1), (0, 0)]
    assert cells(Column(), 2, 3) == [(0, 0), (1, 0), (0, 1), (1, 1), (0, 2), (1, 2)]
    assert cells(Column(reverse=True), 2, 3) == [(1, 2), (0, 2), (1, 1), (0, 1), (1, 0), (0, 0)]


def test_zigzag_begins_in_its_corner_and_goes_along_its_lines() -> None:
    assert cells(Zigzag(), 3, 2) == [(0, 0), (0, 1), (1, 1), (1, 0), (2, 0), (2, 1)]
    want = [(2, 1), (1, 1), (0, 1), (0, 0), (1, 0), (2, 0)]
    assert cells(Zigzag(corner="bottom_right", along="columns"), 3, 2) == want
    starts = {"top_left": (0, 0), "top_right": (0, 4), "bottom_left": (3, 0), "bottom_right": (3, 4)}
    for scan in EIGHT:
        path = cells(scan, 4, 5)
        assert path[0] == starts[scan.corner]
        stroke = path[:5] if scan.along == "rows" else path[:4]
        assert len({row if scan.along == "rows" else column for row, column in stroke}) == 1
    assert len({tuple(cells(scan, 4, 5)) for scan in EIGHT}) == 8


@pytest.mark.parametrize("scan", [*EIGHT, Hilbert()], ids=str)
def test_every_step_leads_to_a_neighbour(scan: Scan) -> None:
    for rows, columns in SIZES:
        path = np.array(cells(scan, rows, columns))
        assert (np.abs(np.diff(path, axis=0)).sum(1) == 1).all(), (rows, columns)
        assert not line_ends(scan.order(rows, columns), columns).any()


@pytest.mark.parametrize("side", [1, 2, 4, 8, 16, 32])
def test_hilbert_is_hilberts_curve(side: int) -> None:
    """By turning bits into turns of the square: the usual program from place on the curve to (x, y)."""

    def place(d: int) -> tuple[int, int]:
        x = y = 0
        s = 1
        while s < side:
            right = 1 & (d // 2)
            up = 1 & (d ^ right)
            if not up:
                if right:
                    x, y = s - 1 - x, s - 1 - y
                x, y = y, x
            x, y, d, s = x + s * right, y + s * up, d // 4, 2 * s
        return x, y

    want = [place(d) for d in range(side * side)]
    # the program begins along x or y by the parity of the order; the curve is one of the two
    assert cells(Hilbert(), side, side) in (want, [(y, x) for x, y in want])


def test_hilbert_keeps_near_what_is_near() -> None:
    """A stretch of 64 tokens covers a compact piece of the image, of the snake two rows and a half."""

    def extent(scan: Scan, rows: int, columns: int) -> float:
        path = np.array(cells(scan, rows, columns))
        stretches = [np.ptp(path[start : start + 64], axis=0).max() for start in range(0, len(path) - 64, 64)]
        return float(np.mean(stretches))

    for rows, columns in [(32, 32), (24, 40), (30, 23), (27, 27)]:
        assert extent(Hilbert(), rows, columns) < 13 < extent(Zigzag(), rows, columns)


@pytest.mark.parametrize("scan", [Raster(), Column(reverse=True), Hilbert(), *EIGHT], ids=str)
def test_it_keeps_the_contract(scan: Scan) -> None:
    check_scan(scan)


def test_inverse_says_where_each_patch_is() -> None:
    order = torch.tensor([2, 0, 3, 1])
    assert inverse(order).tolist() == [1, 3, 0, 2]
    with pytest.raises(ValueError, match=r"holds each of 0 to 2 once; got \[0, 2, 2\]"):
        inverse(torch.tensor([0, 2, 2]))


def test_lines_end_where_a_scan_jumps() -> None:
    assert line_ends(Raster().order(2, 3), 3).tolist() == [False, False, True, False, False, False]
    assert line_ends(Column().order(2, 3), 3).tolist() == [False, True, False, True, False, False]
    assert line_ends(Raster(reverse=True).order(3, 1), 1).tolist() == [False, False, False]  # one column has no jump


def test_the_kit_tries_each_scan_in_a_list_of_them() -> None:
    below = Setting("backbone", "dim").schema["properties"]["scans"]
    assert insides(below) == [["column"], ["hilbert"], ["raster"], ["zigzag"]]


def test_options_come_from_recipes() -> None:
    assert build("scan", "zigzag", corner="top_right", reverse=True) == Zigzag(corner="top_right", reverse=True)
    assert build("scan", "raster", reverse=True) == Raster(reverse=True)
