"""The MLflow hook and a real tracking server that is killed, and comes back, and hangs."""

import logging
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow_kit import FakeRun, Look, loss_at

from dmf.plugins.hooks import mlflow_queue
from dmf.plugins.hooks.mlflow import MLflow
from dmf.plugins.hooks.mlflow_store import create_database

pytestmark = pytest.mark.slow


class Server:
    """`mlflow server` on one port and one database, started as often as one likes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.uri = f"http://127.0.0.1:{self.port}"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [sys.executable, "-m", "mlflow", "server", "--workers", "1", "--port", str(self.port)]
        command += ["--backend-store-uri", f"sqlite:///{self.folder}/mlflow.db"]
        command += ["--artifacts-destination", str(self.folder / "artifacts")]
        environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        environment.pop("MLFLOW_TRACKING_URI", None)
        with (self.folder / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                command, cwd=self.folder, env=environment, stdout=log, stderr=log, start_new_session=True
            )
        end = time.monotonic() + 120
        while not self.answers():
            assert time.monotonic() < end and self.process.poll() is None, (self.folder / "server.log").read_text()
            time.sleep(0.2)

    def answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.uri}/health", timeout=2) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def signal(self, number: signal.Signals) -> None:
        assert self.process is not None
        os.killpg(self.process.pid, number)

    def kill(self) -> None:
        self.signal(signal.SIGKILL)
        assert self.process is not None
        self.process.wait()
        self.process = None


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    create_database(tmp_path / "mlflow.db")
    server = Server(tmp_path)
    yield server
    if server.process is not None:
        server.kill()


def until(condition: object, seconds: float = 30) -> None:
    assert callable(condition)
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never came true"
        time.sleep(0.1)


def test_a_server_that_is_killed_and_comes_back(
    server: Server, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(mlflow_queue, "BACKOFF_MAX_S", 1.0)
    caplog.set_level(logging.INFO, "dmf")
    folder, look = Path("runs/r"), Look(server.uri)

    # the server is there, dies, and is back while the run goes on
    server.start()
    run = FakeRun(folder, MLflow(uri=server.uri, system_metrics=False, patience_s=20)).start()
    run.log(*range(0, 100))
    run.image(50)
    until(lambda: look.runs() and len(look.points(run.run_id, "loss")) == 100)
    server.kill()
    slowest_s = 0.0
    for step in range(100, 300):
        began = time.perf_counter()
        run.log(step)
        slowest_s = max(slowest_s, time.perf_counter() - began)
        time.sleep(0.005)
    assert slowest_s < 1
    run.image(200)
    run.file("samples/grid.png")
    run.hook.dmf_metrics(250, {"kernel": {"value": 0.5}})
    until(lambda: any("does not answer" in message for message in caplog.messages))
    server.start()
    run.log(*range(300, 400))
    run.checkpoint(400)
    run.end()

    assert [message for message in caplog.messages if message.endswith("answers again")]
    (found,) = look.runs()
    assert (found.info.status, found.info.run_id) == ("FINISHED", run.run_id)
    assert look.points(run.run_id, "loss") == [(step, loss_at(step)) for step in range(400)]
    assert look.points(run.run_id, "eval/kernel") == [(250, 0.5)]
    assert look.images(run.run_id) == [("samples", 50), ("samples", 200)]
    assert {"samples/grid.png", "model/ema.safetensors"} <= set(look.files(run.run_id))
    page = f"#/experiments/{found.info.experiment_id}/runs/{run.run_id}?workflowType=machine_learning"
    assert caplog.messages[-1] == f"MLflow: {server.uri}/{page}"

    # it dies again, and is still dead when the run ends
    server.kill()
    caplog.clear()
    run = FakeRun(folder, MLflow(uri=server.uri, system_metrics=False, patience_s=1.0), start_step=400).start()
    run.log(*range(400, 500))
    run.image(450)
    began = time.monotonic()
    run.end()
    assert time.monotonic() - began < 10
    (last,) = [message for message in caplog.messages if message.startswith("not sent")]
    assert "100 logged steps, 1 image (" in last and "run the same command again" in last and "\n" not in last

    # the command again, when it is back: a run that is done does not start, it only ends
    server.start()
    FakeRun(folder, MLflow(uri=server.uri, system_metrics=False), start_step=500).end()
    (found,) = look.runs()
    assert found.info.status == "FINISHED"
    assert look.points(run.run_id, "loss") == [(step, loss_at(step)) for step in range(500)]
    assert look.images(run.run_id) == [("samples", 50), ("samples", 200), ("samples", 450)]
    assert not (folder / "mlflow-unsent").exists()


def test_a_server_that_hangs_holds_up_nothing_but_itself(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    monkeypatch.setattr(mlflow_queue, "BACKOFF_MAX_S", 0.5)
    server.start()
    look = Look(server.uri)
    run = FakeRun(Path("runs/r"), MLflow(uri=server.uri, system_metrics=False, patience_s=20)).start()
    run.log(*range(10))
    until(lambda: look.runs() and len(look.points(run.run_id, "loss")) == 10)
    server.signal(signal.SIGSTOP)
    began = time.perf_counter()
    run.log(*range(10, 20))
    run.image(15)
    assert time.perf_counter() - began < 1
    time.sleep(3)
    server.signal(signal.SIGCONT)
    run.end()
    # requests that the server took before it hung are carried out late, beside the repeated ones
    assert look.points(run.run_id, "loss") == [(step, loss_at(step)) for step in range(20)]
    assert look.images(run.run_id) == [("samples", 15)]
