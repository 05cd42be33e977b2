"""MNIST and FashionMNIST: the IDX format, packed and unpacked, and what is said when files are missing or damaged."""

import gzip
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
import stand_ins_kit
import torch
from data_kit import no_network_fixture as no_network_fixture
from data_kit import real_data, same_item_by_item
from host_kit import Host
from host_kit import host_fixture as host_fixture
from stand_ins_kit import idx

from dmf.plugins.datasets._idx import read_idx
from dmf.plugins.datasets.fashion_mnist import FashionMNIST
from dmf.plugins.datasets.mnist import MNIST
from dmf.testing import check_dataset

SETS = [MNIST, FashionMNIST]
both = pytest.mark.parametrize("kind", SETS, ids=lambda kind: kind.NAME)


@pytest.fixture
def like_mnist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Packed files of a few images, for both sets, in place of the real ones, with their md5s."""
    stand_ins_kit.mnist(tmp_path, monkeypatch)
    return tmp_path


def complaint(kind: type[MNIST], **options: Any) -> str:
    with pytest.raises(ValueError) as error:
        kind(**options)
    return str(error.value)


@both
@pytest.mark.parametrize("unpacked", [False, True])
@pytest.mark.usefixtures("no_network")
def test_the_files_are_read_as_they_lie(kind: type[MNIST], unpacked: bool, like_mnist: Path) -> None:
    raw = like_mnist / kind.NAME / "raw"
    if unpacked:
        for file in raw.glob("*.gz"):
            file.with_suffix("").write_bytes(gzip.decompress(file.read_bytes()))
            file.unlink()
    train = kind(root=str(like_mnist))
    assert train.images.dtype == torch.uint8 and train.images.is_contiguous()
    assert np.array_equal(train.images[:, 0].numpy(), np.load(raw / "train-images-idx3.npy"))
    assert train.cond["class"].tolist() == np.load(raw / "train-labels-idx1.npy").tolist()
    assert len(train.spec.classes) == 10 and train.spec.shape == (1, 28, 28)
    same_item_by_item(train, range(12))
    check_dataset(train)
    test = train.held_out()
    assert isinstance(test, kind) and len(test) == 5 and test.held_out() is None
    assert np.array_equal(test.images[:, 0].numpy(), np.load(raw / "t10k-images-idx3.npy"))
    assert train.fingerprint() != test.fingerprint()


@both
def test_a_missing_file_is_fetched_and_only_that(
    kind: type[MNIST], like_mnist: Path, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost = like_mnist / kind.NAME / "raw/train-labels-idx1-ubyte.gz"
    host.give(f"/second/{lost.name}", lost.read_bytes())
    lost.write_bytes(b"cut short")
    mirrors = [f"{host.address}/first/", f"{host.address}/second/"]
    monkeypatch.setattr(f"torchvision.datasets.{kind.NAME}.mirrors", mirrors)
    assert "damaged" in complaint(kind, root=str(like_mnist), download=False)
    assert len(kind(root=str(like_mnist))) == 12
    assert host.asked == [f"/first/{lost.name}", f"/second/{lost.name}"]


@both
@pytest.mark.usefixtures("no_network")
def test_it_says_what_it_looked_for_and_tried(kind: type[MNIST], tmp_path: Path) -> None:
    text = complaint(kind, root=str(tmp_path))
    assert f"{kind.NAME} is not (whole) in {tmp_path}/{kind.NAME}/raw" in text
    md5 = {"MNIST": "f68b3c2dcbeaaa9fbdd348bbdeb94873", "FashionMNIST": "8d4fb7e6c68d591d4c3dfef9ec88bf0d"}[kind.NAME]
    rows = [line for line in text.splitlines() if "  md5 " in line]
    assert len(rows) == 4 and all(row.endswith("missing") for row in rows)
    assert rows[0].split() == ["train-images-idx3-ubyte.gz", "md5", md5, "missing"]
    assert "train-images-idx3-ubyte.gz did not come\n  http" in text and "Name or service not known" in text
    assert f"put them into {tmp_path}/{kind.NAME}/raw" in text and f"the folder that holds {kind.NAME}/raw" in text


def test_it_does_not_download_when_told_not_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dmf.files.download.urlopen", lambda *a, **k: pytest.fail("it went to the network"))
    assert "download is false, so none was tried" in complaint(MNIST, root=str(tmp_path / "none"), download=False)
    assert not (tmp_path / "none").exists()


def test_what_is_unreadable_is_no_traceback(like_mnist: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def closed(file: str, md5: str) -> NoReturn:
        raise PermissionError(13, "Permission denied", file)

    monkeypatch.setattr("torchvision.datasets.utils.check_integrity", closed)
    rows = [row for row in complaint(MNIST, root=str(like_mnist), download=False).splitlines() if "  md5 " in row]
    assert len(rows) == 4 and all(row.endswith("unreadable (Permission denied)") for row in rows)


def test_a_packed_file_of_another_set_is_not_taken(like_mnist: Path) -> None:
    name = "train-images-idx3-ubyte.gz"
    (like_mnist / "MNIST/raw" / name).write_bytes((like_mnist / "FashionMNIST/raw" / name).read_bytes())
    rows = complaint(MNIST, root=str(like_mnist), download=False).splitlines()
    assert next(row for row in rows if name in row).endswith("damaged")


# the format


@pytest.mark.parametrize("shape", [(3,), (2, 4), (2, 3, 5), (0, 28, 28)])
def test_idx_of_any_shape(tmp_path: Path, shape: tuple[int, ...]) -> None:
    pixels = np.arange(int(np.prod(shape)), dtype=np.uint8).reshape(shape)
    (tmp_path / "a-ubyte").write_bytes(idx(pixels))
    assert np.array_equal(read_idx(tmp_path, "a-ubyte.gz", "").numpy(), pixels)


whole = idx(np.zeros((2, 28, 28), np.uint8))
DAMAGED = {
    "empty": b"",
    "short head": whole[:7],
    "short": whole[:-1],
    "long": whole + b"0",
    "floats": b"\0\0\x0d\3" + whole[4:],
    "web page": b"<!DOCTYPE html><title>404</title>",
}


@pytest.mark.parametrize("content", DAMAGED.values(), ids=DAMAGED.keys())
def test_a_damaged_unpacked_file_is_named(like_mnist: Path, content: bytes) -> None:
    file = like_mnist / "MNIST/raw/train-images-idx3-ubyte"
    file.write_bytes(content)
    text = complaint(MNIST, root=str(like_mnist))
    assert str(file) in text and "is damaged" in text and f"{len(content)} bytes" in text and "delete it" in text


def test_images_and_labels_that_do_not_belong_together(like_mnist: Path) -> None:
    raw = like_mnist / "MNIST/raw"
    (raw / "train-labels-idx1-ubyte").write_bytes(idx(np.zeros(11, np.uint8)))
    text = complaint(MNIST, root=str(like_mnist))
    assert "(12, 28, 28)" in text and "(11,)" in text and "delete" in text
    (raw / "train-labels-idx1-ubyte").unlink()
    (raw / "train-images-idx3-ubyte").write_bytes(idx(np.zeros((12, 8, 8), np.uint8)))
    assert "(12, 8, 8)" in complaint(MNIST, root=str(like_mnist))


# the sets themselves


FIRST = {"MNIST": [5, 0, 4, 1, 9, 2, 1, 3, 1, 4], "FashionMNIST": [9, 0, 0, 3, 0, 2, 7, 2, 5, 5]}
FIRST_TEST = {"MNIST": [7, 2, 1, 0, 4], "FashionMNIST": [9, 2, 1, 1, 6]}
MEAN = {"MNIST": 0.1307, "FashionMNIST": 0.2860}  # those that everybody normalises by


@both
def test_the_real_one(kind: type[MNIST]) -> None:
    root = real_data(kind.NAME)
    train, test = kind(root=root, download=False), kind(root=root, split="test", download=False)
    assert train.images.shape == (60000, 1, 28, 28) and test.images.shape == (10000, 1, 28, 28)
    assert train.cond["class"][:10].tolist() == FIRST[kind.NAME]
    assert test.cond["class"][:5].tolist() == FIRST_TEST[kind.NAME]
    assert train.images.double().mean() / 255 == pytest.approx(MEAN[kind.NAME], abs=5e-5)
    counts = train.cond["class"].bincount().tolist()
    assert counts == (
        [6000] * 10 if kind is FashionMNIST else [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    )
    packed = read_idx(Path(root) / kind.NAME / "raw", "t10k-labels-idx1-ubyte.gz", "")
    assert torch.equal(packed.long(), test.cond["class"])
