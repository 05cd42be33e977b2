"""YAML 1.2 as people expect it, with a place for everything and one short line for each mistake."""

import math
from pathlib import Path
from typing import Any

import pytest
import yaml

from dmf.registry import RecipeError, yaml12
from dmf.registry.yaml12 import dump, load, parse_value, read_text


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 1e-4),
        ("1E5", 1e5),
        (".5", 0.5),
        ("5.", 5.0),
        ("-1.5e+3", -1500.0),
        ("+3", 3),
        ("010", 10),
        ("0o10", 8),
        ("0x1F", 31),
        ("-0", 0),
        (".inf", math.inf),
        ("-.INF", -math.inf),
        ("no", "no"),
        ("on", "on"),
        ("NO", "NO"),
        ("y", "y"),
        ("12:30", "12:30"),
        ("2024-01-01", "2024-01-01"),
        ("1_000", "1_000"),
        ("0b1", "0b1"),
        ("true", True),
        ("False", False),
        ("TRUE", True),
        ("tRUE", "tRUE"),
        ("null", None),
        ("~", None),
        ("", None),
        ("none", "none"),
        ("inf", "inf"),
        ("nan", "nan"),
        ("e5", "e5"),
        ("1e", "1e"),
        ("'1'", "1"),
        ('"no"', "no"),
        ("[1, a]", [1, "a"]),
        ("{a: [1e3]}", {"a": [1000.0]}),
        ("=", "="),
        ("0o8", "0o8"),
        ("-", [None]),
        ("| \n 1", "1"),
    ],
)
def test_the_core_schema(text: str, value: Any) -> None:
    found = parse_value(text)
    assert found == value and type(found) is type(value)


def test_nan_is_a_number() -> None:
    assert math.isnan(parse_value(".NaN"))


def test_every_key_and_item_has_its_place() -> None:
    found = load("a: 1\nb:\n  - x\n  - {c: 2, d: [3, 4]}\n", "f.yaml")
    assert found.value == {"a": 1, "b": ["x", {"c": 2, "d": [3, 4]}]}
    assert {path: str(mark) for path, mark in found.marks.items()} == {
        (): "f.yaml:1:1",
        ("a",): "f.yaml:1:1",
        ("b",): "f.yaml:2:1",
        ("b", 0): "f.yaml:3:5",
        ("b", 1): "f.yaml:4:5",
        ("b", 1, "c"): "f.yaml:4:6",
        ("b", 1, "d"): "f.yaml:4:12",
        ("b", 1, "d", 0): "f.yaml:4:16",
        ("b", 1, "d", 1): "f.yaml:4:19",
    }


def test_an_alias_is_where_it_is_used() -> None:
    assert str(load("a: &x {y: 1}\nb: *x\n", "f").marks["b",]) == "f:2:1"


def test_columns_count_letters_not_bytes() -> None:
    assert str(load("{é💥: 1, b: 2}", "f").marks["b",]) == "f:1:9"


def test_anchors_aliases_and_merges() -> None:
    text = "a: &a {x: 1, y: 2}\nb: {<<: *a, y: 3}\nc: *a\nd: {<<: [{x: 9}, *a], z: 0}\ne: {'<<': 1}\n"
    assert load(text, "f").value == {
        "a": {"x": 1, "y": 2},
        "b": {"x": 1, "y": 3},
        "c": {"x": 1, "y": 2},
        "d": {"x": 9, "y": 2, "z": 0},
        "e": {"<<": 1},
    }


LAUGHS = "a: &a [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n" + "".join(
    f"{c}: &{c} [{', '.join([f'*{chr(ord(c) - 1)}'] * 10)}]\n" for c in "bcdefghi"
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3\n", "f:3:1: repeated key 'a', first at line 1"),
        ("{a: 1, 'a': 2}", "f:1:8: repeated key 'a', first at line 1"),
        (
            "x:\n  a: 1\n  a: 2\ny:\n  b: 1\n  b: 2",
            "f:3:3: repeated key 'a', first at line 2\nf:6:3: repeated key 'b', first at line 5",
        ),
        ("1: a", "f:1:1: the key is a number, expected a text; put quotes round it if it is one"),
        ("true: a", "f:1:1: the key is true or false, expected a text; put quotes round it if it is one"),
        ("? [a]\n: b", "f:1:3: the key is a list, expected a text; put quotes round it if it is one"),
        ("? \n: b", "f:1:2: the key is empty, expected a text; put quotes round it if it is one"),
        (
            "a: !!python/object/apply:os.system [ls]",
            "f:1:4: the tag 'tag:yaml.org,2002:python/object/apply:os.system' is not for recipes; "
            "write the value without it",
        ),
        ("a: !x 1", "f:1:4: the tag '!x' is not for recipes; write the value without it"),
        ("a: *b", "f:1:4: *b stands for nothing that is complete above it"),
        ("a: &b [*b]", "f:1:8: *b stands for nothing that is complete above it"),
        ("<<: 3", "f:1:1: << merges a mapping or a list of mappings"),
        ("a: 1\n---\nb: 2", "f:2:1: a second document begins, expected one recipe a file"),
        (
            "a: [1, 2",
            "f:2:1: broken YAML: did not find expected ',' or ']', while parsing a flow sequence that begins at line 1",
        ),
        (
            "a:\n\tb: 2",
            "f:2:1: broken YAML: found character that cannot start any token (indent with spaces, not tabs)",
        ),
        ("a: @b", "f:1:4: broken YAML: found character that cannot start any token ('@')"),
        ("a: b: c", "f:1:5: broken YAML: mapping values are not allowed in this context"),
        ("a: \x07", "f:1:4: broken YAML: the character \\x07 does not belong in a text"),
        ("a: \ud800", "f:1:4: broken YAML: the character \\ud800 does not belong in a text"),
        ("[" * 10_000, "f:1:66: nested more than 64 levels deep"),
        (
            "a0: &a0 [1]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}]\n" for i in range(1, 200)),
            "f:64:12: nested more than 64 levels deep",
        ),
        (LAUGHS, "f:5:36: more than 100000 values, expected a recipe"),
        ("a: " + "9" * 5000, "f:1:4: a number of 5000 digits is too long"),
    ],
)
def test_each_mistake_has_one_line_with_its_place(text: str, message: str) -> None:
    with pytest.raises(RecipeError) as error:
        load(text, "f")
    assert str(error.value).startswith(message)
    assert len(str(error.value).splitlines()) == len(message.splitlines())


def test_the_parser_in_python_does_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(yaml12, "_Loader", yaml.Loader)
    assert load("a: &x {b: 010}\nc: *x", "f").value == {"a": {"b": 10}, "c": {"b": 10}}
    for text in ("a: [1, 2", "a: b: c", "a: 1\n\tb: 2", "a: 'x", "%YAML 3.0\n---\na"):
        with pytest.raises(RecipeError, match=r"^f:\d+:\d+: broken YAML: .+"):
            load(text, "f")


@pytest.mark.parametrize(
    "value",
    [
        "no",
        "1e-4",
        "1e5",
        "010",
        "0o10",
        "12:30",
        "2024-01-01",
        "null",
        "~",
        "",
        " a",
        "a: b",
        "# c",
        "1_000",
        ".5",
        "=",
        "<<",
        "*a",
        "&a",
        "!x",
        "-",
        "é",
        "a\nb",
        "0x1f",
        ".inf",
        "true",
        "[",
        "5.",
        "+.5e3",
        "\u2028",
        "a" * 300,
        "'",
    ],
)
def test_what_is_dumped_reads_back(value: str) -> None:
    assert load(dump({"a": value, "b": [value]}), "f").value == {"a": value, "b": [value]}


@pytest.mark.parametrize("value", [1e-4, 1e-5, 1e300, 5e-324, 0.1 + 0.2, 1.0, -0.0, 10**30, True, None, [], {}])
def test_numbers_read_back_bit_for_bit(value: Any) -> None:
    found = load(dump({"a": value}), "f").value["a"]
    assert repr(found) == repr(value)


def test_files_that_are_no_text(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    cases = [
        (b"name: caf\xe9\n", f"{path}:1: byte 0xe9 is not UTF-8"),
        (b"a: 1\n\x93\xfa", f"{path}:2: byte 0x93"),
        (b"a" * (1 << 20) + b"b", f"{path}: is larger than 1 MiB"),
    ]
    for content, message in cases:
        path.write_bytes(content)
        with pytest.raises(RecipeError) as error:
            read_text(path)
        assert str(error.value).startswith(message)
    path.write_bytes(b"\xef\xbb\xbfa: 1")
    assert read_text(path) == "a: 1"
    with pytest.raises(RecipeError, match="cannot be read: is a directory"):
        read_text(tmp_path)
    with pytest.raises(RecipeError, match="cannot be read: no such file or directory"):
        read_text(tmp_path / "gone")
