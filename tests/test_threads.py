"""Work on many things with threads: in order, a bounded way ahead, and stopped when somebody stops."""

import time

import pytest

from dmf.files.threads import AHEAD, in_order, on_all_cores


def late(k: int) -> int:
    time.sleep(0.002 * (k % 3 == 0))  # some take longer than those after them
    return k * k


@pytest.mark.parametrize("count", [0, 1, 7, 300])
def test_results_are_in_the_order_of_the_things(count: int) -> None:
    assert [one for some in in_order(late, range(count), 4, 3) for one in some] == [k * k for k in range(count)]
    assert list(on_all_cores(late, range(count), "work")) == [k * k for k in range(count)]


def test_what_nobody_waits_for_is_not_worked_on() -> None:
    begun: list[int] = []
    many = in_order(begun.append, range(1000), workers=2, together=5)
    next(many)
    time.sleep(0.05)
    assert 5 <= len(begun) <= 5 * (2 * AHEAD + 1), "no more than some are made ahead, so that results do not pile up"
    many.close()  # type: ignore[attr-defined]
    stopped = len(begun)
    time.sleep(0.05)
    assert len(begun) == stopped


def test_an_error_comes_out_and_the_rest_is_left() -> None:
    begun: list[int] = []

    def work(k: int) -> None:
        begun.append(k)
        if k == 3:
            raise ValueError("the third")

    with pytest.raises(ValueError, match="the third"):
        list(on_all_cores(work, range(100_000), "work"))
    assert len(begun) < 100_000
