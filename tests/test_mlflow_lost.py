"""The MLflow hook where a store forgets, answers get lost, or the process is killed: nothing is lost, nothing twice."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow_kit import FakeRecipe, Look, loss_at, make, quiet
from mlflow_kit import fresh_database_fixture as fresh_database_fixture
from mlflow_kit import look_fixture as look_fixture
from mlflow_kit import no_worker_left_fixture as no_worker_left_fixture

from dmf.plugins.hooks import mlflow_queue


def test_points_that_only_the_history_has_are_sent_at_the_next_start(look: Look) -> None:
    first = make().start()
    first.log(1, 2)
    first.end(KeyboardInterrupt())
    for step in (2, 3, 4):
        first.note(step, {"loss": loss_at(step), "late": 1.0})
    with (first.folder / "history.jsonl").open("a") as file:
        file.write('{"step": 5, "val')  # kill -9 while it was written
    second = make(start_step=4).start()
    second.hook.dmf_logged(5, {"loss": loss_at(5)})
    second.end()
    assert look.points(first.run_id, "loss") == [(step, loss_at(step)) for step in (1, 2, 3, 4, 5)]
    assert [step for step, _ in look.points(first.run_id, "late")] == [2, 3, 4]


def test_a_parameter_that_changed_is_a_tag(look: Look) -> None:
    def train(**train: Any) -> Mapping[str, str]:
        make(recipe=FakeRecipe({"train": train})).start().end()
        (found,) = look.runs()
        assert found.data.params["train.steps"] == "100"
        return {key: value for key, value in found.data.tags.items() if "changed" in key}

    assert train(steps=100) == {}
    assert train(steps=200, new=1) == {"dmf.changed.train.steps": "200"}
    assert train(steps=300, new=2) == {"dmf.changed.train.steps": "300", "dmf.changed.train.new": "2"}
    assert train(steps=100, new=2) == {"dmf.changed.train.new": "2"}


@pytest.mark.parametrize("left", ["", "{", "[]"])
def test_a_note_of_the_run_that_is_damaged_costs_it_nothing(
    look: Look, left: str, caplog: pytest.LogCaptureFixture
) -> None:
    first = make().start()
    first.log(1, 2)
    first.end(KeyboardInterrupt())
    old = first.run_id
    (first.folder / "mlflow.json").write_text(left)
    second = make(start_step=2).start()
    second.log(3)
    second.end()
    assert second.run_id != old
    assert look.points(second.run_id, "loss") == [(step, loss_at(step)) for step in (1, 2, 3)]
    assert any("mlflow.json is damaged: the store gets a new run" in message for message in caplog.messages)


@pytest.mark.parametrize("deleted_by", ["user", "other store"])
def test_a_run_that_the_store_does_not_know_is_made_again(
    look: Look, deleted_by: str, caplog: pytest.LogCaptureFixture
) -> None:
    first = make().start()
    first.log(1, 2, 3)
    first.end(KeyboardInterrupt())
    old = first.run_id
    if deleted_by == "user":
        look.client.delete_run(old)
    else:
        (first.folder / "mlflow.json").write_text(json.dumps({"run_id": "0" * 32}))
    second = make(start_step=3).start()
    second.log(4)
    second.end()
    assert second.run_id != old
    assert look.points(second.run_id, "loss") == [(step, loss_at(step)) for step in (1, 2, 3, 4)]
    assert any("a new one is made" in message for message in caplog.messages)


class Flaky:
    """A client whose answers get lost: half of the calls are carried out and then fail."""

    def __init__(self, client: MlflowClient, calls: list[str]) -> None:
        self._client, self._calls = client, calls

    def __getattr__(self, name: str) -> Any:
        real = getattr(self._client, name)

        def call(*arguments: Any, **options: Any) -> Any:
            result = real(*arguments, **options)
            self._calls.append(name)
            if self._calls.count(name) % 2:
                raise ConnectionError(f"answer of {name} lost")
            return result

        return call


def test_answers_that_get_lost_leave_nothing_twice(look: Look, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    monkeypatch.setattr(mlflow_queue, "BACKOFF_MAX_S", 0.02)
    with monkeypatch.context() as patch:
        patch.setattr("mlflow.MlflowClient", lambda tracking_uri: Flaky(MlflowClient(tracking_uri), calls))
        run = make(hook=quiet(patience_s=20.0)).start()
        run.log(1, 2, 3)
        run.image(2)
        run.image(3)
        run.hook.dmf_metrics(3, {"kernel": {"value": 0.5}})
        run.end()
    assert {"create_run", "log_batch", "log_image", "set_terminated"} <= set(calls)
    (found,) = look.runs()
    assert found.info.status == "FINISHED"
    assert look.points(run.run_id, "loss") == [(step, loss_at(step)) for step in (1, 2, 3)]
    assert look.points(run.run_id, "eval/kernel") == [(3, 0.5)]
    assert look.images(run.run_id) == [("samples", 2), ("samples", 3)]


@pytest.mark.parametrize("request_", ["create_run", "log_image"])
def test_a_run_begun_again_while_a_request_is_on_its_way_waits_for_it(
    look: Look, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, request_: str
) -> None:
    """Else two runs are made, or an image is sent that has gone."""
    begun, may_end = threading.Event(), threading.Event()
    carried_out = getattr(MlflowClient, request_)

    def slow(*arguments: Any, **options: Any) -> Any:
        begun.set()
        assert may_end.wait(60)
        return carried_out(*arguments, **options)

    monkeypatch.setattr(MlflowClient, request_, slow)
    first = make(hook=quiet(patience_s=0.1)).start()
    first.log(1, 2)
    first.image(2)
    assert begun.wait(60)
    first.end(KeyboardInterrupt())
    hurried = make(start_step=2, hook=quiet(patience_s=0.1)).start()
    hurried.log(3)
    hurried.end()  # who has no patience does not wait for the other's request either
    assert "what was sent before is still on its way" in caplog.text
    last = make(start_step=3).start()
    may_end.set()
    last.end()
    assert len(look.runs()) == 1 and look.images(last.run_id) == [("samples", 2)]
    assert look.points(last.run_id, "loss") == [(step, loss_at(step)) for step in (1, 2, 3)]
    assert not list((last.folder / "mlflow-unsent").glob("*")) and "is gone" not in caplog.text


class CutShort:
    """A client whose server dies between an image and its preview, once."""

    def __init__(self, client: MlflowClient, cut: list[Path]) -> None:
        self._client, self._cut = client, cut

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def log_image(self, *arguments: Any, **options: Any) -> None:
        self._client.log_image(*arguments, **options)
        if not self._cut:
            self._cut += Path().rglob("*.webp")
            self._cut[0].unlink()
            raise ConnectionError("the server died")


def test_an_image_that_came_without_its_preview_is_completed(look: Look, monkeypatch: pytest.MonkeyPatch) -> None:
    cut: list[Path] = []
    monkeypatch.setattr(mlflow_queue, "BACKOFF_MAX_S", 0.02)
    with monkeypatch.context() as patch:
        patch.setattr("mlflow.MlflowClient", lambda tracking_uri: CutShort(MlflowClient(tracking_uri), cut))
        run = make(hook=quiet(patience_s=20.0)).start()
        run.image(2)
        run.end()
    assert look.images(run.run_id) == [("samples", 2)]
    assert cut[0].exists()  # under the very name that belongs to the image


def test_kill_9_before_the_run_is_noted_makes_no_second_one(look: Look, monkeypatch: pytest.MonkeyPatch) -> None:
    first = make().start()
    first.end(KeyboardInterrupt())
    state = json.loads((first.folder / "mlflow.json").read_text())
    (first.folder / "mlflow.json").write_text(json.dumps({"key": state["key"]}))
    make().start().end()
    assert len(look.runs()) == 1 and make().run_id == state["run_id"]


def test_what_a_killed_process_had_not_sent_is_sent_by_the_next(look: Look) -> None:
    script = """
import os, sys, torch
from pathlib import Path
from mlflow_kit import FakeRun
from dmf.plugins.hooks import mlflow_queue, mlflow_run
from dmf.plugins.hooks.mlflow import MLflow
mlflow_queue.GATHER_S = 60.0  # it never gets round to sending
run = FakeRun(Path("runs/r"), MLflow(system_metrics=False)).start()
run.log(1, 2)
run.image(2)
run.file("samples/grid.png")
os.kill(os.getpid(), 9)
"""
    path = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    subprocess.run([sys.executable, "-c", script], env={**os.environ, "PYTHONPATH": path}, check=False)
    assert not look.runs()
    run = make(start_step=2).start()
    run.end()
    assert look.points(run.run_id, "loss") == [(1, loss_at(1)), (2, loss_at(2))]
    assert look.images(run.run_id) == [("samples", 2)]
    assert "samples/grid.png" in look.files(run.run_id)
