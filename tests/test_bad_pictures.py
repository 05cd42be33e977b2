"""Files that are no good: each is named with what to do, nothing else is said, and damage at random never surprises."""

import io
import logging
import os
import random
import re
import struct
import subprocess
import sys
import time
import warnings
import zlib
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import FULL
from data_kit import paint
from PIL import Image

from dmf.files.pictures import decode, square
from dmf.registry import UserError, build

DAMAGES = 20_000 if FULL else 250  # of each format
KINDS = {
    "png": ("PNG", {}),
    "palette.png": ("PNG", {}),
    "deep.png": ("PNG", {}),
    "jpg": ("JPEG", {"exif": b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0"}),
    "progressive.jpg": ("JPEG", {"progressive": True}),
    "gif": ("GIF", {}),
    "webp": ("WEBP", {}),
    "lossless.webp": ("WEBP", {"lossless": True}),
    "bmp": ("BMP", {}),
    "tiff": ("TIFF", {}),
    "lzw.tiff": ("TIFF", {"compression": "tiff_lzw"}),
    "deflate.tiff": ("TIFF", {"compression": "tiff_adobe_deflate"}),
    "jpeg.tiff": ("TIFF", {"compression": "jpeg"}),
    "ppm": ("PPM", {}),
    "animated.gif": ("GIF", {"save_all": True}),
    "animated.png": ("PNG", {"save_all": True}),
    "animated.webp": ("WEBP", {"save_all": True}),
}


def written(kind: str) -> bytes:
    form, options = KINDS[kind]
    pixels = np.random.RandomState(0).randint(256, size=(24, 40, 3)).astype(np.uint8)
    picture = Image.fromarray(pixels)
    if kind == "palette.png":
        picture = picture.quantize(16)
    if kind == "deep.png":
        picture = Image.fromarray(pixels[..., 0].astype(np.uint16) * 257)
    if "save_all" in options:
        options = {**options, "append_images": [picture.rotate(180)]}
    file = io.BytesIO()
    picture.save(file, form, **options)
    return file.getvalue()


def complaint(content: bytes, source: str = "folder/a.png") -> str:
    with pytest.raises(UserError) as error:
        decode(content, source, "RGB")
    return str(error.value)


@pytest.mark.parametrize("kind", KINDS)
def test_a_picture_that_is_cut_short_is_told(kind: str) -> None:
    whole = written(kind)
    said = complaint(whole[: len(whole) // 3], f"folder/a.{kind}")
    assert said.startswith(f"folder/a.{kind} cannot be read as a picture (")
    assert said.endswith("); write it anew as PNG or JPEG, or take it away")


def test_an_empty_file_is_told() -> None:
    assert complaint(b"") == "folder/a.png is empty; copy it anew, or take it away"


@pytest.mark.parametrize("content", [b"this is no picture", b"<html><body>404", b"\0" * 99, b"%PDF-1.4 x", b"PK\3\4"])
def test_what_is_no_picture_is_told_by_its_beginning(content: bytes) -> None:
    said = complaint(content)
    assert f"it begins with {content[:12]!r}, as no format does that is known here" in said and "BytesIO" not in said


def test_a_picture_of_a_telephone_is_told_as_what_it_is() -> None:
    assert "(it is HEIC, which is not read here); write it anew as PNG or JPEG" in complaint(
        b"\0\0\0\x18ftypheic\0\0\0\0"
    )


def test_a_file_that_a_program_would_be_started_for_is_no_picture(tmp_path: Path) -> None:
    file = io.BytesIO()
    Image.new("RGB", (4, 4)).save(file, "EPS")  # Pillow hands these to Ghostscript
    assert "as no format does that is known here" in complaint(file.getvalue())


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def with_chunk(content: bytes, name: bytes, data: bytes) -> bytes:
    """A PNG with one more part, after its head."""
    return content[:33] + chunk(name, data) + content[33:]


def test_a_png_whose_checksum_does_not_fit_is_told() -> None:
    whole = written("png")
    at = whole.index(b"IDAT")
    for place in (at + 100, len(whole) - 13):  # a pixel; the checksum itself
        damaged = bytearray(whole)
        damaged[place] ^= 1
        assert "damaged: the checksum of its part IDAT does not fit" in complaint(bytes(damaged))


def test_a_png_without_its_end_is_told() -> None:
    assert "cut short: its end is missing" in complaint(written("png")[:-12])


def test_a_note_with_a_wrong_checksum_is_told_too() -> None:
    noted = bytearray(with_chunk(written("png"), b"tEXt", b"Comment\0hello"))
    assert decode(bytes(noted), "a", "RGB").picture.tobytes() == decode(written("png"), "a", "RGB").picture.tobytes()
    noted[noted.index(b"hello")] ^= 1
    assert "damaged: the checksum of its part tEXt does not fit" in complaint(bytes(noted))


@pytest.mark.parametrize("kind", ["bmp", "webp", "gif", "tiff"])
def test_a_head_alone_is_not_called_unknown(kind: str) -> None:
    assert "known here" not in complaint(written(kind)[:16])


@pytest.mark.parametrize("name", [b"iCCP", b"zTXt", b"iTXt"])
def test_a_note_that_swells_is_told_and_never_unpacked_whole(name: bytes) -> None:
    bomb = zlib.compress(bytes(2**27), 9)
    data = {b"iCCP": b"x\0\0", b"zTXt": b"x\0\0", b"iTXt": b"x\0\1\0\0\0"}[name] + bomb
    began = time.monotonic()
    assert "Decompressed data too large" in complaint(with_chunk(written("png"), name, data))
    assert time.monotonic() - began < 2


@pytest.mark.parametrize(("side", "told"), [(10_000, "10000 x 10000"), (20_000, "400,000,000")])
def test_a_picture_that_swells_is_told_and_never_unpacked(side: int, told: str) -> None:
    head = struct.pack(">2I5B", side, side, 8, 2, 0, 0, 0)
    bomb = (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(9999))) + chunk(b"IEND", b"")
    )
    with warnings.catch_warnings(record=True) as shown:
        said = complaint(bomb)
    assert f"folder/a.png has too many pixels, {told}; 89,478,485 in all are the most that are decoded" in said
    assert "scale it down, or take it away" in said and not shown


@pytest.mark.parametrize("side", [(20_000, 10), (10, 20_000), (1, 1), (30_000, 1)])
def test_long_and_tiny_pictures_are_cheap(side: tuple[int, int]) -> None:
    file = io.BytesIO()
    Image.new("RGB", side, (10, 200, 30)).save(file, "PNG")
    began = time.monotonic()
    image = square(decode(file.getvalue(), "a", "RGB").picture, 16)
    assert image.flatten(1).unique(dim=1).flatten().tolist() == [10, 200, 30]
    assert time.monotonic() - began < 0.5


def damaged(whole: bytes, dice: random.Random) -> bytes:
    """Some bytes changed, a piece cut out, doubled, or off the end; the head more often than its share."""
    content = bytearray(whole)
    for _ in range(dice.choice([1, 1, 2, 5, 20])):
        at = dice.randrange(len(content) if dice.random() < 0.6 else min(64, len(content)))
        content[at] = dice.choice([0, 1, 127, 128, 255, dice.randrange(256)])
    if dice.random() < 0.3:
        at, length = dice.randrange(len(content)), dice.randrange(1, 40)
        content[at : at + length] = dice.choice([b"", content[at : at + length] * 2])
    return bytes(content[: dice.randrange(len(content)) + 1] if dice.random() < 0.2 else content)


def repaired(content: bytes) -> bytes:
    """A PNG with checksums that fit, so that damage comes as far as the decoder."""
    out, at = bytearray(content), 8
    while content[:8] == b"\x89PNG\r\n\x1a\n" and at + 12 <= len(content):
        length = int.from_bytes(content[at : at + 4], "big")
        if at + 12 + length > len(content):
            break
        sum_at = at + 8 + length
        out[sum_at : sum_at + 4] = struct.pack(">I", zlib.crc32(content[at + 4 : sum_at]))
        at = sum_at + 4
    return bytes(out)


@pytest.mark.parametrize("kind", KINDS)
def test_damage_at_random_gives_a_picture_or_a_sentence(kind: str, capfd: pytest.CaptureFixture[str]) -> None:
    whole, came = written(kind), Counter[str]()
    for seed in range(DAMAGES):
        dice = random.Random(f"{kind} {seed}")
        content = damaged(whole, dice)
        content = repaired(content) if dice.random() < 0.7 else content
        with warnings.catch_warnings(record=True) as shown:
            try:
                seen = decode(content, "a.file", dice.choice(["RGB", "L"]))
                came["picture"] += 1
                assert seen.picture.mode in ("RGB", "L") and square(seen.picture, 8).shape[1:] == (8, 8), seed
            except UserError as error:
                came["sentence"] += 1
                assert str(error).startswith("a.file ") and "; " in str(error), seed
                assert "object at 0x" not in str(error), seed
        assert not shown, (seed, [str(one.message) for one in shown])
    assert came["picture"] and came["sentence"], "the damage is to be neither too little nor too much"
    assert capfd.readouterr() == ("", ""), "libraries in C print by themselves"


def test_what_others_print_comes_through_again(capfd: pytest.CaptureFixture[str]) -> None:
    lzw = written("lzw.tiff")
    bad = lzw[:40] + b"\xff" * 200 + lzw[240:]
    complaint(bad)
    os.write(2, b"still here\n")
    assert capfd.readouterr().err == "still here\n"


def test_what_a_decoder_logs_is_not_shown(tmp_path: Path) -> None:
    content = bytearray(written("tiff"))
    entries = int.from_bytes(content[4:8], "little") + 2
    for at in range(entries, entries + 12 * content[entries - 2], 12):
        if content[at : at + 2] == b"\x15\x01":  # samples per pixel
            content[at + 8 : at + 10] = b"\xff\xff"
    code = (
        "import sys; from dmf.files.pictures import decode; from dmf.registry import UserError\n"
        "try: decode(sys.stdin.buffer.read(), 'a', 'RGB')\n"
        "except UserError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], input=content, capture_output=True, check=True)
    assert done.stderr == b"" and done.stdout.startswith(b"a cannot be read as a picture (")


def test_without_a_stderr_nothing_breaks() -> None:
    code = (
        "import os, sys; os.close(2)\n"
        "from dmf.files.pictures import decode\n"
        "picture = decode(sys.stdin.buffer.read(), 'a', 'RGB').picture\n"
        "print(picture.size)"
    )
    done = subprocess.run([sys.executable, "-c", code], input=written("lzw.tiff"), capture_output=True, check=True)
    assert done.stdout.decode().strip() == "(40, 24)"


# in a set of pictures


def opened(root: Path, **options: Any) -> Any:
    return build("dataset", "image_folder", root=str(root), size=8, **options)


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """Three good pictures, and one of every kind of bad ones."""
    for number in (1, 3, 5):
        paint(tmp_path / f"{number}.png", seed=number)
    (tmp_path / "2.png").write_bytes(b"text")
    (tmp_path / "4.jpg").write_bytes(written("jpg")[:300])
    (tmp_path / "6.png").write_bytes(b"")
    (tmp_path / "7.png").symlink_to("/nowhere")
    return tmp_path


@pytest.mark.parametrize("memory_gib", [2.0, 0.0])
def test_what_is_bad_can_be_left_out(mixed: Path, memory_gib: float, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "dmf"):
        data = opened(mixed, on_error="skip", memory_gib=memory_gib)
    assert [data.name_of(i) for i in range(len(data))] == ["1.png", "3.png", "5.png"]
    assert [one.name for one in data.left_out] == ["2.png", "4.jpg", "6.png", "7.png"]
    reasons = {one.name: one.reason for one in data.left_out}
    assert "cannot be read as a picture (it begins with b'text'" in reasons["2.png"]
    assert reasons["6.png"].startswith("is empty") and str(mixed) not in "".join(reasons.values())
    assert "left out 4 pictures that cannot be used: " in caplog.text and "2.png" in caplog.text
    alone = opened(mixed, on_error="skip", memory_gib=2.0 - memory_gib)
    assert alone.fingerprint() == data.fingerprint() and alone.left_out == data.left_out
    for i, number in enumerate((1, 3, 5)):
        with Image.open(mixed / f"{number}.png") as picture:
            assert abs(float(data[i].image.float().mean()) - np.asarray(picture).mean()) < 8


def test_what_is_bad_stops_otherwise_all_at_once(mixed: Path) -> None:
    with pytest.raises(UserError) as error:
        opened(mixed)
    said = str(error.value)
    assert said.startswith("4 of 7 pictures cannot be used:") and "leave them out with on_error: skip" in said
    assert all(f"{mixed}/{name} " in said for name in ("2.png", "4.jpg", "6.png", "7.png"))


def test_animations_are_told_once_and_remembered(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    paint(tmp_path / "1.png")
    (tmp_path / "2.gif").write_bytes(written("animated.gif"))
    (tmp_path / "3.png").write_bytes(written("animated.png"))
    monkeypatch.setattr("dmf.files.index.WORTH_PICTURES", 0)
    for _ in range(2):
        caplog.clear()
        with caplog.at_level(logging.INFO, "dmf"):
            opened(tmp_path)
        assert caplog.text.count("of 2 pictures with several frames the first is taken: 2.gif, 3.png") == 1


def test_tiny_and_long_pictures_are_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, width, height in (("1.png", 40, 300), ("2.png", 1, 1), ("3.png", 900, 40), ("4.png", 32, 32)):
        paint(tmp_path / name, width, height)
    monkeypatch.setattr("dmf.files.index.WORTH_PICTURES", 0)
    for _ in range(2):
        caplog.clear()
        with caplog.at_level(logging.INFO, "dmf"):
            build("dataset", "image_folder", root=str(tmp_path), size=32)
        assert "enlarged 1 picture with fewer than 32 pixels a side" in caplog.text and "out: 2.png" in caplog.text
        assert "took less than a tenth, the middle, of 1 picture so much longer than wide: 3.png" in caplog.text


@pytest.mark.parametrize("memory_gib", [2.0, 0.0])
def test_where_nothing_is_left_that_is_told(tmp_path: Path, memory_gib: float) -> None:
    for number in range(3):
        (tmp_path / f"{number}.png").write_bytes(b"text")
    with pytest.raises(UserError, match=r"3 of 3 pictures cannot be used") as error:
        opened(tmp_path, on_error="skip", memory_gib=memory_gib)
    assert "on_error" not in str(error.value)


@pytest.mark.parametrize("on_error", ["raise", "skip"])
def test_a_picture_that_goes_away_while_it_is_read(
    tmp_path: Path, on_error: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dmf.plugins.datasets import image_folder

    for number in range(3):
        paint(tmp_path / f"{number}.png", seed=number)
    look = image_folder.open_collection

    def look_and_lose(*given: Any) -> Any:
        found = look(*given)
        (tmp_path / "1.png").unlink()
        return found

    monkeypatch.setattr(image_folder, "open_collection", look_and_lose)
    if on_error == "raise":
        with pytest.raises(
            UserError, match=rf"1 of 3 pictures cannot be used:\n  {tmp_path}/1\.png is not there \(no such file\)"
        ):
            opened(tmp_path)
    else:
        data = opened(tmp_path, on_error="skip")
        assert len(data) == 2 and data.left_out[0].name == "1.png" and "no such file" in data.left_out[0].reason


def test_a_closed_file_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root may read everything, so the system's answer is given here."""
    paint(tmp_path / "a.png")
    closed = paint(tmp_path / "b.png")
    opens = os.open

    def refuse(path: Any, *given: Any, **named: Any) -> int:
        if Path(path) == closed:
            raise PermissionError(13, os.strerror(13), str(path))
        return opens(path, *given, **named)

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(UserError, match=rf"{closed} cannot be read \(Permission denied\); make it readable"):
        opened(tmp_path)


def test_a_run_lists_what_it_left_out(tiny: Path, mixed: Path, dmf_command: Any) -> None:
    (mixed / "in").mkdir()  # not where the run is written
    for file in [file for file in mixed.iterdir() if file.suffix in (".png", ".jpg")]:
        file.rename(mixed / "in" / file.name)
    words = [f"dataset={{name: image_folder, root: {mixed}/in, size: 8, channels: 1, labels: none, on_error: skip}}"]
    words += ["train.steps=2", "train.batch_size=2", "train.label_dropout=0", "sampler.guidance=1", "preview.every=0"]
    code, _, err = dmf_command("train", tiny, *words)
    assert code == 0, err
    listed = (tiny.parent / "runs/tiny/left_out.txt").read_text().splitlines()
    assert len(listed) == 4 and any(line.startswith("6.png is empty; copy it anew") for line in listed)
    for line in listed:
        (mixed / "in" / line.partition(" ")[0]).unlink()
    code, _, err = dmf_command("train", tiny, *words, "train.steps=3")
    assert code == 0, err
    assert not (tiny.parent / "runs/tiny/left_out.txt").exists(), "nothing is left out any more"


def test_a_run_that_diverges_names_its_files(tiny: Path, tmp_path: Path, dmf_command: Any) -> None:
    for number in range(30):
        paint(tmp_path / f"set/img{number}.png", seed=number)
    words = [f"dataset={{name: image_folder, root: {tmp_path / 'set'}, size: 8, channels: 1}}", "train.lr=1e30"]
    words += ["train.clip=null", "train.steps=60", "train.stop_after_bad_steps=6", "train.label_dropout=0"]
    code, _, err = dmf_command("train", tiny, *words, "sampler.guidance=1", "preview.every=0")
    found = re.search(r"\(images (.*), \.\.\.\); look at those", err)
    assert code == 1 and found, err
    assert all(re.fullmatch(r"(\d+) \(img\1\.png\)", one) for one in found[1].split(", "))
