"""What the tests of zips share."""

from pathlib import Path

import pytest
from collections_kit import packed


@pytest.fixture(name="pets")
def pets_fixture(tmp_path: Path) -> Path:
    """Two pictures, a class each."""
    return packed(tmp_path / "pets.zip", {"cat/1.png": b"cat one " * 9, "dog/2.png": b"dog two"})
