"""Where the ranks of a run find each other: torch's key-value store."""

from __future__ import annotations

import os
from datetime import timedelta
from itertools import count

from torch.distributed import PrefixStore, Store, TCPStore  # type: ignore[attr-defined]

from .place import Place

JOINS = count()  # of this process, as many as of every other
KEPT: list[Store] = []  # rank 0 serves to its end: another may be at the next meeting before it has left this one


def store_of(place: Place, patience_s: float) -> Store:
    """The store that all ranks share.

    torchrun keeps one store for all restarts of its ranks, in which a restarted rank may read the address of a dead
    one and fail, or wait for ever; so may a rank that joins a second time, such as for a second command. So each start,
    and each time in it that the ranks come together, has keys of its own there. On several machines torchrun counts
    restarts apart on each, and there is no number to tell starts apart by: `TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1`
    makes it start a new store each time, as our own launcher does.

    Args:
        place: This process's, among several.
        patience_s: How long to wait for the others.
    """
    assert place.address is not None, "a process alone meets nobody"
    host, port = place.address
    kept = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"  # the launcher has it, not rank 0
    patience = timedelta(seconds=patience_s)
    store = TCPStore(host, port, place.size, place.rank == 0 and not kept, patience, multi_tenant=True)
    KEPT.append(store)
    start = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") if kept and place.machines == 1 else "any"
    return PrefixStore(f"dmf-{start}-{next(JOINS)}", store)
