"""What the tests of data share: no network, files of a format with other contents, the real sets where they are."""

import hashlib
import os
import socket
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
import torch
from PIL import Image

from dmf.core import Dataset


def real_data(folder: str) -> str:
    """The folder named in DMF_TEST_DATA, if it holds ``folder``; without it the test is skipped."""
    root = os.environ.get("DMF_TEST_DATA")
    if not root or not (Path(root) / folder).is_dir():
        pytest.skip(f"needs the folder named in DMF_TEST_DATA, with {folder} in it")
    return root


def real_file(name: str) -> str:
    """The path of a file in the folder named in DMF_TEST_DATA; without it the test is skipped."""
    root = os.environ.get("DMF_TEST_DATA")
    if not root or not (Path(root) / name).is_file():
        pytest.skip(f"needs the folder named in DMF_TEST_DATA, with the file {name} in it")
    return str(Path(root) / name)


@pytest.fixture(name="no_network")
def no_network_fixture(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any, **kwargs: Any) -> NoReturn:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def same_item_by_item(data: Dataset, rows: range) -> None:
    """Item by item the data is what it gives at once."""
    held = data.tensors()
    assert held is not None
    images, cond = held
    assert len(images) == len(cond["class"]) == len(data)
    for i in rows:
        assert torch.equal(data[i].image, images[i])
        label = data[i].cond["class"]
        assert label.ndim == 0 and label.dtype == torch.int64 and label == cond["class"][i]


def md5_of(file: Path) -> str:
    return hashlib.md5(file.read_bytes()).hexdigest()


def paint(file: Path, width: int = 16, height: int = 16, seed: int = 0, mode: str = "RGB", **options: Any) -> Path:
    """A picture of noise."""
    file.parent.mkdir(parents=True, exist_ok=True)
    channels = len(Image.new(mode, (1, 1)).getbands())
    pixels = np.random.RandomState(seed).randint(256, size=(height, width, channels)).astype(np.uint8)
    Image.fromarray(pixels.squeeze(-1) if channels == 1 else pixels, mode).save(file, **options)
    return file
