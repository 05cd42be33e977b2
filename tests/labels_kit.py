"""What the tests of label files share."""

import json
from pathlib import Path
from typing import Any

import pytest
from collections_kit import complaint, files

ABC = ("a.png", "b.png", "sub/c.png")


@pytest.fixture(name="flat")
def flat_fixture(tmp_path: Path) -> Path:
    return files(tmp_path, *ABC)


def write(folder: Path, value: Any, name: str = "dataset.json") -> Path:
    (folder / name).write_text(value if isinstance(value, str) else json.dumps(value), encoding="utf-8")
    return folder


def complaint_of(folder: Path, value: Any, labels: str = "auto") -> str:
    """The message for this in dataset.json, which it names."""
    text = complaint(write(folder, value), labels)
    assert f"{folder}/dataset.json" in text
    return text
