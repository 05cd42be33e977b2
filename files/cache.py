"""Where dmf keeps what it can make again: indexes of folders, decoded pictures, latents."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder(what: str) -> Path:
    """The folder of one kind of cached things: below DMF_CACHE, or XDG_CACHE_HOME/dmf, or ~/.cache/dmf; absolute.

    Args:
        what: For example ``latents``. The folder may not be there yet.
    """
    named = os.environ.get("DMF_CACHE")
    base = Path(named) if named else Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "dmf"
    return base.expanduser().absolute() / what
