"""One run in an MLflow store: sends it points, scores, tags, images and files.

Everything here may be tried again at any moment, after an answer that was lost too: MLflow drops a point that is equal
in key, step, value and time, files have fixed names, and an image is looked for before it is sent again.
"""

import errno
import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from ...files.words import short
from .mlflow_open import TAG_CHARS, Facts, describe, find_or_make, read_state, write_state
from .mlflow_params import as_name
from .mlflow_queue import Refused
from .mlflow_spool import Operation
from .mlflow_store import Store, create_database

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric

METRICS_A_BATCH = 1000
FINAL_REFUSALS = ("INVALID_PARAMETER_VALUE",)
DIGEST_CHARS = 16
PREVIEW_PX = 256  # as MLflow's own
IMAGE_NAME_CHARS = 100  # MLflow makes a file of it, and adds step, time and a number; most systems allow 255 bytes


class RemoteRun:
    """The run as the store knows it. Used by one thread.

    Args:
        store: Where it is kept.
        facts: What it is told at the start.
    """

    def __init__(self, store: Store, facts: Facts) -> None:
        self.store, self.facts = store, facts
        self.run_id = self.experiment_id = ""
        self._latest: dict[str, tuple[int, float]] = {}  # key -> step and value of the last point
        self._scored_earlier: frozenset[str] = frozenset()  # keys of which an earlier process sent points
        self._images: dict[str, str] = {}  # name and step -> digest of the pixels, as far as sent
        self._earlier: set[str] = set()  # those of them that an earlier process sent
        self._made = False  # by this process
        self._tried_ms = 0
        self._opened_client: MlflowClient | None = None

    def send(self, operations: Sequence[Operation]) -> None:
        """Carry out operations that go together.

        Raises:
            Refused: The store will never take this.
        """
        from mlflow.exceptions import MlflowException

        first = operations[0]
        try:
            if first.batchable:
                self._points(operations)
            else:
                getattr(self, f"_{first.kind}")(first)
        except MlflowException as error:
            if first.kind != "open" and error.error_code in FINAL_REFUSALS:
                raise Refused(str(error).splitlines()[0]) from error
            raise
        except OSError as error:
            if error.errno == errno.ENAMETOOLONG:
                raise Refused(f"its name is too long for the store: {error.filename}") from error
            raise

    @property
    def _client(self) -> "MlflowClient":
        assert self._opened_client is not None, "the open operation comes first"
        return self._opened_client

    def _open(self, _: Operation) -> None:
        from mlflow import MlflowClient

        if self.store.database is not None:
            create_database(self.store.database)
        self._opened_client = MlflowClient(tracking_uri=self.store.uri)
        before = read_state(self.facts.folder).get("run_id")
        run = find_or_make(self._client, self.store, self.facts)
        self._made = self._made or run.info.run_id != before
        self.run_id, self.experiment_id = run.info.run_id, run.info.experiment_id
        self._latest = {point.key: (point.step, point.value) for point in run.to_proto().data.metrics}
        self._scored_earlier = frozenset(self._latest)
        self._images = dict(read_state(self.facts.folder).get("images", {}))
        self._earlier = set(self._images)
        if self.facts.goes_on:
            self._client.update_run(self.run_id, status="RUNNING")
        if self.facts.goes_on or self._made:
            describe(self._client, run, self.facts)
        self._replay()

    def _replay(self) -> None:
        """Send the points that an earlier process logged and could not send, or died before sending."""
        path = self.facts.folder / "history.jsonl"
        if not path.exists():
            return
        file_ms = int(path.stat().st_mtime * 1000)
        # what comes after the last checkpoint is trained once more
        lines = (line for line in _lines(path, self.facts.history_bytes) if line["step"] <= self.facts.start_step)
        while batch := [Operation("points", line, _time_ms(line, file_ms)) for line in islice(lines, METRICS_A_BATCH)]:
            self._points(batch)

    def _points(self, operations: Sequence[Operation]) -> None:
        """Send what the store does not have: its points cannot be changed, and a step twice is a zig-zag."""
        seen = dict(self._latest)
        fresh = [metric for operation in operations for metric in self._fresh(operation, seen)]
        for start in range(0, len(fresh), METRICS_A_BATCH):
            self._client.log_batch(self.run_id, metrics=fresh[start : start + METRICS_A_BATCH], synchronous=True)
        self._latest = seen

    def _fresh(self, operation: Operation, seen: dict[str, tuple[int, float]]) -> "Iterator[Metric]":
        from mlflow.entities import Metric

        for name, given in operation.payload["values"].items():
            key, value = as_name(name), math.nan if given is None else float(given)
            last_step, _ = seen.get(key, (-1, math.nan))
            step = last_step + 1 if operation.kind == "system" else int(operation.payload["step"])
            if not (self._scored(key, step, value, seen) if operation.kind == "scores" else step <= last_step):
                if step >= last_step:
                    seen[key] = (step, value)
                yield Metric(key, value, operation.time_ms, step)

    def _scored(self, key: str, step: int, value: float, seen: Mapping[str, tuple[int, float]]) -> bool:
        """Whether a score is there: trained again after a stop it comes again, and may differ by rounding on a GPU.

        An evaluation of the finished weights may come again with another value, of other settings.
        """
        if key not in seen:
            return False
        last_step, last_value = seen[key]
        again = key in self._scored_earlier and step > self.facts.start_step
        return step < last_step or (step == last_step and (again or value == last_value))

    def _tags(self, operation: Operation) -> None:
        from mlflow.entities import RunTag

        tags = [RunTag(as_name(key), short(str(value), TAG_CHARS)) for key, value in operation.payload["tags"].items()]
        self._client.log_batch(self.run_id, tags=tags, synchronous=True)

    def _status(self, operation: Operation) -> None:
        if operation.payload.get("of_new_run_only") and not self._made:
            return
        self._client.set_terminated(self.run_id, operation.payload["status"], operation.time_ms)

    def _image(self, operation: Operation) -> None:
        """Send an image, unless it is there: resumed training makes some again, and every start some of step 0."""
        name = as_name(operation.payload["name"], IMAGE_NAME_CHARS).replace(":", "_")
        step = int(operation.payload["step"])
        assert operation.spooled is not None, "images are kept on disk until they are sent"
        path = operation.spooled.with_suffix(".npy")
        if not path.exists():
            raise Refused(f"{path} is gone")
        pixels, key = np.load(path), f"{name} {step}"
        digest = hashlib.sha256(pixels.tobytes()).hexdigest()[:DIGEST_CHARS]
        made_again = key in self._earlier and step > self.facts.start_step
        if made_again or self._images.get(key) == digest:
            return
        if not self._arrived(operation, pixels):
            self._tried_ms = operation.time_ms
            self._client.log_image(
                self.run_id, pixels, key=name, step=step, timestamp=operation.time_ms, synchronous=True
            )
        self._images[key] = digest
        write_state(self.facts.folder, {**read_state(self.facts.folder), "images": self._images})

    def _arrived(self, operation: Operation, pixels: "np.ndarray[Any, Any]") -> bool:
        """Whether an image came through although its answer was lost; its time tells.

        MLflow sends an image and then its preview. Where only the image came, the preview is sent after it: to send
        both again would show the image twice.
        """
        if self._tried_ms < operation.time_ms and self.facts.began_ms < operation.time_ms:
            return False  # its first try
        there = [item.path for item in self._client.list_artifacts(self.run_id, "images")]
        whole = [path for path in there if f"{operation.time_ms}" in path and path.endswith(".png")]
        for image in whole:
            sign = "%" if f"%{operation.time_ms}%" in image else "+"  # older versions of MLflow separate by %
            preview = f"{image.removesuffix('.png')}{sign}compressed.webp"
            if preview not in there:
                self._preview(pixels, Path(preview))
        return bool(whole)

    def _preview(self, pixels: "np.ndarray[Any, Any]", path: Path) -> None:
        """Send the small picture that the grid shows, as MLflow makes it, and the tag that says there are pictures."""
        small = Image.fromarray(pixels)
        small.thumbnail((PREVIEW_PX, PREVIEW_PX))
        with TemporaryDirectory() as folder:
            file = Path(folder) / path.name
            small.save(file)
            self._client.log_artifact(self.run_id, str(file), path.parent.as_posix())
        self._client.set_tag(self.run_id, "mlflow.loggedImages", "True", synchronous=True)

    def _file(self, operation: Operation) -> None:
        path, into = self.facts.folder / operation.payload["path"], operation.payload["into"]
        if not path.is_file():
            raise Refused(f"{path} is gone")
        self._client.log_artifact(self.run_id, str(path), into or None)

    def _text(self, operation: Operation) -> None:
        self._client.log_text(self.run_id, operation.payload["text"], operation.payload["into"])


def _lines(path: Path, limit_bytes: int) -> Iterator[dict[str, Any]]:
    """The points of a history, as far as they were there when the process began; kill -9 may have cut the last."""
    with path.open("rb") as file:
        while file.tell() < limit_bytes and (line := file.readline()):
            try:
                point = json.loads(line)
            except ValueError:
                continue
            if isinstance(point, dict) and "step" in point and "values" in point:
                yield point


def _time_ms(line: Mapping[str, Any], otherwise_ms: int) -> int:
    return int(line["time"] * 1000) if isinstance(line.get("time"), int | float) else otherwise_ms
