"""The outbox of the MLflow hook against a store that a test makes good or bad."""

import logging
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from dmf.plugins.hooks import mlflow_queue
from dmf.plugins.hooks.mlflow_queue import Outbox, Refused
from dmf.plugins.hooks.mlflow_spool import Operation, Spool


class Store:
    """Takes operations unless told otherwise."""

    def __init__(self) -> None:
        self.got: list[Operation] = []
        self.calls: list[list[str]] = []
        self.down: set[str] = set()
        self.refused: set[str] = set()
        self.hang = threading.Event()
        self.hang.set()

    def send(self, operations: Sequence[Operation]) -> None:
        self.hang.wait()
        self.calls.append([operation.kind for operation in operations])
        if {operation.kind for operation in operations} & self.down:
            raise ConnectionError("http://me:secret@host refused\nand a long story")
        if any(operation.payload.get("name") in self.refused for operation in operations):
            raise Refused("no such thing")
        self.got += operations

    def steps(self) -> list[int]:
        return [operation.payload["step"] for operation in self.got if "step" in operation.payload]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mlflow_queue, "GATHER_S", 0.01)
    monkeypatch.setattr(mlflow_queue, "BACKOFF_AT_END_S", 0.02)


@pytest.fixture
def store() -> Iterator[Store]:
    store = Store()
    yield store
    store.hang.set()


def outbox(store: Store, folder: Path) -> Outbox:
    box = Outbox(store.send, Spool(folder / "unsent"), "here")
    box.start()
    return box


def until(condition: object) -> None:
    assert callable(condition)
    end = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < end, "it never came true"
        time.sleep(0.005)


def test_everything_arrives_in_order_in_few_requests(store: Store, tmp_path: Path) -> None:
    store.hang.clear()
    box = outbox(store, tmp_path)
    for step in range(1200):
        box.put("points", {"step": step})
        if step == 600:
            box.keep("tags", {"tags": {}})
    store.hang.set()
    assert box.finish(1) is None
    assert store.got[0].kind == "open"
    assert store.steps() == list(range(1200))
    assert len(store.calls) <= 6
    assert ["tags"] in store.calls
    times = [operation.time_ms for operation in store.got]
    assert times == sorted(set(times))


def test_a_store_that_is_down_keeps_nothing_from_arriving_later(store: Store, tmp_path: Path) -> None:
    store.down = {"open"}
    box = outbox(store, tmp_path)
    for step in range(10):
        box.put("points", {"step": step})
        box.keep("file", {"step": step, "path": str(step)})
    until(lambda: len(store.calls) > 2)
    assert not store.got
    store.down = set()
    assert box.finish(5) is None
    assert [o.payload["step"] for o in store.got if o.kind == "points"] == list(range(10))
    assert [o.payload["step"] for o in store.got if o.kind == "file"] == list(range(10))
    assert not (tmp_path / "unsent").exists()


def test_a_store_that_is_down_is_asked_ever_more_rarely(store: Store, tmp_path: Path) -> None:
    store.down = {"open"}
    box = outbox(store, tmp_path)
    time.sleep(0.8)
    assert 2 <= len(store.calls) <= 7
    box.finish(0)


def test_a_broken_file_store_holds_up_no_curve(store: Store, tmp_path: Path) -> None:
    store.down = {"file"}
    box = outbox(store, tmp_path)
    box.keep("file", {"path": "a"})
    until(lambda: ["file"] in store.calls)
    box.put("points", {"step": 1})
    until(lambda: store.steps() == [1])
    box.put("status", {"status": "FINISHED"})
    unsent = box.finish(0.1)
    assert store.got[-1].kind == "status"
    assert unsent is not None and unsent.startswith("1 file (")


def test_what_waits_behind_the_one_in_hand_is_known(store: Store, tmp_path: Path) -> None:
    store.hang.clear()
    box = outbox(store, tmp_path)
    for name in "abc":
        box.keep("file", {"path": name})
    assert box.pending("file") == [{"path": "b"}, {"path": "c"}]
    store.hang.set()
    assert box.finish(1) is None


def test_status_waits_for_files_that_go_well(store: Store, tmp_path: Path) -> None:
    store.hang.clear()
    box = outbox(store, tmp_path)
    box.put("status", {"status": "FINISHED"})
    box.keep("file", {"path": "a"})
    store.hang.set()
    assert box.finish(1) is None
    assert [operation.kind for operation in store.got] == ["open", "file", "status"]


def test_what_is_refused_is_named_and_its_neighbours_arrive(
    store: Store, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store.refused = {"bad"}
    store.hang.clear()
    box = outbox(store, tmp_path)
    for step, name in enumerate(["good", "bad", "good"]):
        box.put("points", {"step": step, "name": name})
    store.hang.set()
    assert box.finish(1) is None
    assert store.steps() == [0, 2]
    assert [r.getMessage() for r in caplog.records] == ["MLflow takes no points: no such thing"]


def test_the_unsent_outlives_the_process(store: Store, tmp_path: Path) -> None:
    store.down = {"open"}
    first = outbox(store, tmp_path)
    first.keep("image", {"name": "a"}, np.arange(12, dtype=np.uint8).reshape(2, 2, 3))
    first.keep("tags", {"tags": {"k": "v"}})
    first.keep("status", {"status": "KILLED"})
    assert first.finish(0.05) is not None
    (tmp_path / "unsent" / "000000000000001.json").write_text("half a li")

    later = Store()
    pixels = {}

    def send(operations: Sequence[Operation]) -> None:
        for operation in operations:
            if operation.kind == "image":
                assert operation.spooled is not None
                pixels[operation.payload["name"]] = np.load(operation.spooled.with_suffix(".npy"))
        later.send(operations)

    second = Outbox(send, Spool(tmp_path / "unsent"), "here")
    second.start()
    second.keep("tags", {"tags": {"k": "w"}})
    assert second.finish(5) is None
    assert [o.payload["tags"]["k"] for o in later.got if o.kind == "tags"] == ["v", "w"]
    assert not [o for o in later.got if o.kind == "status"]
    assert pixels["a"].tolist() == np.arange(12).reshape(2, 2, 3).tolist()
    assert [path.name for path in (tmp_path / "unsent").iterdir()] == ["000000000000001.json"]


def test_the_end_waits_as_long_as_it_should(store: Store, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "dmf")
    store.down = {"points"}
    box = outbox(store, tmp_path)
    box.put("points", {"step": 1})
    box.put("points", {"step": 2})
    until(lambda: ["points", "points"] in store.calls)
    began = time.monotonic()
    unsent = box.finish(0.4)
    assert 0.4 <= time.monotonic() - began < 2
    assert unsent == "2 logged steps (http://***@host refused)"
    warnings = [record.getMessage() for record in caplog.records]
    assert len(warnings) == 1 and "does not answer (http://***@host refused)" in warnings[0]


def test_a_store_that_comes_back_within_patience_gets_everything(store: Store, tmp_path: Path) -> None:
    store.down = {"open"}
    box = outbox(store, tmp_path)
    box.put("points", {"step": 1})
    threading.Timer(0.3, store.down.clear).start()
    assert box.finish(5) is None
    assert store.steps() == [1]


def test_a_slow_store_that_answers_is_given_time(store: Store, tmp_path: Path) -> None:
    store.hang.clear()
    box = outbox(store, tmp_path)
    box.put("points", {"step": 1})
    threading.Timer(0.5, store.hang.set).start()
    assert box.finish(patience_s=0.05) is None
    assert store.steps() == [1]


def test_an_interrupted_end_does_not_wait_for_a_hung_store(store: Store, tmp_path: Path) -> None:
    store.hang.clear()
    box = outbox(store, tmp_path)
    began = time.monotonic()
    assert box.finish(patience_s=30, at_most_s=0.2) is not None
    assert time.monotonic() - began < 1
