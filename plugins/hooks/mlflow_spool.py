"""Operations of the MLflow hook, and the folder where they lie until they are sent, so that not even kill -9 loses one.

The points of training are not here: the runner keeps them in history.jsonl.
"""

import json
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

log = logging.getLogger("dmf")


@dataclass(frozen=True)
class Operation:
    """One thing to send.

    Attributes:
        kind: open, points, scores, system, tags, status, image, file or text.
        payload: What it says, JSON-able.
        time_ms: When it happened; no two operations of a process share it.
        spooled: Its file on disk, removed once it is sent (None: something else remembers it).
    """

    kind: str
    payload: Mapping[str, Any]
    time_ms: int
    spooled: Path | None = None

    @property
    def batchable(self) -> bool:
        """Whether neighbours of its sort go in one request."""
        return self.kind in ("points", "scores", "system")

    @property
    def was_sent(self) -> bool:
        """Whether a worker that was given up has sent it after all, and then removed its file."""
        return self.spooled is not None and not self.spooled.exists()


class Spool:
    """A folder with one file an operation, in order of time; an image's pixels lie beside it under the same name."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def write(self, operation: Operation, pixels: NDArray[np.uint8] | None = None) -> Operation:
        """Keep an operation; it appears whole or not at all."""
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"{operation.time_ms:015d}.json"
        if pixels is not None:
            np.save(path.with_suffix(".npy"), pixels)
        draft = path.with_suffix(".tmp")
        draft.write_text(json.dumps({"kind": operation.kind, **operation.payload}), encoding="utf-8")
        os.replace(draft, path)
        return replace(operation, spooled=path)

    def read(self) -> list[Operation]:
        """What an earlier process left unsent, oldest first."""
        left = []
        for path in sorted(self.folder.glob("*.json")):
            try:
                payload = json.loads(path.read_text(encoding="utf-8"))
                left.append(Operation(payload.pop("kind"), payload, int(path.stem), path))
            except FileNotFoundError:  # a worker that was given up has just sent it after all
                continue
            except (ValueError, KeyError, AttributeError):  # a power cut, or somebody's own file
                log.warning("%s is not readable and cannot be sent to MLflow", path)
        return left

    def remove(self, operation: Operation) -> None:
        """Forget an operation that was sent."""
        if operation.spooled is not None:
            operation.spooled.unlink(missing_ok=True)
            operation.spooled.with_suffix(".npy").unlink(missing_ok=True)

    def tidy(self) -> None:
        """Remove the folder if nothing is left in it."""
        if self.folder.is_dir() and not any(self.folder.iterdir()):
            self.folder.rmdir()
