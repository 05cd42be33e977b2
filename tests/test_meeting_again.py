"""Ranks that come together a second time do not read what they told each other the first time."""

import gc
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from fork_kit import free_port
from torch.distributed import TCPStore  # type: ignore[attr-defined]

from dmf.runner.launching import Place
from dmf.runner.launching.store import store_of


@pytest.mark.parametrize("machines", [1, 2])
def test_each_meeting_has_keys_of_its_own(monkeypatch: pytest.MonkeyPatch, machines: int) -> None:
    """In the store of torchrun, which outlives all meetings: what is there is of the dead."""
    port = free_port()
    kept = TCPStore("127.0.0.1", port, is_master=True, wait_for_workers=False, timeout=timedelta(seconds=20))
    monkeypatch.setenv("TORCHELASTIC_USE_AGENT_STORE", "True")
    place = Place(1, 2, machines=machines, address=("127.0.0.1", port), launcher="torchrun")
    first = store_of(place, 20)
    first.set("rank 1 is at", "127.0.0.1:4242")
    again = store_of(place, 20)
    assert first.check(["rank 1 is at"]) and not again.check(["rank 1 is at"])
    assert kept.num_keys() > 0


def test_who_comes_before_rank_0_has_left_the_last_meeting_is_served() -> None:
    """Both meet; then rank 1 begins the next meeting, and only then does rank 0 let go of the first."""
    port = free_port()
    ranks = [Place(rank, 2, address=("127.0.0.1", port), launcher="torchrun") for rank in (0, 1)]
    with ThreadPoolExecutor(2) as pool:
        first, other = pool.map(lambda place: store_of(place, 20), ranks)
        early = store_of(ranks[1], 20)
        del first, other
        gc.collect()
        early.set("here", "rank 1")
        assert early.get("here") == b"rank 1"
