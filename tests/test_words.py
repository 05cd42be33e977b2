"""Names and numbers as messages have them."""

import pytest

from dmf.files.words import LONG_NAME, a_line_each, brief, counted, few, short


def test_a_long_text_is_cut_to_the_room_there_is() -> None:
    assert short("petals", 6) == "petals"
    assert short("petals!", 6) == "petal…"
    assert brief("a" * LONG_NAME) == "a" * LONG_NAME
    assert brief("a" * LONG_NAME + "z") == f"{'a' * 128} ... {'a' * 63}z"


def test_of_many_the_first_are_named() -> None:
    assert few(["a", "b", "c", "d"]) == "a, b, c, d"
    assert few(["a\n", "b", "c", "d", "e"]) == r"a\n, b, c, d, ..."
    assert a_line_each([str(k) for k in range(10)]).endswith("\n  9")
    assert a_line_each([str(k) for k in range(12)]).endswith("\n  9\n  and 2 more")


@pytest.mark.parametrize(("number", "said"), [(0, "0 classes"), (1, "1 class"), (2, "2 classes")])
def test_a_number_has_its_noun(number: int, said: str) -> None:
    assert counted(number, "class", "classes") == said
    assert counted(2, "file") == "2 files"
