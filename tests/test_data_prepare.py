"""`dmf data prepare`: what it makes of pictures in any state, and what it says of each."""

import hashlib
import json
import re
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from data_kit import paint, real_data
from PIL import Image
from prepare_kit import by_source, manifest, tree, turned, zoo

from dmf.core import Dataset
from dmf.registry import build
from dmf.runner.collections.samples import spread

Command = Callable[..., tuple[int, str, str]]
KEPT = ["cat/1.png", "cat/2.jpg", "cat/5.gif", "cat/6.webp", "cat/7.tiff", "dog/1.png", "dog/10.png"]


@pytest.fixture
def pets(workdir: Path) -> Path:
    return zoo(workdir / "zoo")


@pytest.fixture
def prepared(dmf_command: Command) -> Callable[..., str]:
    def prepared(*words: object, code: int = 0) -> str:
        got, out, err = dmf_command("data", "prepare", *words)
        assert got == code, out + err
        assert "Traceback" not in err
        return out + err

    return prepared


Prepared = Callable[..., str]


def named(said: str) -> Dataset:
    """The data set that the last lines on the screen name."""
    (line,) = re.findall(r"^  dataset: (.*)$", said, re.MULTILINE)
    options = yaml.safe_load(line)
    made: Dataset = build("dataset", options.pop("name"), **options)
    return made


def test_the_pixels_and_labels_are_those_of_image_folder(pets: Path, prepared: Prepared) -> None:
    data = named(prepared(pets, "--out", "set", "--size", 32))
    for name in set(by_source(Path("set"))) - {Path(name).name for name in KEPT}:
        for file in pets.rglob(name):
            if str(file.relative_to(pets)) not in KEPT:
                file.unlink()
    straight = build("dataset", "image_folder", root=str(pets), size=32)
    assert data.spec == straight.spec and len(data) == len(straight) == len(KEPT)
    ours, theirs = data.tensors(), straight.tensors()
    assert ours is not None and theirs is not None
    assert torch.equal(ours[0], theirs[0]) and torch.equal(ours[1]["class"], theirs[1]["class"])


def test_pictures_are_numbered_in_the_order_of_the_sources(pets: Path, prepared: Prepared) -> None:
    prepared(pets, "--out", "set", "--size", 32)
    lines = [line for line in manifest(Path("set"))[1] if "file" in line]
    assert [line["source"] for line in lines] == [str(pets / name) for name in KEPT]
    assert [line["file"] for line in lines] == [
        f"images/{name.partition('/')[0]}/{number:06d}.png" for number, name in enumerate(KEPT)
    ]
    assert sorted(tree(Path("set"))) == sorted([*(line["file"] for line in lines), "manifest.jsonl", "samples.png"])


def test_the_manifest_tells_of_every_picture(pets: Path, prepared: Prepared) -> None:
    prepared(pets, "--out", "set", "--size", 32)
    head, lines = manifest(Path("set"))
    assert head["options"] == {"size": 32, "channels": 3, "labels": "auto", "background": "white", "min_side": 16}
    assert head["classes"] == ["cat", "dog"] and head["sources"][0]["root"] == str(pets)
    assert {Path(line["source"]).relative_to(pets).as_posix() for line in lines} == {
        file.relative_to(pets).as_posix() for file in pets.rglob("*.*")
    }
    for line in lines:
        content = Path(line["source"]).read_bytes()
        assert (
            content == b"" or line["source"].endswith(".txt") or line["sha256"] == hashlib.sha256(content).hexdigest()
        )
        if "file" in line:
            packed = (Path("set") / line["file"]).read_bytes()
            assert line["file_sha256"] == hashlib.sha256(packed).hexdigest() and "left_out" not in line
            with Image.open(line["source"]) as picture:
                assert (line["width"], line["height"]) == picture.size and line["mode"] == picture.mode
        else:
            assert line["left_out"] and line["reason"]


def test_what_is_left_out_is_told_with_its_reason(pets: Path, prepared: Prepared) -> None:
    said = prepared(pets, "--out", "set", "--size", 32)
    lines = {Path(line["source"]).relative_to(pets).as_posix(): line for line in manifest(Path("set"))[1]}
    why = {name: line["left_out"] for name, line in lines.items() if "left_out" in line}
    assert why == {
        "cat/3.bmp": "duplicate",
        "cat/4.png": "duplicate",
        "dog/2.png": "duplicate of another class",
        "dog/3.png": "too small",
        "dog/4.png": "cannot be used",
        "dog/5.jpg": "cannot be used",
        "dog/6.png": "cannot be used",
        "notes.txt": "no picture by its ending",
    }
    assert lines["notes.txt"]["reason"] == "ends in .txt, as no picture does"
    assert lines["cat/4.png"]["reason"] == f"has the same pixels as {pets / 'cat/1.png'}"
    assert lines["dog/2.png"]["reason"].endswith("which is 'cat', and this one 'dog'")
    assert lines["dog/3.png"]["reason"] == "has 9 x 50 pixels; --min-side is 16"
    assert "7 of 14 pictures, 32x32, colour" in said and "left out 7 pictures and 1 other file" in said
    assert all(str(pets / name) in said for name in why)
    assert "warning: 1 picture is under two classes" in said


def test_files_that_are_no_pictures_are_told_one_by_one(workdir: Path, prepared: Prepared) -> None:
    shutil.copy(paint(workdir / "in/1.png", seed=1), workdir / "in/bare")
    for name in ("a.heic", "b.tga", "c.txt"):
        (workdir / "in" / name).write_text("x")
    said = prepared("in", "--out", "set", "--size", 16)
    assert "1 of 1 pictures" in said and "left out 0 pictures and 4 other files" in said
    why = {line["source"].rpartition("/")[2]: line["reason"] for line in manifest(Path("set"))[1] if "left_out" in line}
    assert why.keys() == {"bare", "a.heic", "b.tga", "c.txt"} and "name it after its format" in why["bare"]
    assert "write it as PNG or JPEG" in why["a.heic"] and "write it as PNG or JPEG" in why["b.tga"]
    for change in ((workdir / "in/d.md").touch, (workdir / "in/a.heic").unlink):
        change()
        prepared("in", "--out", "set", "--size", 16)
        listed = {line["source"].rpartition("/")[2] for line in manifest(Path("set"))[1]}
        assert listed == {file.name for file in Path("in").iterdir()}, "the list follows, the pictures stay"


def test_later_frames_are_told(workdir: Path, prepared: Prepared) -> None:
    frames = [Image.new("RGB", (20, 20), colour) for colour in ("red", "blue")]
    (workdir / "in").mkdir()
    frames[0].save(workdir / "in/a.gif", save_all=True, append_images=frames[1:])
    said = prepared("in", "--out", "set", "--size", 16)
    assert f"of 1 picture with several frames the first is taken: {workdir / 'in/a.gif'}" in said
    assert manifest(Path("set"))[1][0]["frames"] == 2


def test_merging_unites_classes_of_one_name(workdir: Path, prepared: Prepared) -> None:
    paint(workdir / "a/cat/1.png", seed=1)
    paint(workdir / "a/dog/1.png", seed=2)
    paint(workdir / "b/ant10/1.png", seed=3)
    paint(workdir / "b/dog/1.png", seed=4)
    paint(workdir / "b/ant9/1.png", seed=5)
    shutil.copy(workdir / "a/dog/1.png", workdir / "b/dog/0.png")
    data = named(prepared("a", "b", "--out", "set", "--size", 16))
    assert data.spec.classes == ("ant9", "ant10", "cat", "dog")
    files = [line.get("file") for line in manifest(Path("set"))[1]]
    assert files == ["images/cat/000000.png", "images/dog/000001.png", "images/ant9/000002.png",
                     "images/ant10/000003.png", None, "images/dog/000004.png"]  # fmt: skip
    assert manifest(Path("set"))[0]["classes"] == ["ant9", "ant10", "cat", "dog"]


def test_a_zip_is_as_good_as_its_folder(pets: Path, prepared: Prepared) -> None:
    with zipfile.ZipFile("zoo.zip", "w") as packed:
        for file in sorted(pets.rglob("*.*")):
            packed.write(file, file.relative_to(pets))
    prepared(pets, "--out", "one", "--size", 32)
    prepared("zoo.zip", "--out", "two", "--size", 32)
    one, two = tree(Path("one")), tree(Path("two"))
    assert one.keys() == two.keys() and all(one[name] == two[name] for name in one if name != "manifest.jsonl")
    assert manifest(Path("two"))[1][0]["source"] == f"{Path('zoo.zip').absolute()}:cat/1.png"


def test_a_zip_with_a_folder_around_all(pets: Path, prepared: Prepared) -> None:
    shutil.make_archive("pets", "zip", pets.parent, pets.name)
    prepared("pets.zip", "--out", "set", "--size", 32)
    with zipfile.ZipFile("pets.zip") as packed:
        there = {f"{Path('pets.zip').absolute()}:{name}" for name in packed.namelist() if name.endswith("g")}
    lines = {line["source"]: line for line in manifest(Path("set"))[1]}
    assert there <= lines.keys() and "is empty" in lines[f"{Path('pets.zip').absolute()}:zoo/dog/6.png"]["reason"]
    assert all(":zoo/" in name for name in lines)


@pytest.mark.parametrize("labels", ['{"1.png": 1, "2.png": 0}', '{"1.png": "dog", "2.png": "cat"}'])
def test_labels_from_a_file(workdir: Path, prepared: Prepared, labels: str) -> None:
    paint(workdir / "flat/1.png", seed=1)
    paint(workdir / "flat/2.png", seed=2)
    (workdir / "flat/classes.json").write_text('["cat", "dog"]')
    (workdir / "flat/labels.json").write_text(labels)
    data = named(prepared("flat", "--out", "set", "--size", 16, "--labels", "labels.json"))
    assert data.spec.classes == ("cat", "dog")
    assert [line["label"] for line in manifest(Path("set"))[1]] == ["dog", "cat"]


def test_one_class_alone_stays_a_class(workdir: Path, prepared: Prepared) -> None:
    paint(workdir / "pets/cat/1.png")
    said = prepared("pets", "--out", "set", "--size", 16, "--labels", "folders")
    assert "labels: folders" in said and named(said).spec.classes == ("cat",)


def test_classes_called_train_and_test_stay_classes(workdir: Path, prepared: Prepared) -> None:
    paint(workdir / "pets/train/1.png", seed=1)
    paint(workdir / "pets/test/1.png", seed=2)
    said = prepared("pets", "--out", "set", "--size", 16, "--labels", "folders")
    assert named(said).spec.classes == ("test", "train")


def test_without_labels_the_pictures_lie_flat(pets: Path, prepared: Prepared) -> None:
    data = named(prepared(pets, "--out", "set", "--size", 32, "--labels", "none"))
    assert data.spec.classes == () and (Path("set") / "images/000000.png").exists()
    assert by_source(Path("set"))["2.png"]["left_out"] == "duplicate"  # no classes, no conflict


def test_sources_are_no_classes_and_it_says_so(workdir: Path, prepared: Prepared) -> None:
    paint(workdir / "pets/cat/1.png", seed=1)
    paint(workdir / "pets/dog/1.png", seed=2)
    said = prepared("pets/cat", "pets/dog", "--out", "set", "--size", 16)
    assert "to make each source a class" in said and named(said).spec.classes == ()
    said = prepared("pets", "--out", "set2", "--size", 16)
    assert "to make" not in said and named(said).spec.classes == ("cat", "dog")


def test_grey_and_background(workdir: Path, prepared: Prepared) -> None:
    Image.new("RGBA", (20, 20), (255, 0, 0, 0)).save(workdir / "clear.png")
    (workdir / "in").mkdir()
    shutil.move(workdir / "clear.png", workdir / "in")
    said = prepared("in", "--out", "grey", "--size", 16, "--channels", 1, "--background", "black")
    data = named(said)
    assert data.spec.shape == (1, 16, 16) and not data[0].image.any() and ", grey, " in said
    with Image.open("grey/images/000000.png") as picture:
        assert picture.mode == "L"
    assert named(prepared("in", "--out", "white", "--size", 16))[0].image.min() == 255


def test_min_side(workdir: Path, prepared: Prepared) -> None:
    for side in (1, 15, 16, 31, 32):
        paint(workdir / f"in/{side}.png", side, 40, seed=side)

    def kept(*words: object) -> list[str]:
        prepared("in", "--out", "set", "--size", 31, "--fresh", *words)
        return [name for name, line in by_source(Path("set")).items() if "file" in line]

    assert kept() == ["16.png", "31.png", "32.png"]  # half of 31, rounded up
    assert kept("--min-side", 1) == ["1.png", "15.png", "16.png", "31.png", "32.png"]
    assert kept("--min-side", 32) == ["32.png"]


def test_classes_of_which_nothing_is_left_are_told(workdir: Path, prepared: Prepared) -> None:
    paint(workdir / "in/cat/1.png", 40, 40, seed=1)
    paint(workdir / "in/dog/1.png", 9, 9, seed=2)
    paint(workdir / "in/ant/1.png", 9, 9, seed=3)
    assert "no picture is left of 2 classes: ant, dog" in prepared("in", "--out", "set", "--size", 32)
    assert "no picture is left" not in prepared("in", "--out", "all", "--size", 32, "--min-side", 1)


def test_pictures_are_the_same_by_pixels_alone(workdir: Path, prepared: Prepared) -> None:
    """Another size or one other pixel makes another picture, another format or turn does not."""
    first = paint(workdir / "in/0.png", 30, 20, seed=1)
    Image.open(first).save(workdir / "in/1.tiff")
    turned(first, workdir / "in/2.png")
    Image.open(first).convert("RGBA").save(workdir / "in/3.png")
    pixels = np.array(Image.open(first))
    pixels[-1, -1, -1] ^= 1
    Image.fromarray(pixels).save(workdir / "in/4.png")
    Image.fromarray(pixels.reshape(30, 20, 3)).save(workdir / "in/5.png")
    prepared("in", "--out", "set", "--size", 8)
    assert [name for name, line in by_source(Path("set")).items() if "file" in line] == ["0.png", "4.png", "5.png"]


def test_the_number_of_workers_changes_nothing(pets: Path, prepared: Prepared) -> None:
    for workers in (1, 2, 7):
        prepared(pets, "--out", f"set{workers}", "--size", 32, "--workers", workers)
    assert tree(Path("set1")) == tree(Path("set2")) == tree(Path("set7"))


def test_many_pictures_keep_their_order_with_many_workers(workdir: Path, prepared: Prepared) -> None:
    for k in range(200):
        paint(workdir / f"in/{k}.png", 8, 8 + k % 7, seed=k)
    for workers in (1, 3):
        prepared("in", "--out", f"set{workers}", "--size", 8, "--workers", workers)
    lines = manifest(Path("set1"))[1]
    assert [line["source"] for line in lines] == [str(workdir / f"in/{k}.png") for k in range(200)]
    assert tree(Path("set1")) == tree(Path("set3"))


def test_a_duplicate_names_the_first_one(workdir: Path, prepared: Prepared) -> None:
    for k in range(4):
        paint(workdir / f"in/{k}.png", 8 + 40 * (k > 0), 50, seed=k)  # the first is left out
    shutil.copy(workdir / "in/2.png", workdir / "in/9.png")
    prepared("in", "--out", "set", "--size", 32)
    assert by_source(Path("set"))["9.png"]["reason"] == f"has the same pixels as {workdir / 'in/2.png'}"


def test_nothing_but_pixels_is_kept(workdir: Path, prepared: Prepared) -> None:
    made = Image.new("P", (16, 16), 3)
    made.putpalette(range(30))
    Path("in").mkdir()
    made.save("in/0.png", icc_profile=b"profile" * 9, transparency=3, dpi=(300, 300))
    exif = Image.Exif()
    exif[0x010E] = "where it was taken"
    paint(workdir / "in/1.jpg", exif=exif, icc_profile=b"profile" * 9, comment="mine")
    prepared("in", "--out", "set", "--size", 16)
    for number in range(2):
        with Image.open(f"set/images/{number:06d}.png") as picture:
            assert picture.info == {} and picture.mode == "RGB"
    assert b"profile" not in (Path("set") / "images/000001.png").read_bytes()


def test_samples_are_from_all_of_a_class() -> None:
    assert spread(range(100), 5) == [0, 24, 49, 74, 99] and spread("abc", 5) == ["a", "b", "c"]


def test_samples_show_each_class(pets: Path, prepared: Prepared) -> None:
    prepared(pets, "--out", "set", "--size", 64, "--min-side", 1)
    with Image.open("set/samples.png") as picture:
        pixels = np.array(picture)
    assert pixels.shape[0] == 2 * 68 + 4 and pixels.shape[1] > 5 * 68
    with Image.open("set/images/cat/000000.png") as first:
        assert (np.array(first) == pixels[4:68, -5 * 68 : -5 * 68 + 64]).all()


def test_real_flowers_have_one_duplicate(workdir: Path, prepared: Prepared) -> None:
    flat = Path(real_data("flowers12_224_flat")) / "flowers12_224_flat/train"
    said = prepared(flat, "--out", "set", "--size", 64)
    twin = by_source(Path("set"))["image_0469.jpg"]
    assert twin["reason"] == f"has the same pixels as {flat / 'image_0422.jpg'}"
    assert "left out 1" in said and len(named(said).spec.classes) == 12


def test_names_that_are_no_utf8(workdir: Path, prepared: Prepared) -> None:
    paint(workdir / "in/a.png", seed=1)
    (workdir / "in/a.png").rename(workdir / "in" / "caf\udce9.png")
    paint(workdir / "in/日本.png", seed=2)
    prepared("in", "--out", "set", "--size", 16)
    assert any("日本.png" in line["source"] for line in manifest(Path("set"))[1])
    assert "日本" in (Path("set") / "manifest.jsonl").read_text(encoding="utf-8")


# mistakes


MISTAKES: list[tuple[list[Any], str]] = [
    (["gone"], "gone is not there"),
    (["notes.txt"], "notes.txt"),
    (["zoo", "zoo"], "given twice"),
    (["zoo", "./zoo/"], "given twice"),
    (["zoo", "--out", "zoo/made"], "lies in the source"),
    (["zoo/cat", "--out", "zoo"], "the source 'zoo/cat' lies in --out 'zoo'"),
    (["zoo", "--out", "zoo"], "--out 'zoo' is the source itself"),
    (["zoo", "--out", "notes.txt"], "is a file"),
    (["zoo", "--out", "notes.txt/set"], "cannot be made"),
    (["zoo", "--out", "full"], "holds something else already (mine.txt)"),
    (["zoo", "--out", "full", "--fresh"], "holds something else already (mine.txt)"),
    (["empty"], "empty is empty"),
    (["zoo", "flat"], "--labels none"),
    (["zoo", "--labels", "gone.json"], "gone.json"),
    (["zoo", "--min-side", 1000], "none of 14 pictures could be used"),
    (["slash", "--labels", "labels.json"], "the class 'a/b' cannot be a folder's name"),
    (["slash", "--labels", "hidden.json"], "the class '.a' cannot be a folder's name"),
    (["slash", "--labels", "long.json"], "cannot be a folder's name"),
]


@pytest.mark.parametrize(("words", "sentence"), MISTAKES, ids=lambda value: " ".join(map(str, value))[:40])
def test_mistakes_are_told(pets: Path, prepared: Prepared, words: list[Any], sentence: str) -> None:
    Path("notes.txt").write_text("mine")
    Path("full").mkdir()
    Path("full/mine.txt").write_text("mine")
    Path("empty").mkdir()
    paint(Path("flat/1.png"))
    paint(Path("slash/1.png"))
    Path("slash/labels.json").write_text('{"1.png": "a/b"}')
    Path("slash/hidden.json").write_text('{"1.png": ".a"}')
    Path("slash/long.json").write_text(json.dumps({"1.png": "é" * 128}))
    before = tree(Path())
    out = [] if "--out" in words else ["--out", "set"]
    assert sentence in prepared(*words, *out, "--size", 32, code=2)
    after = tree(Path())
    assert all(after[name] == content for name, content in before.items())


def test_a_set_without_a_picture_is_not_in_the_way(pets: Path, prepared: Prepared) -> None:
    assert "none of 14 pictures" in prepared(pets, "--out", "set", "--size", 32, "--min-side", 1000, code=2)
    assert "none of 14 pictures" in prepared(pets, "--out", "set", "--size", 32, "--min-side", 1000, code=2)
    assert "7 of 14 pictures" in prepared(pets, "--out", "set", "--size", 32)
    assert "was made otherwise" in prepared(pets, "--out", "set", "--size", 16, code=2)


@pytest.mark.parametrize("words", [[], ["zoo"], ["zoo", "--out", "x"], ["zoo", "--out", "x", "--size", "0"]])
def test_a_command_that_lacks_something(dmf_command: Command, words: list[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        dmf_command("data", "prepare", *words)
    assert stop.value.code == 2
