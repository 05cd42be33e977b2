"""One picture as pixels: the middle square, scaled without aliasing, upright, of any mode in 8 bits."""

import io
import pickle
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from data_kit import paint
from PIL import Image

from dmf.files.listing import BadFile
from dmf.files.pictures import decode, square
from dmf.registry import UserError


def pixels(file: Path, size: int, channels: int = 3, **options: Any) -> torch.Tensor:
    return square(decode(file.read_bytes(), str(file), "L" if channels == 1 else "RGB", **options).picture, size)


def gradient(width: int, height: int) -> Image.Image:
    """Red grows to the right, green downwards, linearly: scaling keeps it linear, so each pixel is known."""
    y, x = np.mgrid[0:height, 0:width]
    return Image.fromarray(np.stack([x, y, 0 * x], -1).astype(np.uint8))


@pytest.mark.parametrize(("width", "height"), [(240, 120), (120, 240), (120, 120), (201, 120), (240, 30)])
def test_the_middle_square_is_scaled(tmp_path: Path, width: int, height: int) -> None:
    gradient(width, height).save(tmp_path / "a.png")
    size, side = 12, min(width, height)
    image = pixels(tmp_path / "a.png", size, 3).float()
    place = (torch.arange(size) + 0.5) * side / size - 0.5  # centres of the new pixels, in old ones
    inner = slice(2, -2)  # at an edge of the picture the filter is one-sided
    assert torch.allclose(image[0, 5, inner], (place + (width - side) / 2)[inner], atol=0.51)
    assert torch.allclose(image[1, inner, 5], (place + (height - side) / 2)[inner], atol=0.51)


def test_scaling_has_no_aliasing(tmp_path: Path) -> None:
    stripes = np.zeros((128, 128), np.uint8)
    stripes[:, ::2] = 255  # of every eighth column alone all would be white, or all black
    Image.fromarray(stripes).save(tmp_path / "a.png")
    inner = pixels(tmp_path / "a.png", 16, 1)[0, :, 2:-2].float()
    assert (inner - 127.5).abs().max() < 3


def test_a_picture_of_the_size_is_left_as_it_is(tmp_path: Path) -> None:
    file = paint(tmp_path / "a.png", 8, 8)
    with Image.open(file) as picture:
        assert np.array_equal(pixels(file, 8, 3).permute(1, 2, 0).numpy(), np.array(picture))


@pytest.mark.parametrize("side", [(1, 1), (3, 5), (20000, 10), (10, 20000)])
def test_small_and_long_pictures(tmp_path: Path, side: tuple[int, int]) -> None:
    Image.new("RGB", side, (10, 200, 30)).save(tmp_path / "a.png")
    image = pixels(tmp_path / "a.png", 16, 3)
    assert image.is_contiguous() and image.flatten(1).unique(dim=1).flatten().tolist() == [10, 200, 30]


# the right way up

F = np.array([[9, 9, 9, 9], [9, 0, 0, 0], [9, 9, 9, 0], [9, 0, 0, 0], [9, 0, 0, 0]], np.uint8) * 28  # a letter F
AS_IT_LIES = {  # how a camera that was held so stores the F: tag 0x0112, from the table of EXIF 2.32, section 4.6.4
    1: F,
    2: F[:, ::-1],
    3: F[::-1, ::-1],
    4: F[::-1],
    5: F.T,
    6: F.T[::-1],  # its 0th row is the right side: turned by 90 degrees clockwise to be seen
    7: F[::-1, ::-1].T,
    8: F.T[:, ::-1],
}


@pytest.mark.parametrize("kind", ["png", "tiff", "webp", "jpg"])
@pytest.mark.parametrize("orientation", AS_IT_LIES)
def test_exif_turns_the_picture_upright(tmp_path: Path, orientation: int, kind: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    large = np.kron(AS_IT_LIES[orientation], np.ones((8, 8), np.uint8))  # JPEG keeps blocks of 8
    options = {"lossless": True} if kind == "webp" else {"quality": 95} if kind == "jpg" else {}
    Image.fromarray(np.ascontiguousarray(large)).convert("RGB").save(tmp_path / f"a.{kind}", exif=exif, **options)
    seen = decode((tmp_path / f"a.{kind}").read_bytes(), "a", "L").picture
    assert np.abs(np.asarray(seen)[4::8, 4::8].astype(int) - F).max() <= 2


@pytest.mark.parametrize("kind", ["jpg", "png"])
@pytest.mark.parametrize("note", [b"Exif\0\0nonsense", b"Exif\0\0II*\0", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0"])
def test_a_note_that_makes_no_sense_turns_nothing(tmp_path: Path, note: bytes, kind: str) -> None:
    file = paint(tmp_path / f"a.{kind}", 8, 8, exif=note)
    assert torch.equal(pixels(file, 8), pixels(paint(tmp_path / f"b.{kind}", 8, 8), 8))


def test_an_orientation_that_there_is_not_turns_nothing(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 17
    assert torch.equal(
        pixels(paint(tmp_path / "a.png", 8, 8, exif=exif), 8), pixels(paint(tmp_path / "b.png", 8, 8), 8)
    )


# modes


def one_colour(
    tmp_path: Path, picture: Image.Image, channels: int = 3, ending: str = "png", **options: Any
) -> list[int]:
    picture.save(tmp_path / f"a.{ending}")
    return pixels(tmp_path / f"a.{ending}", 4, channels, **options)[:, 1, 1].tolist()


def test_every_mode_becomes_eight_bit_colour(tmp_path: Path) -> None:
    red = Image.new("RGB", (4, 4), (255, 0, 0))
    assert one_colour(tmp_path, red.convert("P")) == [255, 0, 0]
    assert one_colour(tmp_path, Image.new("L", (4, 4), 70)) == [70] * 3
    assert one_colour(tmp_path, Image.new("1", (4, 4), 1)) == [255] * 3
    assert one_colour(tmp_path, red.convert("YCbCr"), ending="tiff") == [254, 0, 0]
    assert one_colour(tmp_path, red, channels=1) == [76]  # 0.299 of red, ITU-R 601-2


INK = (51, 102, 153, 51)  # cyan, magenta, yellow, black
PRINTED = [(255 - ink) * (255 - INK[3]) / 255 for ink in INK[:3]]


def cmyk_jpeg(inverted: bool, marked: bool) -> bytes:
    """CMYK in a JPEG, upside down as Adobe writes it or not, with Adobe's mark or without."""
    file = io.BytesIO()
    ink = INK if inverted else tuple(255 - one for one in INK)  # Pillow turns over what it writes
    Image.new("CMYK", (16, 16), ink).save(file, "JPEG", quality=100)
    content = file.getvalue()
    mark = content.index(b"\xff\xee\x00\x0eAdobe")
    return content if marked else content[:mark] + content[mark + 16 :]


@pytest.mark.parametrize("content", [cmyk_jpeg(True, True), cmyk_jpeg(False, False)], ids=["adobe", "plain"])
def test_cmyk_of_both_ways_up(content: bytes) -> None:
    seen = decode(content, "a.jpg", "RGB")
    assert seen.mode == "CMYK"
    assert np.abs(np.asarray(seen.picture)[8, 8] - PRINTED).max() <= 2


def test_cmyk_in_a_tiff(tmp_path: Path) -> None:
    assert np.abs(np.array(one_colour(tmp_path, Image.new("CMYK", (4, 4), INK), ending="tiff")) - PRINTED).max() <= 1


@pytest.mark.parametrize(("background", "level"), [("white", 255), ("black", 0), ("grey", 128)])
def test_transparent_parts_show_the_background(tmp_path: Path, background: str, level: int) -> None:
    def shown(picture: Image.Image, channels: int = 3) -> list[int]:
        return one_colour(tmp_path, picture, channels, background=background)

    assert shown(Image.new("RGBA", (4, 4), (255, 0, 0, 0))) == [level] * 3
    fifth = [round(0.2 * 255 + 0.8 * level), round(0.8 * level), round(0.8 * level)]
    assert np.abs(np.array(shown(Image.new("RGBA", (4, 4), (255, 0, 0, 51)))) - fifth).max() <= 1
    assert shown(Image.new("LA", (4, 4), (77, 0)), 1) == [level] and shown(Image.new("LA", (4, 4), (77, 255)), 1) == [
        77
    ]
    palette = Image.new("P", (4, 4), 0)
    palette.putpalette([255, 0, 0, 0, 255, 0])
    palette.putpixel((0, 0), 1)
    palette.save(tmp_path / "p.png", transparency=0)
    seen = pixels(tmp_path / "p.png", 4, background=background)
    assert seen[:, 1, 1].tolist() == [level] * 3 and seen[:, 0, 0].tolist() == [0, 255, 0]
    palette.save(tmp_path / "p.png", transparency=b"\x33\xff")  # half of the palette is clear: each entry has its own
    assert np.abs(pixels(tmp_path / "p.png", 4, background=background)[:, 1, 1].numpy() - fifth).max() <= 1
    Image.new("RGB", (4, 4), (1, 2, 3)).save(tmp_path / "k.png", transparency=(1, 2, 3))  # one colour is clear
    assert pixels(tmp_path / "k.png", 4, background=background)[:, 1, 1].tolist() == [level] * 3


def png(bits: int, kind: int, rows: np.ndarray, clear: bytes = b"") -> bytes:
    """A PNG by the book (PNG, third edition, section 11.2): kind 0 is grey, 2 colour; numbers big end first."""

    def part(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    head = struct.pack(">2I5B", rows.shape[1], rows.shape[0], bits, kind, 0, 0, 0)
    lines = b"".join(b"\0" + row.astype(">u2" if bits == 16 else "u1").tobytes() for row in rows)
    parts = part(b"IHDR", head) + (part(b"tRNS", clear) if clear else b"") + part(b"IDAT", zlib.compress(lines))
    return b"\x89PNG\r\n\x1a\n" + parts + part(b"IEND", b"")


DEEP = np.array([[0, 127, 128, 255], [256, 257, 32767, 32768], [65535, 65406, 65407, 23130]])


def test_sixteen_bits_of_grey_become_eight_to_the_nearest() -> None:
    seen = np.asarray(decode(png(16, 0, DEEP), "a.png", "L").picture)
    assert np.array_equal(seen, np.round(DEEP / 257))
    with_clear = np.asarray(decode(png(16, 0, DEEP, struct.pack(">H", 32768)), "a.png", "L").picture)
    assert np.array_equal(with_clear, np.where(DEEP == 32768, 255, np.round(DEEP / 257)))


def test_sixteen_bits_of_colour_become_eight_of_the_high_byte() -> None:
    seen = np.asarray(decode(png(16, 2, np.stack([DEEP, DEEP[::-1], DEEP * 0], -1)), "a.png", "RGB").picture)
    assert np.array_equal(seen, np.stack([DEEP, DEEP[::-1], DEEP * 0], -1) // 256)


@pytest.mark.parametrize("mode", ["I;16", "I;16B", "I"])
def test_deep_tiffs_become_eight(tmp_path: Path, mode: str) -> None:
    values = DEEP.astype({"I;16": "<u2", "I;16B": ">u2", "I": "<i4"}[mode])
    Image.fromarray(values).save(tmp_path / "a.tiff")
    assert np.array_equal(
        np.asarray(decode((tmp_path / "a.tiff").read_bytes(), "a", "L").picture), np.round(DEEP / 257)
    )


def test_twelve_bits_of_a_tiff_are_no_dark_sixteen(tmp_path: Path) -> None:
    pairs = [(0, 4095), (2048, 1024)]  # two numbers in three bytes, TIFF 6.0
    rows = b"".join(bytes([a >> 4, (a & 15) << 4 | b >> 8, b & 255]) for a, b in pairs)
    tags = [(256, 2), (257, 2), (258, 12), (259, 1), (262, 1), (273, 200), (277, 1), (278, 2), (279, len(rows))]
    listed = b"".join(struct.pack("<HHII", tag, 4 if tag == 273 else 3, 1, value) for tag, value in tags)
    head = b"II*\0" + struct.pack("<IH", 8, len(tags)) + listed + b"\0\0\0\0"
    content = head.ljust(200, b"\0") + rows
    assert np.asarray(decode(content, "a.tiff", "L").picture).tolist() == [[0, 255], [128, 64]]


@pytest.mark.parametrize(("mode", "value"), [("F", 0.5), ("I", 65536), ("I", -1)])
def test_pixels_of_no_known_range_are_refused(tmp_path: Path, mode: str, value: float) -> None:
    Image.new(mode, (4, 4), value).save(tmp_path / "a.tiff")
    with pytest.raises(UserError, match=rf"a\.tiff has pixels of the kind {mode}, whose range is not known; write it"):
        pixels(tmp_path / "a.tiff", 4)


def test_a_colour_profile_is_not_applied(tmp_path: Path) -> None:
    from PIL import ImageCms

    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    with_profile = paint(tmp_path / "a.png", 4, 4, icc_profile=lab)
    assert torch.equal(pixels(with_profile, 4), pixels(paint(tmp_path / "b.png", 4, 4), 4))


# animations


@pytest.mark.parametrize("kind", ["gif", "png", "webp", "tiff"])
def test_of_an_animation_it_is_the_first_frame(tmp_path: Path, kind: str) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue", "lime")]
    options = {"lossless": True} if kind == "webp" else {}
    frames[0].save(tmp_path / f"a.{kind}", save_all=True, append_images=frames[1:], **options)
    seen = decode((tmp_path / f"a.{kind}").read_bytes(), "a", "RGB")
    assert seen.frames == 3 and seen.picture.size == (8, 8) and seen.picture.getcolors() == [(64, (255, 0, 0))]


def test_a_later_frame_may_be_damaged(tmp_path: Path) -> None:
    """However much is there of the second frame: once the first is whole it is given."""
    frames = [Image.effect_noise((24, 24), 90).convert("P") for _ in range(2)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    content, given = (tmp_path / "a.gif").read_bytes(), list[int]()
    first = decode(content, "a.gif", "RGB").picture.tobytes()
    for length in range(len(content) // 3, len(content)):
        try:
            seen = decode(content[:length], "a.gif", "RGB")
        except UserError:
            assert not given, length
        else:
            given.append(seen.frames)
            assert seen.picture.tobytes() == first
    assert set(given) == {1, 2} and given.count(2) > len(content) // 4 and given.count(1) < 20


# what a picture is called


@pytest.mark.parametrize(
    ("name", "mode"), [("a.png", "RGB"), ("a.jpg", "L"), ("p.gif", "P"), ("a.webp", "RGBA"), ("b.png", "1")]
)
def test_the_mode_that_it_had_is_told(tmp_path: Path, name: str, mode: str) -> None:
    Image.new(mode, (8, 8)).save(tmp_path / name, lossless=True)
    seen = decode((tmp_path / name).read_bytes(), name, "RGB")
    assert (seen.mode, seen.frames, seen.picture.mode) == (mode, 1, "RGB")


def test_what_is_wrong_with_a_file_is_told_apart_from_its_name_and_travels_between_processes() -> None:
    with pytest.raises(BadFile) as caught:
        decode(b"", "pets/a picture: is empty.png", "RGB")
    error = pickle.loads(pickle.dumps(caught.value))
    assert error.reason == "is empty; copy it anew, or take it away"
    assert str(error) == "pets/a picture: is empty.png is empty; copy it anew, or take it away"
