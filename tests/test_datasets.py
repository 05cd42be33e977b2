"""The digits and CIFAR-10: pixels, splits, and what is said when the files are not there."""

import pickle
import re
import shutil
import tarfile
from concurrent.futures import ThreadPoolExecutor
from http.client import IncompleteRead
from pathlib import Path
from typing import Any, NoReturn
from urllib.error import URLError

import numpy as np
import pytest
import torch
from data_kit import md5_of, real_data, same_item_by_item
from data_kit import no_network_fixture as no_network_fixture
from host_kit import Host
from host_kit import host_fixture as host_fixture
from PIL import Image
from sklearn.datasets import load_digits
from stand_ins_kit import CIFAR10_NAMES
from stand_ins_kit import stand_ins_fixture as stand_ins_fixture

from dmf.plugins.datasets.cifar10 import CIFAR10
from dmf.plugins.datasets.cifar100 import CIFAR100
from dmf.plugins.datasets.digits import Digits
from dmf.plugins.datasets.fashion_mnist import FashionMNIST
from dmf.plugins.datasets.mnist import MNIST
from dmf.registry import PartError, build
from dmf.testing import check_dataset

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


def states(text: str) -> dict[str, str]:
    """Of each file that a message lists, what it says of it."""
    rows = [re.fullmatch(r"  (\S+) +md5 \w{32}  (.*)", line) for line in text.splitlines()]
    return {row[1]: row[2] for row in rows if row}


@pytest.mark.usefixtures("no_network")
def test_cifar_says_what_it_looked_for_and_tried(tmp_path: Path) -> None:
    text = complaint(root=str(tmp_path))
    assert f"not (whole) in {tmp_path}/cifar-10-batches-py" in text
    for name, md5 in (("data_batch_1", "c99cafc152244af753f735de768cd75f"), ("test_batch", "40351d587109b95175f43a")):
        line = next(line for line in text.splitlines() if line.startswith(f"  {name} "))
        assert md5 in line and line.endswith("missing")
    assert states(text)["cifar-10-python.tar.gz"] == "missing"
    assert "cifar-10-python.tar.gz did not come\n  https://" in text and "Name or service not known" in text
    assert "cifar-10-python.tar.gz (md5 c58f30108f718f92721af3b95e74349a)" in text and f"put it into {tmp_path}" in text


def test_cifar_does_not_download_when_told_not_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dmf.files.download.urlopen", lambda *a, **k: pytest.fail("it went to the network"))
    text = complaint(root=str(tmp_path / "none"), download=False)
    assert "download is false, so none was tried" in text
    assert not (tmp_path / "none").exists()


@pytest.mark.usefixtures("no_network")
def test_cifar_tells_damaged_from_missing(tmp_path: Path) -> None:
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    (folder / "data_batch_2").write_bytes(b"cut short")
    (tmp_path / "cifar-10-python.tar.gz").write_text("  <!DOCTYPE html><title>Sign in</title>")
    state = states(complaint(root=str(tmp_path)))
    assert state.pop("data_batch_2") == "damaged"
    assert state.pop("cifar-10-python.tar.gz") == "damaged: it is a web page"
    assert len(state) == 6 and set(state.values()) == {"missing"}


FAILURES = [URLError("no"), ConnectionResetError("reset"), IncompleteRead(b""), OSError(28, "No space left on device")]


@pytest.mark.parametrize("error", FAILURES, ids=lambda e: type(e).__name__)
def test_cifar_names_whatever_stopped_the_download(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(*args: Any, **kwargs: Any) -> NoReturn:
        raise error

    monkeypatch.setattr("dmf.files.download.urlopen", fail)
    assert f"cifar-10-python.tar.gz: {type(error).__name__}: {error}" in complaint(root=str(tmp_path))


def test_cifar_looks_where_it_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DMF_DATA", raising=False)
    assert f" in {tmp_path}/data/cifar-10-batches-py" in complaint(download=False)
    monkeypatch.setenv("DMF_DATA", str(tmp_path / "elsewhere"))
    assert f" in {tmp_path}/elsewhere/cifar-10-batches-py" in complaint(download=False)
    assert f" in {tmp_path}/here/cifar-10-batches-py" in complaint(root="here", download=False)


# CIFAR-10, on files of its format with other contents


@pytest.mark.usefixtures("no_network")
def test_cifar_reads_the_batches(stand_ins: Path) -> None:
    train = CIFAR10()
    assert train.images.shape == (20, 3, 32, 32) and train.images.dtype == torch.uint8
    assert train.images.is_contiguous() and train.spec.classes == tuple(CIFAR10_NAMES)
    first = pickle.loads((stand_ins / "cifar-10-batches-py" / "data_batch_1").read_bytes())
    # a row of a batch is 1024 red values, then green, then blue, each row by row
    assert torch.equal(train.images[0].flatten(), torch.from_numpy(first["data"][0]))
    assert train.cond["class"][:4].tolist() == first["labels"]
    same_item_by_item(train, range(20))


@pytest.mark.usefixtures("no_network")
def test_cifar_holds_out_its_test_split(stand_ins: Path) -> None:
    train = CIFAR10(download=False, size=16)
    test = train.held_out()
    assert isinstance(test, CIFAR10) and len(test) == 4 and test.held_out() is None
    assert not test.download and torch.equal(test.images, CIFAR10(split="test", size=16).images)
    assert train.fingerprint() != test.fingerprint() and test.spec.shape == (3, 16, 16)


def test_a_pickle_of_another_checksum_is_not_opened(stand_ins: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = stand_ins / "cifar-10-batches-py/data_batch_3"
    file.write_bytes(pickle.dumps({"data": np.zeros((4, 3072), np.uint8), "labels": [0] * 4}))
    (stand_ins / "cifar-10-python.tar.gz").unlink()
    opened: list[str] = []
    monkeypatch.setattr("pickle.load", lambda file, **k: opened.append(Path(file.name).name) or {})
    assert states(complaint(download=False))["data_batch_3"] == "damaged" and opened == ["data_batch_1", "data_batch_2"]


# fetching and unpacking


@pytest.mark.usefixtures("no_network")
def test_the_archive_is_unpacked_where_it_lies_even_without_a_download(stand_ins: Path) -> None:
    held = CIFAR10().images
    shutil.rmtree(stand_ins / "cifar-10-batches-py")
    assert torch.equal(CIFAR10(download=False).images, held)
    assert not list(stand_ins.rglob("*.part"))


def test_the_archive_is_fetched_and_unpacked(stand_ins: Path, host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    held = CIFAR10().images
    archive = stand_ins / "cifar-10-python.tar.gz"
    monkeypatch.setattr("torchvision.datasets.CIFAR10.url", host.give("/cifar", archive.read_bytes()))
    for lost in (archive, stand_ins / "cifar-10-batches-py/data_batch_4"):
        lost.unlink()
    assert torch.equal(CIFAR10().images, held) and host.asked == ["/cifar"]
    (stand_ins / "cifar-10-batches-py/data_batch_1").write_bytes(b"cut")
    assert torch.equal(CIFAR10().images, held) and host.asked == ["/cifar"], "the archive that is there is whole"


def test_an_unpacking_that_was_killed_is_done_again(stand_ins: Path) -> None:
    folder = stand_ins / "cifar-10-batches-py"
    held = CIFAR10(split="test").images
    (folder / "test_batch").rename(folder / ".test_batch.part")
    (folder / "data_batch_1").unlink()
    assert torch.equal(CIFAR10(split="test", download=False).images, held)


def test_an_archive_that_leads_out_of_its_folder_is_refused(stand_ins: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive, folder = stand_ins / "cifar-10-python.tar.gz", stand_ins / "cifar-10-batches-py"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(folder / "test_batch", "../outside")
    monkeypatch.setattr("torchvision.datasets.CIFAR10.tgz_md5", md5_of(archive))
    (folder / "test_batch").unlink()
    assert "leads out of its folder" in complaint(split="test", download=False)
    assert not (stand_ins.parent / "outside").exists()


def test_two_processes_fetch_once(stand_ins: Path, host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = stand_ins / "cifar-10-python.tar.gz"
    content = archive.read_bytes()
    monkeypatch.setattr("torchvision.datasets.CIFAR10.url", host.give("/cifar", content, pause_s=0.02))
    for lost in (archive, stand_ins / "cifar-10-batches-py/data_batch_4"):
        lost.unlink()
    with ThreadPoolExecutor(2) as pool:  # a lock is the open file's: two threads are as far apart as two processes
        first, second = pool.map(lambda _: CIFAR10(), range(2))
    assert host.asked == ["/cifar"] and torch.equal(first.images, second.images)


# size


def plain(image: torch.Tensor, size: int) -> np.ndarray[Any, Any]:
    """What Pillow makes of a square image in another size."""
    pixels = image.permute(1, 2, 0).numpy()
    picture = Image.fromarray(pixels if len(image) == 3 else pixels[..., 0])
    return np.atleast_3d(np.asarray(picture.resize((size, size), Image.Resampling.BICUBIC)))


@pytest.mark.parametrize("size", [3, 5, 16, 31, 33, 64])
def test_another_size_is_what_pillow_makes_of_it(stand_ins: Path, size: int) -> None:
    for kind in (CIFAR10, CIFAR100, MNIST, FashionMNIST):
        as_it_is, scaled = kind(), kind(size=size)
        assert scaled.spec.shape == (as_it_is.spec.shape[0], size, size) and scaled.images.is_contiguous()
        assert scaled.cond["class"].equal(as_it_is.cond["class"])
        for before, after in zip(as_it_is.images, scaled.images, strict=True):
            assert np.array_equal(after.permute(1, 2, 0).numpy(), plain(before, size))
        check_dataset(scaled)


def test_digits_of_another_size() -> None:
    digits, larger = Digits(), Digits(size=13)
    assert all(
        np.array_equal(after.permute(1, 2, 0).numpy(), plain(before, 13))
        for before, after in zip(digits.images, larger.images, strict=True)
    )
    held_out = larger.held_out()
    assert held_out is not None and held_out.spec.shape == (1, 13, 13)


def test_the_size_that_a_set_has_changes_nothing() -> None:
    assert torch.equal(Digits(size=8).images, Digits().images)
    assert Digits(size=8).fingerprint() == Digits().fingerprint() != Digits(size=9).fingerprint()


@pytest.mark.parametrize("size", [0, -1, 1.5, "small"])
def test_a_size_that_is_none_is_refused(size: Any) -> None:
    with pytest.raises(PartError, match="size"):
        build("dataset", "digits", size=size)


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


def test_the_real_cifar_in_another_size() -> None:
    root = real_data("cifar-10-batches-py")
    as_it_is, scaled = (CIFAR10(root=root, split="test", download=False, size=size) for size in (None, 20))
    assert scaled.images.shape == (10000, 3, 20, 20)
    for i in range(0, 10000, 499):
        assert np.array_equal(scaled.images[i].permute(1, 2, 0).numpy(), plain(as_it_is.images[i], 20))
