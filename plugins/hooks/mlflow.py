"""Writes a run to MLflow: parameters, curves, images, results, files, the dataset, the machine's load.

Training never waits for the store and never fails with it: mlflow_queue keeps what a store that is down does not take,
and the next start of the run sends it.
"""

import importlib
import logging
import math
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from annotated_types import Ge

from ...registry.marks import hookimpl
from .mlflow_open import Facts
from .mlflow_params import flatten
from .mlflow_queue import Outbox
from .mlflow_run import RemoteRun
from .mlflow_spool import Operation, Spool, log
from .mlflow_store import Store, locate
from .mlflow_system import SystemMetrics

if TYPE_CHECKING:
    import torch

    from ...registry.hooks import RunInfo

ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",  # we try again ourselves; MLflow's own way blocks for minutes
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",  # seconds
}
INTERRUPTED_PATIENCE_S = 5.0
SILENT_PATIENCE_S = 1.0  # of the second run that a process tells of, and so on
UNSENT = "mlflow-unsent"  # in the run's folder


class MLflow:
    """MLflow tracking: parameters, curves, images by step, results, files; kept through resume and outages.

    The store is an MLflow server, a database, or by default the file mlflow.db in the current folder, which plain
    `mlflow ui` shows.

    Args:
        uri: The store; without it MLFLOW_TRACKING_URI, else sqlite:///mlflow.db in the current folder.
        experiment: The MLflow experiment that runs are filed under.
        log_model: Whether the weights of the last checkpoint (the EMA's, if there is one) are uploaded at the end.
        system_metrics: Whether the load of CPU, memory, disk, network and GPUs is logged.
        patience_s: How many seconds the end of a run waits for a store that does not answer.

    Raises:
        ValueError: The address is of no store that MLflow can write to.
    """

    def __init__(
        self,
        *,
        uri: str | None = None,
        experiment: str = "dmf",
        log_model: bool = True,
        system_metrics: bool = True,
        patience_s: Annotated[float, Ge(0)] = 30.0,
    ) -> None:
        if uri is not None:
            locate(uri)
        self.uri, self.experiment = uri, experiment
        self.log_model, self.system_metrics, self.patience_s = log_model, system_metrics, patience_s
        self._session: _Session | None = None
        self._silent = False  # the store did not answer to the end of the run before

    @hookimpl
    def dmf_run_started(self, run: "RunInfo") -> None:
        """Check the address, then open or resume the MLflow run in the background.

        An evaluation of a trained run goes to that run's MLflow run, whose status and time it leaves alone; a part of
        it, such as a point of a sweep, is a nested run.

        Raises:
            ValueError: The address is of no store that MLflow can write to.
        """
        store = locate(self.uri)
        _import_mlflow()
        watched = self.system_metrics and run.task == "train"
        self._session = _Session(store, _facts(run, self.experiment), watched)

    @hookimpl
    def dmf_logged(self, step: int, values: Mapping[str, float]) -> None:
        """Queue the points of a step; the runner has written them to history.jsonl before."""
        self._outbox().put("points", {"step": step, "values": dict(values)})

    @hookimpl
    def dmf_images(self, step: int, name: str, images: "torch.Tensor") -> None:
        """Queue a sheet of images, (C, H, W) uint8, for the image grid with its slider of steps."""
        pixels = images.permute(1, 2, 0).cpu().numpy()
        self._outbox().keep("image", {"step": step, "name": name}, pixels)

    @hookimpl
    def dmf_metrics(self, step: int, results: Mapping[str, Mapping[str, Any]]) -> None:
        """Queue results as `eval/<name>`; their protocols are in the file of results, an artifact."""
        values = {f"eval/{name}": float(result["value"]) for name, result in results.items()}
        self._outbox().keep("scores", {"step": step, "values": values})

    @hookimpl
    def dmf_checkpoint_saved(self, path: Path) -> None:
        """Note the checkpoint by name; its files stay where they are."""
        assert self._session is not None, "dmf_run_started comes first"
        self._session.checkpoint = path
        self._outbox().keep("tags", {"tags": {"dmf.checkpoint": path.name}})

    @hookimpl
    def dmf_file_written(self, run: "RunInfo", path: Path) -> None:
        """Queue a file as an artifact, under its path within the run's folder."""
        file = Path(_within(run.folder, path))
        into = "" if file.is_absolute() or file.parent == Path(".") else file.parent.as_posix()
        payload = {"path": str(file), "into": into}
        if payload not in self._outbox().pending("file"):  # one that waits is read, as it is then, when its turn comes
            self._outbox().keep("file", payload)

    @hookimpl
    def dmf_run_ended(self, run: "RunInfo", error: BaseException | None) -> None:
        """Queue the model and the status, wait for the outbox to empty, and say where to look."""
        if self._session is None and error is None and (run.folder / UNSENT).exists():
            self.dmf_run_started(run)  # the run was done already, but the store was down then
        session, self._session = self._session, None
        if session is None:
            return
        if error is None and self.log_model and session.checkpoint is not None:
            # a recipe may do without an average: then the weights themselves are the model
            files = [session.checkpoint / f"{group}.safetensors" for group in ("ema", "model")]
            weights = next((file for file in files if file.exists()), None)
            if weights is None:  # each rank wrote its part
                log.info("the weights are in parts and not sent; in one file: dmf export %s --out FILE", run.folder)
            else:
                session.outbox.keep("file", {"path": _within(run.folder, weights), "into": "model"})
            session.outbox.keep("text", {"text": run.recipe.to_yaml(), "into": "model/recipe.yaml"})
        self._silent = not session.end(error, min(self.patience_s, SILENT_PATIENCE_S if self._silent else math.inf))

    def _outbox(self) -> Outbox:  # no property: pluggy reads all attributes when a hook is registered
        assert self._session is not None, "dmf_run_started comes first"
        return self._session.outbox


class _Session:
    """The outbox of one run in one process, with what belongs to it."""

    def __init__(self, store: Store, facts: Facts, system_metrics: bool) -> None:
        self.checkpoint: Path | None = None
        self._store, self._remote = store, RemoteRun(store, facts)
        self._system = SystemMetrics(self._put_system) if system_metrics else None
        self._facts = facts
        self.outbox = Outbox(self._send, Spool(facts.folder / UNSENT), store.shown, facts.goes_on)
        self.outbox.start()

    def _send(self, operations: Sequence[Operation]) -> None:
        self._remote.send(operations)
        if operations[0].kind == "open" and self._system is not None:
            self._system.start()

    def _put_system(self, values: Mapping[str, float]) -> None:
        self.outbox.put("system", {"values": values})

    def end(self, error: BaseException | None, patience_s: float) -> bool:
        """Send the status last, wait, and tell the user.

        Returns:
            Whether all was sent.
        """
        if self._system is not None:
            self._system.stop()
        interrupted = isinstance(error, KeyboardInterrupt | SystemExit)
        status = "FINISHED" if error is None else "KILLED" if interrupted else "FAILED"
        self.outbox.keep("status", {"status": status, "of_new_run_only": not self._facts.goes_on})
        # who interrupts does not want to wait, and a scheduler kills; what is left is on disk
        at_most_s = min(patience_s, INTERRUPTED_PATIENCE_S) if interrupted else float("inf")
        unsent = self.outbox.finish(patience_s, at_most_s)
        if unsent is not None:
            log.warning(
                "not sent to MLflow at %s: %s; it is kept in %s: run the same command again when the store is back",
                self._store.shown,
                unsent,
                self._facts.folder,
            )
        if self._remote.run_id and self._facts.parent is None:
            log.info(self._store.view(self._remote.experiment_id, self._remote.run_id))
        return unsent is None


def _facts(run: "RunInfo", experiment: str) -> Facts:
    history = run.folder / "history.jsonl"
    name = run.facts.get("dataset.name")
    built = {key: value for key, value in run.facts.items() if key.startswith(("codec.", "network."))}
    return Facts(
        name=run.name,
        folder=run.folder,
        experiment=experiment,
        params=flatten({**run.recipe.as_dict(), **built}),
        tags={key: value for key, value in run.facts.items() if key not in built},
        dataset=None if name is None else (name, run.facts.get("dataset.fingerprint", "")),
        start_step=run.start_step,
        history_bytes=history.stat().st_size if history.exists() else 0,
        began_ms=time.time_ns() // 1_000_000,
        task=run.task,
        parent=run.parent,
    )


def _within(folder: Path, path: Path) -> str:
    """The path relative to the folder, which may move before the file is sent, if it is in there."""
    file, folder = path.resolve(), folder.resolve()
    return str(file.relative_to(folder) if file.is_relative_to(folder) else file)


def _import_mlflow() -> None:
    """Import the library as we want it (no telemetry, silent, failing fast), unless the user wants it otherwise."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    importlib.import_module("mlflow")
    if "MLFLOW_LOGGING_LEVEL" not in os.environ:
        for chatter in ("mlflow", "alembic"):
            logging.getLogger(chatter).setLevel(logging.CRITICAL)
