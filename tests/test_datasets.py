"""The digits and CIFAR-10: pixels, splits, and what is said when the files are not there."""

import pickle
from http.client import IncompleteRead
from pathlib import Path
from typing import Any, NoReturn
from urllib.error import URLError

import numpy as np
import pytest
import torch
from data_kit import md5_of, real_data, same_item_by_item
from data_kit import no_network_fixture as no_network_fixture
from sklearn.datasets import load_digits

from dmf.plugins.datasets.cifar10 import CIFAR10
from dmf.plugins.datasets.digits import Digits

# Digits


def test_digits_are_the_rounded_originals() -> None:
    digits = Digits(split="all")
    grey, labels = load_digits(return_X_y=True)
    assert digits.images.dtype == torch.uint8 and digits.images.shape == (1797, 1, 8, 8)
    assert torch.equal(digits.images.flatten(1), torch.from_numpy(np.floor(grey * 255 / 16 + 0.5).astype(np.uint8)))
    assert digits.cond["class"].tolist() == labels.tolist() and digits.cond["class"].dtype == torch.int64
    assert sorted(set(digits.images.flatten().tolist()))[:3] == [0, 16, 32] and int(digits.images.max()) == 255
    assert digits.spec.shape == (1, 8, 8) and digits.spec.classes == tuple("0123456789")


def test_the_split_is_fixed_and_disjoint() -> None:
    everything, train, test = (Digits(split=s) for s in ("all", "train", "test"))
    assert (len(train), len(test)) == (1497, 300)
    order = np.random.RandomState(0).permutation(1797)
    assert torch.equal(torch.cat([train.images, test.images]), everything.images[order])
    assert torch.equal(torch.cat([train.cond["class"], test.cond["class"]]), everything.cond["class"][order])
    # the first of each, written down: another split would be another benchmark
    assert order[:3].tolist() == [1081, 1707, 927] and order[1497:1500].tolist() == [804, 168, 1371]


@pytest.mark.parametrize("split", ["train", "test", "all"])
def test_digits_held_out(split: Any) -> None:
    held_out = Digits(split=split).held_out()
    assert (held_out is not None) == (split == "train")
    if isinstance(held_out, Digits):
        assert torch.equal(held_out.images, Digits(split="test").images)


def test_digits_one_by_one_and_at_once() -> None:
    same_item_by_item(Digits(), range(1497))
    assert Digits().fingerprint() == Digits().fingerprint() != Digits(split="test").fingerprint()


# CIFAR-10, without its data


def complaint(**options: Any) -> str:
    with pytest.raises(ValueError) as error:
        CIFAR10(**options)
    return str(error.value)


@pytest.mark.usefixtures("no_network")
def test_cifar_says_what_it_looked_for_and_tried(tmp_path: Path) -> None:
    text = complaint(root=str(tmp_path))
    assert f"not (whole) in {tmp_path}/cifar-10-batches-py" in text
    for name, md5 in (("data_batch_1", "c99cafc152244af753f735de768cd75f"), ("test_batch", "40351d587109b95175f43a")):
        line = next(line for line in text.splitlines() if name in line)
        assert md5 in line and line.endswith("missing")
    assert "download from https://" in text and "failed: URLError" in text and "Name or service not known" in text
    assert "cifar-10-python.tar.gz (md5 c58f30108f718f92721af3b95e74349a)" in text and f"-C {tmp_path}" in text


def test_cifar_does_not_download_when_told_not_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("urllib.request.urlopen", lambda *a, **k: pytest.fail("it went to the network"))
    text = complaint(root=str(tmp_path / "none"), download=False)
    assert "download is false, so none was tried" in text
    assert not (tmp_path / "none").exists()


@pytest.mark.usefixtures("no_network")
def test_cifar_tells_damaged_from_missing(tmp_path: Path) -> None:
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    (folder / "data_batch_2").write_bytes(b"cut short")
    lines = [line.split() for line in complaint(root=str(tmp_path)).splitlines() if "  md5 " in line]
    state = {words[0]: words[-1] for words in lines}
    assert len(state) == 7 and state.pop("data_batch_2") == "damaged" and set(state.values()) == {"missing"}


FAILURES = [URLError("no"), ConnectionResetError("reset"), IncompleteRead(b""), EOFError("cut"), RuntimeError("?")]


@pytest.mark.parametrize("error", FAILURES, ids=lambda e: type(e).__name__)
def test_cifar_names_whatever_stopped_the_download(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(*args: Any, **kwargs: Any) -> NoReturn:
        raise error

    monkeypatch.setattr("torchvision.datasets.cifar.download_and_extract_archive", fail)
    assert f"failed: {type(error).__name__}: {error}" in complaint(root=str(tmp_path))


def test_cifar_looks_where_it_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DMF_DATA", raising=False)
    assert f" in {tmp_path}/data/cifar-10-batches-py" in complaint(download=False)
    monkeypatch.setenv("DMF_DATA", str(tmp_path / "elsewhere"))
    assert f" in {tmp_path}/elsewhere/cifar-10-batches-py" in complaint(download=False)
    assert f" in {tmp_path}/here/cifar-10-batches-py" in complaint(root="here", download=False)


# CIFAR-10, on files of its format with other contents


@pytest.fixture
def like_cifar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Five batches of four images and a test batch, in place of the real ones, with their md5s."""
    from torchvision.datasets import CIFAR10 as Source  # type: ignore[import-untyped]

    folder = tmp_path / Source.base_folder
    folder.mkdir()
    draw = np.random.RandomState(0)

    def write(name: str, content: dict[str, Any]) -> str:
        (folder / name).write_bytes(pickle.dumps(content))
        return md5_of(folder / name)

    def batch(name: str) -> list[str]:
        pixels = draw.randint(256, size=(4, 3072)).astype(np.uint8)
        return [name, write(name, {"data": pixels, "labels": draw.randint(10, size=4).tolist()})]

    monkeypatch.setattr(Source, "train_list", [batch(f"data_batch_{i}") for i in range(1, 6)])
    monkeypatch.setattr(Source, "test_list", [batch("test_batch")])
    md5 = write("batches.meta", {"label_names": list("abcdefghij")})
    monkeypatch.setattr(Source, "meta", {"filename": "batches.meta", "key": "label_names", "md5": md5})
    return tmp_path


@pytest.mark.usefixtures("no_network")
def test_cifar_reads_the_batches(like_cifar: Path) -> None:
    train = CIFAR10(root=str(like_cifar))
    assert train.images.shape == (20, 3, 32, 32) and train.images.dtype == torch.uint8
    assert train.images.is_contiguous() and train.spec.classes == tuple("abcdefghij")
    first = pickle.loads((like_cifar / "cifar-10-batches-py" / "data_batch_1").read_bytes())
    # a row of a batch is 1024 red values, then green, then blue, each row by row
    assert torch.equal(train.images[0].flatten(), torch.from_numpy(first["data"][0]))
    assert train.cond["class"][:4].tolist() == first["labels"]
    same_item_by_item(train, range(20))


@pytest.mark.usefixtures("no_network")
def test_cifar_holds_out_its_test_split(like_cifar: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DMF_DATA", str(like_cifar))
    train = CIFAR10(download=False)
    test = train.held_out()
    assert isinstance(test, CIFAR10) and len(test) == 4 and test.held_out() is None
    assert not test.download and torch.equal(test.images, CIFAR10(split="test").images)
    assert train.fingerprint() != test.fingerprint()


# CIFAR-10 itself


def test_the_real_cifar() -> None:
    root = real_data("cifar-10-batches-py")
    train, test = CIFAR10(root=root, download=False), CIFAR10(root=root, split="test", download=False)
    assert train.images.shape == (50000, 3, 32, 32) and test.images.shape == (10000, 3, 32, 32)
    assert (
        train.cond["class"].bincount().tolist() == [5000] * 10 and test.cond["class"].bincount().tolist() == [1000] * 10
    )
    assert train.spec.classes[:3] == ("airplane", "automobile", "bird")
    mean = train.images.sum((0, 2, 3)) / (50000 * 32 * 32 * 255)  # the means that everybody normalises by
    assert torch.allclose(mean, torch.tensor([0.4914, 0.4822, 0.4465]), atol=1e-4)
