"""Where things lie: what is meant by a path that a person writes."""

from __future__ import annotations

import os
from pathlib import Path


def home(path: str | Path) -> Path:
    """The path with ``~`` as the home folder, as a shell has it: of a user that is not known it stays as it is."""
    return Path(os.path.expanduser(path))  # Path.expanduser would end in a RuntimeError there


def data_folder(root: str | None) -> Path:
    """The folder of the data sets: ``root``, or the environment variable DMF_DATA, or ``data``; absolute."""
    return home(root or os.environ.get("DMF_DATA") or "data").absolute()
