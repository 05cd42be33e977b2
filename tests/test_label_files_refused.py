"""What is wrong in a label file, in words: labels that are none, files that are refused as a whole."""

import os
from pathlib import Path
from typing import Any

import pytest
from collections_kit import complaint, opened
from labels_kit import ABC, complaint_of, flat_fixture, write  # noqa: F401  (fixtures)

# labels that are none


@pytest.mark.parametrize(
    ("label", "why"),
    [
        (-1, "-1, which is negative; numbers start at 0"),
        (1.5, "1.5, which is no whole number and no name"),
        (1.0, "1.0, which is no whole number"),
        (True, "true, which is no whole number"),
        (float("nan"), "NaN, which is no whole number"),
        ([0, 1], "[0, 1], which is no whole number and no name; of several, as of one-hot labels, write the one that"),
        ({"x": 1}, "an object of 1, which is no whole number"),
        ("", "which is empty; name the class"),
    ],
)
def test_a_label_that_is_none(flat: Path, label: Any, why: str) -> None:
    for value in ({"a.png": 0, "b.png": label}, {"labels": [["a.png", 0], ["b.png", label]]}):
        text = complaint_of(flat, value)
        assert "has 1 entry that cannot be used:" in text and "'b.png' has the label" in text and why in text


def test_labels_that_are_an_object_are_told(flat: Path) -> None:
    text = complaint_of(flat, {"labels": {"a.png": 0}})
    assert "holds an object as 'labels', which is to be a list" in text and '{"labels": [["a.png", 0]' in text


def test_an_empty_file_is_told_with_its_forms(flat: Path) -> None:
    assert 'labels.json is empty; write it as {"a.png": 0' in complaint(write(flat, "", "labels.json"), "labels.json")


def test_all_that_is_wrong_is_told_at_once(flat: Path) -> None:
    text = complaint_of(flat, {f"{i}.png": -1 - i for i in range(12)})
    assert "has 12 entries that cannot be used:\n  '0.png' has the label -1" in text and text.endswith("and 2 more")


def test_numbers_and_names_together_are_refused(flat: Path) -> None:
    text = complaint_of(flat, {"a.png": 0, "b.png": "cat"})
    assert "both numbers (0) and names (cat) as labels; write either" in text


def test_numbers_with_gaps_want_names(flat: Path) -> None:
    text = complaint_of(flat, {"a.png": 1, "b.png": 2, "sub/c.png": 7})
    assert "has 3 labels up to 7, and no image of 0, 3, 4, 5, ...; number" in text and "classes.json beside it" in text
    assert "and no image of 0; number" in complaint_of(flat, {"a.png": 1, "b.png": 2, "sub/c.png": 1}), "from 1 on"
    assert "no image of 1, 2, 3, ..." in complaint_of(flat, {"a.png": 10**30, "b.png": 0}).replace("4, ...", "...")


def test_a_class_without_an_image_may_be_named(flat: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(flat, [f"kind{i}" for i in range(8)], "classes.json")
    held = opened(write(flat, {"a.png": 1, "b.png": 2, "sub/c.png": 7}))
    assert [one.label for one in held.entries] == [1, 2, 7] and len(held.classes) == 8
    assert f"{flat} has no picture of kind0, kind3, kind4, kind5, ..." in caplog.text


def test_labels_beyond_the_classes(flat: Path) -> None:
    write(flat, ["cat", "dog"], "classes.json")
    text = complaint_of(flat, {"a.png": 0, "b.png": 2, "sub/c.png": 1})
    assert "has labels up to 2, but classes.json beside it names 2 classes, 0 to 1; name them all there" in text
    text = complaint_of(flat, dict(zip(ABC, ["cat", "bird", "dog"], strict=True)))
    assert "labels that classes.json beside it does not name: bird; add them there" in text


# files that are refused as a whole


@pytest.mark.parametrize(
    "name", ["../a.png", "sub/../../a.png", "/etc/a.png", "..\\a.png", "C:\\a.png", "sub/../a.png"]
)
@pytest.mark.parametrize("form", ["object", "list"])
def test_paths_that_lead_out(flat: Path, name: str, form: str) -> None:
    value = {**dict.fromkeys(ABC, 0), name: 0}
    text = complaint_of(flat, value if form == "object" else [list(pair) for pair in value.items()])
    assert f"{name!r} leads out of the set; write it as a path below the root" in text


@pytest.mark.parametrize(
    "text", ['{"a.png": 0, "a.png": 1}', '[["a.png", 0], ["./a.png", 0]]', '{"a.png":0,"sub/..":0}']
)
def test_a_repeated_file(flat: Path, text: str) -> None:
    said = complaint_of(flat, text)
    assert "is named twice; leave one of the two" in said or "leads out" in said


@pytest.mark.parametrize(
    ("value", "place"),
    [
        ([["a.png", 0], ["b.png"]], "[1] is a list of 1"),
        ([["a.png", 0, 1]], "[0] is a list of 3"),
        ([[0, "a.png"]], "[0] is a list of 2"),
        ([["a.png", 0], "b.png"], '[1] is "b.png"'),
        ([[["a.png", 0]]], "[0] is a list of 1"),
        ({"labels": [["a.png", 0], None]}, "labels[1] is null"),
        ({"labels": [{"file": "a.png"}]}, "labels[0] is an object of 1"),
        ([0, 1, 2], "[0] is 0"),
    ],
)
def test_a_list_of_something_else(flat: Path, value: Any, place: str) -> None:
    text = complaint_of(flat, value)
    assert f"{place}, not a file with its label, like ['a.png', 0]" in text and "cannot be used" in text


@pytest.mark.parametrize("value", ["3", '"a.png"', "null", "true", "1e999"])
def test_json_of_something_else(flat: Path, value: str) -> None:
    assert 'write {"a.png": 0, ...}' in complaint_of(flat, value)


@pytest.mark.parametrize(
    "text",
    ['{"a.png": 0', "a.png,0", "{'a.png': 0}", "[" * 100_000, '{"a.png": ' + "9" * 5000 + "}", "\0", "[1] [2]", "  "],
)
def test_what_is_no_json(flat: Path, text: str) -> None:
    said = complaint_of(flat, text)
    assert "dataset.json is no JSON (" in said and len(said) < 600


def test_bytes_that_are_no_text(flat: Path) -> None:
    (flat / "dataset.json").write_bytes(b'{"a\xff.png": 0}')
    assert "dataset.json is no text in UTF-8 (byte 0xff at 3); save it anew as UTF-8" in complaint(flat)


def test_a_label_file_that_is_no_file(flat: Path) -> None:
    os.mkfifo(flat / "dataset.json")
    assert "dataset.json is a FIFO, not a file" in complaint(flat)
    (flat / "labels.json").mkdir()
    for folder in ("labels.json", ".", "sub"):
        text = complaint(flat, folder)
        assert "is a folder; give the path of a JSON file with labels" in text and "take it away" not in text


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ([], "got a list of 0"),
        ({}, "got an object of 0"),
        ("cat", "is no JSON"),
        (3, "got 3"),
        (["cat", 1], "got a list of 2"),
        (["cat", ""], "got a list of 2"),
        ([["cat"]], "got a list of 1"),
        (["cat", "dog", "cat"], "names cat twice"),
        ({"0": "cat", "2": "dog"}, "number its 2 classes 0 to 1, each once"),
        ({"1": "cat", "2": "dog"}, "number its 2 classes 0 to 1, each once"),
        ({"cat": 0, "dog": 1}, 'not names with their numbers: ["cat", "dog"] or {"0": "cat", "1": "dog"}'),
        ({"0": "cat", "00": "dog"}, "number its 2 classes 0 to 1, each once"),
        ({"0": "cat", "\u0661": "dog"}, "number its 2 classes 0 to 1, each once"),
        ({"0": ["n01", "cat"]}, "got an object of 1"),
    ],
)
def test_names_of_classes_that_are_none(flat: Path, value: Any, why: str) -> None:
    write(write(flat, dict.fromkeys(ABC, 0)), value, "classes.json")
    text = complaint(flat)
    assert f"{flat}/classes.json" in text and why in text


def test_a_class_name_that_cannot_be_shown_is_escaped(flat: Path) -> None:
    held = opened(write(flat, dict.fromkeys(ABC, "a\x1b\ud800")))
    assert held.classes == (r"a\x1b\ud800",)
    write(flat, ["a\x1b\ud800", "b"], "classes.json")
    assert opened(flat).classes == (r"a\x1b\ud800", "b")
