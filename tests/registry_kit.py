"""Third-party distributions made of a few files in a temporary folder, as pip would have left them."""

import importlib
import sys
import textwrap
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

Install = Callable[..., Path]


@pytest.fixture(name="install")
def install_fixture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """``install("zork-sampler", {"dmf.samplers": "zork = zork_x:Zork"}, {"zork_x.py": source})``."""
    monkeypatch.delenv("DMF_PLUGINS", raising=False)
    before = set(sys.modules)

    def one(
        name: str, entries: Mapping[str, str], files: Mapping[str, str] | None = None, version: str = "0.1"
    ) -> Path:
        folder = tmp_path / f"site-{name}-{version}"
        info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        (info / "entry_points.txt").write_text("".join(f"[{group}]\n{lines}\n" for group, lines in entries.items()))
        for path, source in (files or {}).items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(textwrap.dedent(source))
        monkeypatch.syspath_prepend(str(folder))
        importlib.invalidate_caches()
        return folder

    yield one
    for module in set(sys.modules) - before:
        if str(getattr(sys.modules[module], "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[module]


SAMPLER = '''\
"""A module about samplers."""

from typing import Annotated, Any

from annotated_types import Ge

from dmf.core import Sampler


class Zork(Sampler):
    """Steps with flair.

    Args:
        flair: How much.
    """

    def __init__(self, flair: Annotated[float, Ge(0)] = 1) -> None:
        if flair > 10:
            raise ValueError("nobody has that much flair")
        self.flair = flair

    def step(self, denoise: Any, x: Any, now: Any, then: Any, state: Any, context: Any) -> Any:
        return denoise(x, now), state
'''
