"""`dmf data inspect`: what is in a folder, a zip, a named set, held against the truth."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from data_kit import paint, real_data
from PIL import Image
from prepare_kit import zoo

from dmf.core import Dataset
from dmf.registry import build

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def inspected(dmf_command: Command, workdir: Path) -> Callable[..., tuple[str, dict[str, Any]]]:
    """What it says, and what it writes."""

    def inspected(*words: object) -> tuple[str, dict[str, Any]]:
        code, out, err = dmf_command("data", "inspect", *words, "--json", "found.json")
        assert code == 0, out + err
        return out + err, json.loads(Path("found.json").read_text(encoding="utf-8"))

    return inspected


Inspected = Callable[..., tuple[str, dict[str, Any]]]


def test_what_a_folder_holds(inspected: Inspected, workdir: Path) -> None:
    said, found = inspected(zoo(workdir / "zoo"))
    assert "11 pictures, 2 classes" in said
    assert found["pictures"] == 11 and found["classes"] == {"cat": 7, "dog": 4}
    assert found["formats"] == {"PNG": 6, "JPEG": 1, "BMP": 1, "GIF": 1, "WEBP": 1, "TIFF": 1}
    assert found["modes"]["CMYK"] == found["modes"]["RGBA"] == 1 and found["modes"]["RGB"] == 7
    assert found["duplicates"] == [["cat/1.png", "cat/3.bmp", "cat/4.png", "dog/2.png"]]
    assert set(found["unusable"]) == {"dog/4.png", "dog/5.jpg", "dog/6.png"}
    assert "dog/6.png is empty" in said and "1 picture is in more than one class" in said
    assert "cat/1.png (cat) = cat/3.bmp (cat) = cat/4.png (cat) = dog/2.png (dog)" in said
    assert found["other_files"] == {".txt": 1}
    assert f"dataset: {{name: image_folder, root: {workdir / 'zoo'}, size: 64, on_error: skip}}" in said


def test_what_a_zip_holds(inspected: Inspected, workdir: Path) -> None:
    folder = inspected(zoo(workdir / "zoo"))[1]
    shutil.make_archive("inside", "zip", workdir / "zoo")
    shutil.make_archive("around", "zip", workdir, "zoo")
    for name in ("inside.zip", "around.zip"):
        said, found = inspected(name)
        assert found["unusable"].keys() == folder["unusable"].keys()
        its_own = {"what": name, "unusable": found["unusable"]}  # a zip is packed anew, and a file copied
        assert found == {**folder, **its_own}
        assert f"root: {name}" in said and "dog/6.png is empty" in said


def test_sizes_are_those_of_upright_pictures(inspected: Inspected, workdir: Path) -> None:
    for k, (width, height) in enumerate([(10, 50), (90, 40), (100, 120), (130, 300), (5000, 33)]):
        paint(workdir / f"in/{k}.png", width, height, seed=k, compress_level=1)
    said, found = inspected("in")
    assert found["sides"] == {
        "width": {"least": 10, "median": 100, "most": 5000},
        "height": {"least": 33, "median": 50, "most": 300},
        "shorter_side": {"least": 10, "median": 40, "most": 130},
    }
    rows = re.findall(r"^  (below 16|\d+ to \d+) +(\d+)", said, re.MULTILINE)
    assert [(name, int(count)) for name, count in rows] == [
        ("below 16", 1), ("16 to 31", 0), ("32 to 63", 2), ("64 to 127", 1), ("128 to 255", 1)
    ]  # fmt: skip


def test_means_are_those_of_the_images_that_are_trained_on(inspected: Inspected, workdir: Path) -> None:
    for k in range(5):
        paint(workdir / f"in/{k}.png", 50 + k, 60, seed=k)
    said, found = inspected("in", "--size", 24)
    images, _ = build("dataset", "image_folder", root="in", size=24).tensors()
    values = images.double()
    assert found["mean"] == pytest.approx(values.mean((0, 2, 3)).tolist())
    assert found["deviation"] == pytest.approx(values.std((0, 2, 3), correction=0).tolist())
    assert "scaled and cut to 24x24" in said and f"{found['mean'][0] / 127.5 - 1:.3f}" in said


def test_pictures_of_one_colour(inspected: Inspected, workdir: Path) -> None:
    paint(workdir / "in/a.png")
    Image.new("RGB", (30, 30), (200, 10, 10)).save(workdir / "in/red.png")
    nearly = np.full((30, 30, 3), 100, np.uint8)
    nearly[::7] += 1
    Image.fromarray(nearly).save(workdir / "in/nearly.png")
    said, found = inspected("in")
    assert found["one_colour"] == ["nearly.png", "red.png"] and "2 pictures are nearly of one colour" in said


def test_later_frames_are_told(inspected: Inspected, workdir: Path) -> None:
    paint(workdir / "in/a.png", 20, 20)
    Image.new("RGB", (20, 20), "red").save(
        workdir / "in/b.gif", save_all=True, append_images=[Image.new("RGB", (20, 20), "blue")]
    )
    said, found = inspected("in")
    assert found["several_frames"] == ["b.gif"]
    assert "1 picture has several frames, of which the first is taken\n  b.gif" in said


def test_the_last_of_six_takes_the_place_of_a_count(inspected: Inspected, workdir: Path) -> None:
    paint(workdir / "in/a.png")
    for k in range(6):
        (workdir / f"in/bad{k}.png").touch()
    assert "bad5.png is empty" in inspected("in")[0]
    (workdir / "in/bad6.png").touch()
    said, _ = inspected("in")
    assert "bad4.png is empty" in said and "bad5.png" not in said and "and 2 more" in said


def test_an_ending_that_lies_and_grey_pictures(inspected: Inspected, workdir: Path) -> None:
    paint(workdir / "in/1.png", mode="L", seed=1)
    paint(workdir / "in/2.jpg", mode="L", seed=2)
    shutil.move(workdir / "in/2.jpg", workdir / "in/2.png")
    said, _ = inspected("in")
    assert "1 file is of another format than the ending says" in said and "2.png is JPEG" in said
    assert "channels: 1" in said


def test_clean_pictures(inspected: Inspected, workdir: Path) -> None:
    paint(workdir / "in/1.png")
    said, found = inspected("in")
    assert "no duplicates, no picture of one colour, nothing unreadable" in said and "1 picture, no labels" in said
    assert "dataset: {name: image_folder, root: in, size: 16}" in said
    assert found["duplicates"] == [] and "all 16 x 16" in said


def test_a_named_set_is_counted_whole(inspected: Inspected) -> None:
    said, found = inspected("digits", "split=test")
    digits: Dataset = build("dataset", "digits", split="test")
    held = digits.tensors()
    assert held is not None
    images, cond = held
    assert found["pictures"] == len(images) and found["mean"][0] == pytest.approx(images.double().mean().item())
    assert list(found["classes"].values()) == cond["class"].bincount().tolist()
    assert "dataset: {name: digits, split: test}" in said
    sheet = np.array(Image.open("inspect-digits.png"))
    first = images[cond["class"] == 0][0].repeat_interleave(6, 1).repeat_interleave(6, 2)
    assert (sheet[4:52, -12 * 52 : -12 * 52 + 48] == first.permute(1, 2, 0).numpy()).all()


def test_a_set_and_its_prepared_folder_look_alike(inspected: Inspected, workdir: Path, dmf_command: Command) -> None:
    for k in range(6):
        paint(workdir / f"in/{'ab'[k % 2]}/{k}.png", 40 + k, 50, seed=k)
    _, straight = inspected("in", "--size", 32)
    assert dmf_command("data", "prepare", "in", "--out", "set", "--size", 32)[0] == 0
    _, made = inspected("set", "--size", 32, "--sheet", "set.png")
    assert made["mean"] == straight["mean"] and made["classes"] == straight["classes"]
    assert Path("set.png").exists() and not Path("inspect-set.png").exists()
    _, named = inspected("image_folder", "root=set", "size=32")
    assert named["mean"] == pytest.approx(straight["mean"]) and named["pictures"] == 6


def test_long_names_leave_room_for_pictures(inspected: Inspected, workdir: Path) -> None:
    for k, name in enumerate(("a" * 200, "日本" * 30)):
        paint(workdir / "in" / name / "1.png", seed=k)
    said, _ = inspected("in")
    with Image.open("inspect-in.png") as sheet:
        assert sheet.width < 700
    assert max(map(len, said.splitlines())) < 140


def test_a_folder_with_the_name_of_a_set(inspected: Inspected, workdir: Path) -> None:
    paint(workdir / "digits/1.png")
    assert inspected("digits")[1]["pictures"] > 1000
    assert inspected("./digits")[1]["pictures"] == 1


def test_real_flowers_have_one_duplicate(inspected: Inspected) -> None:
    flat = Path(real_data("flowers12_224_flat")) / "flowers12_224_flat/train"
    _, found = inspected(flat, "--labels", "labels.json")
    assert found["duplicates"] == [["image_0422.jpg", "image_0469.jpg"]] and len(found["classes"]) == 12


MISTAKES = [
    (["gone"], "did you mean|unknown|no dataset"),
    (["./gone"], "is not there"),
    (["gone.zip"], "is not there"),
    (["gone"], "gone is not there; give a folder, a zip, or the name of a data set (dmf plugins); unknown dataset"),
    (["digit"], "did you mean 'digits'"),
    (["digits", "splitt=test"], "splitt"),
    (["digits", "cifar10"], "got 2 things"),
    (["size=3"], "got 0 things"),
    (["in", "size=3"], "takes no options"),
    (["digits", "--size", "16"], "write size=16"),
    (["digits", "--labels", "none"], "write labels=none"),
    (["in", "--labels", ""], "give the path of a JSON file"),
    (["notes.txt"], "notes.txt"),
    (["in", "--labels", "gone.json"], "gone.json"),
    (["in", "--sheet", "gone/a.png"], "cannot be written"),
    (["in", "--sheet", "a.jpg"], "name it a.png"),
    (["in", "--json", "gone/a.json"], "cannot be written"),
]


@pytest.mark.parametrize(("words", "sentence"), MISTAKES, ids=lambda value: " ".join(value)[:30])
def test_mistakes_are_told(dmf_command: Command, workdir: Path, words: list[str], sentence: str) -> None:
    paint(workdir / "in/1.png")
    (workdir / "notes.txt").write_text("mine")
    code, out, err = dmf_command("data", "inspect", *words)
    assert code == 2 and any(one in err for one in sentence.split("|")), out + err
