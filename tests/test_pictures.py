"""One picture as pixels: the middle square, scaled without aliasing, upright, of any mode in 8 bits."""

from pathlib import Path

import numpy as np
import pytest
import torch
from data_kit import paint
from PIL import Image

from dmf.files.pictures import read_picture
from dmf.registry import UserError


def gradient(width: int, height: int) -> Image.Image:
    """Red grows to the right, green downwards, linearly: scaling keeps it linear, so each pixel is known."""
    y, x = np.mgrid[0:height, 0:width]
    return Image.fromarray(np.stack([x, y, 0 * x], -1).astype(np.uint8))


@pytest.mark.parametrize(("width", "height"), [(240, 120), (120, 240), (120, 120), (201, 120), (240, 30)])
def test_the_middle_square_is_scaled(tmp_path: Path, width: int, height: int) -> None:
    gradient(width, height).save(tmp_path / "a.png")
    size, side = 12, min(width, height)
    image = read_picture(tmp_path / "a.png", size, 3).float()
    place = (torch.arange(size) + 0.5) * side / size - 0.5  # centres of the new pixels, in old ones
    inner = slice(2, -2)  # at an edge of the picture the filter is one-sided
    assert torch.allclose(image[0, 5, inner], (place + (width - side) / 2)[inner], atol=0.51)
    assert torch.allclose(image[1, inner, 5], (place + (height - side) / 2)[inner], atol=0.51)


def test_scaling_has_no_aliasing(tmp_path: Path) -> None:
    stripes = np.zeros((128, 128), np.uint8)
    stripes[:, ::2] = 255  # of every eighth column alone all would be white, or all black
    Image.fromarray(stripes).save(tmp_path / "a.png")
    inner = read_picture(tmp_path / "a.png", 16, 1)[0, :, 2:-2].float()
    assert (inner - 127.5).abs().max() < 3


def test_a_picture_of_the_size_is_left_as_it_is(tmp_path: Path) -> None:
    file = paint(tmp_path / "a.png", 8, 8)
    with Image.open(file) as picture:
        assert np.array_equal(read_picture(file, 8, 3).permute(1, 2, 0).numpy(), np.array(picture))


@pytest.mark.parametrize("side", [(1, 1), (3, 5), (20000, 10), (10, 20000)])
def test_small_and_long_pictures(tmp_path: Path, side: tuple[int, int]) -> None:
    Image.new("RGB", side, (10, 200, 30)).save(tmp_path / "a.png")
    image = read_picture(tmp_path / "a.png", 16, 3)
    assert image.is_contiguous() and image.flatten(1).unique(dim=1).flatten().tolist() == [10, 200, 30]


def test_exif_turns_the_picture_upright(tmp_path: Path) -> None:
    picture = gradient(64, 64)
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise to show it
    picture.save(tmp_path / "a.png", exif=exif)
    shown = read_picture(tmp_path / "a.png", 64, 3).permute(1, 2, 0).numpy()
    assert np.array_equal(shown, np.rot90(np.array(picture), -1))


def one_colour(tmp_path: Path, picture: Image.Image, channels: int = 3, ending: str = "png") -> list[int]:
    picture.save(tmp_path / f"a.{ending}")
    return read_picture(tmp_path / f"a.{ending}", 4, channels)[:, 1, 1].tolist()


def test_every_mode_becomes_eight_bit_colour(tmp_path: Path) -> None:
    red = Image.new("RGB", (4, 4), (255, 0, 0))
    assert one_colour(tmp_path, red.convert("P")) == [255, 0, 0]
    assert one_colour(tmp_path, Image.new("L", (4, 4), 70)) == [70] * 3
    assert one_colour(tmp_path, Image.new("1", (4, 4), 1)) == [255] * 3
    assert one_colour(tmp_path, red.convert("CMYK"), ending="tiff") == [255, 0, 0]
    assert one_colour(tmp_path, red, channels=1) == [76]  # 0.299 of red, ITU-R 601-2


def test_transparent_parts_are_white(tmp_path: Path) -> None:
    assert one_colour(tmp_path, Image.new("RGBA", (4, 4), (255, 0, 0, 0))) == [255] * 3
    assert one_colour(tmp_path, Image.new("RGBA", (4, 4), (255, 0, 0, 51))) == [255, 204, 204]
    assert one_colour(tmp_path, Image.new("LA", (4, 4), (0, 0)), channels=1) == [255]
    palette = Image.new("P", (4, 4), 0)
    palette.putpalette([255, 0, 0])
    palette.save(tmp_path / "p.png", transparency=0)
    assert read_picture(tmp_path / "p.png", 4, 3)[:, 0, 0].tolist() == [255] * 3


@pytest.mark.parametrize(("value", "eight"), [(0, 0), (65535, 255), (32768, 128), (257 * 90, 90)])
@pytest.mark.parametrize("ending", ["png", "tiff"])
def test_sixteen_bits_become_eight(tmp_path: Path, value: int, eight: int, ending: str) -> None:
    deep = Image.fromarray(np.full((4, 4), value, np.uint16))
    assert one_colour(tmp_path, deep, ending=ending) == [eight] * 3


@pytest.mark.parametrize(("mode", "value"), [("F", 0.5), ("I", 65536), ("I", -1)])
def test_pixels_of_no_known_range_are_refused(tmp_path: Path, mode: str, value: float) -> None:
    Image.new(mode, (4, 4), value).save(tmp_path / "a.tiff")
    with pytest.raises(
        UserError, match=rf"a\.tiff has pixels of the kind {mode}, whose range is not known; write it anew as 8-bit"
    ):
        read_picture(tmp_path / "a.tiff", 4, 3)


def test_of_an_animation_it_is_the_first_frame(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert read_picture(tmp_path / "a.gif", 4, 3)[:, 0, 0].tolist() == [255, 0, 0]
