"""What the tests of the MLflow hook share: a run without a runner, and a look into the store."""

import json
import math
import re
import shutil
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from mlflow import MlflowClient
from mlflow.entities import Run

from dmf.plugins.hooks import mlflow, mlflow_queue
from dmf.plugins.hooks.mlflow import MLflow
from dmf.plugins.hooks.mlflow_store import create_database

PATIENCE_S = 60.0  # of tests whose store answers, however slow the machine is


@dataclass
class FakeRecipe:
    tree: dict[str, Any]

    def as_dict(self) -> dict[str, Any]:
        return self.tree

    def to_yaml(self) -> str:
        return json.dumps(self.tree)


@dataclass
class FakeRun:
    """Stands in for the runner: a point goes to history.jsonl first, then to the hook."""

    folder: Path
    hook: MLflow
    start_step: int = 0
    task: str = "train"
    parent: Path | None = None
    recipe: Any = field(default_factory=lambda: FakeRecipe({"name": "r", "train": {"lr": 1e-3, "steps": 100}}))
    facts: Mapping[str, str] = field(
        default_factory=lambda: {"dataset.name": "digits", "dataset.fingerprint": "f" * 64, "commit": "abc"}
    )

    @property
    def name(self) -> str:
        return self.folder.name

    def start(self) -> "FakeRun":
        self.folder.mkdir(parents=True, exist_ok=True)
        self.hook.dmf_run_started(self)
        return self

    def note(self, step: int, values: Mapping[str, float]) -> None:
        with (self.folder / "history.jsonl").open("a") as file:
            file.write(json.dumps({"step": step, "values": values}) + "\n")

    def log(self, *steps: int, **values: float) -> None:
        for step in steps:
            point = values or {"loss": loss_at(step), "lr": 1e-3}
            self.note(step, point)
            self.hook.dmf_logged(step, point)

    def image(self, step: int, name: str = "samples") -> None:
        self.hook.dmf_images(step, name, torch.full((3, 8, 16), step % 256, dtype=torch.uint8))

    def file(self, name: str, text: str = "text") -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        self.hook.dmf_file_written(self, path)

    def checkpoint(self, step: int, weights: bytes = b"weights") -> None:
        path = self.folder / "checkpoints" / f"step-{step}"
        path.mkdir(parents=True)
        (path / "ema.safetensors").write_bytes(weights)
        self.hook.dmf_checkpoint_saved(path)

    def end(self, error: BaseException | None = None) -> None:
        self.hook.dmf_run_ended(self, error)

    @property
    def run_id(self) -> str:
        return str(json.loads((self.folder / "mlflow.json").read_text())["run_id"])


def loss_at(step: int) -> float:
    return 1 / (1 + step)


@dataclass
class Look:
    """Reads a store."""

    uri: str

    @property
    def client(self) -> MlflowClient:
        return MlflowClient(tracking_uri=self.uri)

    def runs(self, experiment: str = "dmf") -> list[Run]:
        found = self.client.get_experiment_by_name(experiment)
        return [] if found is None else list(self.client.search_runs([found.experiment_id]))

    def datasets(self, run_id: str) -> list[tuple[str, str, str]]:
        """Name, digest and context of the inputs."""
        inputs = self.client.get_run(run_id).inputs
        assert inputs is not None
        return [(item.dataset.name, item.dataset.digest, item.tags[0].value) for item in inputs.dataset_inputs]

    def points(self, run_id: str, key: str) -> list[tuple[int, float]]:
        """Step and value in the order in which they are drawn: MLflow sorts by time, then step."""
        history = self.client.get_metric_history(run_id, key)
        return [(point.step, point.value) for point in sorted(history, key=lambda p: (p.timestamp, p.step))]

    def files(self, run_id: str, path: str | None = None) -> dict[str, int]:
        found: dict[str, int] = {}
        for item in self.client.list_artifacts(run_id, path):
            found |= self.files(run_id, item.path) if item.is_dir else {item.path: item.file_size or 0}
        return found

    def images(self, run_id: str) -> list[tuple[str, int]]:
        """Name and step of the images in the grid, repeats included."""
        names = [Path(path).name for path in self.files(run_id) if path.endswith(".png")]
        found = [re.match(r"(.+)[+%]step[+%](\d+)[+%]timestamp", name) for name in names]  # `%` in older MLflow
        return sorted((re.sub("[~#]", "/", match[1]), int(match[2])) for match in found if match)


def same(a: float, b: float) -> bool:
    return a == b or (math.isnan(a) and math.isnan(b))


@pytest.fixture(name="fresh_database", scope="module")
def fresh_database_fixture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Made once: it takes two seconds."""
    path = tmp_path_factory.mktemp("store") / "mlflow.db"
    create_database(path)
    return path


@pytest.fixture(name="look")
def look_fixture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fresh_database: Path) -> Look:
    """A store in the current folder, and a reader of it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr(mlflow_queue, "GATHER_S", 0.02)
    monkeypatch.setattr(mlflow_queue, "BACKOFF_AT_END_S", 0.05)
    monkeypatch.setattr(mlflow, "INTERRUPTED_PATIENCE_S", PATIENCE_S)
    shutil.copy(fresh_database, tmp_path / "mlflow.db")
    return Look(f"sqlite:///{tmp_path}/mlflow.db")


def quiet(**options: Any) -> MLflow:
    return MLflow(**{"system_metrics": False, "patience_s": PATIENCE_S, **options})


def make(start_step: int = 0, folder: str = "runs/r", **fields: Any) -> FakeRun:
    return FakeRun(Path(folder), fields.pop("hook", None) or quiet(), start_step, **fields)


@pytest.fixture(name="no_worker_left", autouse=True)
def no_worker_left_fixture() -> Iterator[None]:
    yield
    end = time.monotonic() + 3
    while left := [thread.name for thread in threading.enumerate() if thread.name.startswith("dmf-")]:
        assert time.monotonic() < end, f"threads left behind: {left}"
        time.sleep(0.02)


def until_status(look: Look, status: str) -> bool:
    end = time.monotonic() + 5
    while time.monotonic() < end:
        if [run.info.status for run in look.runs()] == [status]:
            return True
        time.sleep(0.02)
    return False
