"""Label files: every form of them, the names of the classes, files without labels and labels without files."""

import json
import random
import shutil
from pathlib import Path
from typing import Any

import pytest
from collections_kit import complaint, files, labelled, names, opened, trouble
from conftest import FULL
from data_kit import real_data
from labels_kit import ABC, complaint_of, flat_fixture, write  # noqa: F401  (fixtures)

from dmf.files.collection import endings
from dmf.files.labels import read_class_names, read_labels
from dmf.registry import UserError

ROUNDS = 30_000 if FULL else 3_000


def packed_folder(folder: Path) -> Path:
    """A zip of it, beside it."""
    return Path(shutil.make_archive(f"{folder}-packed", "zip", folder))


# forms


@pytest.mark.parametrize(
    "value",
    [
        {"a.png": 0, "b.png": 2, "sub/c.png": 1},
        {"labels": [["a.png", 0], ["b.png", 2], ["sub/c.png", 1]]},
        {"version": 1, "labels": [["a.png", 0], ["b.png", 2], ["sub/c.png", 1]]},
        [["a.png", 0], ["b.png", 2], ["sub/c.png", 1]],
        [["./a.png", 0], [".\\b.png", 2], ["sub\\c.png", 1]],
    ],
)
def test_labels_by_number(flat: Path, value: Any) -> None:
    held = opened(write(flat, value))
    assert held.classes == ("0", "1", "2") and [one.label for one in held.entries] == [0, 2, 1]
    assert names(held) == list(ABC) and not held.trouble and not held.others
    write(flat, ["red", "green", "blue"], "classes.json")
    assert labelled(opened(flat)) == {"a.png": "red", "b.png": "blue", "sub/c.png": "green"}
    write(flat, {"2": "blue", "0": "red", "1": "green"}, "classes.json")
    held = opened(flat)
    assert held.classes == ("red", "green", "blue") and [one.label for one in held.entries] == [0, 2, 1]
    assert not held.others, "both files are put to use"


@pytest.mark.parametrize(
    "value",
    [
        {"a.png": "img10", "b.png": "img9", "sub/c.png": "img10"},
        {"labels": [["a.png", "img10"], ["b.png", "img9"], ["sub/c.png", "img10"]]},
        [["a.png", "img10"], ["b.png", "img9"], ["sub/c.png", "img10"]],
    ],
)
def test_labels_by_name_are_in_natural_order_or_that_of_classes_json(flat: Path, value: Any) -> None:
    held = opened(write(flat, value))
    assert held.classes == ("img9", "img10") and [one.label for one in held.entries] == [1, 0, 1]
    write(flat, ["img10", "other", "img9"], "classes.json")
    held = opened(flat)
    assert held.classes == ("img10", "other", "img9") and [one.label for one in held.entries] == [0, 2, 0]


def test_a_number_in_quotes_is_a_name(flat: Path) -> None:
    held = opened(write(flat, {"a.png": "3", "b.png": "12", "sub/c.png": "3"}))
    assert held.classes == ("3", "12") and [one.label for one in held.entries] == [0, 1, 0]


def test_a_file_that_is_called_labels(tmp_path: Path) -> None:
    files(tmp_path, "a.png")
    held = opened(write(tmp_path, {"labels": "cat", "a.png": "dog"}))
    assert labelled(held) == {"a.png": "dog"} and list(trouble(held)) == ["labels"]


def test_labels_that_are_null_are_none(flat: Path) -> None:
    held = opened(write(flat, {"labels": None}))
    assert held.classes == () and labelled(held) == dict.fromkeys(ABC) and not held.trouble and not held.others


def test_which_file_is_read(flat: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    for name, word in [("dataset.json", "auto"), ("labels.json", "named"), ("sub/labels.json", "below")]:
        write(flat, dict.fromkeys(ABC, word), name)
    outside = write(tmp_path_factory.mktemp("outside"), dict.fromkeys(ABC, "outside"), "labels.json")
    said = {
        "auto": "auto",
        "labels.json": "named",
        "sub/labels.json": "below",
        str(flat / "labels.json"): "named",
        str(outside / "labels.json"): "outside",
    }
    for labels, word in said.items():
        assert opened(flat, labels).classes == (word,)
    for labels in ("labels.json", str(flat / "labels.json")):
        assert endings(opened(flat, labels).others) == {".json": 2}, "the other two are left out"
    assert opened(flat, "none").classes == () and endings(opened(flat, "none").others) == {".json": 3}
    assert "no folder of a class" in complaint(flat, "folders")
    write(outside, ["outside", "more"], "classes.json")
    assert opened(flat, str(outside / "labels.json")).classes == ("outside", "more")


def test_a_label_file_decides_over_folders(tmp_path: Path) -> None:
    files(tmp_path, "cat/1.png", "dog/2.png")
    write(tmp_path, {"cat/1.png": "x", "dog/2.png": "y"})
    assert opened(tmp_path).classes == ("x", "y") and opened(tmp_path, "folders").classes == ("cat", "dog")


def test_a_label_file_that_is_not_there(flat: Path) -> None:
    assert f"no file {flat}/labels.json; write auto, folders, none or the path" in complaint(flat, "labels.json")
    assert "no file /none/labels.json" in complaint(flat, "/none/labels.json")
    assert "no file" in complaint(flat, str(flat / "none.json")) and "no file" in complaint(flat, str(flat.parent))
    assert "no file" in complaint(flat, "~nobody-of-that-name/labels.json")
    assert "sub is a folder; give" in complaint(flat, "sub") and "is a folder; give" in complaint(flat, "")


def test_names_of_all_scripts(tmp_path: Path) -> None:
    files(tmp_path, "é/猫 1.png", "b.png")
    held = opened(write(tmp_path, '\ufeff{"é/猫 1.png": "кот", "b.png": "\\u732b"}'))
    assert labelled(held) == {"é/猫 1.png": "кот", "b.png": "猫"}


def test_a_name_with_a_backslash_of_its_own(tmp_path: Path) -> None:
    files(tmp_path, "a\\b.png")
    assert labelled(opened(write(tmp_path, {"a\\b.png": "x"}))) == {"a\\b.png": "x"}


# files without labels, labels without files


def test_labels_for_missing_files_are_trouble(flat: Path) -> None:
    held = opened(write(flat, {**dict.fromkeys(ABC, 0), "gone.png": 1, "sub/gone10.png": 0, "sub/gone9.png": 0}))
    assert names(held) == list(ABC) and list(trouble(held)) == ["gone.png", "sub/gone9.png", "sub/gone10.png"]
    assert (
        trouble(held)["gone.png"]
        == "is in dataset.json, but there is no such picture; put it there, or take it off the list"
    )
    assert held.classes == ("0", "1"), "classes are of the file"


def test_files_without_labels_are_trouble(flat: Path) -> None:
    held = opened(write(flat, {"b.png": "x", "a.png": None}))
    assert names(held) == ["b.png"] and held.read(held.entries[0]) == b"b.png"
    assert trouble(held) == dict.fromkeys(
        ["a.png", "sub/c.png"], "has no label in dataset.json; give it one, or take it away"
    )


def test_what_is_in_trouble_already_is_told_once(flat: Path) -> None:
    (flat / "a.png").write_bytes(b"")
    (flat / "gone.png").symlink_to("/nowhere")
    held = opened(write(flat, dict.fromkeys([*ABC, "gone.png"], 0)))
    assert list(trouble(held)) == ["a.png", "gone.png"] and "empty" in trouble(held)["a.png"]


def test_labels_for_other_files_altogether(flat: Path) -> None:
    text = complaint_of(flat, {"x/a.png": 0, "x/b.png": 1})
    assert "for none of the 3 pictures (a.png, b.png, sub/c.png), but for x/a.png, x/b.png" in text and "root" in text
    for nothing in ({}, [], {"labels": []}):
        assert 'names no file; write it as {"a.png": 0' in complaint_of(flat, nothing)
    assert "for none of the 3 pictures" in complaint_of(flat, {"a.png": None})


@pytest.mark.parametrize("value", [dict.fromkeys(ABC, 0), {"labels": [["./b.png", "cat"]]}, [["a.png", 3]]])
def test_labels_that_would_be_passed_over_are_asked_about(flat: Path, tmp_path: Path, value: Any) -> None:
    text = complaint(write(flat, value, "tags.json"))
    assert f"{flat}/tags.json could be the labels of the pictures; write labels: tags.json to train" in text
    assert opened(flat, "none").classes == () and "could be" in complaint(packed_folder(flat))
    for other in ({"a.png": {"width": 3}}, {"elsewhere.png": 0}, [1, 2], {"a.png": None}, "{", ""):
        assert opened(write(flat, other, "tags.json")).classes == ()
    files(flat / "more", "d.png")
    (flat / "a.png").unlink()
    (flat / "b.png").unlink()
    assert opened(write(flat, {"more/d.png": 0}, "tags.json")).classes == ("more", "sub"), "the folders say it"


# real and random ones


def test_real_flowers_by_name_and_by_number() -> None:
    root = Path(real_data("flowers12_224_flat"), "flowers12_224_flat")
    by_name, by_number = opened(root / "train", "labels.json"), opened(root / "train")
    assert len(by_name.entries) == 720 and len(by_name.classes) == 12 and not by_name.trouble
    assert [one.label for one in by_name.entries] == [one.label for one in by_number.entries]
    assert by_name.classes == tuple(json.loads((root / "classes.json").read_text()))


PIECES = [
    "null", "true", "-1", "0", "1", "2", "1.5", "1e999", "NaN", '"3"', '""', "[]", "{}", "[[", "]]", "{", "}", ",", ":",
    '"labels"', '"labels": [', '"labels": null', '"a.png"', '"../a.png"', '"/a.png"', '"c:\\\\a.png"', '"\\ud800"',
    '"\\u0000"', '"', "\\", "\0", "\ud800", "é", "💥", "9" * 400, "9" * 5000, "[" * 2000,
    '["a.png", 0]', '{"a.png": 0}', "\n", "\ufeff",
]  # fmt: skip
TEXTS = [
    '{"a.png": 0, "b.png": 1, "sub/c.png": 2, "x.png": 1}',
    '{"a.png": "cat", "b.png": "dog", "sub/c.png": "bird"}',
    '{"labels": [["a.png", 0], ["b.png", 1], ["sub/c.png", 2]], "more": [1, {"x": null}]}',
    '[["a.png", "cat"], ["b.png", "dog"], ["sub/c.png", "cat"]]',
    '["cat", "dog", "bird"]',
    '{"0": "cat", "1": "dog", "2": "bird"}',
]


def mangled(text: str, rng: random.Random) -> bytes:
    """With one to three pieces deleted, doubled or replaced."""
    for _ in range(rng.randint(1, 3)):
        a, b = sorted(rng.choices(range(len(text) + 1), k=2))
        b = min(b, a + rng.choice([0, 0, 1, 3, 10]))
        if rng.random() < 0.6:  # a whole value
            ends = [i for i, c in enumerate(text) if c in ",:[]{}"]
            a = rng.choice(ends or [0]) + 1
            b = min((end for end in ends if end >= a), default=len(text))
        piece = rng.choice(["", text[a:b] * 2, rng.choice(PIECES), rng.choice(PIECES), chr(rng.randrange(1, 0x250))])
        text = text[:a] + piece + text[b:]
    content = text.encode("utf-8", "surrogatepass")
    return content if rng.random() < 0.97 else content + rng.randbytes(3)


def test_any_text_gives_labels_or_a_user_error(flat: Path) -> None:
    rng, seen = random.Random(0), {"refused": 0, "read": 0}
    for _ in range(ROUNDS):
        label_text, names_text = mangled(rng.choice(TEXTS[:4]), rng), mangled(rng.choice(TEXTS[4:]), rng)
        (flat / "dataset.json").write_bytes(label_text)
        with_names = rng.random() < 0.3
        if with_names:
            (flat / "classes.json").write_bytes(names_text if rng.random() < 0.5 else TEXTS[4].encode())
        else:
            (flat / "classes.json").unlink(missing_ok=True)
        try:
            held = opened(flat)
        except UserError as error:
            assert str(flat) in str(error) and len(str(error)) < 4000
            str(error).encode()  # it can be shown
            seen["refused"] += 1
            continue
        except Exception as error:
            pytest.fail(f"{type(error).__name__}: {error} for {label_text[:2000]!r} with {names_text[:2000]!r}")
        assert held.entries and all(one.label is None or one.label < len(held.classes) for one in held.entries)
        assert len({one.name for one in held.entries} | set(trouble(held))) >= len(ABC), "nothing is lost"
        json.dumps([held.classes, [one.name for one in held.trouble]], ensure_ascii=False).encode()
        seen["read"] += 1
    assert min(seen.values()) > ROUNDS // 50, f"the damage tests only one side: {seen}"


def test_the_two_readers_alone() -> None:
    told = read_labels(b'{"a": "x", "b": "y"}', "it", ("y", "x"))
    assert told is not None and told.classes == ("y", "x") and told.number == {"a": 1, "b": 0}
    assert read_labels(b'{"labels": null}', "it", None) is None
    assert read_class_names(b'{"1": "b", "0": "a"}', "it") == ("a", "b")
